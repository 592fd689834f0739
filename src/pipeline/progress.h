// Progress: wakes who waits for deliveries (Engine::Wait) when a delivery loop went forward.
//
// Place: floor 5; one an Engine, shared by all of its loops. Thread-safe. Costs a loop one atomic load while
// nobody waits. Cannot fail.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stop_token>

namespace millstream {

class Progress {
 public:
  /// A loop went forward, and what `is_there` of a waiter reads says so already.
  void Notify() {
    std::atomic_thread_fence(std::memory_order_seq_cst);  // the waiter counts itself in, then looks
    if (waiters_.load(std::memory_order_relaxed) == 0) return;
    {
      std::lock_guard lock(mutex_);
      ++turn_;
    }
    changed_.notify_all();
  }

  /// Until `is_there()` is true, which is asked after each Notify. False: the time ran out, or a stop was
  /// asked for.
  template <typename Condition>
  bool Wait(int64_t timeout_us, const std::stop_token& stop, Condition is_there) {
    auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(timeout_us);
    Counted counted(waiters_);
    while (true) {
      uint64_t seen = Turn();
      if (is_there()) return true;  // without the lock: it may take others
      std::unique_lock lock(mutex_);
      if (!changed_.wait_until(lock, stop, until, [&] { return turn_ != seen; })) return false;
    }
  }

 private:
  struct Counted {
    explicit Counted(std::atomic<uint32_t>& of) : count(of) {
      ++count;
      std::atomic_thread_fence(std::memory_order_seq_cst);
    }
    ~Counted() { --count; }
    std::atomic<uint32_t>& count;
  };
  uint64_t Turn() {
    std::lock_guard lock(mutex_);
    return turn_;
  }

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::atomic<uint32_t> waiters_{0};
  uint64_t turn_ = 0;
};

}  // namespace millstream
