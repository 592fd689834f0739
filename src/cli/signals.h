// StopSignals: SIGINT and SIGTERM as something to wait for.
//
// Place: floor 8. One a process, made before other threads are (they inherit the blocked signals). Ignores
// SIGPIPE.
#pragma once

#include <atomic>
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
  /// From now on another signal ends the process at once; what is acknowledged is durable already.
  void ExitOnNext() { exit_on_next_ = true; }

 private:
  void Run();
  std::stop_source source_;
  std::atomic<bool> received_{false};
  std::atomic<bool> exit_on_next_{false};
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

}  // namespace millstream
