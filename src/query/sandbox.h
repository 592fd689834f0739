// Sandbox: one that is open: an Engine over its own data folder, and what is asked of it.
//
// Place: floor 6; owned by Sandboxes, lent to requests. Its kinds of stages are isolated (stage/isolated.h),
// its log is its own (log/fork.h), its tables lie in a DuckDB instance of their own with a memory limit of
// its own. Threads: thread-safe, but Look belongs to one thread. Failure: what would end the process of a
// live Engine (a failed sync, tables that cannot be written) ends the sandbox alone: it is `failed` and takes
// nothing more.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "catalog/sandbox.h"
#include "query/query.h"

namespace millstream {

/// What a sandbox is and how it stands; plain values.
struct SandboxStatus {
  SandboxRecord record;
  std::string state;             // starting filling ready full failed; without a server: stopped
  std::string reason;            // of full and failed
  uint64_t done = 0, total = 0;  // events, over all sinks, while its tables are made
  double events_per_second = 0;
  std::optional<double> seconds_left;
  std::optional<double> filled_seconds;  // that it took, in this process
  uint64_t disk_bytes = 0;               // that it alone holds
  struct Outside {
    std::string pipeline, sink;
    uint64_t rows = 0;  // that would have gone there, in this process
  };
  std::vector<Outside> outside;

  std::string ToJson() const;
};

class Sandbox {
 public:
  struct Options {
    SandboxRecord record;
    std::string directory;
    std::optional<Project> files{};  // when it is made: other definitions than those in its `_control`
    std::map<std::string, Position> starts{};  // of their pipelines
  };
  /// Opens its Engine and, unless the live one is read-only, lets it run.
  static Result<std::shared_ptr<Sandbox>> Open(Engine& live, Options options);
  /// Closes it. Nobody may use it any more.
  ~Sandbox();

  Engine& engine() { return *engine_; }
  QueryRunner& queries() { return *queries_; }
  /// Asked to stop when it is closed: requests in it should end.
  std::stop_token stopping() const { return stopping_.get_token(); }
  void AskToStop() { stopping_.request_stop(); }
  /// It is closed in order that its folder be removed.
  void Discard() { discard_ = true; }

  /// Before events or commands of so many bytes are taken in. kExhausted: it holds as much as it may;
  /// kUnavailable: it has failed.
  Status TakeIn(uint64_t bytes);
  /// Now and then: how far its tables are, what it holds on disk; pauses its pipelines beyond the bound.
  void Look();
  SandboxStatus status() const;

 private:
  Sandbox(Engine& live, Options options);
  Status OpenEngine();
  void Measure();
  void PausePipelines(bool paused);
  std::string FullText() const;

  Engine& live_;
  Options options_;
  const Registry registry_;
  std::stop_source stopping_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<QueryRunner> queries_;
  std::atomic<bool> discard_{false};
  std::atomic<uint64_t> disk_bytes_{0};   // when it was last measured ...
  std::atomic<uint64_t> taken_bytes_{0};  // ... and taken in since
  int64_t opened_ns_ = 0, measured_ns_ = 0;
  uint64_t measured_done_ = 0;
  bool at_end_ = false, has_paused_ = false;

  mutable std::mutex mutex_;
  SandboxStatus standing_;  // guarded by mutex_
  std::string failure_;     // why it has failed; guarded by mutex_
};

/// Bytes that go when the folder goes: files that have no other name.
uint64_t OwnBytes(const std::string& directory);

}  // namespace millstream
