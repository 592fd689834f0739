// DeliveryLoop: carries the events of one partition through a pipeline's filters to one sink, and stores how
// far it came.
//
// Place: floor 5; one thread and one stored offset per (pipeline generation, sink, partition), owned by the
// PipelineRuntime (SEMANTICS, 4). Operation. Opens its sink, with back-off where that fails. Takes what has
// accumulated, up to the limits; runs the version that owns those offsets (batches are cut where versions
// change); claims the batch, so that no change takes it away any more (version_gate.h); delivers; goes on. A
// data error is bisected until the bad events stand alone; they become dead letters, durable before the rows
// around them are committed. Other errors are retried with back-off and jitter; the sink is `degraded`
// meanwhile. Corruption and I/O errors end the loop as `failed`. A stop interrupts the filters that run;
// their events are delivered after the next start. Threads: Run is the thread, which takes one Step after the
// other and waits between them as each says; who simulates takes the steps. status(), Pause, Resume from any.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "base/watchdog.h"
#include "catalog/control.h"
#include "pipeline/backoff.h"
#include "pipeline/dead_letters.h"
#include "pipeline/latency.h"
#include "pipeline/letter_allowance.h"
#include "pipeline/pipeline_runner.h"
#include "pipeline/progress.h"
#include "pipeline/shared_sink.h"
#include "pipeline/status.h"
#include "pipeline/version_gate.h"

namespace millstream {

/// Called after each piece with the time that it took, so that work beside the live pipelines can wait.
using Pace = std::function<void(int64_t busy_ns, std::stop_token stop)>;

/// Dead letters of one pipeline, sink and partition that are delivered again.
struct LoopReplay {
  uint64_t id = 0;
  uint32_t slot = 0;                     // in place of the partition, where the sink stores how far it is
  std::map<uint64_t, uint64_t> letters;  // offset of the event, number of its letter; at least one
};

struct LoopContext {
  std::string pipeline;
  uint64_t generation = 0;
  std::string stream;
  uint32_t partition_index = 0;
  Partition* partition = nullptr;
  LetterStore* dead_letters = nullptr;
  RunnerContext runner;
  SharedSink* sink = nullptr;
  VersionGate* gate = nullptr;
  Rebuilt rebuilt;            // how its sink was made anew; version 0: never
  uint64_t start = 0;         // where to begin if nothing is stored
  uint64_t end = UINT64_MAX;  // offsets from here on are not its business: it is `done`, and its thread ends
  std::optional<LoopReplay> replay;  // only these events, in their order; it is `done` after the last
  Pace pace;                         // may be null
  uint32_t batch_events = 10'000;
  uint64_t batch_bytes = 8 << 20;
  Clock* clock = nullptr;
  Random* random = nullptr;
  Watchdog* watchdog = nullptr;
  LatencyWindow* latency = nullptr;
  Progress* progress = nullptr;          // told of each step forward; may be null
  LetterAllowance* allowance = nullptr;  // may be null
  std::function<void(Status)> on_fatal;  // the sink's own store failed for good: kIo of tables
};

class DeliveryLoop {
 public:
  explicit DeliveryLoop(LoopContext context);
  void Run(std::stop_token stop);

  /// What a loop does after a step.
  struct Next {
    enum Kind : uint8_t { kGoOn, kAwaitEvents, kWait, kEnd } kind = kGoOn;
    int64_t wait_us = 0;  // kWait
  };
  /// An attempt to open the sink, or to carry the events that are there, up to the limits, to it. Waits for
  /// nothing but the sink, the filters, and a change that takes over just then.
  Next Step(std::stop_token stop);

  void SetPaused(bool paused) { paused_ = paused; }
  /// Events below become dead letters instead of being run. From any thread.
  void SkipTo(uint64_t offset);

