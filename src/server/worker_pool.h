// WorkerPool: threads for what may not run on I/O threads: parsing, compression, anything that blocks.
//
// Place: floor 7. Three lanes: `quick` has a fixed number of threads and a bounded queue (ingest, status);
// the others give each task a thread at once, up to a bound, and keep it for the next: `long` for what ends
// (queries, waits), `feed` for what stays (feeds, taps), so that followers never take the places of queries.
// A thread whose task was slowed down (LetOthersFirst) ends with it.
// Threads: thread-safe. Failure: a full lane refuses.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace millstream {

struct WorkerPoolOptions {
  uint32_t quick_threads = 0;    // 0 = cores, at least 2
  uint32_t quick_queued = 1024;  // tasks that wait
  uint32_t long_tasks = 64;      // queries and waits at once
  uint32_t feed_tasks = 256;     // feeds and taps at once
};

class WorkerPool {
 public:
  explicit WorkerPool(WorkerPoolOptions options);
  /// Stops.
  ~WorkerPool();

  using Task = std::function<void()>;
  /// False if the lane is full or the pool stops; the task was not taken.
  bool RunQuick(Task task);
  bool RunLong(Task task) { return RunAtOnce(long_, std::move(task), options_.long_tasks); }
  bool RunFeed(Task task) { return RunAtOnce(feeds_, std::move(task), options_.feed_tasks); }
  /// Runs what is queued, waits for what runs, takes nothing more.
  void Stop();

 private:
  struct Lane {
    std::condition_variable changed;
    std::deque<Task> queue;
    size_t busy = 0;  // tasks that run or wait
    std::vector<std::thread> threads;
  };
  bool RunAtOnce(Lane& lane, Task task, size_t most);
  void Work(Lane& lane);
  /// The calling thread leaves its lane; the next to come waits for its end. Under the lock.
  void Retire(Lane& lane);

  const WorkerPoolOptions options_;
  std::mutex mutex_;
  bool stopping_ = false;
  Lane quick_, long_, feeds_;
  std::vector<std::thread> retired_;
};

}  // namespace millstream
