#include "event/json_scan.h"

#include <gtest/gtest.h>
#include <simdjson.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "event/decompress.h"

namespace millstream {
namespace {

using Values = std::vector<JsonValue>;

std::string CodeOf(std::string_view text) {
  auto error = ValidateJson(text);
  return error ? error->code : "";
}

std::string Nested(int depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(ValidateJsonTest, TakesWhatTheGrammarTakes) {
  for (std::string_view text : {"{}",
                                "[]",
                                " [ ] ",
                                "0",
                                "-0",
                                "1e5",
                                "-1.5E+10",
                                "123456789012345678901234567890.5e-3000",
                                "\"\"",
                                "true",
                                "false",
                                "null",
                                "\t\r\n null \n",
                                "[1,2,3]",
                                "{\"a\":{\"b\":[{},[],\"\"]}}",
                                "\"\\u0000\\ud83d\\ude00\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
                                "{\"a\":1,\"a\":2}",
                                "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
                                "[1 , 2 ,\n3 ]",
                                "{ \"a\" : 1 , \"b\" : 2 }"}) {
    EXPECT_EQ(CodeOf(text), "") << text;
  }
}

TEST(ValidateJsonTest, RefusesPoison) {
  for (std::string_view text : {"",
                                " ",
                                "{",
                                "}",
                                "[",
                                "]",
                                "{\"a\"",
                                "{\"a\":",
                                "{\"a\":1",
                                "{\"a\":1,",
                                "{\"a\":1,}",
                                "[1,]",
                                "[,1]",
                                "[1 2]",
                                "{a:1}",
                                "{'a':1}",
                                "{\"a\":1 \"b\":2}",
                                "{\"a\" 1}",
                                "{1:2}",
                                "tru",
                                "truex",
                                "nul",
                                "True",
                                "NaN",
                                "Infinity",
                                "01",
                                "-",
                                "-a",
                                "+1",
                                "1.",
                                ".5",
                                "1e",
                                "1e+",
                                "1.e5",
                                "0x10",
                                "\"",
                                "\"a",
                                "\"\\",
                                "\"\\\"",
                                "\"\\x\"",
                                "\"\\u12\"",
                                "\"\\u12g4\"",
                                "\"\\ud800\"",
                                "\"\\ud800\\u0041\"",
                                "\"\\udc00\"",
                                "\"\\ud800x\"",
                                "\"\x01\"",
                                "\"\n\"",
                                "\"\t\"",
                                "[1]]",
                                "{}{}",
                                "1 2",
                                "{\"a\":1,\"junk\":tru3}",
                                "// c\n1",
                                "[1]//",
                                "{\"a\":\"b}",
                                "\xef\xbb\xbf{}",
                                "[\"a\",\"b\\\"]",
                                "-\"1\"",
                                "{\"a\":[}",
                                "[{]}"}) {
    EXPECT_EQ(CodeOf(text), "json") << text;
  }
  EXPECT_EQ(CodeOf(std::string_view("{}\0", 3)), "json");
  EXPECT_EQ(CodeOf(std::string_view("\"a\0b\"", 5)), "json");
}

TEST(ValidateJsonTest, RefusesWhatIsNotUtf8) {
  for (std::string_view text : {"\"\xff\"", "\"\xc0\x80\"", "\"\xc3\"", "\"\xed\xa0\x80\"",
                                "\"\xf5\x80\x80\x80\"", "\"\xe2\x82\"", "\"a\x80\"", "{\"\xff\":1}"}) {
    EXPECT_EQ(CodeOf(text), "utf8") << text;
  }
  EXPECT_EQ(ValidateJson("{\"a\":\"\xc3\xa9\xff\"}")->position, 8u);
}

TEST(ValidateJsonTest, BoundsDepth) {
  EXPECT_EQ(CodeOf(Nested(128)), "");
  EXPECT_EQ(CodeOf(Nested(129)), "depth");
  EXPECT_EQ(CodeOf(std::string(1 << 20, '[')), "depth");
  EXPECT_FALSE(ValidateJson("{\"a\":[]}", 2));
  EXPECT_EQ(ValidateJson("{\"a\":[[]]}", 2)->message, "nested more than 2 deep");
  EXPECT_EQ(CodeOf("[" + Nested(127) + "," + Nested(127) + "]"), "");
}

TEST(ValidateJsonTest, NamesThePlace) {
  EXPECT_EQ(ValidateJson("{\"a\":1 \"b\":2}")->position, 7u);
  EXPECT_EQ(ValidateJson("{\"a\":1 \"b\":2}")->message, "expected ',' or '}'");
  EXPECT_EQ(ValidateJson("[1,2,x]")->position, 5u);
  EXPECT_EQ(ValidateJson("{} x")->position, 3u);
}

TEST(JsonFinderTest, FindsExactTexts) {
  JsonFinder finder({"/a", "/b/c", "/missing", "/b", "/d/1", "", "/a", "/e~1f~0g"});
  Values values;
  std::string text = R"( {"x":[1,{"a":2}], "a" : 1.50 ,"b":{"c":"q\"r","z":0},"d":[10,20],"e/f~g":null} )";
  ASSERT_FALSE(finder.Find(text, values));
  EXPECT_EQ(values[0].text, "1.50");
  EXPECT_EQ(values[0].kind, JsonKind::kNumber);
  EXPECT_EQ(values[1].text, "\"q\\\"r\"");
  EXPECT_TRUE(values[1].escaped);
  EXPECT_EQ(values[2].kind, JsonKind::kMissing);
  EXPECT_EQ(values[3].text, R"({"c":"q\"r","z":0})");
  EXPECT_FALSE(values[3].escaped);
  EXPECT_EQ(values[4].text, "20");
  EXPECT_EQ(values[5].text, text.substr(1, text.size() - 2));
  EXPECT_EQ(values[6].text, "1.50");
  EXPECT_EQ(values[7].kind, JsonKind::kNull);
}

