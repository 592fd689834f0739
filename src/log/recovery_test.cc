// What a crash, a bad disk or a flipped bit may do to the log, and what must hold afterwards.
#include "log/recovery.h"

#include <gtest/gtest.h>

#include "log/log_test_support.h"

namespace millstream {
namespace {

// A fixture as a plain value, for a test that needs many.
template <typename Fixture>
struct Fresh : Fixture {
  void TestBody() override {}
};

class RecoveryTest : public LogTest {
 public:
  RecoveryTest() { options_.segment_bytes = 2 << 10; }

  // Appends, seals, merges and retains until the power goes off or all is done. True if all was done.
  bool Work() {
    if (!Open().ok()) return false;
    stream_->SetLayout({}, Codec::kNone, {.age_us = 3600ll * 1'000'000});
    for (int step = 0; step < 24; ++step) {
      const uint32_t count = 1 + step % 3;
      std::vector<std::string> events;
      for (uint32_t i = 0; i < count; ++i) events.push_back(EventText(submitted_ + i, 20 + 37 * (step % 5)));
      Receipts receipts;
      if (step % 4 == 0) receipts.push_back({"source/a", "p", std::to_string(submitted_), 0, count});
      const AckMode mode = step % 6 == 5 ? AckMode::kWritten : AckMode::kDurable;
      auto placed = partition_->AppendAndWait(MakeBatch(events, receipts), mode);
      if (placed) {
        for (uint32_t i = 0; i < count; ++i) {
          given_[placed->first_offset + i] = events[i];
          if (mode == AckMode::kDurable) acknowledged_[placed->first_offset + i] = events[i];
        }
        // A durable answer covers all that lies below it.
        if (mode == AckMode::kDurable) acknowledged_ = given_;
        if (!receipts.empty()) position_ = receipts[0].position;
      }
      for (const std::string& event : events) all_.insert(event);
      submitted_ += count;
      if (step == 10 || step == 20) (void)log_->MergeSealed();
      if (step == 13) clock_.AdvanceUs(2 * 3600ll * 1'000'000);
      if (step == 16) (void)log_->Retain();
      if (fs_.powered_off()) return false;
    }
    closing_ = true;
    return log_->Close().ok();
  }

