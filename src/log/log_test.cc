#include "log/log.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include "log/log_test_support.h"

namespace millstream {
namespace {

TEST_F(LogTest, WhatIsAppendedIsReadBackInOrder) {
  ASSERT_TRUE(Open().ok());
  Append(0, 3);
  Append(3, 1);
  Append(4, 200);
  EXPECT_EQ(partition_->bounds().durable_end, 204u);
  ExpectNumbered(0, 204);
  EXPECT_EQ(ReadEvents(*partition_, 150).size(), 54u);
}

TEST_F(LogTest, ReopenedAfterACleanStopItGoesOnInTheSameEpoch) {
  ASSERT_TRUE(Open().ok());
  Append(0, 100);
  ASSERT_TRUE(log_->Close().ok());
  EXPECT_EQ(partition_->AppendAndWait(NumberedBatch(100, 1)).error().code(), Code::kCancelled);
  ASSERT_TRUE(Open().ok());
  EXPECT_FALSE(log_->recovery().unclean);
  EXPECT_EQ(partition_->bounds().epoch, 1u);
  Append(100, 100);
  ExpectNumbered(0, 200);
}

TEST_F(LogTest, AfterAnUncleanStopTheEpochGoesUpAndTellsWhereTheOldOneEnded) {
  ASSERT_TRUE(Open().ok());
  Append(0, 100);
  ASSERT_TRUE(Open().ok());  // the process ended without Close
  EXPECT_TRUE(log_->recovery().unclean);
  Append(100, 10);
  EXPECT_EQ(
      partition_->EpochEnds(),
      (std::vector<EpochEnd>{{1, 0, 100}, {.epoch = 2, .first_offset = 100, .end_offset = UINT64_MAX}}));
  ExpectNumbered(0, 110);
}

TEST_F(LogTest, NothingIsAppendedBehindAFailedWrite) {
  options_.segment_bytes = 256 << 20;
  ASSERT_TRUE(Open().ok());
  std::mutex mutex;
  std::condition_variable told;
  std::map<int, Code> codes;
  auto answer = [&](int number) {
    return [&, number](Result<Appended> result) {
      std::lock_guard lock(mutex);
      codes[number] = result ? Code::kOk : result.error().code();
      told.notify_all();
    };
  };
  // From an answer, on the writer's thread, so that both wait together; the first fills a write of its own.
  partition_->Append(NumberedBatch(0, 1), AckMode::kDurable, [&](Result<Appended>) {
    fs_.FailAt(FileCall::kWrite, 1, Exhausted("the disk is full"));
    partition_->Append(NumberedBatch(1, 10, 1000 << 10), AckMode::kDurable, [&](Result<Appended> result) {
      partition_->Append(NumberedBatch(12, 1), AckMode::kDurable, answer(3));
      answer(1)(std::move(result));
    });
    partition_->Append(NumberedBatch(11, 1), AckMode::kDurable, answer(2));
  });
  {
    std::unique_lock lock(mutex);
    ASSERT_TRUE(told.wait_for(lock, std::chrono::seconds(30), [&] { return codes.size() == 3; }));
    for (int number : {1, 2, 3}) EXPECT_EQ(codes[number], Code::kExhausted) << number;
  }
  // The disk has room again: once all have been told, appends are taken.
  Result<Appended> placed = partition_->AppendAndWait(NumberedBatch(1, 1));
  for (int tries = 0; tries < 1000 && !placed; ++tries) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    placed = partition_->AppendAndWait(NumberedBatch(1, 1));
  }
  ASSERT_TRUE(placed.has_value()) << placed.error().ToString();
  EXPECT_EQ(placed->first_offset, 1u);
  ExpectNumbered(0, 2);
}

TEST_F(LogTest, SegmentsAreSealedAndReadAcross) {
  ASSERT_TRUE(Open().ok());
  for (uint64_t n = 0; n < 300; n += 3) Append(n, 3, 300);
  EXPECT_GT(partition_->bounds().segments, 4u);
  ExpectNumbered(0, 300, 300);
  for (uint64_t from : {1u, 50u, 51u, 52u, 150u, 299u}) {
    EXPECT_EQ(ReadEvents(*partition_, from).size(), 300 - from) << from;
  }
  ASSERT_TRUE(log_->Close().ok());
  ASSERT_TRUE(Open().ok());
  ExpectNumbered(0, 300, 300);
}

TEST_F(LogTest, AReaderFollowsTheTailThroughSealsAndMerges) {
  ASSERT_TRUE(Open().ok());
  stream_->SetLayout({}, Codec::kNone, {});
  auto reader = partition_->Read(0);
  uint64_t next = 0;
  for (uint64_t n = 0; n < 400; ++n) {
    Append(n, 1, 200);
    if (n % 7 != 0) continue;
    if (n % 49 == 0) {
      ASSERT_TRUE(log_->MergeSealed().ok());
    }
    while (true) {
      auto batch = (*reader)->Next();
      ASSERT_TRUE(batch.has_value()) << batch.error().ToString();
      if (!*batch) break;
      EXPECT_LE((*batch)->place().base_offset, next);
      next = (*batch)->end_offset();
    }
    EXPECT_EQ(next, n + 1);
  }
}

TEST_F(LogTest, MergingTinyBatchesKeepsEveryEventStampAndReceipt) {
  ASSERT_TRUE(Open().ok());
  for (uint64_t n = 0; n < 200; ++n) {
    clock_.AdvanceUs(1000);
    Append(n, 1, 200, n % 10 == 0 ? Receipts{{"source/a", "p", std::to_string(n), 0, 1}} : Receipts{});
  }
  ASSERT_TRUE(log_->SealAll().ok());
  std::vector<uint64_t> by_time;
  for (int64_t ms = 0; ms <= 201; ++ms) {
    by_time.push_back(partition_->OffsetForTime(1'700'000'000'000'000 + ms * 1000).value());
  }
  uint64_t batches = 0, merged = 0;
  for (const SegmentInfo& segment : partition_->segments()) batches += segment.batches;
  EXPECT_EQ(batches, 200u);
  ASSERT_TRUE(log_->MergeSealed().ok()) << "nothing before SetLayout";
  stream_->SetLayout({}, Codec::kNone, {});
  ASSERT_TRUE(log_->MergeSealed().ok());
  for (const SegmentInfo& segment : partition_->segments()) merged += segment.batches;
  EXPECT_LE(merged, partition_->bounds().segments);
  ExpectNumbered(0, 200, 200);
  for (int64_t ms = 0; ms <= 201; ++ms) {
    EXPECT_EQ(partition_->OffsetForTime(1'700'000'000'000'000 + ms * 1000).value(), by_time[ms]) << ms;
  }
  ASSERT_TRUE(Open().ok());
  ExpectNumbered(0, 200, 200);
  EXPECT_EQ(partition_->FindReceipt("source/a", "p")->position, "190");
  EXPECT_TRUE(Log::Verify(fs_, "/data", "orders").value().empty());
}

TEST_F(LogTest, OffsetForTimeIsExact) {
  ASSERT_TRUE(Open().ok());
  const int64_t start = clock_.WallUs();
  EXPECT_EQ(partition_->OffsetForTime(0).value(), 0u);
  for (uint64_t n = 0; n < 300; n += 3) {
    clock_.AdvanceUs(1'000'000);
    Append(n, 3, 300);
  }
  EXPECT_EQ(partition_->OffsetForTime(0).value(), 0u);
  for (int64_t second = 1; second <= 100; ++second) {
    // Stamps are start + 1 s … start + 100 s, three events each.
    EXPECT_EQ(partition_->OffsetForTime(start + second * 1'000'000).value(),
              static_cast<uint64_t>(second * 3));
    EXPECT_EQ(partition_->OffsetForTime(start + second * 1'000'000 - 1).value(),
              static_cast<uint64_t>(second * 3 - 3));
  }
}

TEST_F(LogTest, ReceiptsAreFoundAgainAfterARestartFromTheLastSegmentAlone) {
  ASSERT_TRUE(Open().ok());
  Append(0, 2, 0, {{"source/a", "f1", "pos1", 0, 2}});
  for (uint64_t n = 2; n < 200; ++n) Append(n, 1, 300);
  ASSERT_GT(partition_->bounds().segments, 2u);
  Append(200, 3, 0, {{"source/a", "f2", "pos2", 1, 2}, {"key/orders", "k", "hash", 0, 3}});
  auto placed = partition_->AppendAndWait(MakeBatch({}, {{"pipeline/p.1/s", "0", "77", 0, 0}}));
  ASSERT_TRUE(placed.has_value());
  EXPECT_EQ(placed->first_offset, 203u);
  auto check = [&] {
    EXPECT_EQ(partition_->FindReceipt("source/a", "f1")->position, "pos1");
    EXPECT_EQ(partition_->FindReceipt("source/a", "f2")->first_offset, 201u);
    EXPECT_EQ(partition_->FindReceipt("pipeline/p.1/s", "0")->position, "77");
    EXPECT_EQ(partition_->FindPlacedReceipt("key/orders", "k")->offset, 200u);
    EXPECT_EQ(partition_->FindReceipts("source/a").size(), 2u);
    EXPECT_FALSE(partition_->FindReceipt("source/a", "f3"));
    ExpectNumbered(200, 203);
  };
  check();
  ASSERT_TRUE(Open().ok());
  check();
  ASSERT_TRUE(log_->SealAll().ok());
  ASSERT_TRUE(log_->Close().ok());
  ASSERT_TRUE(Open().ok());
  check();
}

TEST_F(LogTest, KeyReceiptsAreForgottenByTimeAndByNumberAndTheWindowIsTold) {
  options_.max_key_receipts = 10;
  ASSERT_TRUE(Open().ok());
  for (uint64_t n = 0; n < 15; ++n) {
    clock_.AdvanceUs(1'000'000);
    Append(n, 1, 0, {{"key/orders", "k" + std::to_string(n), "h", 0, 1}});
  }
  EXPECT_FALSE(partition_->FindReceipt("key/orders", "k4"));
  EXPECT_TRUE(partition_->FindReceipt("key/orders", "k5"));
  EXPECT_GT(partition_->bounds().key_receipts_since_us, 1'700'000'000'000'000);
  clock_.AdvanceUs(25ll * 3600 * 1'000'000);
  Append(15, 1, 0, {{"key/orders", "k15", "h", 0, 1}});
  EXPECT_FALSE(partition_->FindReceipt("key/orders", "k14"));
  EXPECT_TRUE(partition_->FindReceipt("key/orders", "k15"));
}

TEST_F(LogTest, EightThreadsShareSyncsAndNoneIsLost) {
  ASSERT_TRUE(Open().ok());
  constexpr int kThreads = 8, kEach = 100;
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::map<uint64_t, int> seen;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        auto placed = partition_->AppendAndWait(NumberedBatch(static_cast<uint64_t>(t * kEach + i), 1),
                                                i % 3 == 0 ? AckMode::kWritten : AckMode::kDurable);
        ASSERT_TRUE(placed.has_value());
        std::lock_guard lock(mutex);
        EXPECT_TRUE(seen.emplace(placed->first_offset, t * kEach + i).second);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(log_->Close().ok());
  ASSERT_TRUE(Open().ok());
  std::map<uint64_t, std::string> events = ReadEvents(*partition_, 0);
  EXPECT_EQ(events.size(), static_cast<size_t>(kThreads * kEach));
  for (const auto& [offset, number] : seen)
    EXPECT_EQ(events[offset], EventText(static_cast<uint64_t>(number)));
}

TEST_F(LogTest, WrittenIsAnsweredBeforeTheSyncButReadOnlyAfterIt) {
  options_.sync_interval_us = 20'000;
  ASSERT_TRUE(Open().ok());
  auto placed = partition_->AppendAndWait(NumberedBatch(0, 5), AckMode::kWritten);
  ASSERT_TRUE(placed.has_value());
  EXPECT_EQ(partition_->bounds().end, 5u);
  EXPECT_TRUE(partition_->WaitBeyond(4, 5'000'000, {}));
  EXPECT_EQ(partition_->bounds().durable_end, 5u);
  EXPECT_FALSE(partition_->WaitBeyond(5, 1000, {}));
}

TEST_F(LogTest, AFailedSyncIsFatalForAllWhoWaitAndAllWhoComeLater) {
  ASSERT_TRUE(Open().ok());
  Append(0, 1);
  fs_.FailAt(FileCall::kSync, 1, IoError("the disk is gone"), true);
  std::vector<std::future<Result<Appended>>> answers;
  for (int i = 0; i < 5; ++i) {
    auto promise = std::make_shared<std::promise<Result<Appended>>>();
    answers.push_back(promise->get_future());
    partition_->Append(NumberedBatch(1, 1), AckMode::kDurable,
                       [promise](Result<Appended> r) { promise->set_value(r); });
  }
  for (auto& answer : answers) EXPECT_EQ(answer.get().error().code(), Code::kIo);
  EXPECT_EQ(partition_->AppendAndWait(NumberedBatch(1, 1)).error().code(), Code::kIo);
  EXPECT_EQ(partition_->bounds().durable_end, 1u);
  EXPECT_EQ(log_->Close().code(), Code::kIo);
  EXPECT_EQ(fatal_calls_, 1);
  fs_.StopFailing();
  ASSERT_TRUE(Open().ok());
  EXPECT_TRUE(log_->recovery().unclean);
}

TEST_F(LogTest, AFullDiskRefusesAndGoesOnWhenThereIsRoom) {
  ASSERT_TRUE(Open().ok());
  auto control = log_->OpenStream("_control", 1);
  ASSERT_TRUE(control.has_value());
  Append(0, 1);
  fs_.SetCapacity(8 << 10);
  // Another stamp for the clock, so that the disk is asked again.
  clock_.AdvanceUs(1'000'000);
  auto refused = partition_->AppendAndWait(NumberedBatch(1, 30, 200));
  EXPECT_EQ(refused.error().code(), Code::kExhausted);
  DiskSpace space = fs_.Space("/data").value();
  fs_.SetCapacity(space.total_bytes - space.free_bytes + 100);
  clock_.AdvanceUs(1'000'000);
  EXPECT_EQ(partition_->AppendAndWait(NumberedBatch(1, 1)).error().code(), Code::kExhausted)
      << "below the floor";
  auto kept = (*control)->partition(0).AppendAndWait(NumberedBatch(0, 10, 100));
  EXPECT_TRUE(kept.has_value()) << "the reserve file makes room for streams of ours";
  fs_.SetCapacity(1 << 30);
  clock_.AdvanceUs(1'000'000);
  // Who is told of a refusal may come back before all others were told, and is refused once more.
  auto appended = partition_->AppendAndWait(NumberedBatch(1, 30, 200));
  for (int i = 0; i < 1000 && !appended; ++i) appended = partition_->AppendAndWait(NumberedBatch(1, 30, 200));
  EXPECT_TRUE(appended.has_value());
  EXPECT_EQ(fatal_calls_, 0);
  EXPECT_EQ(ReadEvents(*partition_, 0).size(), 31u);
}

TEST_F(LogTest, AppendBeyondTheQueuesBoundIsRefused) {
  options_.max_queued_bytes = 1000;
  ASSERT_TRUE(Open().ok());
  std::promise<void> entered, release;
  std::shared_future<void> released = release.get_future().share();
  partition_->Append(NumberedBatch(0, 1), AckMode::kDurable, [&](Result<Appended>) {
    entered.set_value();
    released.wait();
  });
  entered.get_future().wait();
  std::vector<Code> codes;
  for (int i = 0; i < 5; ++i) {
    partition_->Append(NumberedBatch(0, 1, 600), AckMode::kDurable,
                       [&](Result<Appended> r) { codes.push_back(r ? Code::kOk : r.error().code()); });
  }
  EXPECT_EQ(codes,
            (std::vector<Code>{Code::kExhausted, Code::kExhausted, Code::kExhausted, Code::kExhausted}));
  release.set_value();
  ASSERT_TRUE(log_->Close().ok());
  EXPECT_EQ(codes.back(), Code::kOk);
}

TEST_F(LogTest, StreamsKnowTheirPartitionsAndStrangersAreRefused) {
  ASSERT_TRUE(Open(2).ok());
  EXPECT_EQ(log_->OpenStream("orders", 3).error().code(), Code::kConflict);
  EXPECT_EQ(log_->OpenStream("a/b", 1).error().code(), Code::kInvalid);
  EXPECT_EQ(log_->OpenStream("none", 0).error().code(), Code::kInvalid);
  EXPECT_EQ(log_->Find("orders"), stream_);
  EXPECT_EQ(log_->Find("none"), nullptr);
  EXPECT_EQ(log_->streams().size(), 1u);
  const Uuid uuid = log_->uuid();
  ASSERT_TRUE(log_->Close().ok());
  EXPECT_EQ(Open(3).code(), Code::kConflict);
  ASSERT_TRUE(Open(2).ok());
  EXPECT_EQ(log_->uuid(), uuid);
}

}  // namespace
}  // namespace millstream
