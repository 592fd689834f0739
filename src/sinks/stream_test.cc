#include <gtest/gtest.h>

#include "sinks/contract_test.h"
#include "sinks/sinks.h"

namespace millstream {
namespace {

/// A target in memory with one partition: keeps the rule that pipeline/ keeps, what a receipt covers is
/// skipped.
class MemoryAppender final : public StreamAppender {
 public:
  struct Event {
    std::string id, type, source, subject, key, op, extensions, data;
    std::optional<int64_t> time_us;
  };
  Status OpenTarget(const std::string& stream) override {
    return stream == "paid" ? OkStatus() : NotFound("no stream '{}'; did you mean 'paid'?", stream);
  }
  Result<std::map<uint32_t, uint64_t>> Positions(const std::string& origin) override {
    return receipts[origin];
  }
  uint64_t Position(const std::string& origin, uint32_t part) override { return receipts[origin][part]; }
  Status Append(const std::string& origin, uint32_t part, const std::vector<Row>& rows,
                uint64_t next) override {
    uint64_t& covered = receipts[origin][part];
    for (const Row& row : rows) {
      if (row.source_offset < covered) continue;
      const Envelope& e = row.envelope;
      auto text = [](const std::optional<std::string_view>& value) {
        return std::string(value.value_or("-"));
      };
      events.push_back({text(e.id), text(e.type), text(e.source), text(e.subject), text(e.partition_key),
                        text(e.op), text(e.extensions), std::string(row.data), e.time_us});
    }
    covered = std::max(covered, next);
    return OkStatus();
  }
  std::map<std::string, std::map<uint32_t, uint64_t>> receipts;
  std::vector<Event> events;
};

class StreamSinkTest : public testing::Test {
 protected:
  Result<std::unique_ptr<Sink>> Make(const std::string& options) {
    SinkContext context = ContextOf(fs_, clock_, "stream:paid");
    context.appender = &appender_;
    return StreamSink().make(OptionsOf(options), context);
  }
  Status Deliver(const std::string& options, const std::string& visible, uint64_t next = 1) {
    auto sink = std::move(*Make(options));
    EXPECT_TRUE(sink->Open());
    RowBatch rows = maker_.Make(2, 0, next, visible, sink->WantedColumns());
    RETURN_IF_ERROR(sink->SetColumns(rows.columns, rows.visible));
    return sink->Deliver(rows);
  }
  MemoryFileSystem fs_;
  ManualClock clock_;
  RowMaker maker_;
  MemoryAppender appender_;
};

TEST_F(StreamSinkTest, KeepsTheContract) {
  SinkUnderTest under_test;
  under_test.make = [&] { return Make("paid"); };
  under_test.rows = [&] {
    std::vector<std::string> rows;
    for (const MemoryAppender::Event& event : appender_.events) {
      size_t p = event.data.find("\"p\":") + 4, o = event.data.find("\"o\":") + 4;
      rows.push_back(fmt::format("{}:{}", event.data.substr(p, event.data.find(',', p) - p),
                                 event.data.substr(o, event.data.find('}', o) - o)));
    }
    return rows;
  };
  CheckSinkContract(under_test);
  EXPECT_TRUE(appender_.receipts.contains("pipeline/p.1/stream:paid"));
}

TEST_F(StreamSinkTest, ARowBecomesAnEventWithDefaults) {
  ASSERT_TRUE(Deliver("paid", "i AS id, 'x' AS text", 2).ok());
  ASSERT_EQ(appender_.events.size(), 2u);
  const MemoryAppender::Event& event = appender_.events[1];
  EXPECT_EQ(event.data, R"({"id":1,"text":"x"})");
  EXPECT_EQ(event.id, "p.1/2-1-1-0");
  EXPECT_EQ(event.type, "paid");
  EXPECT_EQ(event.source, "-");
  EXPECT_EQ(event.key, "-");
  EXPECT_EQ(event.extensions, R"({"causationid":"orders/2:1"})");
  EXPECT_EQ(event.time_us, 1001 * 1'000'000);
}

TEST_F(StreamSinkTest, NamedColumnsBecomeTheEnvelope) {
  ASSERT_TRUE(Deliver("{name: paid, key: [a, b], type: other}",
                      "'i1' AS ce_id, 'src' AS ce_source, NULL::VARCHAR AS ce_type, 'sub' AS ce_subject, "
                      "'2026-01-01T00:00:00Z' AS ce_time, 'k' AS a, 7 AS b")
                  .ok());
  const MemoryAppender::Event& event = appender_.events.at(0);
  EXPECT_EQ(event.data, R"({"a":"k","b":7})");
  EXPECT_EQ(event.id, "i1");
  EXPECT_EQ(event.source, "src");
  EXPECT_EQ(event.type, "other");
  EXPECT_EQ(event.subject, "sub");
  EXPECT_EQ(event.key, R"(["k",7])");
  EXPECT_EQ(event.time_us, 1767225600ll * 1'000'000);
}

TEST_F(StreamSinkTest, ALoneDataColumnIsTheData) {
  ASSERT_TRUE(Deliver("{name: paid, type: t}", "'[1, 2]'::JSON AS data, 'x' AS ce_type").ok());
  EXPECT_EQ(appender_.events.at(0).data, "[1, 2]");
  EXPECT_EQ(appender_.events.at(0).type, "x");
}

TEST_F(StreamSinkTest, WhatIsWrongIsSaid) {
  EXPECT_EQ(Deliver("{name: paid, key: custmer}", "i AS customer").message(),
            "no column 'custmer' for the key of stream paid; did you mean 'customer'?");
  EXPECT_EQ(Deliver("paid", "1 AS ce_time").code(), Code::kInvalid);
  Status no_time = Deliver("paid", "'yesterday' AS ce_time");
  EXPECT_EQ(no_time.code(), Code::kInvalid);
  EXPECT_TRUE(no_time.message().starts_with("ce_time \"yesterday\" is no time")) << no_time.message();
  EXPECT_EQ((*Make("payd"))->Open().error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace millstream
