// Backoff: how long to wait before the next attempt.
//
// Place: floor 5; one for each thing that is tried again. 100 ms, doubled up to 30 s, each with up to a
// quarter more by chance, so that many who failed together do not come back together. Threads: one. Cannot
// fail.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/random.h"

namespace millstream {

class Backoff {
 public:
  static constexpr int64_t kFirstUs = 100'000;
  static constexpr int64_t kLastUs = 30'000'000;

  /// The wait after one more failure.
  int64_t NextUs(Random& random) {
    int64_t wait_us = std::min(kLastUs, kFirstUs << std::min(failures_, 10u));
    ++failures_;
    return wait_us + static_cast<int64_t>(random.Below(static_cast<uint64_t>(wait_us / 4)));
  }
  void Reset() { failures_ = 0; }
  /// In a row.
  uint32_t failures() const { return failures_; }

 private:
  uint32_t failures_ = 0;
};

}  // namespace millstream
