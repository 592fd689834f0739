#include "stage/node.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace millstream {
namespace {

std::string FaultsOf(std::string_view text) {
  Faults faults;
  ParseYaml(text, "m.yaml", faults);
  std::string all;
  for (const Fault& fault : faults) all += fault.ToString() + "\n";
  return all;
}

Node Parse(std::string_view text) {
  Faults faults;
  Node node = ParseYaml(text, "m.yaml", faults);
  EXPECT_TRUE(faults.empty()) << text << "\n" << (faults.empty() ? "" : faults.front().ToString());
  return node;
}

TEST(Yaml, KeepsTextsAndPlaces) {
  Node node = Parse("a: 1\nb:\n  - x: 'it''s'\n    y: \"2\"\nc: {d: [1, two], e: }\n");
  EXPECT_EQ(node.Find("a")->scalar, "1");
  EXPECT_FALSE(node.Find("a")->quoted);
  const Node& item = node.Find("b")->items.at(0);
  EXPECT_EQ(item.Find("x")->scalar, "it's");
  EXPECT_EQ(item.Find("y")->scalar, "2");
  EXPECT_TRUE(item.Find("y")->quoted);
  EXPECT_EQ(item.Find("y")->line, 4);
  EXPECT_EQ(item.Find("y")->column, 8);
  EXPECT_EQ(item.Find("y")->key_line, 4);
  EXPECT_EQ(item.Find("y")->key_column, 5);
  EXPECT_EQ(node.Find("c")->Find("d")->items.at(1).scalar, "two");
  EXPECT_EQ(node.Find("c")->Find("e")->kind, Node::Kind::kNull);
  EXPECT_EQ(node.Find("nothing"), nullptr);
}

TEST(Yaml, CountsColumnsInCharacters) {
  Node node = Parse("{é: 1, b: x}\n");
  EXPECT_EQ(node.Find("b")->column, 11);
}

TEST(Yaml, MapsPositionsOfTextsToTheFile) {
  Node plain = Parse("f: SELECT x FROM y\n");
  EXPECT_EQ(plain.Find("f")->PlaceOf(7).column, 11);
  Node quoted = Parse("f: \"SELECT x\"\n");
  EXPECT_EQ(quoted.Find("f")->PlaceOf(7).column, 12);
  Node block = Parse("f: |\n    SELECT\n      é x\n    FROM y\ng: 1\n");
  Node::Place place = block.Find("f")->PlaceOf(block.Find("f")->scalar.find('x'));
  EXPECT_EQ(place.line, 3);
  EXPECT_EQ(place.column, 9);
  Node folded = Parse("f: SELECT x\n   FROM y\n");
  EXPECT_EQ(folded.Find("f")->PlaceOf(15).line, 1);
  EXPECT_EQ(folded.Find("f")->PlaceOf(15).column, 4);
  Node file = FileNode("SELECT\n  x", "f.sql");
  EXPECT_EQ(file.PlaceOf(9).line, 2);
  EXPECT_EQ(file.PlaceOf(9).column, 3);
  Node crlf = Parse("f: |\r\n  SELECT\r\n  x\r\n");
  EXPECT_EQ(crlf.Find("f")->PlaceOf(crlf.Find("f")->scalar.find('x')).line, 3);
}

TEST(Yaml, SeesCommentsThatCutValues) {
  Node node = Parse("a: x # c\nb: 'x' # c\nc: x\n# d\nd: x#y\ne: x\n   y # c\n");
  EXPECT_TRUE(node.Find("a")->comment_follows);
  EXPECT_FALSE(node.Find("b")->comment_follows);
  EXPECT_FALSE(node.Find("c")->comment_follows);
  EXPECT_FALSE(node.Find("d")->comment_follows);
  EXPECT_TRUE(node.Find("e")->comment_follows);
}

TEST(Yaml, AnchorsAndMerges) {
  Node node = Parse("a: &x {p: 1, q: 2}\nb: *x\nc:\n  <<: *x\n  q: 3\n");
  EXPECT_EQ(node.Find("b")->Find("p")->scalar, "1");
  EXPECT_EQ(node.Find("c")->Find("p")->scalar, "1");
  EXPECT_EQ(node.Find("c")->Find("q")->scalar, "3");
}

TEST(Yaml, ATrapEach) {
  struct Case {
    const char *text, *expected;
  };
  const Case kCases[] = {
      {"a: 1\nb: 2\na: 3\n",
       "m.yaml:3:1: key 'a' stands twice in one map; first on line 1; remove one of the two\n"},
      {"a:\n\t- b\n", "m.yaml:2:1: a tab in the indentation; YAML takes blanks only\n"},
      {"a: {t: decimal(12,2), f: /x}\n",
       "m.yaml:1:8: inside {…} and […] a comma ends a value: YAML read only 'decimal(12'; put "
       "\"decimal(12,2)\" in "
       "quotes\n"},
      {"a: {t: struct(a b, c d)[]}\n",
       "m.yaml:1:8: inside {…} and […] a comma ends a value: YAML read only 'struct(a b'; put \"struct(a b, "
       "c d)[]\" "
       "in quotes\n"},
      {"a: {t: ${env:X}}\n",
       "m.yaml:1:8: '${…}' inside {…} ends the map for YAML; put it in quotes: \"${…}\"\n"},
      {"a: {t: varchar[], f: /x}\n",
       "m.yaml:1:15: '[' inside {…} begins a list for YAML; put the value in quotes, e.g. \"varchar[]\"\n"},
      {"a: SELECT b: c\n",
       "m.yaml:1:12: ': ' inside a plain value begins a map for YAML; put the whole value in quotes, or "
       "write it "
       "below as a '|' block\n"},
      {"a: SELECT x # y\n  FROM t\n",
       "m.yaml:2:3: the value of the line before ended at its ' #', so this line belongs to nothing; ' #' "
       "begins a "
       "comment for YAML: put the value in quotes or write it as a '|' block\n"},
      {"a: 1\n---\nb: 2\n", "m.yaml:3:1: a second document: a file holds one; remove the line '---'\n"},
      {"- a\nb: c\n", "m.yaml:2:1: this belongs to nothing above; indent it, or begin with a key\n"},
      {"", "m.yaml:1:1: the file is empty\n"},
      {"# nothing\n", "m.yaml:1:1: the file is empty\n"},
      {"a: @x\n", "m.yaml:1:4: a value may not begin with '@'; put it in quotes\n"},
      {"a: *u\n",
       "m.yaml:1:4: '*' names an anchor (&NAME) that is not defined above; a value that begins with '*' "
       "needs "
       "quotes\n"},
      {"a: {b: 1\n",
       "m.yaml:1:4: a '{' or '[' is not closed, or its text needs quotes; close it, or put a value that "
       "holds '{', "
       "'[' or ',' in quotes\n"},
      {"{{a}}: 1\n",
       "m.yaml:1:1: a key must be a text, not a list or map; a value that begins with '{' or '[' needs "
       "quotes\n"},
      {"a: \"x\\q\"\n",
       "m.yaml:1:8: a backslash in double quotes: unknown escape character: q; use single quotes, in which a "
       "backslash is a backslash\n"},
      {"a: 1\n\u00e9: \xd6\n", "m.yaml:2:4: not UTF-8; save the text as UTF-8\n"},
      {"a: !int 5\n", "m.yaml:1:4: YAML tags have no meaning here; leave out the tag\n"},
  };
  for (const Case& test : kCases) EXPECT_EQ(FaultsOf(test.text), test.expected) << test.text;
}

TEST(Yaml, TakesNoOtherEncoding) {
  using namespace std::string_view_literals;
  EXPECT_EQ(FaultsOf("a\0:\0 \0001\0\n\0"sv), "m.yaml:1:2: not UTF-8; save the text as UTF-8\n");
}

TEST(Yaml, ATrapDoesNotHideTheNext) {
  EXPECT_EQ(FaultsOf("a: {t: decimal(12,2), u: decimal(3,1)}\nb: 1\nb: 2\n"),
            "m.yaml:1:8: inside {…} and […] a comma ends a value: YAML read only 'decimal(12'; put "
            "\"decimal(12,2)\" in quotes\n"
            "m.yaml:3:1: key 'b' stands twice in one map; first on line 2; remove one of the two\n");
}

TEST(Yaml, BoundsAliasesOfAliases) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    text += fmt::format("a{0}: &a{0} [", i);
    for (int j = 0; j < 10; ++j) text += fmt::format("{}*a{}", j == 0 ? "" : ", ", i - 1);
    text += "]\n";
  }
  EXPECT_NE(FaultsOf(text).find("aliases make more than 200000 values"), std::string::npos);
}

