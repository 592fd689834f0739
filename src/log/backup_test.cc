// A backup is a log of one moment: whole, growing, and never worse for a run that did not end.
#include "log/backup.h"

#include <gtest/gtest.h>

#include "log/log_test_support.h"

namespace millstream {
namespace {

constexpr int64_t kHour = 3600ll * 1'000'000;

template <typename Fixture>
struct Fresh : Fixture {
  void TestBody() override {}
};

class BackupTest : public LogTest {
 public:
  BackupTest() {
    options_.segment_bytes = 3 << 10;
    // A footer tells batches apart from merged ones.
    options_.merge_below_events = 8;
  }

  std::vector<BackupPart> Cut() {
    std::vector<BackupPart> parts;
    for (const PartitionSegments& partition : log_->SegmentsNow())
      for (const SegmentInfo& s : partition.segments)
        parts.push_back({s.file, s.bytes, s.end_offset, s.sealed});
    return parts;
  }
  Result<BackupReport> Run() {
    return BackUp(fs_, clock_, "/data", "/copy", [this] { return Cut(); }, {});
  }
  /// Events with a mebibyte's worth of batches in segments of 3 KiB.
  void Fill(uint64_t first, uint64_t end) {
    for (uint64_t n = first; n < end; ++n) Append(n, 1, 60);
  }
  /// Opens /copy as a log and answers its events.
  std::map<uint64_t, std::string> Restored() {
    auto manifest = RestoreBackup(fs_, "/copy");
    EXPECT_TRUE(manifest.has_value()) << manifest.error().ToString();
    auto log = Log::Open(fs_, clock_, random_, "/copy/log", options_, {});
    EXPECT_TRUE(log.has_value());
    auto stream = (*log)->OpenStream("orders", 1);
    EXPECT_TRUE(stream.has_value()) << stream.error().ToString();
    if (!stream) return {};
    Partition& partition = (*stream)->partition(0);
    std::map<uint64_t, std::string> events = ReadEvents(partition, partition.bounds().start);
    EXPECT_TRUE((*log)->Close().ok());
    EXPECT_TRUE(Log::Verify(fs_, "/copy/log", "orders").value().empty());
    return events;
  }
};

TEST_F(BackupTest, ASecondRunCopiesOnlyWhatIsNewAndTheRestoredLogIsTheSame) {
  ASSERT_TRUE(Open().ok());
  Fill(0, 100);
  auto first = Run();
  ASSERT_TRUE(first.has_value()) << first.error().ToString();
  EXPECT_EQ(first->copied_bytes, first->manifest.bytes());
  EXPECT_GT(first->manifest.files.size(), 5u);
  auto nothing = Run();
  ASSERT_TRUE(nothing.has_value());
  EXPECT_EQ(nothing->copied_bytes, 0u);
  Fill(100, 130);
  auto second = Run();
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(second->copied_bytes, second->manifest.bytes() - first->manifest.bytes());
  EXPECT_TRUE(VerifyBackup(fs_, "/copy").value().empty());
  Fill(130, 140);
  std::map<uint64_t, std::string> events = Restored();
  EXPECT_EQ(events.size(), 130u);
  for (const auto& [offset, text] : events) EXPECT_EQ(text, EventText(offset, 60));
  EXPECT_EQ(Run().error().code(), Code::kConflict) << "a restored backup takes no other one";
}

TEST_F(BackupTest, MergedAndRemovedSegmentsAreFollowed) {
  ASSERT_TRUE(Open().ok());
  Fill(0, 100);
  auto first = Run();
  ASSERT_TRUE(first.has_value());
  stream_->SetLayout({}, Codec::kNone, {.age_us = kHour});
  ASSERT_TRUE(log_->MergeSealed().ok());
  auto merged = Run();
  ASSERT_TRUE(merged.has_value()) << merged.error().ToString();
  EXPECT_EQ(merged->copied_bytes, 0u) << "the same events, only in other batches";
  clock_.AdvanceUs(2 * kHour);
  ASSERT_TRUE(log_->Retain().ok());
  Fill(100, 101);
  const uint64_t start = partition_->bounds().start;
  ASSERT_GT(start, 90u);
  ASSERT_TRUE(Run().has_value());
  std::map<uint64_t, std::string> events = Restored();
  EXPECT_EQ(events.size(), 101 - start);
  EXPECT_EQ(events.begin()->first, start);
}

TEST_F(BackupTest, ASegmentThatWasSealedAndMergedAfterItsTailWasCopiedIsCopiedAnew) {
  ASSERT_TRUE(Open().ok());
  Fill(0, 5);
  ASSERT_TRUE(Run().has_value());
  stream_->SetLayout({}, Codec::kNone, {});
  Fill(5, 60);
  ASSERT_TRUE(log_->MergeSealed().ok());
  ASSERT_TRUE(Run().has_value());
  EXPECT_TRUE(VerifyBackup(fs_, "/copy").value().empty());
  EXPECT_EQ(Restored().size(), 60u);
}

TEST_F(BackupTest, WhatOvertakesTheCopyIsSeenByAnotherCut) {
  ASSERT_TRUE(Open().ok());
  stream_->SetLayout({}, Codec::kNone, {.age_us = kHour});
  Fill(0, 60);
  int cuts = 0;
  auto done = BackUp(fs_, clock_, "/data", "/copy",
                     [&]() -> Result<std::vector<BackupPart>> {
                       std::vector<BackupPart> parts = Cut();
                       ++cuts;
                       if (cuts == 1) {  // the growing one of the cut is sealed and merged
                         Fill(60, 100);
                         EXPECT_TRUE(log_->MergeSealed().ok());
                       } else if (cuts == 2) {  // all of the cut is removed
                         clock_.AdvanceUs(2 * kHour);
                         EXPECT_TRUE(log_->Retain().ok());
                       } else if (cuts == 3) {  // the log is opened anew
                         EXPECT_TRUE(Open().ok());
                         parts = Cut();
                       }
                       return parts;
                     },
                     {});
  ASSERT_TRUE(done.has_value()) << done.error().ToString();
  EXPECT_GE(cuts, 4);
  EXPECT_EQ(Restored().size(), 100 - partition_->bounds().start);
}

TEST_F(BackupTest, AFlippedBitIsFoundInTheSourceBeforeAndInTheCopyAfter) {
  ASSERT_TRUE(Open().ok());
  Fill(0, 100);
  ASSERT_TRUE(Run().has_value());
  SeededRandom random(3);
  auto manifest = ReadBackup(fs_, "/copy");
  for (const auto& [name, file] : (*manifest)->files) {
    const std::string path = "/copy/log/" + file.stored;
    for (int i = 0; i < 20; ++i) {
      const uint64_t byte = random.Below(file.bytes);
      const int bit = static_cast<int>(random.Below(8));
      fs_.FlipBit(path, byte, bit);
      auto damage = VerifyBackup(fs_, "/copy");
      ASSERT_TRUE(damage.has_value());
      EXPECT_EQ(damage->size(), 1u) << path << " byte " << byte;
      fs_.FlipBit(path, byte, bit);
    }
  }
  const uint64_t before = (*manifest)->number;
  Fill(100, 140);
  fs_.FlipBit("/data/" + partition_->segments()[partition_->bounds().segments - 2].file, 2000, 1);
  auto refused = Run();
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), Code::kCorrupt) << refused.error().ToString();
  EXPECT_NE(refused.error().message().find(".seg: byte "), std::string::npos);
  EXPECT_EQ((*ReadBackup(fs_, "/copy"))->number, before) << "the backup before it stays";
  EXPECT_EQ(Restored().size(), 100u);
}

