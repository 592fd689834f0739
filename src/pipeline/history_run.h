// HistoryRun: pipelines over a part of history, as fast as it goes, into tables of their own: what a question
// about the past, a preview or a recorded test stands on.
//
// Place: floor 5. Reads the log of the Engine that it is opened for and leaves no trace in it: its tables lie
// in a DuckDB instance of its own (in memory, spilling to a folder, or a file), letters are collected,
// nothing is acknowledged anywhere. The caller gives pipelines with sinks `table` and `drop` only; others
// need what is not there. Pipelines of one Run go side by side: those whose filters join tables of others
// come in a later one. Threads: one call at a time; `progress` comes on the caller's thread. Failure:
// kInvalid if filters do not bind, kCancelled after a stop, else what ended a loop.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/watchdog.h"
#include "pipeline/pipeline_runtime.h"
#include "pipeline/progress.h"

namespace millstream {

/// One pipeline and its part of history.
struct HistoryPart {
  std::string pipeline;
  uint64_t generation = 1;
  std::string stream;
  std::vector<PipelineRuntime::Version> versions;  // ascending; as they were live, or one that owns all
  std::vector<SinkConfig> sinks;                   // in place of those of the versions; at least one
  Boundary from, to;  // by partition: the first offset, and the one after the last
};

class HistoryRun {
 public:
  struct Options {
    Log* log = nullptr;
    FileSystem* fs = nullptr;
    Clock* clock = nullptr;
    Random* random = nullptr;
    const Registry* registry = nullptr;
    std::string project_directory;
    LimitsConfig limits;
    std::string path;            // of the DuckDB file; empty: in memory
    std::string temp_directory;  // for spilling, made here and removed at the end; no other may use it
    uint64_t memory_bytes = 512u << 20;
    uint64_t temp_bytes = 0;  // that are spilled at most; 0: what the disk has
    size_t letters = 1000;    // that are kept; all are counted
    Pace pace;                // may be null
  };
  static Result<std::unique_ptr<HistoryRun>> Open(Options options);
  ~HistoryRun();

  struct Done {
    uint64_t events = 0, total = 0;  // over all parts and sinks
  };
  using ShowProgress = std::function<void(const Done&)>;
  /// What Run of these parts will count as its total.
  uint64_t EventsOf(const std::vector<HistoryPart>& parts) const;
  /// Runs the parts to their ends. May be called again with more parts.
  Status Run(std::vector<HistoryPart> parts, std::stop_token stop, const ShowProgress& progress = {});

  Database& database() { return *database_; }
  TableStore& tables() { return *tables_; }
  const CollectedLetters& letters() const { return letters_; }
  /// Of the pipelines that ran, in the order of their parts: counts of filters and sinks.
  const std::vector<PipelineStatus>& statuses() const { return statuses_; }
  /// How long the loops of each of them worked, and at how many events.
  const std::vector<PipelineRuntime::Work>& work() const { return work_; }

 private:
  explicit HistoryRun(Options options);
  RuntimeContext Context(const std::vector<HistoryPart>& parts);

  const Options options_;
  CollectedLetters letters_;
  Watchdog watchdog_;
  Progress progress_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<TableStore> tables_;
  std::vector<PipelineStatus> statuses_;
  std::vector<PipelineRuntime::Work> work_;
};

}  // namespace millstream
