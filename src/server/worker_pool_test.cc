#include "server/worker_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>

#include "base/thread.h"

namespace millstream {
namespace {

TEST(WorkerPoolTest, LongTasksRunAtOnceUpToTheBound) {
  WorkerPool pool({.quick_threads = 1, .long_tasks = 3});
  std::latch all(4), go(1);
  for (int i = 0; i < 3; ++i)
    ASSERT_TRUE(pool.RunLong([&] {
      all.count_down();
      go.wait();
    }));
  EXPECT_FALSE(pool.RunLong([] {}));
  ASSERT_TRUE(pool.RunFeed([] {}));  // another lane
  all.arrive_and_wait();             // all three run, though none has ended
  go.count_down();
  pool.Stop();
  EXPECT_FALSE(pool.RunLong([] {}));
}

TEST(WorkerPoolTest, ThreadsAreKeptForTheNextTask) {
  static thread_local int tasks = 0;  // of this thread
  WorkerPool pool({.quick_threads = 1, .long_tasks = 8});
  int most = 0;
  for (int i = 0; i < 50; ++i) {
    std::latch done(1);
    ASSERT_TRUE(pool.RunLong([&] {
      most = std::max(most, ++tasks);
      done.count_down();
    }));
    done.wait();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_GE(most, 50 / 8);
}

TEST(WorkerPoolTest, AThreadThatWasSlowedDownEndsWithItsTask) {
  WorkerPool pool({.quick_threads = 1, .long_tasks = 4});
  const int niceness = Niceness();
  for (int i = 0; i < 12; ++i) {
    std::latch done(1);
    int begun_at = -1;
    ASSERT_TRUE(pool.RunLong([&] {
      begun_at = Niceness();
      LetOthersFirst();
      done.count_down();
    }));
    done.wait();
    EXPECT_EQ(begun_at, niceness);
  }
}

TEST(WorkerPoolTest, StopRunsWhatIsQueued) {
  std::atomic<int> ran{0};
  WorkerPool pool({.quick_threads = 1, .quick_queued = 20});
  std::latch go(1);
  ASSERT_TRUE(pool.RunQuick([&] { go.wait(); }));
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(pool.RunQuick([&] { ++ran; }));
  go.count_down();
  pool.Stop();
  EXPECT_EQ(ran, 10);
}

}  // namespace
}  // namespace millstream
