// LetterAllowance: how many dead letters a pipeline may make before it pauses (`max_dead_letters`).
//
// Place: floor 5; one a PipelineRuntime, told by its loops. Counts events and letters over the last `over`,
// in steps of a sixtieth, of each sink apart: every sink gets every event, so together they would count it
// several times. Once one of them has more letters than the limit it stays exceeded until Renew: all loops
// stand still, whatever they were at is finished. Threads: thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "catalog/project.h"

namespace millstream {

class LetterAllowance {
 public:
  /// A share speaks only of so many events: the first bad one of a quiet stream pauses nothing.
  static constexpr uint64_t kShareEventsMin = 100;

  void SetLimit(std::optional<LetterLimit> limit);
  /// A loop of the sink has gone over `events`, of which `letters` became dead letters.
  void Add(const std::string& sink, uint64_t events, uint64_t letters, int64_t now_ns);
  bool exceeded() const { return exceeded_.load(std::memory_order_acquire); }
  /// "51 of 1,000 events within 10m became dead letters, more than max_dead_letters allows"
  std::string reason() const;
  /// A new allowance, counted from now on.
  void Renew();

 private:
  static constexpr int kSteps = 60;
  struct Step {
    int64_t number = -1;
    uint64_t events = 0, letters = 0;
  };
  mutable std::mutex mutex_;
  std::optional<LetterLimit> limit_;
  std::map<std::string, std::array<Step, kSteps>> steps_;  // by sink
  std::string reason_;
  std::atomic<bool> exceeded_{false};
};

}  // namespace millstream
