#include "event/infer.h"

#include <gtest/gtest.h>

#include "event/assembler.h"

namespace millstream {
namespace {

std::string Infer(const std::vector<std::string>& samples, bool typed_text = false) {
  ContractInference inference(typed_text);
  for (const std::string& sample : samples) EXPECT_TRUE(inference.Add(sample).ok()) << sample;
  return ContractToYaml(inference.Finish());
}

TEST(InferTest, ProposesTypes) {
  EXPECT_EQ(
      Infer(
          {R"({"id":"a","n":1,"amount":1.5,"at":"2026-11-22T10:00:00Z","d":"2026-11-22","u":"01234567-89ab-cdef-0123-456789abcdef","ok":true})",
           R"({"id":"b","n":-2,"amount":12.25,"at":"2026-11-22T10:00:00+01:00","d":"2026-11-23","u":null,"more":{"x":[1,null,2.5]}})"}),
      "id: varchar not null\n"
      "\"n\": bigint not null\n"
      "amount: decimal(18,2) not null\n"
      "at: timestamptz not null\n"
      "d: date not null\n"
      "u: uuid\n"
      "ok: boolean\n"
      "more: struct(x decimal(18,1)[])\n");
}

TEST(InferTest, MixedAndOddValues) {
  EXPECT_EQ(
      Infer(
          {R"({"m":1,"e":[],"nothing":null,"geo":1.234567,"big":12345678901234567890,"sci":1e5,"l":[{"a":1},{"b":"x"}],"t":"2026-11-22T10:00:00"})",
           R"({"m":"x","e":[],"nothing":null,"geo":2,"big":1,"sci":2.5,"l":[],"t":"2026-11-22 10:00:00.5"})"}),
      "m: json not null\n"
      "e: json not null\n"
      "nothing: json\n"
      "geo: double not null\n"
      "big: hugeint not null\n"
      "sci: double not null\n"
      "l: struct(a bigint, b varchar)[] not null\n"
      "t: timestamp not null\n");
}

TEST(InferTest, NamesThatNeedAnother) {
  EXPECT_EQ(Infer({R"({"first name":"a","data":1,"_x":2,"ID":3,"id":4,"a/b":5,"no":6})"}),
            "first_name: {type: varchar not null, from: \"/first name\"}\n"
            "field_data: {type: bigint not null, from: \"/data\"}\n"
            "field__x: {type: bigint not null, from: \"/_x\"}\n"
            "ID: bigint not null\n"
            "id_2: {type: bigint not null, from: \"/id\"}\n"
            "a_b: {type: bigint not null, from: \"/a~1b\"}\n"
            "\"no\": bigint not null\n");
}

TEST(InferTest, TypedText) {
  EXPECT_EQ(
      Infer({R"({"a":"1","b":"1.50","c":"TRUE","d":"007"})", R"({"a":"2","b":"3","c":"false","d":"1"})"},
            true),
      "a: bigint not null\nb: decimal(18,2) not null\nc: boolean not null\nd: json not null\n");
}

TEST(InferTest, RefusesWhatIsNoObject) {
  ContractInference inference;
  EXPECT_FALSE(inference.Add("[1]").ok());
  EXPECT_FALSE(inference.Add("{").ok());
  EXPECT_EQ(inference.samples(), 0u);
}

TEST(InferTest, EverySampleConverts) {
  std::vector<std::string> samples;
  for (int i = 0; i < 200; ++i) {
    samples.push_back(fmt::format(
        R"({{"i":{},"f":{},"s":"{}","o":{{"k{}":{},"l":[{},"{}"]}},"n":{}}})",
        i % 7 == 0 ? "null" : std::to_string(i * 1000003), i % 3 == 0 ? "1.25" : "7",
        i % 2 == 0 ? "2026-11-22" : "2026-11-22T00:00:00Z", i % 4, i, i, i, i % 9 == 0 ? "\"x\"" : "1e3"));
  }
  ContractInference inference;
  for (const std::string& sample : samples) ASSERT_TRUE(inference.Add(sample).ok());
  StreamShape shape;
  shape.contract = inference.Finish();
  Assembler assembler(shape);
  for (const std::string& sample : samples) {
    auto rejection = assembler.Add({}, sample);
    EXPECT_FALSE(rejection) << sample << rejection->path << rejection->message;
  }
  for (const Field& field : shape.contract.fields)
    EXPECT_TRUE(ParseType(field.type.ToString())) << field.type.ToString();
}

}  // namespace
}  // namespace millstream