TEST_F(BackupTest, AtEveryCrashPointTheBackupBeforeOrTheNewOneIsWhole) {
  uint64_t points = 0;
  for (uint64_t nth = 1;; ++nth) {
    bool done = false;
    for (uint64_t seed = 0; seed < 3; ++seed) {
      Fresh<BackupTest> run;
      ASSERT_TRUE(run.Open().ok());
      run.stream_->SetLayout({}, Codec::kNone, {});
      run.Fill(0, 40);
      ASSERT_TRUE(run.Run().has_value());
      run.Fill(40, 100);
      ASSERT_TRUE(run.log_->MergeSealed().ok());
      run.fs_.PowerOffAt(nth);
      done = run.Run().has_value();
      run.log_ = nullptr;
      run.fs_.Crash(nth * 11 + seed);
      SCOPED_TRACE(fmt::format("power off at change {}, seed {}", nth, seed));
      auto damage = VerifyBackup(run.fs_, "/copy");
      ASSERT_TRUE(damage.has_value()) << damage.error().ToString();
      EXPECT_TRUE(damage->empty()) << damage->front().file << ": " << damage->front().message;
      const uint64_t number = (*ReadBackup(run.fs_, "/copy"))->number;
      EXPECT_TRUE(!done || number == 2);
      // A restore that is cut short too, now and then.
      if (seed > 0) {
        run.fs_.PowerOffAt(1 + nth * seed % 17);
        (void)RestoreBackup(run.fs_, "/copy");
        run.fs_.Crash(nth * 13 + seed);
      }
      EXPECT_EQ(run.Restored().size(), number == 2 ? 100u : 40u);
    }
    ++points;
    if (done) break;
  }
  EXPECT_GT(points, 15u);
}

TEST_F(BackupTest, AFirstRunThatDidNotEndIsNoBackupAndMayBeginAgain) {
  ASSERT_TRUE(Open().ok());
  Fill(0, 40);
  auto stopped =
      BackUp(fs_, clock_, "/data", "/copy",
             []() -> Result<std::vector<BackupPart>> { return Fail(Unavailable("the server is gone")); }, {});
  EXPECT_EQ(stopped.error().code(), Code::kUnavailable);
  EXPECT_EQ(VerifyBackup(fs_, "/copy").error().code(), Code::kNotFound);
  EXPECT_EQ(RestoreBackup(fs_, "/copy").error().code(), Code::kInvalid);
  ASSERT_TRUE(Run().has_value());
  EXPECT_EQ(Restored().size(), 40u);
}

}  // namespace
}  // namespace millstream