TEST(Json, ReadsBackWhatItWrites) {
  const char* kText =
      R"({"a":1.50,"b":"1","c":[true,null,"x\n\"y\" é"],"d":{},"e":[],"f":"true","g":12345678901234567890})";
  Faults faults;
  Node node = ParseJson(kText, "b.json", faults);
  ASSERT_TRUE(faults.empty());
  EXPECT_EQ(ToJson(node), kText);
  EXPECT_EQ(node.Find("c")->items[2].scalar, "x\n\"y\" é");
  Faults yaml_faults;
  Node back = ParseYaml(ToYaml(node), "b.yaml", yaml_faults);
  ASSERT_TRUE(yaml_faults.empty()) << ToYaml(node) << yaml_faults.front().ToString();
  EXPECT_TRUE(back == node) << ToYaml(node);
}

TEST(Json, FaultsHavePlaces) {
  Faults faults;
  ParseJson("{\n  \"a\": 1,\n  \"a\": 2}", "b.json", faults);
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].ToString(), "b.json:3:8: key 'a' stands twice in one object; remove one of the two");
  faults.clear();
  ParseJson("{\"a\": }", "b.json", faults);
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].line, 1);
  EXPECT_EQ(faults[0].message.rfind("not JSON: ", 0), 0u);
}