TEST(JsonFinderTest, TheFirstOfEqualNamesWins) {
  JsonFinder finder({"/a", "/b/c"});
  Values values;
  ASSERT_FALSE(finder.Find(R"({"a":1,"a":2,"b":1,"b":{"c":2}})", values));
  EXPECT_EQ(values[0].text, "1");
  EXPECT_EQ(values[1].kind, JsonKind::kMissing);
  ASSERT_FALSE(finder.Find(R"({"\u0061":3,"a":4})", values));
  EXPECT_EQ(values[0].text, "3");
}

TEST(JsonFinderTest, EscapedAndOddNames) {
  JsonFinder finder({"/a\"b", "/\xc3\xa9", "/" + std::string(100, 'k'), "/"});
  Values values;
  std::string text = "{\"a\\\"b\":1,\"\xc3\xa9\":2,\"" + std::string(100, 'k') + "\":3,\"\":4}";
  ASSERT_FALSE(finder.Find(text, values));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(values[i].text, std::to_string(i + 1));
  ASSERT_FALSE(finder.Find("{\"\\u00e9\":5}", values));
  EXPECT_EQ(values[1].text, "5");
  // The bytes `"a"b"` are not the name a"b.
  EXPECT_TRUE(finder.Find("{\"a\"b\":1}", values));
}

TEST(JsonFinderTest, AnyOrderOfNamesGivesTheSame) {
  std::mt19937 random(1);
  std::vector<std::string> names;
  for (int i = 0; i < 400; ++i)
    names.push_back("n" + std::to_string(i * 7919 % 400) + std::string(random() % 30, 'x'));
  std::vector<std::string> pointers;
  for (int i = 0; i < 40; ++i) pointers.push_back("/" + names[i]);
  JsonFinder finder(pointers);
  Values values;
  for (int round = 0; round < 300; ++round) {
    std::map<std::string, std::string> expected;
    std::string text = "{";
    for (uint32_t n = random() % 60, i = 0; i < n; ++i) {
      const std::string& name = names[random() % (round % 2 == 0 ? 50 : 400)];
      std::string value = std::to_string(random());
      expected.emplace(name, value);
      text += (i > 0 ? "," : "") + ("\"" + name + "\"" + (random() % 9 == 0 ? " : " : ":") + value);
    }
    text += "}";
    ASSERT_FALSE(finder.Find(text, values)) << text;
    for (size_t i = 0; i < pointers.size(); ++i) {
      auto found = expected.find(pointers[i].substr(1));
      ASSERT_EQ(values[i].text, found == expected.end() ? "" : found->second) << pointers[i];
    }
  }
}

