// A fork is a log of its own: the events below its vector to the last byte, and nothing of what comes later.
#include "log/fork.h"

#include <sys/stat.h>

#include <filesystem>

#include "log/log_test_support.h"

namespace millstream {
namespace {

class ForkTest : public LogTest {
 public:
  ForkTest() {
    options_.segment_bytes = 3 << 10;
    options_.merge_below_events = 8;
  }
  Status Fork(uint64_t end, const std::string& to = "/fork") {
    return ForkLog(fs_, *log_, "/data", {{"orders", {{0, end}}}}, to);
  }
  /// The fork as a log that is open.
  Partition* OpenFork(const std::string& at = "/fork") {
    auto log = Log::Open(fs_, clock_, random_, at, options_, {});
    EXPECT_TRUE(log.has_value()) << log.error().ToString();
    if (!log) return nullptr;
    fork_ = std::move(*log);
    auto stream = fork_->OpenStream("orders", 1);
    EXPECT_TRUE(stream.has_value()) << stream.error().ToString();
    return stream ? &(*stream)->partition(0) : nullptr;
  }
  std::unique_ptr<Log> fork_;
};

TEST_F(ForkTest, EveryEndGivesTheEventsBelowItAndGoesOnThere) {
  ASSERT_TRUE(Open().ok());
  uint64_t end = 0;
  for (uint32_t count : {1u, 5u, 20u, 1u, 3u, 40u, 7u, 2u, 30u}) {
    Append(end, count, 60);
    end += count;
    clock_.AdvanceUs(1'000'000);
  }
  for (uint64_t at = 0; at <= end; ++at) {
    std::string to = fmt::format("/fork{}", at);
    Status forked = Fork(at, to);
    ASSERT_TRUE(forked.ok()) << at << ": " << forked.ToString();
    Partition* partition = OpenFork(to);
    ASSERT_NE(partition, nullptr) << at;
    EXPECT_FALSE(fork_->recovery().unclean) << at;
    EXPECT_EQ(partition->bounds().durable_end, at);
    std::map<uint64_t, std::string> events = ReadEvents(*partition, 0);
    EXPECT_EQ(events.size(), at);
    for (const auto& [offset, text] : events) EXPECT_EQ(text, EventText(offset, 60));
    auto appended = partition->AppendAndWait(NumberedBatch(1000, 3));
    ASSERT_TRUE(appended.has_value());
    EXPECT_EQ(appended->first_offset, at);
    EXPECT_TRUE(fork_->Close().ok());
    EXPECT_TRUE(Log::Verify(fs_, to, "orders").value().empty()) << at;
  }
  ExpectNumbered(0, end, 60);
}

TEST_F(ForkTest, StampsAreThoseOfTheEvents) {
  ASSERT_TRUE(Open().ok());
  for (uint64_t n = 0; n < 12; ++n) {
    Append(n, 1);
    clock_.AdvanceUs(1'000'000);
  }
  ASSERT_TRUE(log_->SealAll().ok());
  stream_->SetLayout({}, Codec::kLz4, {});
  ASSERT_TRUE(log_->MergeSealed().ok());
  ASSERT_TRUE(Fork(7).ok());
  Partition* fork = OpenFork();
  ASSERT_NE(fork, nullptr);
  auto whole = partition_->Read(0).value()->Next().value();
  auto head = fork->Read(0).value()->Next().value();
  ASSERT_GE(whole->count(), 7u) << "the batch must be one that was merged";
  ASSERT_EQ(head->count(), 7u);
  for (uint32_t row = 0; row < 7; ++row) EXPECT_EQ(head->IngestedAtUs(row), whole->IngestedAtUs(row));
  EXPECT_EQ(fork->OffsetForTime(whole->IngestedAtUs(3)).value(), 4u);
  EXPECT_EQ(fork->OffsetForTime(whole->IngestedAtUs(11)).value(), 7u);
}

TEST_F(ForkTest, WhatComesLaterStaysOnItsSide) {
  ASSERT_TRUE(Open().ok());
  for (uint64_t n = 0; n < 100; ++n) Append(n, 1, 60);
  ASSERT_TRUE(Fork(90).ok());
  Partition* fork = OpenFork();
  ASSERT_NE(fork, nullptr);
  ASSERT_TRUE(fork->AppendAndWait(NumberedBatch(90, 5, 60)).has_value());
  for (uint64_t n = 100; n < 120; ++n) Append(n, 1, 60);
  fork_->Find("orders")->SetLayout({}, Codec::kLz4, {});
  ASSERT_TRUE(fork_->SealAll().ok() && fork_->MergeSealed().ok());
  stream_->SetLayout({}, Codec::kLz4, {.bytes = 12 << 10});
  ASSERT_TRUE(log_->Retain().ok());
  EXPECT_GT(partition_->bounds().start, 0u);
  ASSERT_TRUE(log_->MergeSealed().ok());
  EXPECT_EQ(ReadEvents(*fork, 0).size(), 95u);
  EXPECT_EQ(ReadEvents(*partition_, 100).size(), 20u);
}

TEST_F(ForkTest, BelowTheStartNothingIsLeftButTheOffsetsGoOn) {
  ASSERT_TRUE(Open().ok());
  stream_->SetLayout({}, Codec::kLz4, {.bytes = 4 << 10});
  for (uint64_t n = 0; n < 100; ++n) Append(n, 1, 60);
  ASSERT_TRUE(log_->Retain().ok());
  uint64_t start = partition_->bounds().start;
  ASSERT_GT(start, 10u);
  ASSERT_TRUE(Fork(10).ok());
  Partition* fork = OpenFork();
  ASSERT_NE(fork, nullptr);
  EXPECT_TRUE(ReadEvents(*fork, fork->bounds().start).empty());
  EXPECT_EQ(fork->AppendAndWait(NumberedBatch(0, 1))->first_offset, 10u);
}

TEST_F(ForkTest, ReceiptsAreThoseOfWhatIsThere) {
  ASSERT_TRUE(Open().ok());
  auto key = [](const std::string& part, uint32_t first, uint32_t events) {
    return Receipt{"key/orders", part, "answer", first, events};
  };
  Append(0, 4, 0, {key("a", 0, 2), key("b", 2, 2)});
  ASSERT_TRUE(Fork(3).ok());
  Partition* fork = OpenFork();
  ASSERT_NE(fork, nullptr);
  EXPECT_TRUE(fork->FindReceipt("key/orders", "a").has_value());
  EXPECT_FALSE(fork->FindReceipt("key/orders", "b").has_value());
  Append(4, 4, 0, {Receipt{"pipeline/p.1/stream:orders", "0", "9", 0, UINT32_MAX}});
  Status cut = Fork(6, "/within");
  EXPECT_EQ(cut.code(), Code::kInvalid);
  EXPECT_NE(cut.message().find("orders/0:5 lies within orders/0:3 to 7"), std::string::npos) << cut.message();
  EXPECT_TRUE(Fork(8, "/behind").ok());
}

TEST_F(ForkTest, EpochsBeyondTheEndAreNotItsOwn) {
  ASSERT_TRUE(Open().ok());
  Append(0, 10);
  ASSERT_TRUE(Open().ok());  // as after a crash: the epoch goes up
  Append(10, 10);
  ASSERT_EQ(partition_->bounds().epoch, 2u);
  ASSERT_TRUE(Fork(5).ok());
  EXPECT_EQ(OpenFork()->bounds().epoch, 1u);
  ASSERT_TRUE(Fork(15, "/later").ok());
  EXPECT_EQ(OpenFork("/later")->bounds().epoch, 2u);
}

TEST(ForkOnDisk, SealedSegmentsAreLinks) {
  std::string folder = ::testing::TempDir() + "fork_on_disk";
  std::filesystem::remove_all(folder);
  PosixFileSystem fs;
  SystemClock clock;
  SystemRandom random;
  LogOptions options{.segment_bytes = 3 << 10, .reserve_bytes = 0, .merge_in_background = false};
  auto log = Log::Open(fs, clock, random, folder + "/data", options, {});
  ASSERT_TRUE(log.has_value());
  Partition& partition = (*log)->OpenStream("orders", 1).value()->partition(0);
  for (uint64_t n = 0; n < 100; ++n)
    ASSERT_TRUE(partition.AppendAndWait(NumberedBatch(n, 1, 60)).has_value());
  ASSERT_TRUE(ForkLog(fs, **log, folder + "/data", {{"orders", {{0, 95}}}}, folder + "/fork").ok());
  std::vector<SegmentInfo> segments = partition.segments();
  ASSERT_GT(segments.size(), 3u);
  struct stat one {
  }, other{};
  ASSERT_EQ(stat((folder + "/data/" + segments[0].file).c_str(), &one), 0);
  ASSERT_EQ(stat((folder + "/fork/" + segments[0].file).c_str(), &other), 0);
  EXPECT_EQ(one.st_ino, other.st_ino);
  EXPECT_EQ(one.st_nlink, 2u);
  EXPECT_FALSE(ForkLog(fs, **log, folder + "/data", {}, folder + "/fork").ok());
}

}  // namespace
}  // namespace millstream
