#include "pipeline/latency.h"

#include <algorithm>
#include <cmath>

namespace millstream {
namespace {

constexpr double kGrowth = 1.25;
constexpr double kFirstUs = 10;

}  // namespace

void LatencyWindow::Turn(int64_t now_ns) {
  if (now_ns - turned_ns_ < kHalfWindowNs) return;
  previous_ = now_ns - turned_ns_ < 2 * kHalfWindowNs ? current_ : decltype(current_){};
  current_.fill(0);
  turned_ns_ = now_ns;
}

void LatencyWindow::Record(int64_t latency_us, int64_t now_ns) {
  double ratio = std::max(1.0, static_cast<double>(latency_us) / kFirstUs);
  auto bucket = std::min(kBuckets - 1, static_cast<size_t>(std::log(ratio) / std::log(kGrowth)));
  std::lock_guard lock(mutex_);
  Turn(now_ns);
  ++current_[bucket];
}

int64_t LatencyWindow::PercentileUs(double share, int64_t now_ns) {
  std::lock_guard lock(mutex_);
  Turn(now_ns);
  uint64_t total = 0;
  for (size_t i = 0; i < kBuckets; ++i) total += current_[i] + previous_[i];
  if (total == 0) return -1;
  auto wanted = static_cast<uint64_t>(std::ceil(share * static_cast<double>(total)));
  uint64_t seen = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    seen += current_[i] + previous_[i];
    if (seen >= wanted) return static_cast<int64_t>(kFirstUs * std::pow(kGrowth, static_cast<double>(i + 1)));
  }
  return -1;
}

}  // namespace millstream