// Documents that lie one after another in memory, as in a batch: nothing of the next may be read into this
// one.
TEST(JsonFinderTest, StopsAtTheEndOfTheText) {
  for (std::string_view first : {"1", "{\"a\":1", "{\"a\":", "{\"a\"", "[1", "\"a", "{", "[", "tru",
                                 "{\"a\":\"", "-", "1.", "{\"a\":1,", "{\"a\":tru"}) {
    for (std::string_view second : {"2}", "\"a\":1}", "}", "]", "e", "\"}", ":1}", "1}", ",\"a\":1}", " }"}) {
      std::string both(first);
      both += second;
      both += std::string(64, '\0');
      JsonFinder finder({"/a"});
      Values values;
      auto error = finder.FindPadded(std::string_view(both).substr(0, first.size()), values);
      EXPECT_EQ(error.has_value(), first != "1") << first << " then " << second;
    }
  }
}

// ---- simdjson as oracle

const char* kSeeds[] = {
    R"({"id":"evt-00000001","type":"order.placed","customer":"c50969","amount":131.29,"ts":"2026-11-21T23:54:56.134Z","n":null})",
    R"([1,-2.5e10,"a\u00e9\n\ud83d\ude00",{"k":[true,false,null,{}]},[],"\\\"/"])",
    "{\"\xc3\xa9\":\"\xf0\x9f\x98\x80 and a rather longer text to cross sixteen "
    "bytes\",\"b\":[0.0,1E5,12345678901234567890]}",
    R"({"a":{"b":{"c":{"d":[[[[1]]]]}}},"e":"","f":[ 1 , 2 ]})",
};

void Mutate(std::string& text, std::mt19937& random) {
  static const char kBytes[] = "{}[]\",:\\/0123456789.eE+-tfnrul \t\n\x01\x1f\x80\xc3\xff";
  for (uint32_t edits = 1 + random() % 3; edits > 0; --edits) {
    if (text.empty()) text = " ";
    size_t at = random() % text.size();
    char byte = kBytes[random() % (sizeof kBytes - 1)];
    switch (random() % 5) {
      case 0:
        text.erase(at, 1 + random() % 3);
        break;
      case 1:
        text.insert(at, 1, byte);
        break;
      case 2:
        text[at] = byte;
        break;
      case 3:
        text.resize(at);
        break;
      default:
        text.insert(random() % (text.size() + 1), text.substr(at, random() % 8));
    }
  }
}

TEST(JsonFinderTest, AgreesWithSimdjsonOnMutatedDocuments) {
  std::mt19937 random(20261122);
  simdjson::dom::parser parser;
  JsonFinder finder({"/id", "/a/b", "/amount", "/0"});
  Values values;
  int valid = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::string text = kSeeds[random() % std::size(kSeeds)];
    Mutate(text, random);
    auto error = finder.Find(text, values);
    simdjson::dom::element root;
    simdjson::error_code oracle = parser.parse(text).get(root);
    // Numbers beyond 64 bits or a double are sound JSON, which simdjson does not hold.
    if (oracle == simdjson::NUMBER_ERROR) continue;
    ASSERT_EQ(error.has_value(), oracle != simdjson::SUCCESS)
        << text << "\n"
        << (error ? error->message : "") << " / " << simdjson::error_message(oracle);
    if (error) continue;
    ++valid;
    const char* pointers[] = {"/id", "/a/b", "/amount", "/0"};
    for (int i = 0; i < 4; ++i) {
      simdjson::dom::element found;
      bool there = root.at_pointer(pointers[i]).get(found) == simdjson::SUCCESS;
      ASSERT_EQ(values[i].kind != JsonKind::kMissing, there) << text << " " << pointers[i];
      if (!there || values[i].kind != JsonKind::kString) continue;
      std::string scratch;
      ASSERT_EQ(JsonStringValue(values[i], scratch), std::string_view(found)) << text;
    }
  }
  EXPECT_GT(valid, 20'000);
}

