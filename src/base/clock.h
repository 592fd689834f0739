// Clock: time behind an interface, so that a test can jump it.
//
// Place: floor 0. Thread-safe. Durations are measured by MonotonicNs, stamps by WallUs; never one from the
// other.
#pragma once

#include <atomic>
#include <cstdint>

namespace millstream {

class Clock {
 public:
  virtual ~Clock() = default;
  /// Microseconds since 1970-01-01T00:00:00Z. May jump.
  virtual int64_t WallUs() const = 0;
  /// Nanoseconds since some fixed point. Never goes back.
  virtual int64_t MonotonicNs() const = 0;
};

/// The machine's clocks.
class SystemClock final : public Clock {
 public:
  int64_t WallUs() const override;
  int64_t MonotonicNs() const override;
};

/// A clock that stands until a test moves it.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(int64_t wall_us = 1'700'000'000'000'000) : wall_us_(wall_us) {}
  int64_t WallUs() const override { return wall_us_.load(); }
  int64_t MonotonicNs() const override { return monotonic_ns_.load(); }
  void AdvanceUs(int64_t us) { wall_us_ += us, monotonic_ns_ += us * 1000; }
  void JumpWallUs(int64_t us) { wall_us_ += us; }

 private:
  std::atomic<int64_t> wall_us_;
  std::atomic<int64_t> monotonic_ns_{1};
};

}  // namespace millstream
