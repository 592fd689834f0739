#include "pipeline/letter_allowance.h"

#include <algorithm>

#include "base/text.h"

namespace millstream {

void LetterAllowance::SetLimit(std::optional<LetterLimit> limit) {
  std::lock_guard lock(mutex_);
  limit_ = limit;
}

void LetterAllowance::Add(const std::string& sink, uint64_t events, uint64_t letters, int64_t now_ns) {
  std::lock_guard lock(mutex_);
  if (!limit_) return;
  int64_t step_ns = std::max<int64_t>(1, limit_->over_us * 1000 / kSteps);
  int64_t number = now_ns / step_ns;
  std::array<Step, kSteps>& steps = steps_[sink];
  Step& step = steps[static_cast<size_t>(number % kSteps)];
  if (step.number != number) step = {number, 0, 0};
  step.events += events, step.letters += letters;
  if (letters == 0) return;
  uint64_t all = 0, bad = 0;
  for (const Step& each : steps)
    if (each.number > number - kSteps) all += each.events, bad += each.letters;
  bool by_count = limit_->count && bad > *limit_->count;
  bool by_share = limit_->share && all >= kShareEventsMin &&
                  static_cast<double>(bad) > *limit_->share * static_cast<double>(all);
  if (!by_count && !by_share) return;
  reason_ = fmt::format("{} of {} events within {} became dead letters, more than max_dead_letters allows",
                        FormatCount(bad), FormatCount(all), FormatDuration(limit_->over_us));
  exceeded_.store(true, std::memory_order_release);
}

std::string LetterAllowance::reason() const {
  std::lock_guard lock(mutex_);
  return reason_;
}

void LetterAllowance::Renew() {
  std::lock_guard lock(mutex_);
  steps_.clear();
  reason_.clear();
  exceeded_.store(false, std::memory_order_release);
}

}  // namespace millstream
