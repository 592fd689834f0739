// ReplayRun: pipelines over history that run beside the live ones: their loops, their pace, how far they are.
//
// Place: floor 5; owned by the Engine (engine_replay.cc), which decides what it is for and how it ends. Its
// sinks store their own offsets under names of their own, so that it goes on after a crash. It yields: its
// threads have a lower priority, take no more than their share of a core, and a tenth of one while live
// pipelines lag. Letters are counted, and the first are shown to people. Threads: Open and Start from one
// thread, before the rest; the rest from any. Failure: kInvalid if the filters do not bind; a loop that fails
// says so in Failure, and goes on after SetPaused(false).
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "pipeline/pipeline_runtime.h"
#include "pipeline/progress.h"

namespace millstream {

class ReplayRun {
 public:
  static constexpr double kShareBehind = 0.1;  // while live pipelines lag
  static constexpr size_t kLettersShown = 20;

  struct Part {
    std::string pipeline, stream;  // `pipeline`: as its sinks know it
    uint64_t generation = 1;
    std::vector<PipelineRuntime::Version> versions;  // with the sinks that it has here
    Boundary from;
    std::optional<Boundary> to;  // none: it goes on with what comes
  };
  /// `context` is the live pipelines', save what a replay has of its own.
  /// `rebuild`: its number, if it makes tables anew: then its letters are kept; else they are only counted.
  ReplayRun(RuntimeContext context, std::vector<Part> parts, double share, uint64_t rebuild = 0);
  ~ReplayRun();

  Status Open();
  void Start(bool paused);
  void SetPaused(bool paused);
  void Stop();
  bool stopped() const;

  /// Waits until all is done, for a while at most.
  bool WaitDone(int64_t timeout_us, std::stop_token stop);
  bool IsDone() const;
  /// Why a loop has failed or waits for its sink; empty: all is well.
  std::string Failure() const;
  /// True if no partition has more than `events` before it.
  bool IsNear(uint64_t events) const;

  struct Amounts {
    uint64_t done = 0, total = 0, dead_letters = 0;
    double events_per_second = 0;  // lately
  };
  Amounts amounts() const;
  /// Takes a sample of the rate, and whether live pipelines lag. Now and then.
  void Look(bool live_lag);

  std::vector<DeadLetter> letters() const { return letters_->letters(); }
  /// The lowest offset that is still needed of a partition after a power cut.
  uint64_t LowWater(const std::string& stream, uint32_t partition) const;

 private:
  void Yield(int64_t busy_ns, std::stop_token stop);

  const double share_;
  Clock& clock_;
  std::atomic<bool> live_lag_{false};
  const std::unique_ptr<CollectedLetters> letters_;
  Progress progress_;
  const std::vector<Part> parts_;
  std::vector<Stream*> streams_;  // of each part
  std::vector<std::unique_ptr<PipelineRuntime>> runtimes_;
  mutable std::mutex mutex_;                          // guards what follows
  std::optional<Amounts> last_;                       // once stopped
  std::deque<std::pair<int64_t, uint64_t>> samples_;  // monotonic ns, done; over the last seconds
};

}  // namespace millstream
