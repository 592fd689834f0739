#include "log/stamper.h"

#include <algorithm>
#include <cstdlib>

namespace millstream {
namespace {
constexpr int64_t kLeapUs = 3600ll * 1'000'000;
}  // namespace

Stamper::Stamper(Clock& clock)
    : clock_(clock), last_us_(clock.WallUs()), last_ns_(clock.MonotonicNs()), last_leap_ns_(last_ns_) {}

int64_t Stamper::StampUs() {
  std::lock_guard lock(mutex_);
  int64_t wall_us = clock_.WallUs(), now_ns = clock_.MonotonicNs();
  int64_t expected_us = last_us_ + std::max<int64_t>(0, now_ns - last_ns_) / 1000;
  if (std::llabs(wall_us - expected_us) <= kLeapUs) {
    leapt_ = false;
    last_us_ = wall_us;
  } else {
    if (!leapt_ && leaps_.size() < kLeapsMax) leaps_.push_back({wall_us, expected_us});
    if (!leapt_) last_leap_ns_ = now_ns;
    leapt_ = true;
    last_us_ = expected_us;
  }
  last_ns_ = now_ns;
  return last_us_;
}

void Stamper::Observe(int64_t stamp_us) {
  std::lock_guard lock(mutex_);
  last_us_ = std::max(last_us_, stamp_us);
}

void Stamper::Accept() {
  std::lock_guard lock(mutex_);
  last_us_ = clock_.WallUs();
  last_ns_ = clock_.MonotonicNs();
  last_leap_ns_ = last_ns_;
  leapt_ = false;
}

std::vector<ClockLeap> Stamper::leaps() const {
  std::lock_guard lock(mutex_);
  return leaps_;
}

int64_t Stamper::last_leap_ns() const {
  std::lock_guard lock(mutex_);
  return last_leap_ns_;
}

}  // namespace millstream
