// WorkerPool: threads for what may not run on I/O threads: parsing, compression, anything that blocks.
//
// Place: floor 7. Two lanes: `quick` has a fixed number of threads and a bounded queue (ingest, status);
// `long` has a thread for each task, up to a bound: one for what ends (queries, waits), and one for what
// stays (feeds, taps), so that followers never take the places of queries. Threads: thread-safe. Failure: a
// full lane refuses.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
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
  bool RunLong(Task task) { return RunOwnThread(std::move(task), long_running_, options_.long_tasks); }
  bool RunFeed(Task task) { return RunOwnThread(std::move(task), feeds_running_, options_.feed_tasks); }
  /// Runs what is queued, waits for what runs, takes nothing more.
  void Stop();

 private:
  void WorkQuick();
  bool RunOwnThread(Task task, uint32_t& running, uint32_t most);
  void ReapLong(std::unique_lock<std::mutex>& lock);

  const WorkerPoolOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> queue_;
  bool stopping_ = false;
  uint32_t long_running_ = 0, feeds_running_ = 0;
  struct LongThread {
    std::thread thread;
    bool done = false;
  };
  std::list<LongThread> long_threads_;
  std::vector<std::thread> quick_threads_;
};

}  // namespace millstream