  uint64_t submitted_ = 0;
  bool closing_ = false;
  std::map<uint64_t, std::string> given_, acknowledged_;
  std::set<std::string> all_;
  std::string position_;
};

TEST_F(RecoveryTest, AtEveryCrashPointWhatWasAcknowledgedIsThereAndNothingElseThanWhatWasAppended) {
  uint64_t points = 0;
  for (uint64_t nth = 1;; ++nth) {
    bool done = false;
    for (uint64_t seed = 0; seed < 2; ++seed) {
      Fresh<RecoveryTest> run;
      run.fs_.PowerOffAt(nth);
      done = run.Work();
      run.log_ = nullptr;

      run.fs_.Crash(nth * 7 + seed);
      SCOPED_TRACE(fmt::format("power off at change {}, seed {}", nth, seed));
      if (run.fs_.Exists("/data/orders/stream.id")) {
        auto damage = Log::Verify(run.fs_, "/data", "orders");
        ASSERT_TRUE(damage.has_value()) << damage.error().ToString();
        for (const LogDamage& found : *damage) {
          EXPECT_TRUE(found.file.ends_with("state") && run.acknowledged_.empty())
              << found.file << " " << found.message;
        }
      }
      Status opened = run.Open();
      ASSERT_TRUE(opened.ok()) << opened.ToString();
      const uint64_t start = run.partition_->bounds().start, end = run.partition_->bounds().durable_end;
      std::map<uint64_t, std::string> found = ReadEvents(*run.partition_, start);
      EXPECT_EQ(found.size(), end - start) << "offsets are dense";
      for (const auto& [offset, text] : found) EXPECT_TRUE(run.all_.contains(text)) << offset;
      for (const auto& [offset, text] : run.acknowledged_) {
        EXPECT_TRUE(offset < start || found[offset] == text) << "acknowledged at " << offset;
      }
      if (!run.position_.empty()) {
        auto receipt = run.partition_->FindReceipt("source/a", "p");
        ASSERT_TRUE(receipt.has_value());
        EXPECT_GE(std::stoull(receipt->position), std::stoull(run.position_));
      }
      std::vector<EpochEnd> epochs = run.partition_->EpochEnds();
      EXPECT_TRUE(!done || epochs.size() == 1u);
      // The clean-stop mark may have become durable although Close did not live to see it.
      if (!run.closing_ && !run.acknowledged_.empty()) {
        ASSERT_EQ(epochs.size(), 2u);
        EXPECT_EQ(epochs[0].end_offset, end);
      }
      // It goes on as if nothing had been.
      auto placed = run.partition_->AppendAndWait(NumberedBatch(9000, 2));
      ASSERT_TRUE(placed.has_value());
      EXPECT_EQ(placed->first_offset, end);
      ASSERT_TRUE(run.log_->Close().ok());
      EXPECT_TRUE(Log::Verify(run.fs_, "/data", "orders").value().empty());
    }
    ++points;
    if (done) break;
  }
  EXPECT_GT(points, 100u);
}

TEST_F(RecoveryTest, ATornTailIsCutAndWhatCameBeforeStays) {
  for (size_t keep = 0; keep < 300; keep += 7) {
    ASSERT_TRUE(Open().ok());
    const uint64_t first = partition_->bounds().end;
    Append(first, 2, 10);
    const SegmentInfo tail = partition_->segments().back();
    log_ = nullptr;
    // A batch that was never whole: its first bytes only.
    auto file = fs_.Open("/data/" + tail.file, OpenMode::kReadWrite);
    std::string last(300, '\0');
    ASSERT_TRUE((*file)->ReadAt(tail.bytes - 150, last.data(), 150).has_value());
    ASSERT_TRUE((*file)->WriteAt(tail.bytes, std::string_view(last).substr(0, keep)).ok());
    ASSERT_TRUE(Open().ok()) << keep;
    EXPECT_EQ(log_->recovery().truncated_bytes, keep);
    EXPECT_EQ(partition_->bounds().end, first + 2);
    (void)log_->Close();
  }
}

TEST_F(RecoveryTest, AFooterOfWhichOnlyTheTrailerReachedTheDiskIsCut) {
  ASSERT_TRUE(Open().ok());
  for (uint64_t n = 0; n < 5; ++n) Append(n, 1, 100, {{"source/a", "p", std::to_string(n), 0, 1}});
  ASSERT_TRUE(log_->SealAll().ok());
  log_ = nullptr;
  const std::string sealed = "/data/orders/0/" + SegmentName(0);
  ASSERT_TRUE(fs_.Remove("/data/orders/0/" + SegmentName(5)).ok());
  fs_.FlipBit(sealed, fs_.Stat(sealed)->size - kTrailerBytes - 3, 1);
  Status opened = Open();
  ASSERT_TRUE(opened.ok()) << opened.ToString();
  ExpectNumbered(0, 5, 100);
  EXPECT_EQ(partition_->FindReceipt("source/a", "p")->position, "4");
  Append(5, 1, 100);
  ASSERT_TRUE(log_->Close().ok());
  EXPECT_TRUE(Log::Verify(fs_, "/data", "orders").value().empty());
}

// Sound by their CRCs, and not of this place: what a file under another's name holds.
TEST_F(RecoveryTest, AFooterThatCannotBeOfItsSegmentIsCorruption) {
  ASSERT_TRUE(Open().ok());
  Append(0, 3);
  ASSERT_TRUE(log_->SealAll().ok());
  ASSERT_TRUE(log_->Close().ok());
  log_ = nullptr;
  const std::string folder = "/data/orders/0/";
  ASSERT_TRUE(fs_.Rename(folder + SegmentName(0), folder + SegmentName(7)).ok());
  ASSERT_TRUE(fs_.Remove(folder + SegmentName(3)).ok());
  ASSERT_TRUE(fs_.Remove(folder + "state").ok());
  const PartitionState state{.epochs = {{.epoch = 1}}, .gaps = {{0, 7}}};
  Uuid log = DecodeIdentity(ReadFile(fs_, "/data/log.id").value())->log;
  ASSERT_TRUE(WriteFileDurably(fs_, folder + "state", EncodeState(state, log)).ok());
  EXPECT_EQ(Open().code(), Code::kCorrupt);
}

TEST(SegmentTest, AFooterWhoseBodyLiesBeyondTheFileIsCorruption) {
  const Uuid log{};
  for (uint64_t body : {uint64_t{200}, UINT64_MAX, UINT64_MAX - kTrailerBytes}) {
    SegmentFooter footer;
    footer.body_position = body;
    const std::string bytes = EncodeFooter(footer, log);
    auto decoded = DecodeTrailer(bytes, 100 + kTrailerBytes, log);
    ASSERT_FALSE(decoded.has_value()) << body;
    EXPECT_EQ(decoded.error().code(), Code::kCorrupt);
  }
  SegmentFooter sound;
  sound.body_position = 100;
  EXPECT_TRUE(DecodeTrailer(EncodeFooter(sound, log), 100 + kTrailerBytes, log).has_value());
}

class DamageTest : public RecoveryTest {
 public:
  // Three sealed segments, one of them merged, and a tail; closed cleanly.
  void Make() {
    options_.segment_bytes = 700;
    ASSERT_TRUE(Open().ok());
    for (uint64_t n = 0; n < 6; ++n) Append(n, 1, 30, {{"source/a", "p", std::to_string(n), 0, 1}});
    stream_->SetLayout({}, Codec::kNone, {});
    ASSERT_TRUE(log_->MergeSealed().ok());
    for (uint64_t n = 6; n < 14; n += 2) Append(n, 2, 30);
    ASSERT_GE(partition_->bounds().segments, 3u);
    ASSERT_TRUE(log_->Close().ok());
    log_ = nullptr;
  }
  std::vector<std::string> Files() {
    std::vector<std::string> files = {"/data/log.id", "/data/orders/stream.id"};
    std::vector<std::string> names = fs_.List("/data/orders/0").value();
    for (const std::string& name : names) files.push_back("/data/orders/0/" + name);
    return files;
  }
};

TEST_F(DamageTest, EveryFlippedBitIsFoundAndNoneYieldsAWrongEvent) {
  Make();
  ASSERT_TRUE(Log::Verify(fs_, "/data", "orders").value().empty());
  SeededRandom random(5);
  uint64_t flips = 0;
  for (const std::string& path : Files()) {
    for (uint64_t byte = 0; byte < fs_.Stat(path)->size; ++byte, ++flips) {
      const int bit = static_cast<int>(random.Below(8));
      fs_.FlipBit(path, byte, bit);
      auto damage = Log::Verify(fs_, "/data", "orders");
      ASSERT_TRUE(damage.has_value()) << damage.error().ToString();
      EXPECT_FALSE(damage->empty()) << path << " byte " << byte << " bit " << bit;
      fs_.FlipBit(path, byte, bit);
    }
  }
  EXPECT_GT(flips, 1500u);
}

TEST_F(DamageTest, AReaderNamesFileAndByteAndRepairKeepsAllThatIsSound) {
  Make();
  const std::vector<std::string> files = Files();
  SeededRandom random(6);
  for (int round = 0; round < 150; ++round) {
    Fresh<DamageTest> run;
    run.Make();
    const std::string& path = files[2 + random.Below(files.size() - 2)];
    const uint64_t byte = random.Below(run.fs_.Stat(path)->size);
    run.fs_.FlipBit(path, byte, static_cast<int>(random.Below(8)));
    SCOPED_TRACE(fmt::format("{} byte {}", path, byte));
    Status opened = run.Open();
    if (opened.ok()) {
      Status error;
      for (const auto& [offset, text] : ReadEvents(*run.partition_, 0, &error))
        EXPECT_EQ(text, EventText(offset, 30));
      if (!error.ok()) {
        EXPECT_EQ(error.code(), Code::kCorrupt);
        EXPECT_NE(error.message().find(path + ": byte "), std::string::npos) << error.message();
      }
    } else {
      EXPECT_EQ(opened.code(), Code::kCorrupt) << opened.ToString();
      EXPECT_EQ(run.log_->recovery().damage.size(), 1u);
    }
    run.log_ = nullptr;
    auto damage = Log::Repair(run.fs_, "/data", "orders");
    ASSERT_TRUE(damage.has_value()) << damage.error().ToString();
    EXPECT_FALSE(damage->empty() && path.ends_with(".seg") && !opened.ok());
    auto again = Log::Verify(run.fs_, "/data", "orders");
    ASSERT_TRUE(again.has_value());
    EXPECT_TRUE(again->empty()) << again->front().file << " " << again->front().message;
    Status reopened = run.Open();
    ASSERT_TRUE(reopened.ok()) << reopened.ToString();
    std::map<uint64_t, std::string> events = ReadEvents(*run.partition_, run.partition_->bounds().start);
    for (const auto& [offset, text] : events) EXPECT_EQ(text, EventText(offset, 30));
    EXPECT_GE(events.size(), 8u) << "one flipped bit costs one batch, which has at most 6 of 14 events";
    EXPECT_EQ(run.partition_->bounds().end, 14u) << "lost offsets are not given again";
    EXPECT_TRUE(run.partition_->FindReceipt("source/a", "p"));
    run.Append(14, 1, 30);
    ASSERT_TRUE(run.log_->Close().ok());
    EXPECT_TRUE(Log::Verify(run.fs_, "/data", "orders").value().empty());
  }
}

TEST_F(DamageTest, ABadBatchThatHadBeenSyncedIsCorruptionEvenInAnUncleanTail) {
  for (const bool in_header : {true, false}) {
    Fresh<DamageTest> run;
    ASSERT_TRUE(run.Open().ok());
    for (uint64_t n = 0; n < 5; ++n) run.Append(n, 1, 100);
    const SegmentInfo tail = run.partition_->segments().back();
    run.log_ = nullptr;
    const std::string path = "/data/" + tail.file;
    const uint64_t header_bytes = kSegmentHeaderFixedBytes + 6;  // "orders"
    const uint64_t position = header_bytes + (tail.bytes - header_bytes) / 5 * 3;
    run.fs_.FlipBit(path, position + (in_header ? 20 : 90), 3);
    Status status = run.Open();
    if (in_header) {
      EXPECT_EQ(status.code(), Code::kCorrupt)
          << "the last batch's header says that this one had been synced";
      EXPECT_EQ(run.fs_.Stat(path)->size, tail.bytes) << "nothing was cut";
    } else {
      // The payloads of batches that had been synced are not read at a start, but their reader sees it.
      ASSERT_TRUE(status.ok()) << status.ToString();
      EXPECT_EQ(ReadEvents(*run.partition_, 0, &status).size(), 3u);
    }
    EXPECT_NE(status.message().find(fmt::format("{}: byte {}: ", path, position)), std::string::npos)
        << status.message();
    run.log_ = nullptr;
    ASSERT_EQ(Log::Repair(run.fs_, "/data", "orders").value().size(), 2u) << "the batch, and its offset";
    ASSERT_TRUE(run.Open().ok());
    EXPECT_EQ(ReadEvents(*run.partition_, 0).size(), 4u);
    EXPECT_TRUE(run.fs_.Exists(fmt::format("{}.damaged-{}", path, position)))
        << "what was damaged is kept aside";
  }
}

TEST_F(DamageTest, ALostSegmentIsReported) {
  Make();
  ASSERT_TRUE(fs_.Remove(Files()[3]).ok());
  EXPECT_EQ(Open().code(), Code::kCorrupt);
  log_ = nullptr;
  EXPECT_FALSE(Log::Verify(fs_, "/data", "orders").value().empty());
  ASSERT_TRUE(Log::Repair(fs_, "/data", "orders").has_value());
  ASSERT_TRUE(Open().ok());
}

}  // namespace
}  // namespace millstream
