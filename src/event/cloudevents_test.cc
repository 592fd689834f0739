#include "event/cloudevents.h"

#include <gtest/gtest.h>

#include "event/assembler.h"
#include "event/json_scan.h"

namespace millstream {
namespace {

std::string ErrorOf(std::string_view text) {
  auto event = ParseCloudEvent(text);
  return event ? "no error" : event.error().ToString();
}

TEST(CloudEventsTest, TakesDataByteForByte) {
  std::string text =
      R"({"specversion":"1.0","id":"a\u00e9","source":"/s","type":"t","time":"2026-11-22T10:00:00Z","n":5,"b":true,
    "traceparent":"00-\"x","partitionkey":"k","op":"u","subject":null,"data": {"x" : 1.50,  "y":[ ]} ,"datacontenttype":"application/json; charset=utf-8"})";
  auto event = ParseCloudEvent(text);
  ASSERT_TRUE(event) << event.error().message();
  CloudEvent moved = std::move(*event);
  EXPECT_EQ(moved.envelope.id, "a\xc3\xa9");
  EXPECT_EQ(moved.envelope.source, "/s");
  EXPECT_EQ(moved.envelope.time_us, 1795341600000000);
  EXPECT_EQ(moved.envelope.partition_key, "k");
  EXPECT_EQ(moved.envelope.op, "u");
  EXPECT_FALSE(moved.envelope.subject);
  EXPECT_EQ(moved.envelope.extensions, R"({"n":5,"b":true,"traceparent":"00-\"x"})");
  EXPECT_EQ(moved.data, R"({"x" : 1.50,  "y":[ ]})");
}

TEST(CloudEventsTest, SaysWhatIsWrong) {
  EXPECT_EQ(ErrorOf("[]"), "invalid: a CloudEvent is a JSON object");
  EXPECT_NE(ErrorOf("{").find("not JSON"), std::string::npos);
  EXPECT_NE(ErrorOf(R"({"id":"a","source":"s","type":"t"})").find("specversion is missing"),
            std::string::npos);
  EXPECT_NE(ErrorOf(R"({"specversion":"0.3","id":"a","source":"s","type":"t"})").find("'0.3'"),
            std::string::npos);
  EXPECT_NE(ErrorOf(R"({"specversion":"1.0","source":"s","type":"t"})").find("id is missing"),
            std::string::npos);
  EXPECT_EQ(ErrorOf(R"({"specversion":"1.0","id":"","source":"s","type":"t"})"), "invalid: id is empty");
  EXPECT_EQ(ErrorOf(R"({"specversion":"1.0","id":7,"source":"s","type":"t"})"),
            "invalid: id must be a string, not 7");
  EXPECT_NE(
      ErrorOf(R"({"specversion":"1.0","id":"a","source":"s","type":"t","time":"noon"})").find("time: 'noon'"),
      std::string::npos);
  EXPECT_NE(ErrorOf(R"({"specversion":"1.0","id":"a","source":"s","type":"t","Big":"x"})")
                .find("'Big' is not the name"),
            std::string::npos);
  EXPECT_NE(
      ErrorOf(R"({"specversion":"1.0","id":"a","source":"s","type":"t","x":[1]})").find("object or an array"),
      std::string::npos);
  EXPECT_EQ(ParseCloudEvent(R"({"specversion":"1.0","id":"a","source":"s","type":"t","data_base64":"AA=="})")
                .error()
                .code(),
            Code::kConflict);
  EXPECT_EQ(
      ParseCloudEvent(
          R"({"specversion":"1.0","id":"a","source":"s","type":"t","datacontenttype":"text/plain","data":"x"})")
          .error()
          .code(),
      Code::kConflict);
  EXPECT_EQ(ParseCloudEvent(R"({"specversion":"1.0","id":"a","source":"s","type":"t"})")->data, "null");
}

TEST(CloudEventsTest, BinaryMode) {
  auto event = ReadCloudEventHeaders({{"Ce-Specversion", "1.0"},
                                      {"CE-ID", "\"a\\\"b%20%C3%A9\""},
                                      {"ce-source", "/s"},
                                      {"ce-type", "t%25"},
                                      {"ce-x1", "5"},
                                      {"content-type", "application/json"},
                                      {"host", "h"}},
                                     "{\"a\":1}");
  ASSERT_TRUE(event) << event.error().message();
  EXPECT_EQ(event->envelope.id, "a\"b \xc3\xa9");
  EXPECT_EQ(event->envelope.type, "t%");
  EXPECT_EQ(event->envelope.extensions, R"({"x1":"5"})");
  EXPECT_EQ(event->data, "{\"a\":1}");
  EXPECT_FALSE(ReadCloudEventHeaders({{"ce-id", "a"}}, ""));
  EXPECT_FALSE(ReadCloudEventHeaders({{"ce-specversion", "1.0"}, {"ce-id", "%FF"}}, ""));
  EXPECT_EQ(ReadCloudEventHeaders({{"content-type", "text/xml"}}, "").error().code(), Code::kConflict);
}

TEST(CloudEventsTest, ComesBackAsItWent) {
  StreamShape shape;
  shape.name = "orders";
  Assembler assembler(shape);
  auto first = ParseCloudEvent(
      R"({"specversion":"1.0","id":"a","source":"/s","type":"t","time":"2026-11-22T10:00:00.5Z","offset":3,"x":"y","op":"d","partitionkey":"k","data":{"q" : 1}})");
  ASSERT_TRUE(first);
  ASSERT_FALSE(assembler.Add(first->envelope, first->data));
  ASSERT_FALSE(assembler.Add({}, "[2]"));
  EncodedBatch encoded = assembler.Finish(0, {});
  BatchPlace place{"orders", 0, 1, 17, 2, 1795341600000000};
  auto batch = EventBatch::Open(place, encoded.codec, encoded.payload);
  ASSERT_TRUE(batch);
  auto writer = CloudEventWriter::Make(**batch, "/v1/streams/orders", "orders");
  ASSERT_TRUE(writer);
  std::string out;
  writer->Append(out, 0);
  EXPECT_EQ(
      out,
      R"({"specversion":"1.0","id":"a","source":"/s","type":"t","time":"2026-11-22T10:00:00.5Z","partitionkey":"k","op":"d","x":"y",)"
      R"("partition":0,"offset":17,"ingestedat":"2026-11-22T10:00:00Z","datacontenttype":"application/json","data":{"q" : 1}})");
  auto again = ParseCloudEvent(out);
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(again->data, first->data);
  out.clear();
  writer->Append(out, 1);
  EXPECT_EQ(
      out,
      R"({"specversion":"1.0","id":"orders/0:18","source":"/v1/streams/orders","type":"orders","time":"2026-11-22T10:00:00Z",)"
      R"("partition":0,"offset":18,"ingestedat":"2026-11-22T10:00:00Z","datacontenttype":"application/json","data":[2]})");
}

}  // namespace
}  // namespace millstream