// The members of a document as simdjson sees them against those that are found as slices, all the way down.
void ExpectSame(std::string_view text, simdjson::dom::element element) {
  simdjson::dom::object object;
  if (element.get(object) == simdjson::SUCCESS) {
    auto members = JsonMembers(text);
    ASSERT_TRUE(members);
    ASSERT_EQ(members->size(), object.size());
    size_t i = 0;
    for (auto [name, value] : object) {
      ASSERT_EQ((*members)[i].first, name);
      ExpectSame((*members)[i++].second, value);
    }
    return;
  }
  simdjson::dom::array array;
  if (element.get(array) == simdjson::SUCCESS) {
    auto elements = JsonElements(text);
    ASSERT_TRUE(elements);
    ASSERT_EQ(elements->size(), array.size());
    size_t i = 0;
    for (simdjson::dom::element value : array) ExpectSame((*elements)[i++], value);
    return;
  }
  std::string_view string;
  if (element.get(string) == simdjson::SUCCESS) {
    std::string scratch;
    ASSERT_EQ(JsonStringValue(MakeJsonValue(text), scratch), string);
  }
}

TEST(JsonFinderTest, AgreesWithSimdjsonOnRealDocuments) {
  const char* given = std::getenv("MILLSTREAM_SHARED_DATA");
  std::filesystem::path root = given != nullptr ? given : MILLSTREAM_SOURCE_DIR "/../shared/data";
  if (!std::filesystem::exists(root)) GTEST_SKIP() << "skipped: no shared data";
  simdjson::dom::parser parser;
  int documents = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    if (entry.path().extension() != ".json" && entry.path().extension() != ".gz") continue;
    std::ifstream file(entry.path(), std::ios::binary);
    std::string packed((std::istreambuf_iterator<char>(file)), {});
    auto text = InflateAll(CompressionOf(entry.path().string()), packed, 256 << 20);
    ASSERT_TRUE(text) << entry.path();
    simdjson::dom::element element;
    bool sound = parser.parse(*text).get(element) == simdjson::SUCCESS;
    ASSERT_EQ(!ValidateJson(*text, 1000), sound) << entry.path();
    ++documents;
    if (!sound) continue;
    JsonFinder finder({""});
    Values values;
    ASSERT_FALSE(finder.Find(*text, values));
    ExpectSame(values[0].text, element);
  }
  EXPECT_GT(documents, 100);
}

TEST(JsonValueTest, ElementsMembersRecords) {
  auto elements = JsonElements(R"( [1, "a,]\"", {"b":[1,2]} , [ ],null] )");
  ASSERT_TRUE(elements);
  EXPECT_EQ(*elements, (std::vector<std::string_view>{"1", R"("a,]\"")", R"({"b":[1,2]})", "[ ]", "null"}));
  EXPECT_FALSE(JsonElements("{}"));
  EXPECT_TRUE(JsonElements("[ ]")->empty());
  auto members = JsonMembers(R"({"a":1,"b\n":"x","a":{"c":"}"}})");
  ASSERT_TRUE(members);
  ASSERT_EQ(members->size(), 3u);
  EXPECT_EQ((*members)[1].first, "b\n");
  EXPECT_EQ((*members)[2].second, R"({"c":"}"})");
  EXPECT_FALSE(JsonMembers("[]"));
  std::string bundle = R"({"entry":[{"resource":{"id":1}},{"x":2},{"resource":{"id":3}}],"l":[[1,2],[3]]})";
  EXPECT_EQ(JsonRecords(bundle, "/entry/*/resource"),
            (std::vector<std::string_view>{R"({"id":1})", R"({"id":3})"}));
  EXPECT_EQ(JsonRecords(bundle, "/l/*/*"), (std::vector<std::string_view>{"1", "2", "3"}));
  EXPECT_EQ(JsonRecords(bundle, "/entry/1/x"), (std::vector<std::string_view>{"2"}));
  EXPECT_EQ(JsonRecords(" 1 ", ""), (std::vector<std::string_view>{"1"}));
}

TEST(JsonValueTest, StringsGoThereAndBack) {
  std::string all;
  for (int c = 0; c < 128; ++c) all += static_cast<char>(c);
  all += "\xc3\xa9\xf0\x9f\x98\x80";
  std::string quoted;
  AppendJsonString(quoted, all);
  ASSERT_FALSE(ValidateJson(quoted));
  std::string scratch;
  EXPECT_EQ(JsonStringValue(MakeJsonValue(quoted), scratch), all);
  EXPECT_EQ(JsonStringValue(MakeJsonValue("\"\\ud83d\\ude00\\u00e9\""), scratch), "\xf0\x9f\x98\x80\xc3\xa9");
}

}  // namespace
}  // namespace millstream
