#include "server/worker_pool.h"

#include <algorithm>

#include "base/thread.h"

namespace millstream {

WorkerPool::WorkerPool(WorkerPoolOptions options) : options_(options) {
  uint32_t threads =
      options_.quick_threads > 0 ? options_.quick_threads : std::max(2u, std::thread::hardware_concurrency());
  for (uint32_t i = 0; i < threads; ++i) quick_.threads.emplace_back([this] { Work(quick_); });
}

WorkerPool::~WorkerPool() { Stop(); }

bool WorkerPool::RunQuick(Task task) {
  std::lock_guard lock(mutex_);
  if (stopping_ || quick_.queue.size() >= options_.quick_queued) return false;
  ++quick_.busy;
  quick_.queue.push_back(std::move(task));
  quick_.changed.notify_one();
  return true;
}

/// There are as many threads as tasks, so none waits for another.
bool WorkerPool::RunAtOnce(Lane& lane, Task task, size_t most) {
  std::lock_guard lock(mutex_);
  if (stopping_ || lane.busy >= most) return false;
  ++lane.busy;
  lane.queue.push_back(std::move(task));
  if (lane.threads.size() < lane.busy) lane.threads.emplace_back([this, &lane] { Work(lane); });
  lane.changed.notify_one();
  return true;
}

void WorkerPool::Work(Lane& lane) {
  NameThread(&lane == &quick_ ? "quick" : &lane == &long_ ? "long" : "feed");
  const int niceness = Niceness();
  std::unique_lock lock(mutex_);
  while (true) {
    lane.changed.wait(lock, [&] { return stopping_ || !lane.queue.empty(); });
    if (lane.queue.empty()) return;
    Task task = std::move(lane.queue.front());
    lane.queue.pop_front();
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
    --lane.busy;
    if (&lane == &long_ && Niceness() != niceness && !stopping_) return Retire(lane);
  }
}

void WorkerPool::Retire(Lane& lane) {
  for (std::thread& thread : retired_) thread.join();  // they were about to end
  retired_.clear();
  auto self = std::find_if(lane.threads.begin(), lane.threads.end(), [](const std::thread& thread) {
    return thread.get_id() == std::this_thread::get_id();
  });
  retired_.push_back(std::move(*self));
  lane.threads.erase(self);
}

void WorkerPool::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  for (Lane* lane : {&quick_, &long_, &feeds_}) {
    lane->changed.notify_all();
    for (std::thread& thread : lane->threads) thread.join();
    lane->threads.clear();
  }
  for (std::thread& thread : retired_) thread.join();
  retired_.clear();
}

}  // namespace millstream