TEST(Yaml, WritesWhatItReadsBack) {
  Node node = Parse(
      "a: \"5\"\nb: |\n  SELECT 1\n\n  FROM x\nc: 'x # y'\nd: ': '\ne: \"tab\\tx\"\nf:\n  - g: {h: [1, {i: "
      "2}]}\n    "
      "j: ~\n  - []\n  - plain text, with (x) = 'y'\nk: |-\n  a\n  b\n\"true\": 1\n'': x\nl: '- x'\nm: '  "
      "b'\n");
  std::string text = ToYaml(node);
  EXPECT_TRUE(Parse(text) == node) << text;
  EXPECT_NE(text.find("b: |\n  SELECT 1\n\n  FROM x\n"), std::string::npos) << text;
}

TEST(Yaml, EscapesOfOneByteAreCharacters) {
  Node node = Parse("a: \"x\\Ny\\_\u00e9\"\n");
  EXPECT_EQ(node.Find("a")->scalar, "x\u0085y\u00a0\u00e9");
  EXPECT_TRUE(Parse(ToYaml(node)) == node) << ToYaml(node);
}

TEST(Node, ComparesContentOnly) {
  EXPECT_TRUE(Parse("a: x") == Parse("'a':   \"x\""));
  EXPECT_FALSE(Parse("a: 1") == Parse("a: '1'"));
  EXPECT_FALSE(Parse("a: 1") == Parse("a: 1\nb: 2"));
  EXPECT_FALSE(Parse("- a\n- b") == Parse("- b\n- a"));
}

TEST(Variables, AreResolved) {
  ::setenv("MILLSTREAM_TEST_X", "value", 1);
  ::unsetenv("MILLSTREAM_TEST_Y");
  auto directory = std::filesystem::temp_directory_path() / fmt::format("node_test_{}", ::getpid());
  std::filesystem::create_directories(directory);
  std::ofstream(directory / "secret") << "s3cret\n";
  auto resolve = [&](std::string_view text) {
    auto result = ResolveVariables(text, directory.string());
    return result ? *result : "error: " + result.error().message();
  };
  EXPECT_EQ(resolve("a ${env:MILLSTREAM_TEST_X} b"), "a value b");
  EXPECT_EQ(resolve("${env:MILLSTREAM_TEST_Y:-or this}"), "or this");
  EXPECT_EQ(resolve("${env:MILLSTREAM_TEST_Y:-}"), "");
  EXPECT_EQ(resolve("${file:secret}!"), "s3cret!");
  EXPECT_EQ(resolve("no variable $ {x}"), "no variable $ {x}");
  EXPECT_EQ(resolve("${env:MILLSTREAM_TEST_Y}"),
            "error: environment variable MILLSTREAM_TEST_Y is not set; set it, or give a default: "
            "'${env:MILLSTREAM_TEST_Y:-…}'");
  EXPECT_NE(resolve("${file:nothing}").find("error: file nothing cannot be read"), std::string::npos);
  EXPECT_EQ(resolve("${env:X"), "error: '${' without '}'");
  EXPECT_EQ(resolve("${HOME}"),
            "error: unknown variable '${HOME}'; expected '${env:NAME}' or '${file:PATH}'");
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace millstream
