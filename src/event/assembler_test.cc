#include "event/assembler.h"

#include <gtest/gtest.h>

namespace millstream {
namespace {

StreamShape Shape(std::initializer_list<std::pair<const char*, const char*>> fields) {
  StreamShape shape;
  shape.name = "s";
  for (auto [name, text] : fields) shape.contract.fields.push_back(*ParseField(name, text));
  return shape;
}

std::string RejectionOf(const StreamShape& shape, std::string_view data) {
  Assembler assembler(shape);
  auto rejection = assembler.Add({}, data);
  EXPECT_EQ(assembler.count(), rejection ? 0u : 1u);
  return rejection ? rejection->code + " " + rejection->path + " " + rejection->message : "";
}

TEST(AssemblerTest, RejectsWithCodePathAndReason) {
  StreamShape shape =
      Shape({{"id", "varchar not null"}, {"amount", "decimal(12,2)"}, {"lines", "struct(qty integer)[]"}});
  EXPECT_EQ(RejectionOf(shape, R"({"id":"a","amount":"abc"})"),
            "contract /amount \"abc\" is not decimal(12,2)");
  EXPECT_EQ(RejectionOf(shape, R"({"id":"a","lines":[{"qty":1},{"qty":"x"}]})"),
            "contract /lines/1/qty \"x\" is not integer");
  EXPECT_EQ(RejectionOf(shape, "{}"), "contract /id id is missing, but the contract says not null");
  EXPECT_EQ(RejectionOf(shape, R"({"id":null})"), "contract /id id is null, but the contract says not null");
  EXPECT_EQ(RejectionOf(shape, R"({"id":"a",})"), "json  expected a name in quotes at byte 10");
  EXPECT_EQ(RejectionOf(shape, ""), "json  the document is empty at byte 0");
  EXPECT_EQ(RejectionOf(shape, "{\"id\":\"\xff\"}"), "utf8  not UTF-8 at byte 7");
  EXPECT_EQ(RejectionOf(shape, "{\"id\":\"a\",\"x\":" + std::string(200, '[') + std::string(200, ']') + "}"),
            "depth  nested more than 128 deep at byte 141");
  shape.max_event_bytes = 1000;
  EXPECT_EQ(RejectionOf(shape, "{\"id\":\"" + std::string(1200, 'x') + "\"}"),
            "size  1,209 bytes; the limit is 1,000");
  EXPECT_EQ(RejectionOf(shape, "  {\"id\":\"a\"}  \n"), "");
}

TEST(AssemblerTest, TellsAllThatIsWrongWithAnEvent) {
  StreamShape shape =
      Shape({{"id", "varchar not null"}, {"n", "integer"}, {"l", "integer[]"}, {"good", "date"}});
  shape.time_from = "/at";
  Assembler assembler(shape);
  auto rejection = assembler.Add({}, R"({"n":"x","l":[1,"y"],"good":"2026-01-01","at":"noon"})");
  ASSERT_TRUE(rejection);
  std::string paths = rejection->path;
  for (const Rejection& another : rejection->others) paths += " " + another.path;
  EXPECT_EQ(paths, "/id /n /l/1 /at");
  StreamShape wide;
  wide.name = "wide";
  for (int i = 0; i < 40; ++i)
    wide.contract.fields.push_back(*ParseField(fmt::format("f{}", i), "integer not null"));
  Assembler many(wide);
  rejection = many.Add({}, "{}");
  ASSERT_TRUE(rejection);
  EXPECT_EQ(rejection->others.size(), 9u);
  EXPECT_EQ(rejection->others[8].path, "/f9");
}

TEST(AssemblerTest, ARejectedEventLeavesNoTrace) {
  StreamShape shape = Shape({{"id", "varchar not null"}, {"n", "integer"}});
  shape.id_from = "/id";
  Assembler assembler(shape), clean(shape);
  for (int i = 0; i < 50; ++i) {
    std::string good = fmt::format(R"({{"id":"e{}","n":{}}})", i, i);
    EXPECT_FALSE(assembler.Add({}, good));
    EXPECT_FALSE(clean.Add({}, good));
    EXPECT_TRUE(assembler.Add({}, fmt::format(R"({{"id":"bad{}","n":"x"}})", i)));
    EXPECT_TRUE(assembler.Add({}, R"({"id":"bad)"));
  }
  EXPECT_EQ(assembler.count(), 50u);
  EXPECT_EQ(assembler.data_bytes(), clean.data_bytes());
  EXPECT_EQ(assembler.Finish(0, {}).payload, clean.Finish(0, {}).payload);
  EXPECT_EQ(assembler.count(), 0u);
}

TEST(AssemblerTest, PartitionsByKeyThenPartitionKeyThenIdThenSpread) {
  StreamShape shape = Shape({{"customer", "varchar"}});
  shape.partitions = 7;
  shape.key = {"/customer"};
  Assembler assembler(shape);
  uint32_t partition = 99;
  Envelope envelope;
  envelope.partition_key = "pk", envelope.id = "i";
  ASSERT_FALSE(assembler.Add(envelope, R"({"customer":"c\u00e9"})", &partition));
  EXPECT_EQ(partition, PartitionOf("c\xc3\xa9", 7));
  ASSERT_FALSE(assembler.Add(envelope, R"({"customer":null})", &partition));
  EXPECT_EQ(partition, PartitionOf("pk", 7));
  envelope.partition_key.reset();
  ASSERT_FALSE(assembler.Add(envelope, "{}", &partition));
  EXPECT_EQ(partition, PartitionOf("i", 7));
  uint32_t first;
  ASSERT_FALSE(assembler.Add({}, "{}", &first));
  ASSERT_FALSE(assembler.Add({}, "{}", &partition));
  EXPECT_EQ(partition, first);
  assembler.Finish(first, {});
  ASSERT_FALSE(assembler.Add({}, "{}", &partition));
  EXPECT_EQ(partition, (first + 1) % 7);
}

TEST(AssemblerTest, KeysOfSeveralValues) {
  StreamShape shape = Shape({});
  shape.key = {"/a", "b"};
  Assembler assembler(shape);
  for (std::string_view data : {R"({"a":"x\u0041","b":1.50})", R"({"b":{"c":[]}})", R"({"a":null})"})
    ASSERT_FALSE(assembler.Add({}, data));
  auto batch = *assembler.Preview(0);
  const Column& key = **batch->AttributeColumn(Attribute::kKey);
  EXPECT_EQ(key.String(0), R"(["xA",1.50])");
  EXPECT_EQ(key.String(1), R"([null,{"c":[]}])");
  EXPECT_TRUE(key.IsNull(2));
}

TEST(AssemblerTest, PartitionHashIsOfTheFormat) {
  // XXH3-64 by the reference implementation (python3-xxhash).
  EXPECT_EQ(PartitionOf("c50969", 1000003), 85088u);
  EXPECT_EQ(PartitionOf("", 1000003), 778394u);
}

TEST(AssemblerTest, RemoveTakesEventsAway) {
  StreamShape shape = Shape({{"id", "varchar"}, {"n", "integer"}});
  shape.id_from = "/id";
  Assembler assembler(shape), expected(shape);
  std::vector<uint32_t> removed;
  for (uint32_t i = 0; i < 60; ++i) {
    std::string data = fmt::format(R"({{"id":"e{}","n":{}}})", i, i);
    Envelope envelope;
    if (i > 40) envelope.subject = "s";
    if (i == 55) envelope.id = "given";
    ASSERT_FALSE(assembler.Add(envelope, data));
    if (i % 3 == 0) {
      removed.push_back(i);
    } else {
      ASSERT_FALSE(expected.Add(envelope, data));
    }
  }
  assembler.Remove(0, removed);
  EXPECT_EQ(assembler.count(0), 40u);
  EXPECT_EQ(assembler.DataOf(0, 1), R"({"id":"e2","n":2})");
  EXPECT_EQ(assembler.data_bytes(), expected.data_bytes());
  EXPECT_EQ(assembler.Finish(0, {}).payload, expected.Finish(0, {}).payload);
}

TEST(AssemblerTest, TimeFromDataWithoutAContract) {
  StreamShape shape = Shape({});
  shape.time_from = "/at", shape.id_from = "/n", shape.type_from = "/t";
  Assembler assembler(shape);
  ASSERT_FALSE(assembler.Add({}, R"({"at":"2026-11-22T10:00:00Z","n":7,"t":{"x":1}})"));
  ASSERT_FALSE(assembler.Add({}, R"({"at":null})"));
  auto rejection = assembler.Add({}, R"({"at":"noon"})");
  ASSERT_TRUE(rejection);
  EXPECT_EQ(rejection->path, "/at");
  EXPECT_EQ(rejection->message, "\"noon\" is not timestamptz, which ce_time must be");
  auto batch = *assembler.Preview(0);
  EXPECT_EQ((*batch->AttributeColumn(Attribute::kTime))->Fixed<int64_t>(0), 1795341600000000);
  EXPECT_TRUE((*batch->AttributeColumn(Attribute::kTime))->IsNull(1));
  EXPECT_EQ((*batch->AttributeColumn(Attribute::kId))->String(0), "7");
  EXPECT_TRUE((*batch->AttributeColumn(Attribute::kType))->IsNull(0));
}

// An attribute that equals a field's column is stored once, and a default is not an id.
TEST(AssemblerTest, AttributesReferToEqualFields) {
  StreamShape shape = Shape({{"id", "varchar default 'none'"}, {"pad", "varchar"}});
  shape.codec = Codec::kNone;
  shape.id_from = "/id";
  auto encode = [&](bool missing) {
    Assembler assembler(shape);
    for (int i = 0; i < 100; ++i)
      EXPECT_FALSE(assembler.Add({}, fmt::format(R"({{"id":"event number {}"}})", i)));
    if (missing) {
      EXPECT_FALSE(assembler.Add({}, "{}"));
    }
    return assembler.Finish(0, {});
  };
  EncodedBatch same = encode(false), differs = encode(true);
  EXPECT_GT(differs.payload.size(), same.payload.size() + 1000);
  BatchPlace place;
  place.count = differs.count;
  auto batch = *EventBatch::Open(place, differs.codec, differs.payload);
  EXPECT_TRUE((*batch->AttributeColumn(Attribute::kId))->IsNull(100));
  EXPECT_EQ((*batch->AttributeColumn(Attribute::kId))->String(99), "event number 99");
  EXPECT_EQ((*batch->FieldColumn(shape.contract.fields[0]))->String(100), "none");
}

}  // namespace
}  // namespace millstream
