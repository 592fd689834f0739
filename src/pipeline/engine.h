// Engine: the whole of Millstream without a listener: data folder, log, control log, tables, ingest, sources,
// delivery.
//
// Place: floor 5. server/ puts HTTP before it; cli/ opens it in-process where no server runs.
// Start (SEMANTICS, "Start"): lock → `_control` → streams → receipts → DuckDB → stored offsets ≤ durable end
// → loops. Threads: all public functions are thread-safe. Owns its threads: one a source, one a delivery loop
// (pipeline, sink, partition), one sampler. Failure: a failed sync calls on_fatal (the process exits 74).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file_system.h"
#include "base/random.h"
#include "base/status.h"
#include "catalog/control.h"
#include "catalog/project.h"
#include "event/position.h"
#include "log/log.h"
#include "pipeline/change.h"
#include "pipeline/command.h"
#include "pipeline/dead_letters.h"
#include "pipeline/ingest.h"
#include "pipeline/letters.h"
#include "pipeline/replay.h"
#include "pipeline/status.h"
#include "pipeline/version_gate.h"
#include "tables/table_store.h"

namespace millstream {

class Logger;
class ParallelIngest;

struct EngineOptions {
  FileSystem* fs = nullptr;
  Clock* clock = nullptr;
  Random* random = nullptr;
  const Registry* registry = nullptr;
  const Logger* logger = nullptr;
  SqlWorkers* sql_workers = nullptr;  // where SQL that was never bound is bound first; null: nowhere
  Project project;                    // as the files say
  std::string data_directory;         // absolute
  std::string who;                    // of `_control` events: "USER@HOST"
  bool applies_files = true;          // else what is live holds as it is, whatever the files say
  bool read_only = false;             // `query` without a server: no loops, no sources, nothing is applied
  bool isolated = false;              // a sandbox: no sources, no retention, no disk kept in reserve
  std::map<std::string, Position> starts{};  // of pipelines that are made now, in place of their own
  int64_t lock_wait_us = 5'000'000;
  std::function<void(Status)> on_fatal;
};

/// A pipeline as history has it.
struct PastPipeline {
  uint64_t generation = 0;
  Boundary start;
  std::vector<std::shared_ptr<const PipelineVersion>> versions;  // ascending
  /// Sinks that were made anew by then, and with which version: those before it own nothing there.
  std::map<std::string, Rebuilt> rebuilt;
  uint64_t active_version = 0;  // the last one that was activated by then; it may own no event yet
  /// Of one that had been removed by then: its table sinks whose rows were still there, and how far it had
  /// come in each: next offsets; it delivered nothing of a partition that is not named.
  std::optional<std::map<std::string, Boundary>> ended;

  /// Versions that own something of what such sinks got; the first of them from the start on.
  std::vector<std::shared_ptr<const PipelineVersion>> VersionsFor(
      const std::function<bool(const SinkConfig&)>& is_meant) const;
};

/// By name: the one that lived, and those of its name that had been removed.
using PastPipelines = std::multimap<std::string, PastPipeline>;

class Engine {
 public:
  struct State;  // pipeline/engine_state.h

  /// kConflict if another process holds the data folder ("held by pid 12, http://127.0.0.1:8410"); kCorrupt,
  /// kIo as they come.
  static Result<std::unique_ptr<Engine>> Open(EngineOptions options);
  ~Engine();

  /// Starts sources and delivery loops.
  Status Start();
  /// Reads every source to its present end, delivers everything, returns (`run --once`). `progress` is called
  /// now and then with the status.
  Status RunOnce(std::stop_token stop, std::function<void(const EngineStatus&)> progress);
  /// Starts delivery alone, without sources (`ingest` without a server).
  void StartDelivery();
  /// Delivers what is in the log up to now, without sources.
  Status DeliverAll(std::stop_token stop, std::function<void(const EngineStatus&)> progress);
  /// Interrupts filters that run, commits what is delivered, syncs, closes. Waits for a commit or a
  /// checkpoint under way; who must end by a time watches it. `discard`: the data folder is to be removed, so
  /// tables are not put in order first.
  Status Stop(bool discard = false);
  /// Writes the URL of the listener into the lock file.
  Status Announce(const std::string& url);

  // Ingest (pipeline/ingest.h)
  void Ingest(const IngestRequest& request, IngestDone done);
  tl::expected<IngestAnswer, IngestRefusal> IngestAndWait(const IngestRequest& request);
  /// A way in for whole files. kNotFound: no such stream.
  Result<std::unique_ptr<ParallelIngest>> OpenIngest(const std::string& stream);
  /// Stored position of an origin's part in a stream: events that every partition's receipts cover, and the
  /// position as it was given.
  struct OriginPosition {
    uint64_t events = 0;
    std::string position;
  };
  Result<std::optional<OriginPosition>> FindOrigin(const std::string& stream, const std::string& origin,
                                                   const std::string& part);

  /// Decides a command and appends what it gives (pipeline/command.h). kNotFound names the nearest.
  void Decide(const CommandRequest& request, CommandDone done);

