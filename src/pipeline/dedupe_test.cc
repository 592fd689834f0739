#include "pipeline/dedupe.h"

#include "pipeline/ingest_test_support.h"

namespace millstream {
namespace {

using Identity = DedupeWindow::Identity;
constexpr int64_t kHourUs = 3600ll * 1'000'000;

DedupeWindow Window(size_t max_keys) { return DedupeWindow({"ce_id"}, kHourUs, max_keys, "/s"); }

TEST(DedupeWindowTest, RemembersForItsTime) {
  DedupeWindow window = Window(100);
  EXPECT_TRUE(window.Insert({1, 1}, 0));
  EXPECT_FALSE(window.Insert({1, 1}, kHourUs));
  EXPECT_TRUE(window.Insert({1, 1}, kHourUs + 1));
  EXPECT_FALSE(window.Insert({1, 1}, 2 * kHourUs)) << "the second time counts from itself";
  EXPECT_EQ(window.size(), 1u);
  EXPECT_EQ(window.effective_window_us(), kHourUs);
}

TEST(DedupeWindowTest, MoreKeysThanItHoldsShrinkItAndItGrowsBack) {
  DedupeWindow window = Window(10);
  for (uint64_t i = 1; i <= 15; ++i) EXPECT_TRUE(window.Insert({i, 0}, static_cast<int64_t>(i) * 1000));
  EXPECT_EQ(window.size(), 10u);
  EXPECT_EQ(window.effective_window_us(), 10'000);
  EXPECT_TRUE(window.Insert({1, 0}, 15'000)) << "forgotten";
  EXPECT_FALSE(window.Insert({15, 0}, 15'000));
  EXPECT_TRUE(window.Insert({99, 0}, 3 * kHourUs));
  EXPECT_EQ(window.effective_window_us(), kHourUs);
}

TEST(DedupeWindowTest, WhatIsErasedTakesNoRoom) {
  DedupeWindow window = Window(10);
  EXPECT_TRUE(window.Insert({1, 0}, 1));
  for (uint64_t i = 0; i < 100; ++i) {
    EXPECT_TRUE(window.Insert({2, 0}, 2));
    window.Erase({2, 0});
  }
  EXPECT_FALSE(window.Insert({1, 0}, 3));
  EXPECT_EQ(window.effective_window_us(), kHourUs);
}

TEST(DedupeWindowTest, RestoredInAnyOrder) {
  DedupeWindow window = Window(10);
  window.Restore({{kHourUs, {2, 0}}, {10, {1, 0}}}, false, kHourUs);
  EXPECT_FALSE(window.Insert({1, 0}, kHourUs));
  EXPECT_TRUE(window.Insert({1, 0}, kHourUs + 11)) << "its own time counts, not its neighbour's";
  EXPECT_FALSE(window.Insert({2, 0}, kHourUs + 11));
  DedupeWindow cut = Window(10);
  cut.Restore({{kHourUs - 5, {2, 0}}}, true, kHourUs);
  EXPECT_EQ(cut.effective_window_us(), 5);
}

TEST_F(IngestTest, DuplicatesAreCountedNotAppended) {
  config_.shape.id_from = "/id";
  config_.dedupe_by = {"ce_source", "ce_id"};
  config_.dedupe_window_us = kHourUs;
  ASSERT_TRUE(Open().ok());
  auto first = Post(
      "{\"id\":\"a\"}\n{\"id\":\"b\"}\n{\"id\":\"a\",\"again\":true}\n{\"no\":\"id\"}\n{\"no\":\"id\"}\n");
  ASSERT_TRUE(first);
  EXPECT_EQ(first->accepted, 4u) << "an event without an id is never a duplicate";
  EXPECT_EQ(first->duplicates, 1u);
  ASSERT_TRUE(Crash(1).ok());
  clock_.AdvanceUs(kHourUs / 2);
  EXPECT_EQ(Post("{\"id\":\"a\"}\n{\"id\":\"c\"}")->duplicates, 1u) << "remembered over a crash";
  clock_.JumpWallUs(48 * kHourUs);
  EXPECT_EQ(Post("{\"id\":\"b\"}")->duplicates, 1u) << "a leap of the wall clock moves no window";
  clock_.AdvanceUs(kHourUs / 2 + 1);
  EXPECT_EQ(Post("{\"id\":\"a\"}")->accepted, 1u) << "the window has passed";
  EXPECT_EQ(Post("{\"id\":\"c\"}")->duplicates, 1u);
}

TEST_F(IngestTest, ADuplicateIsAcknowledgedOnlyOnceTheFirstIsDurable) {
  config_.shape.id_from = "/id";
  config_.dedupe_by = {"ce_id"};
  ASSERT_TRUE(Open().ok());
  fs_.FailAt(FileCall::kSync, 1, IoError("the disk is gone"), true);
  std::promise<IngestResult> first, second;
  ingest_->Commit(ingest_->Prepare(Request("{\"id\":\"a\"}")),
                  [&](IngestResult r) { first.set_value(std::move(r)); });
  ingest_->Commit(ingest_->Prepare(Request("{\"id\":\"a\"}")),
                  [&](IngestResult r) { second.set_value(std::move(r)); });
  EXPECT_FALSE(first.get_future().get());
  EXPECT_FALSE(second.get_future().get()) << "it repeats an event that is not there";
}

}  // namespace
}  // namespace millstream
