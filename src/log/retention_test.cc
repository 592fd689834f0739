#include <gtest/gtest.h>

#include "log/log_test_support.h"

namespace millstream {
namespace {

constexpr int64_t kMinute = 60ll * 1'000'000, kHour = 60 * kMinute;

class RetentionTest : public LogTest {};

TEST_F(RetentionTest, ByAgeButNotForTenMinutesAfterAStart) {
  ASSERT_TRUE(Open().ok());
  for (uint64_t n = 0; n < 100; ++n) Append(n, 1, 800);
  ASSERT_TRUE(log_->Close().ok());
  clock_.AdvanceUs(48 * kHour);
  ASSERT_TRUE(Open().ok());
  const uint64_t segments = partition_->bounds().segments;
  ASSERT_TRUE(log_->Retain().ok());
  stream_->SetLayout({}, Codec::kNone, {.age_us = 24 * kHour});
  clock_.AdvanceUs(9 * kMinute);
  ASSERT_TRUE(log_->Retain().ok());
  EXPECT_EQ(partition_->bounds().start, 0u);
  EXPECT_GE(partition_->bounds().segments, segments);
  clock_.AdvanceUs(2 * kMinute);
  partition_->SetLowWater(40);
  ASSERT_TRUE(log_->Retain().ok());
  EXPECT_GT(partition_->bounds().start, 0u);
  EXPECT_LE(partition_->bounds().start, 40u) << "the low-water mark holds";
  partition_->SetLowWater(UINT64_MAX);
  ASSERT_TRUE(log_->Retain().ok());
  EXPECT_EQ(partition_->bounds().start, 100u) << "the last segment was sealed, to become old enough too";
  EXPECT_EQ(partition_->Read(99).error().code(), Code::kNotFound);
  EXPECT_NE(partition_->Read(99).error().message().find("earliest is 100"), std::string::npos);
  Append(100, 1);
  ASSERT_TRUE(log_->Close().ok());
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(partition_->bounds().start, 100u);
  ExpectNumbered(100, 101);
}

TEST_F(RetentionTest, ByBytesOverAllPartitionsOldestFirst) {
  options_.segment_bytes = 1 << 20;
  ASSERT_TRUE(Open(2).ok());
  stream_->SetLayout({}, Codec::kNone, {.bytes = 6 << 20});
  for (uint64_t n = 0; n < 24; ++n) {
    clock_.AdvanceUs(1000);
    for (uint32_t p = 0; p < 2; ++p) {
      ASSERT_TRUE(stream_->partition(p).AppendAndWait(NumberedBatch(n, 1, 500 << 10)).has_value());
    }
  }
  ASSERT_TRUE(log_->Retain().ok());
  uint64_t bytes = 0;
  for (uint32_t p = 0; p < 2; ++p) {
    bytes += stream_->partition(p).bounds().bytes;
    EXPECT_GT(stream_->partition(p).bounds().start, 10u);
    EXPECT_LT(stream_->partition(p).bounds().start, 22u);
  }
  EXPECT_LE(bytes, 6u << 20);
  EXPECT_GT(bytes, 4u << 20);
}

TEST_F(RetentionTest, AReaderInARemovedSegmentFinishesItAndThenLearnsTheStart) {
  ASSERT_TRUE(Open().ok());
  for (uint64_t n = 0; n < 100; ++n) Append(n, 1, 800);
  auto reader = partition_->Read(0);
  ASSERT_TRUE((*reader)->Next().has_value());
  stream_->SetLayout({}, Codec::kNone, {.age_us = kHour});
  clock_.AdvanceUs(2 * kHour);
  ASSERT_TRUE(log_->Retain().ok());
  ASSERT_GT(partition_->bounds().start, 50u);
  Status error;
  uint64_t read = 1;
  while (error.ok()) {
    auto batch = (*reader)->Next();
    if (batch) {
      ASSERT_TRUE(*batch);
      ++read;
    } else {
      error = batch.error();
    }
  }
  EXPECT_EQ(error.code(), Code::kNotFound);
  EXPECT_GT(read, 5u);
  (*reader)->Seek(partition_->bounds().start);
  EXPECT_TRUE((*reader)->Next().has_value());
}

TEST_F(RetentionTest, StampsGoOnThroughALeapOfTheClockUntilItAgreesOrIsAccepted) {
  ASSERT_TRUE(Open().ok());
  const int64_t start = clock_.WallUs();
  auto stamp = [&] { return partition_->AppendAndWait(NumberedBatch(0, 1))->ingested_at_us - start; };
  clock_.AdvanceUs(kMinute);
  EXPECT_EQ(stamp(), kMinute);
  clock_.JumpWallUs(-30 * kMinute);
  EXPECT_EQ(stamp(), -29 * kMinute) << "a small step is taken as it is";
  clock_.JumpWallUs(30 * kMinute);
  clock_.JumpWallUs(24 * kHour);
  clock_.AdvanceUs(kMinute);
  stamp();
  clock_.AdvanceUs(kMinute);
  const int64_t frozen = stamp();
  EXPECT_LT(frozen, kHour);
  ASSERT_EQ(log_->clock_leaps().size(), 1u);
  EXPECT_GT(log_->clock_leaps()[0].wall_us, log_->clock_leaps()[0].expected_us + 20 * kHour);
  stream_->SetLayout({}, Codec::kNone, {.age_us = kMinute});
  ASSERT_TRUE(log_->Retain().ok());
  EXPECT_EQ(partition_->bounds().start, 0u) << "nothing by age right after a leap";
  log_->AcceptClock();
  EXPECT_GT(stamp(), 24 * kHour);
  EXPECT_EQ(log_->clock_leaps().size(), 1u);
}

TEST_F(RetentionTest, AClockBehindTheNewestStampAtAStartIsALeap) {
  ASSERT_TRUE(Open().ok());
  Append(0, 1);
  const int64_t before = clock_.WallUs();
  ASSERT_TRUE(log_->Close().ok());
  clock_.JumpWallUs(-24 * kHour);
  ASSERT_TRUE(Open().ok());
  auto placed = partition_->AppendAndWait(NumberedBatch(1, 1));
  EXPECT_GE(placed->ingested_at_us, before);
  EXPECT_EQ(log_->clock_leaps().size(), 1u);
}

}  // namespace
}  // namespace millstream
