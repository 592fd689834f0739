// Stamper: append stamps from a wall clock that may leap.
//
// Place: floor 2; one a log, shared by its partitions. A stamp is the wall clock while that agrees, within an
// hour, with the last stamp plus monotonic progress. Otherwise a leap is recorded and stamps go on at last +
// elapsed until the two agree again or the clock is accepted. Threads: thread-safe.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "log/log.h"

namespace millstream {

class Stamper {
 public:
  explicit Stamper(Clock& clock);
  /// The stamp of what is appended now.
  int64_t StampUs();
  /// A stamp that the log holds already. A wall clock more than an hour before it has leapt back while nobody
  /// looked.
  void Observe(int64_t stamp_us);
  void Accept();
  std::vector<ClockLeap> leaps() const;
  /// Monotonic time of the last leap, or of the start: retention by age waits after it.
  int64_t last_leap_ns() const;

 private:
  static constexpr size_t kLeapsMax = 1000;

  Clock& clock_;
  mutable std::mutex mutex_;
  int64_t last_us_;
  int64_t last_ns_;
  int64_t last_leap_ns_;
  bool leapt_ = false;
  std::vector<ClockLeap> leaps_;
};

}  // namespace millstream
