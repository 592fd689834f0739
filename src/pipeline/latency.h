// LatencyWindow: percentiles over about the last minute, in fixed memory.
//
// Place: floor 5. Thread-safe. Buckets grow by a quarter each, so a percentile is right within that.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>

namespace millstream {

class LatencyWindow {
 public:
  void Record(int64_t latency_us, int64_t now_ns);
  /// The given share's latency, e.g. 0.99; -1 if nothing was recorded lately.
  int64_t PercentileUs(double share, int64_t now_ns);

 private:
  static constexpr size_t kBuckets = 96;
  static constexpr int64_t kHalfWindowNs = 30'000'000'000;
  void Turn(int64_t now_ns);

  std::mutex mutex_;
  std::array<uint32_t, kBuckets> current_{}, previous_{};
  int64_t turned_ns_ = 0;
};

}  // namespace millstream