  /// The sink is open: goes on from what it has stored. kIo if that lies beyond the log. Also for the Engine,
  /// before Run.
  Status TakeStored();
  /// True once the sink has told where it stands.
  bool is_open() const { return is_open_.load(std::memory_order_acquire); }
  /// The offset up to which everything is delivered; where the pipeline starts until the sink is open.
  uint64_t next() const { return next_.load(std::memory_order_acquire); }
  struct FilterCounts {
    uint64_t in = 0, out = 0, dead = 0;
  };
  struct Snapshot {
    std::string state, reason;
    uint64_t next = 0, rows = 0, retries = 0, dead = 0, events = 0;
    std::map<std::string, FilterCounts> filters;  // of all versions that ran here
    int64_t busy_ns = 0;                          // spent on these events, from the log to the sink
    int64_t oldest_undelivered_us = 0;            // append stamp of the first event that waits; 0 = none
  };
  Snapshot snapshot() const;
  bool failed() const { return failed_; }
  /// Of a replay of letters: the first event that it still needs.
  uint64_t first_wanted() const {
    auto wanted = context_.replay->letters.lower_bound(next());
    return wanted == context_.replay->letters.end() ? UINT64_MAX : wanted->first;
  }
  /// True once everything below its end was delivered.
  bool done() const { return done_.load(std::memory_order_acquire); }
  /// Takes a version that was bound beforehand, so that nothing is left to be done when it takes over.
  void Prepare(std::shared_ptr<const PipelineVersion> version, std::unique_ptr<PipelineRunner> runner);
  /// A version took over: filters that run for events which are no longer their version's are interrupted.
  void Reconsider();
  /// After a failure, when no thread runs it: ready to Run again.
  void Reset();

 private:
  struct Piece {  // of gathered events
    std::vector<BatchRange> ranges;
    uint64_t events = 0;
    uint64_t first = 0, next = 0;
    uint32_t epoch = 0;
  };

  Next OpenSink(std::stop_token stop);
  Next Idle();
  Next End(const Status& status);
  Next Retry(const Status& status);
  void Forget();
  void Wait(int64_t wait_us, std::stop_token stop);
  Status Gather(Piece& piece);
  Status GatherLetters(Piece& piece);
  /// Under which number the sink stores how far this came.
  uint32_t slot() const { return context_.replay ? context_.replay->slot : context_.partition_index; }
  Status TakeRunner(const std::shared_ptr<const PipelineVersion>& owner);
  Status Work(const Piece& piece, std::stop_token stop);
  bool is_paused() const {
    return paused_ || (context_.allowance != nullptr && context_.allowance->exceeded());
  }
  Status SkipPiece(const Piece& piece, std::stop_token stop);
  void Fill(RowBatch& rows, const Piece& piece) const;
  void Delivered(const Piece& piece, const RowBatch& rows);
  Status DeliverPiece(const Piece& piece, std::stop_token stop);
  Result<RowBatch> RunFilters(const Piece& piece, std::vector<DeadLetter>& letters, std::stop_token stop);
  template <typename Call>
  auto Watched(std::stop_token stop, Call call);
  Result<RowBatch> Filtered(const Piece& piece, std::vector<DeadLetter>& letters, std::stop_token stop);
  RowBatch NoRows() const;
  void TakeRefused(const Piece& piece, RowBatch& rows, std::vector<DeadLetter>& letters) const;
  void Count(const Piece& piece, const RowBatch& rows);
  DeadLetter LetterOf(const BatchRange& event, const PipelineRunner::Blame& blame) const;
  Status WriteLetters(std::vector<DeadLetter> letters, uint64_t next);
  Status FindWrittenLetters();
  static std::pair<Piece, Piece> Halve(const Piece& piece);
  void SetState(const std::string& state, const std::string& reason);
  /// That it delivers up to `next`, without a failure.
  void ShowGoing(uint64_t next);
  Next ShowRetry(const Status& status, uint32_t failures, int64_t wait_us);

  const LoopContext context_;
  const std::string letter_origin_;
  std::unique_ptr<PartitionReader> reader_;
  std::vector<std::unique_ptr<EventBatch>> held_;  // batches that the current piece points into
  uint32_t held_row_ = 0;                          // rows of the last held batch that are done
  std::unique_ptr<PipelineRunner> runner_;
  std::shared_ptr<const PipelineVersion> version_;
  std::vector<uint64_t> counted_;  // runner_'s counts before the delivery
  uint64_t new_letters_ = 0;       // since the allowance was told
  Backoff backoff_;
  bool overtaken_ = false;                             // the piece under way belongs to another version now
  std::optional<std::set<uint64_t>> written_letters_;  // offsets at or above next_ that have one

  std::atomic<bool> is_open_{false};
  std::atomic<uint64_t> next_{0};
  std::atomic<bool> paused_{false};
  std::atomic<uint64_t> skip_to_{0};
  std::atomic<bool> failed_{false};
  std::atomic<bool> done_{false};
  mutable std::mutex mutex_;
  Snapshot shown_;
  struct Prepared {
    std::shared_ptr<const PipelineVersion> version;
    std::unique_ptr<PipelineRunner> runner;
  } prepared_;
  struct Running {  // filters that run now, for [first, next)
    std::stop_source stop{std::nostopstate};
    uint64_t version = 0, first = 0, next = 0;
  } running_;
};

}  // namespace millstream
