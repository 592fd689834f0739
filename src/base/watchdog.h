// Watchdog: calls an interrupt when work takes longer than its deadline.
//
// Place: floor 0; one thread for all that it watches. DuckDB's interrupt must come from another thread than
// the query's. Threads: thread-safe. A Guard belongs to the thread that works; when its destructor has
// returned, the interrupt is not called any more.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

namespace millstream {

class Watchdog {
 public:
  Watchdog();
  ~Watchdog();

  class Guard {
   public:
    Guard(Watchdog& watchdog, int64_t deadline_us, std::function<void()> interrupt);
    ~Guard();
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    /// True if the deadline passed.
    bool fired();
    /// The deadline is now. From any thread.
    void Expire();

   private:
    Watchdog& watchdog_;
    uint64_t id_;
    bool fired_ = false;
    friend class Watchdog;
  };

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Watch {
    Time deadline;
    std::function<void()> interrupt;
    Guard* guard;
  };
  void Run(std::stop_token stop);

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::map<uint64_t, Watch> watches_;
  uint64_t next_id_ = 0;
  std::jthread thread_;
};

}  // namespace millstream