  // What exists
  std::shared_ptr<const Project> project() const;  // what is live
  const std::vector<std::string>& notices()
      const;  // what start decided about files and `_control`, for the user
  /// Whether the start left something as it was that the files changed, for it cannot be changed.
  bool is_held_back() const;
  EngineStatus TakeStatus() const;
  /// kExhausted where the disk has less free than server.limits.free_space says, or nothing: ingest is
  /// refused.
  Status CheckRoom() const;
  /// Metrics that are no counts of the status, in Prometheus' text.
  std::string MetricsText() const;
  /// How long ago the sampler, which looks at everything once a second, came round; 0 if it does not run.
  /// Liveness: far more than a second means that something hangs.
  int64_t SampledAgoUs() const;
  Log& log();
  /// A stream whose events may be read: of the project, its dead letters (`_dead_STREAM`), or `_control`;
  /// null: there is none.
  Stream* FindStream(const std::string& name);
  Database& database();
  TableStore& tables();
  DeadLetters& dead_letters();
  FileSystem& fs();
  Clock& clock();
  Random& random();
  const Registry& registry() const;
  SqlWorkers* sql_workers() const;  // may be null
  std::string data_uuid() const;
  bool read_only() const;
  std::string data_directory() const;
  /// Where sandboxes have their data folders.
  std::string sandboxes_directory() const;
  std::string log_directory() const;
  /// A folder for what is only needed while the process runs; emptied at its start.
  std::string temporary_directory() const;

  // Changes of what runs (pipeline/change.h), one after another.
  /// What would happen; nothing does.
  tl::expected<ChangePlan, ChangeRefusal> Plan(const ChangeRequest& request);
  /// Does it: durable in `_control` on return, and the new versions own what comes. kConflict: the hash is
  /// stale. A sink that hangs delays nothing but itself.
  tl::expected<ChangePlan, ChangeRefusal> Apply(const ChangeRequest& request);

  /// What `_control` says now.
  Catalog catalog() const;
  /// That a sandbox was made, dropped or has expired; durable on return. `why`: of a drop that nobody asked
  /// for.
  Status RecordSandbox(ControlKind kind, const SandboxRecord& sandbox, const std::string& who,
                       const std::string& why = "");
  /// All events of `_control`, the oldest first.
  Result<std::vector<ControlEvent>> History();
  /// The definitions that held with a version.
  Result<Node> DefinitionsOf(uint64_t version);
  /// The pipelines that there were at a time, or whose rows were still there, each with all of its versions,
  /// also later ones: which of them owns an offset their boundaries tell. kNotFound: nothing had been applied
  /// yet.
  Result<PastPipelines> PipelinesAt(int64_t time_us);
  /// A place for history that runs to answer a question: memory, disk and cores bound how many there are.
  /// kExhausted: all are taken. It is given back with the last copy; whoever has it says how far it is.
  struct PastPlace {
    std::atomic<uint64_t> done{0}, total{0};  // events
    std::atomic<bool> is_answered{false};     // it is only kept, for the next question
  };
  Result<std::shared_ptr<PastPlace>> TakePastPlace();
  std::vector<std::shared_ptr<const PastPlace>> PastPlaces() const;
  /// The pipelines that there are, each with the version that is live as the only one.
  PastPipelines PipelinesNow();

  // Replays (pipeline/replay.h): history beside the live pipelines.
  /// Durable in `_control` on return; goes on by itself after a restart, until it has ended.
  tl::expected<ReplayStatus, ChangeRefusal> StartReplay(const ReplayRequest& request);
  std::vector<ReplayStatus> Replays() const;
  Result<ReplayStatus> FindReplay(uint64_t id) const;
  /// Resuming one that failed tries again. kConflict if it has ended.
  Status SetReplayPaused(uint64_t id, bool paused, const std::string& who);
  /// What it has written stays, save tables that were being made anew.
  Status CancelReplay(uint64_t id, const std::string& who);

  /// Sends dead letters again (pipeline/letters.h); durable in `_control` on return, and done if that took
  /// no longer than `wait_us`. Without StartDelivery or Start before it delivers all that there is.
  Result<LettersAnswer> ReplayLetters(const LettersRequest& request, std::stop_token stop);
  /// They stay in the log and count no more.
  Result<LettersAnswer> DropLetters(const LettersRequest& request);
  /// What became of all letters.
  std::shared_ptr<const LetterBook> letters() const;

  // Operation
  /// Sets events aside that a sink cannot take: the next `events` of each partition in which it cannot go on
  /// (or of `partition`) become dead letters. Answers up to where. kConflict: it is not stuck.
  Result<Position> SkipEvents(const std::string& pipeline, const std::string& sink,
                              std::optional<uint32_t> partition, uint64_t events, const std::string& who);
  Status SetPipelinePaused(const std::string& name, bool paused, const std::string& who);
  Status SetSourcePaused(const std::string& name, bool paused, const std::string& who);
  Status DropTable(const std::string& name, const std::string& who);

  /// Waits until one of `tables` (empty: any table) holds all events up to and with the position, also where
  /// streams of other pipelines lie between. Woken by deliveries. kDeadline ends with "reached POSITION"; a
  /// read-only Engine, which delivers nothing, says so at once.
  Status Wait(const Position& position, const std::vector<std::string>& tables, int64_t timeout_us,
              std::stop_token stop);
  /// How far a table's writers are: for each stream the position of the last delivered event.
  std::vector<Position> TablePositions(const std::string& table) const;

  struct TableLag {
    std::string table, stream;
    uint64_t events = 0;  // in the log, not yet in the table
  };
  /// How far each table that a pipeline writes is behind its stream, as stored.
  std::vector<TableLag> TableLags() const;

 private:
  explicit Engine(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace millstream
