// StopSignals: SIGINT and SIGTERM as something to wait for.
//
// Place: floor 8. One a process, made before other threads are (they inherit the blocked signals). Ignores
// SIGPIPE.
#pragma once

#include <atomic>
#include <chrono>
#include <stop_token>
#include <thread>

namespace millstream {

class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  /// Waits for the first signal.
  void Wait();
  bool received() const { return received_; }
  std::stop_token token() const { return source_.get_token(); }
  /// From now on another signal ends the process at once, and so does a stop that takes longer than 9 s (a
  /// filter that cannot be interrupted); what is acknowledged is durable already.
  void ExitOnNext() {
    deadline_ = std::chrono::steady_clock::now() + kStopLimit;
    exit_on_next_ = true;
  }

 private:
  static constexpr std::chrono::seconds kStopLimit{9};
  void Run();
  std::stop_source source_;
  std::atomic<bool> received_{false};
  std::atomic<bool> exit_on_next_{false};
  std::atomic<bool> ended_{false};
  std::chrono::steady_clock::time_point deadline_;  // written before exit_on_next_
  std::thread thread_;
};

}  // namespace millstream
