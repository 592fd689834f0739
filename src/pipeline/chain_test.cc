// A chain of streams (stream sink over EngineAppender), exactly once whatever a crash leaves of the target.
#include <set>

#include "pipeline/control_log.h"
#include "pipeline/ingest_test_support.h"
#include "pipeline/stream_appender.h"

namespace millstream {
namespace {

class ChainTest : public IngestTest {
 protected:
  ChainTest() {
    config_.shape.name = "paid";
    config_.shape.partitions = 3;
  }
  EngineAppender Appender() {
    return {[this](const std::string& name) {
              return name == "paid" ? ingest_ : std::shared_ptr<StreamIngest>();
            },
            [] { return std::vector<std::string>{"paid"}; }};
  }
  /// Two rows for each source event of [from, next), of which every third gives none.
  Status Deliver(uint32_t part, uint64_t from, uint64_t next) {
    EngineAppender appender = Appender();
    RETURN_IF_ERROR(appender.OpenTarget("paid"));
    std::vector<std::string> texts, ids;
    texts.reserve(2 * (next - from));
    ids.reserve(2 * (next - from));
    std::vector<StreamAppender::Row> rows;
    for (uint64_t offset = from; offset < next; ++offset) {
      if (offset % 3 == 0) continue;
      for (int ordinal = 0; ordinal < 2; ++ordinal) {
        texts.push_back(fmt::format("{{\"s\":\"{}:{}-{}\"}}", part, offset, ordinal));
        texts.back().reserve(texts.back().size() + 64);
        ids.push_back(fmt::format("p.1/{}-1-{}-{}", part, offset, ordinal));
        StreamAppender::Row row;
        row.data = texts.back();
        row.envelope.id = ids.back();
        row.source_offset = offset;
        rows.push_back(row);
      }
    }
    return appender.Append("pipeline/p.1/stream:paid", part, rows, next);
  }
  uint64_t Next(uint32_t part) {
    EngineAppender appender = Appender();
    EXPECT_TRUE(appender.OpenTarget("paid").ok());
    auto positions = appender.Positions("pipeline/p.1/stream:paid");
    EXPECT_TRUE(positions);
    if (!positions) return 0;
    EXPECT_EQ(appender.Position("pipeline/p.1/stream:paid", part), (*positions)[part]);
    return (*positions)[part];
  }
};

TEST_F(ChainTest, EachRowOnceWhereverThePowerFails) {
  constexpr uint64_t kEvents = 60;
  int cuts = 0;
  for (uint64_t at = 1; at < 80; ++at) {
    directory_ = fmt::format("/data{}", at);
    ASSERT_TRUE(Open().ok());
    fs_.PowerOffAt(at);
    uint64_t done = 0;
    while (done < kEvents && Deliver(0, done, done + 7).ok()) done += 7;
    cuts += fs_.powered_off() ? 1 : 0;
    bool was_cut = fs_.powered_off();
    ASSERT_TRUE(Crash(at).ok()) << at;
    // As a delivery loop does: from the stored position on, in other batches than before.
    uint64_t next = Next(0);
    EXPECT_LE(next, done + 7) << at;
    while (next < kEvents + 3) {
      uint64_t end = std::min(next + 11, kEvents + 3);
      ASSERT_TRUE(Deliver(0, next, end).ok()) << at;
      next = end;
    }
    std::vector<std::string> events = AllEvents();
    std::set<std::string> distinct(events.begin(), events.end());
    EXPECT_EQ(events.size(), distinct.size()) << at << ": doubled";
    EXPECT_EQ(distinct.size(), 2 * (next - (next + 2) / 3)) << at << ": lost";
    if (!was_cut) break;
  }
  EXPECT_GT(cuts, 5);
}

TEST_F(ChainTest, APartitionStandsWhereItsLeastReceiptDoes) {
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(Next(0), 0u);
  ASSERT_TRUE(Deliver(0, 0, 9).ok());  // the first receipts go everywhere
  EXPECT_EQ(Next(0), 9u);
  EXPECT_EQ(Next(1), 0u) << "another source partition";
  ASSERT_TRUE(Deliver(0, 9, 10).ok());  // no row comes out, and no receipt is due
  EXPECT_EQ(Next(0), 9u);
  clock_.AdvanceUs(11'000'000);
  ASSERT_TRUE(Deliver(0, 9, 10).ok());
  EXPECT_EQ(Next(0), 10u);
  ASSERT_TRUE(Crash(1).ok());
  EXPECT_EQ(Next(0), 10u);
}

TEST_F(ChainTest, ARowThatTheTargetRefusesIsInvalidAndNothingIsAppended) {
  SetField("n", "integer not null");
  ASSERT_TRUE(Open().ok());
  Status status = Deliver(0, 0, 9);
  EXPECT_EQ(status.code(), Code::kInvalid);
  EXPECT_NE(status.message().find("/n: n is missing"), std::string::npos) << status.message();
  EXPECT_TRUE(AllEvents().empty());
  EXPECT_EQ(Next(0), 0u);
}

using ControlLogTest = IngestTest;

TEST_F(ControlLogTest, WhatIsAppendedIsThereAfterACrash) {
  ASSERT_TRUE(Open().ok());
  auto control = ControlLog::Open(*log_, clock_);
  ASSERT_TRUE(control);
  ASSERT_TRUE((*control)->Append(ControlKind::kSourcePaused, "a", "me").ok());
  ASSERT_TRUE((*control)->Append(ControlKind::kSourcePaused, "b", "me").ok());
  ASSERT_TRUE((*control)->Append(ControlKind::kSourceResumed, "a", "me").ok());
  control->reset();
  ASSERT_TRUE(Crash(1).ok());
  control = ControlLog::Open(*log_, clock_);
  ASSERT_TRUE(control);
  EXPECT_EQ((*control)->catalog().paused_sources(), std::set<std::string>{"b"});
  EXPECT_EQ((*control)->catalog().events(), 3u);
}

TEST_F(ControlLogTest, AnAppendThatFailsDoesNotCount) {
  ASSERT_TRUE(Open().ok());
  auto control = ControlLog::Open(*log_, clock_);
  ASSERT_TRUE(control);
  fs_.FailAt(FileCall::kSync, 1, IoError("the disk is gone"), true);
  EXPECT_EQ((*control)->Append(ControlKind::kSourcePaused, "a", "me").code(), Code::kIo);
  EXPECT_TRUE((*control)->catalog().paused_sources().empty());
}

TEST_F(ControlLogTest, ABrokenChainIsCorrupt) {
  ASSERT_TRUE(Open().ok());
  {
    auto control = ControlLog::Open(*log_, clock_);
    ASSERT_TRUE(control);
    ASSERT_TRUE((*control)->Append(ControlKind::kSourcePaused, "a", "me").ok());
  }
  StreamShape shape;
  shape.name = kControlStream;
  Assembler assembler(shape);
  ControlEvent forged;
  forged.kind = ControlKind::kSourcePaused;
  forged.name = "b";
  std::string json = forged.ToJson("not the hash of the one before");
  json.reserve(json.size() + 64);
  ASSERT_FALSE(assembler.Add({}, json));
  ASSERT_TRUE(log_->Find(kControlStream)->partition(0).AppendAndWait(assembler.Finish(0, {})));
  auto again = ControlLog::Open(*log_, clock_);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), Code::kCorrupt);
}

}  // namespace
}  // namespace millstream
