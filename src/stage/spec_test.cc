#include "stage/spec.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace millstream {
namespace {

struct RotateOptions {
  ByteSize size;
  Duration every;
};
struct PartOptions {
  std::string name;
  uint32_t weight = 1;
};
struct Options {
  std::string path, format, token;
  bool create = false;
  int64_t count = 0;
  uint32_t small = 0;
  double ratio = 0;
  Duration timeout;
  ByteSize limit;
  Share share;
  std::vector<std::string> columns;
  std::map<std::string, std::string> headers;
  NamedTexts values;
  SqlText where;
  std::optional<Duration> every;
  RotateOptions rotate;
  std::optional<RotateOptions> maybe;
  std::vector<PartOptions> parts;
};

Spec<Options> TestSpec() {
  Spec<RotateOptions> rotate("rotate", "");
  rotate.Field("size", &RotateOptions::size, "how large").Default("64MiB");
  rotate.Field("every", &RotateOptions::every, "how long");
  Spec<PartOptions> part("part", "");
  part.Field("name", &PartOptions::name, "who").Required().Main();
  part.Field("weight", &PartOptions::weight, "how much").Min(1).Max(9);
  Spec<Options> spec("out", "Writes.");
  spec.Field("path", &Options::path, "where to").Required().Main();
  spec.Field("format", &Options::format, "how").OneOf({"ndjson", "csv"}).Default("ndjson");
  spec.Field("token", &Options::token, "who").Secret();
  spec.Field("create", &Options::create, "make it").Default("true");
  spec.Field("count", &Options::count, "how many");
  spec.Field("small", &Options::small, "how few").Max(10);
  spec.Field("ratio", &Options::ratio, "part");
  spec.Field("timeout", &Options::timeout, "how long").Default("10s");
  spec.Field("limit", &Options::limit, "how much");
  spec.Field("share", &Options::share, "of all");
  spec.Field("columns", &Options::columns, "which");
  spec.Field("headers", &Options::headers, "sent along");
  spec.Field("values", &Options::values, "kept");
  spec.Field("where", &Options::where, "which rows");
  spec.Field("every", &Options::every, "pause");
  spec.Nested("rotate", &Options::rotate, rotate, "when");
  spec.Nested("maybe", &Options::maybe, rotate, "perhaps");
  spec.Nested("parts", &Options::parts, part, "of it");
  spec.Later("dms", "leave it out");
  spec.Guarantee("exactly once");
  spec.Example("out: x.ndjson");
  return spec;
}

struct Parsed {
  Options options;
  std::string faults;
};
Parsed Parse(std::string_view yaml) {
  Faults faults;
  Node node = ParseYaml(yaml, "m.yaml", faults);
  Parsed parsed;
  parsed.options = TestSpec().Parse(node, {"to.out", "/tmp", &faults});
  for (const Fault& fault : faults) parsed.faults += fault.ToString() + "\n";
  return parsed;
}

TEST(Spec, ReadsEveryType) {
  ::setenv("MILLSTREAM_TEST_TOKEN", "t0ken", 1);
  ::setenv("MILLSTREAM_TEST_COUNT", "12", 1);
  Parsed parsed = Parse(
      "path: a\nformat: csv\ntoken: ${env:MILLSTREAM_TEST_TOKEN}\ncreate: false\ncount: "
      "\"${env:MILLSTREAM_TEST_COUNT}\"\n"
      "small: 10\nratio: 0.25\ntimeout: 250ms\nlimit: 64KiB\nshare: 5%\ncolumns: [a, 1]\nheaders: {b: c, a: "
      "1}\n"
      "values: {n: count(*), m: \"sum(${x})\"}\nwhere: x > 1\nevery: 1s\nrotate: {every: 1h}\nmaybe: {size: "
      "1MiB}\n"
      "parts:\n  - one\n  - {name: two, weight: 2}\n");
  EXPECT_EQ(parsed.faults, "");
  const Options& options = parsed.options;
  EXPECT_EQ(options.path, "a");
  EXPECT_EQ(options.format, "csv");
  EXPECT_EQ(options.token, "t0ken");
  EXPECT_FALSE(options.create);
  EXPECT_EQ(options.count, 12);
  EXPECT_EQ(options.small, 10u);
  EXPECT_EQ(options.ratio, 0.25);
  EXPECT_EQ(options.timeout.us, 250'000);
  EXPECT_EQ(options.limit.bytes, 65536u);
  EXPECT_EQ(options.share.value, 0.05);
  EXPECT_EQ(options.columns, (std::vector<std::string>{"a", "1"}));
  EXPECT_EQ(options.headers, (std::map<std::string, std::string>{{"a", "1"}, {"b", "c"}}));
  EXPECT_EQ(options.values, (NamedTexts{{"n", "count(*)"}, {"m", "sum(${x})"}}));
  EXPECT_EQ(options.where.text, "x > 1");
  ASSERT_TRUE(options.every);
  EXPECT_EQ(options.every->us, 1'000'000);
  EXPECT_EQ(options.rotate.every.us, 3'600'000'000);
  EXPECT_EQ(options.rotate.size.bytes, 64u << 20);
  ASSERT_TRUE(options.maybe);
  EXPECT_EQ(options.maybe->size.bytes, 1u << 20);
  ASSERT_EQ(options.parts.size(), 2u);
  EXPECT_EQ(options.parts[0].name, "one");
  EXPECT_EQ(options.parts[1].weight, 2u);
}

TEST(Spec, MainFieldAndDefaults) {
  Parsed parsed = Parse("out.csv");
  EXPECT_EQ(parsed.faults, "");
  EXPECT_EQ(parsed.options.path, "out.csv");
  EXPECT_EQ(parsed.options.format, "ndjson");
  EXPECT_TRUE(parsed.options.create);
  EXPECT_EQ(parsed.options.timeout.us, 10'000'000);
  EXPECT_EQ(parsed.options.rotate.size.bytes, 64u << 20);
  EXPECT_FALSE(parsed.options.every);
  EXPECT_FALSE(parsed.options.maybe);
  EXPECT_EQ(Parse("path: a\ncolumns: one").options.columns, std::vector<std::string>{"one"});
}

TEST(Spec, AFaultForEachMistake) {
  struct Case {
    const char *yaml, *expected;
  };
  const Case kCases[] = {
      {"format: csv", "m.yaml:1:1: to.out: needs 'path': where to\n"},
      {"path: a\nfromat: csv", "m.yaml:2:1: to.out: unknown key 'fromat'; did you mean 'format'?\n"},
      {"path: a\nformat: cvs", "m.yaml:2:9: to.out.format: unknown format 'cvs'; did you mean 'csv'?\n"},
      {"path: a\ntoken: hunter2",
       "m.yaml:2:8: to.out.token: a secret may not stand in the file; write ${env:NAME} or ${file:PATH}\n"},
      {"path: a\ncreate: yes", "m.yaml:2:9: to.out.create: 'yes' is not a boolean; write true or false\n"},
      {"path: a\ncreate: \"true\"",
       "m.yaml:2:9: to.out.create: 'true' is not a boolean; leave out the quotes\n"},
      {"path: a\ncount: many", "m.yaml:2:8: to.out.count: 'many' is not a whole number\n"},
      {"path: a\ncount: \"3\"", "m.yaml:2:8: to.out.count: '3' is a text here; leave out the quotes\n"},
      {"path: a\ncount: 1.5", "m.yaml:2:8: to.out.count: '1.5' is not a whole number\n"},
      {"path: a\nsmall: 11", "m.yaml:2:8: to.out.small: 11 is out of range; expected at most 10\n"},
      {"path: a\nsmall: -1", "m.yaml:2:8: to.out.small: -1 is out of range; expected at least 0\n"},
      {"path: a\ntimeout: 10",
       "m.yaml:2:10: to.out.timeout: '10' is not a duration; expected a number and a unit, "
       "e.g. 250ms, 30s, 5m, 24h, 30d\n"},
      {"path: [a]", "m.yaml:1:7: to.out.path: expected a text, found a list\n"},
      {"path:", "m.yaml:1:1: to.out.path: has no value; write a text, or leave out the key\n"},
      {"path: a\nheaders: x", "m.yaml:2:10: to.out.headers: expected a map of texts, found a text\n"},
      {"path: a\nparts: x",
       "m.yaml:2:8: to.out.parts: expected a list, found a text; begin each entry with '- '\n"},
      {"path: a\nparts:\n  - {name: x, weight: 10}",
       "m.yaml:3:23: to.out.parts.0.weight: 10 is out of range; expected at most 9\n"},
      {"path: a\nrotate: {sise: 1}",
       "m.yaml:2:10: to.out.rotate: unknown key 'sise'; did you mean 'size'?\n"},
      {"path: a\nwhere: x IN ('a #1')",
       "m.yaml:2:8: to.out.where: YAML cut this value at ' #'; put the whole value "
       "in quotes\n"},
      {"path: a\ndms: true", "m.yaml:2:1: to.out.dms: is not there yet in this version; leave it out\n"},
      {"path: ${env:MILLSTREAM_NOT_SET}",
       "m.yaml:1:7: to.out.path: environment variable MILLSTREAM_NOT_SET is not set; set it, or give a "
       "default: "
       "'${env:MILLSTREAM_NOT_SET:-…}'\n"},
      {"path: a\nzzz: 1\ncount: x",
       "m.yaml:2:1: to.out: unknown key 'zzz'; known keys: path, format, token, create, count, small, ratio, "
       "timeout, "
       "limit, share, columns, headers, values, where, every, rotate, maybe, parts\n"
       "m.yaml:3:8: to.out.count: 'x' is not a whole number\n"},
  };
  for (const Case& test : kCases) EXPECT_EQ(Parse(test.yaml).faults, test.expected) << test.yaml;
}

TEST(Spec, SecretsNeverReachMessages) {
  ::setenv("MILLSTREAM_TEST_TOKEN", "hunter2", 1);
  EXPECT_EQ(Parse("path: a\ntoken: hunter2").faults.find("hunter2"), std::string::npos);
}

TEST(Spec, HelpAlignsItsColumns) {
  Spec<RotateOptions> spec("rotate", "When a new file begins.");
  spec.Field("size", &RotateOptions::size, "how large").Main().Default("64MiB");
  spec.Field("every", &RotateOptions::every, "how long").Required();
  spec.Guarantee("exactly once").Example("rotate: 1MiB\nx: y");
  EXPECT_EQ(SpecHelp(spec.info()),
            "rotate: When a new file begins.\n\n"
            "  size*  size      how large (default 64MiB)\n"
            "  every  duration  how long (required)\n\n"
            "  * 'rotate: VALUE' sets this one\n\n"
            "Guarantee: exactly once\n\nExamples:\n  rotate: 1MiB\n  x: y\n");
  EXPECT_EQ(
      SpecMarkdown(spec.info()),
      "### `rotate`\n\nWhen a new file begins.\n\nGuarantee: exactly once.\n\n"
      "| option | type | |\n|---|---|---|\n"
      "| **`size`** | size | how large (default 64MiB) |\n| `every` | duration | how long (required) |\n"
      "\n```yaml\nrotate: 1MiB\nx: y\n```\n");
}

TEST(Spec, SchemaIsJson) {
  Faults faults;
  Node schema = ParseJson(SpecSchema(TestSpec().info()), "schema", faults);
  ASSERT_TRUE(faults.empty()) << faults.front().ToString();
  const Node& object = schema.Find("anyOf")->items.at(0);
  EXPECT_EQ(object.Find("required")->items.at(0).scalar, "path");
  EXPECT_EQ(object.Find("properties")->Find("dms"), nullptr);
  EXPECT_NE(object.Find("properties")->Find("rotate"), nullptr);
}

}  // namespace
}  // namespace millstream
