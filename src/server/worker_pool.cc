#include "server/worker_pool.h"

#include <algorithm>

namespace millstream {

WorkerPool::WorkerPool(WorkerPoolOptions options) : options_(options) {
  uint32_t threads =
      options_.quick_threads > 0 ? options_.quick_threads : std::max(2u, std::thread::hardware_concurrency());
  for (uint32_t i = 0; i < threads; ++i) quick_threads_.emplace_back([this] { WorkQuick(); });
}

WorkerPool::~WorkerPool() { Stop(); }

bool WorkerPool::RunQuick(Task task) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_ || queue_.size() >= options_.quick_queued) return false;
    queue_.push_back(std::move(task));
  }
  changed_.notify_one();
  return true;
}

void WorkerPool::WorkQuick() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Task task = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
  }
}

bool WorkerPool::RunOwnThread(Task task, uint32_t& running, uint32_t most) {
  std::unique_lock lock(mutex_);
  ReapLong(lock);
  if (stopping_ || running >= most) return false;
  ++running;
  LongThread& slot = long_threads_.emplace_back();
  slot.thread = std::thread([this, &slot, &running, run = std::move(task)]() mutable {
    run();
    run = nullptr;
    std::lock_guard done_lock(mutex_);
    slot.done = true;
    --running;
  });
  return true;
}

/// Joins the threads that have ended.
void WorkerPool::ReapLong(std::unique_lock<std::mutex>& lock) {
  std::list<LongThread> ended;
  for (auto it = long_threads_.begin(); it != long_threads_.end();) {
    auto next = std::next(it);
    if (it->done) ended.splice(ended.end(), long_threads_, it);
    it = next;
  }
  lock.unlock();
  for (LongThread& each : ended) each.thread.join();
  lock.lock();
}

void WorkerPool::Stop() {
  std::list<LongThread> left;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : quick_threads_) thread.join();
  quick_threads_.clear();
  {
    std::lock_guard lock(mutex_);
    left.swap(long_threads_);
  }
  for (LongThread& each : left) each.thread.join();
}

}  // namespace millstream
