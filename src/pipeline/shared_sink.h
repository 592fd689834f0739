// SharedSink: a sink of a running pipeline and what its delivery loops share: opening it, its health.
//
// Place: floor 5; owned by the PipelineRuntime, used by the loops of its partitions. A sink that cannot be
// opened is tried again with back-off, by whichever loop comes first; the others learn how that went. Health
// is the worst that a loop told; a change of it is one line in the log. Threads: all functions are
// thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "pipeline/backoff.h"
#include "stage/stage.h"

namespace millstream {

class Logger;

/// What a loop waits for and tries again; the rest ends it.
bool IsRetried(Code code);
/// While a sink is opened also what people put right beside a running process: a folder, rights, a file in
/// the way.
bool IsRetriedAtOpen(Code code);

class SharedSink {
 public:
  struct Context {
    std::string pipeline, id;
    Clock* clock = nullptr;
    Random* random = nullptr;
    const Logger* logger = nullptr;  // may be null
  };
  /// Columns that the live version gives, so that a sink adapts before the first event comes.
  struct Layout {
    uint64_t version = 0;
    std::vector<ColumnInfo> columns;
    uint32_t visible = 0;
  };
  SharedSink(Context context, std::unique_ptr<Sink> sink, Layout layout);

  const std::string& id() const { return context_.id; }
  const Sink& sink() const { return *sink_; }

  /// How the last attempt to open it went.
  struct Opening {
    Status status;
    uint32_t attempts = 0;  // that failed in a row
    int64_t wait_us = 0;    // until the next is due
  };
  /// OK once it is open; makes an attempt if one is due.
  Opening EnsureOpen();
  bool is_open() const { return is_open_.load(std::memory_order_acquire); }
  /// Stored next offsets, as Open answered. Only once it is open.
  const std::map<uint32_t, uint64_t>& stored() const { return stored_; }

  /// Adapts it to a version's columns.
  Status Prepare(const Layout& layout);
  /// Loops of several partitions may run different versions for a while: it is told the columns of each.
  Status Deliver(const RowBatch& rows, uint64_t version);
  /// Columns for the next attempt to open it.
  void SetLayout(Layout layout);
  std::vector<RefusedEvent> Refuse(const RowBatch& rows) const { return sink_->Refuse(rows); }
  Status ExpectOlder() { return Older(&Sink::ExpectOlder); }
  Status AdmitOlder() { return Older(&Sink::AdmitOlder); }
  /// What survives a power cut; nothing if that is what was delivered. Never waits for a delivery: meanwhile
  /// it answers as before.
  std::optional<uint64_t> DurableOffset(uint32_t partition);
  /// A stop: what runs in the sink ends soon.
  void Interrupt() { sink_->Interrupt(); }
  Status Close();

  /// A loop's state, and why if it is `degraded` or `failed`.
  void TellState(uint32_t partition, const std::string& state, const std::string& reason);

 private:
  Status Attempt();
  Status Older(Status (Sink::*call)());

  const Context context_;
  const std::unique_ptr<Sink> sink_;

  std::mutex mutex_;  // held around calls, save Deliver of concurrent sinks
  std::atomic<bool> is_open_{false};
  std::map<uint32_t, uint64_t> stored_;
  uint64_t prepared_version_ = UINT64_MAX;
  Backoff backoff_;
  Status failure_;
  int64_t due_ns_ = 0;

  std::mutex told_mutex_;  // held for moments only
  Layout layout_;
  std::map<uint32_t, int> health_;  // by partition: 0 well, 1 degraded, 2 failed
  std::map<uint32_t, std::optional<uint64_t>> durable_;
};

}  // namespace millstream
