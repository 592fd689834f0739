// Engine::State: what the Engine owns, in the order in which it is opened.
//
// Place: floor 5; private to the Engine (engine.cc, engine_open.cc, engine_status.cc).
// Threads: `mutex` guards the maps and `project`; what they hold guards itself.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/metrics.h"
#include "base/watchdog.h"
#include "catalog/cutover.h"
#include "pipeline/command_runner.h"
#include "pipeline/control_log.h"
#include "pipeline/data_folder.h"
#include "pipeline/engine.h"
#include "pipeline/idempotency.h"
#include "pipeline/pipeline_runtime.h"
#include "pipeline/replay_run.h"
#include "pipeline/source_runner.h"
#include "pipeline/stream_ingest.h"

namespace millstream {

struct Engine::State {
  explicit State(EngineOptions given)
      : options(std::move(given)), keys(*options.clock), opened_ns(options.clock->MonotonicNs()) {}

  // engine_open.cc: the steps of a start
  Status OpenStores();
  /// What is live, as `_control` has it.
  Status TakeCatalog();
  /// What the files changed since they were applied last, by the road of every change.
  Status ApplyFiles();
  Status OpenTables(const DatabaseOptions& database_options);
  Status SetTablesAside(const Status& fault);
  Result<std::vector<std::string>> MissingForTables();
  Status OpenStreams();
  Result<Position> ResolveStart(const PipelineConfig& pipeline, const StreamConfig& config);
  /// As activated, ascending.
  std::vector<PipelineRuntime::Version> VersionsOf(const std::string& name, const PipelineRecord& record);
  PipelineRuntime::Version NewVersion(uint64_t number, const PipelineConfig& config);
  /// Writes the `activated` event.
  PipelineRuntime::Seal SealOf(const std::string& name, uint64_t generation, uint64_t version,
                               const std::string& who);
  /// Of an activated pipeline; nothing of it is open.
  std::shared_ptr<PipelineRuntime> MakeRuntime(const std::string& name, const PipelineConfig& config,
                                               const PipelineRecord& record);
  Status OpenPipelines();
  Status OpenPipeline(const std::string& name, const PipelineConfig& config);
  Status OpenStream(const StreamConfig& config);
  Status OpenSources();
  void StartPipelines();
  void StartSources();

  // engine_decide.cc, under `change_mutex`
  /// What a change stands on and what comes of it.
  struct Decided {
    Catalog catalog;
    std::shared_ptr<const Project> live;
    Project proposed;
    ChangeDecision decision;
    std::set<std::string> rebuild;  // tables, as asked for
    std::shared_ptr<Project> next;
    std::shared_ptr<Project> switched;  // what will hold once tables were made anew; null: none are
    std::map<std::string, PipelineRuntime::Bound> bound;  // pipelines that run and change
    /// It would leave all as it is.
    bool is_same = false;
  };
  std::optional<ChangeRefusal> Decide(const ChangeRequest& request, Decided& decided);
  struct Frozen {
    std::string path, why;
  };
  std::optional<Frozen> FindFrozen(const Decided& decided, const Project& next);
  std::string WhyFrozen(const Project& next, const ChangeDecision& decision, const Writer& writer,
                        const std::string& table);
  /// What a new version of the pipeline is bound by; null: it begins with the change.
  std::shared_ptr<PipelineRuntime> RuntimeToBind(const Decided& decided, const PipelineConfig& config);
  std::optional<Boundary> AdoptedFrom(const PipelineRecord& removed, const PipelineConfig& pipeline);
  Result<bool> BindChanged(Decided& decided);
  Status HoldBackChange(Decided& decided, const PipelineConfig& pipeline, const Status& why);
  std::optional<ChangeRefusal> CheckRebuilt(Decided& decided);
  std::string ColumnsNotTaken(const Decided& decided, const Project& then,
                              const std::set<std::string>& rebuilt);
  bool WritesOneOf(const PipelineConfig& pipeline, const std::set<std::string>& names) const;
  uint64_t EventsIn(const std::string& stream);
  std::string RefusedByContract(const StreamConfig& config);
  struct Cost {
    uint64_t events = 0;
    std::optional<double> seconds;  // nothing has run yet: not known
  };
  /// Events a second of the loops of each live pipeline, as measured here, or else by an earlier process.
  std::map<std::string, uint64_t> RatesOfPipelines();
  Cost CostOf(const Decided& decided, const PipelineConfig& pipeline,
              const std::map<std::string, uint64_t>& rates);
  std::string RebuildNote(const PipelineConfig& pipeline, const Cost& cost);
  ChangePlan PlanOf(const Decided& decided);

  // engine_change.cc, under `change_mutex`
  Status Carry(const ChangeRequest& request, Decided& decided, ChangePlan& plan);
  Result<PipelineRuntime::Changed> TakeOver(PipelineRuntime& running, const PipelineRuntime::Version& version,
                                            Decided& decided, const std::string& who);
  /// Removes the events of streams that were removed, once nobody reads them any more.
  Status FinishPurges();
  static void NoteOn(ChangePlan& plan, const std::string& pipeline, const std::string& note);
  Status ChangeStreams(const Project& live, const Project& next);
  void EndPipelines(const Project& next, const ChangeDecision& decision);
  Status ChangeSources(const Project& live, const Project& next);
  /// Writes down how far pipelines that were removed have come in their tables, once that is on disk; at once
  /// of tables whose rows are about to go.
  Status NoteEnded(const std::vector<std::string>& going);
  /// Closes what was asked to end and has.
  void Reap();

  // engine_replay.cc
  struct RunningReplay {
    uint64_t id = 0;
    std::unique_ptr<ReplayRun> run;  // null: it could not be opened
    std::string failure;             // why; guarded by `mutex`
    bool is_durable = false;         // of a rebuild: its tables were checkpointed
    struct Obsolete {
      uint64_t looked = 0;  // at letters below this number
      LetterSet letters;
    };
    std::map<std::string, Obsolete> obsolete;  // by stream: letters whose events a rebuild runs again
    std::atomic<bool> closed{false};           // of a rebuild: the live loops of its tables were ended
    int64_t not_before_ns = 0;                 // of a cutover, after one that did not come through
    std::atomic<bool> over{true};              // the conductor does nothing any more
    std::jthread conductor;
  };
  Result<ReplaySpec> SpecOf(const ReplayRequest& request, const Catalog& catalog);
  Status CheckPlace(const ReplaySpec& spec, const Project& with_replay);
  /// The definitions with a pipeline of the replay's own among them; `name` tells which.
  static Result<Node> WithReplay(const Node& root, const ReplaySpec& spec, std::string* name);
  Result<std::vector<ReplayRun::Part>> PartsOf(const ReplayRecord& record);
  /// Opens a replay that `_control` names and lets it run.
  void RunReplay(uint64_t id);
  void RunReplays();
  /// Waits for those that run. False if there were none; kInvalid if one failed or stands still.
  Result<bool> ReplaysToEnd(std::stop_token stop, const std::function<void()>& progress);
  void EndReplay(RunningReplay& replay);
  void Conduct(RunningReplay& replay, std::stop_token stop);
  void Finish(RunningReplay& replay, std::stop_token stop);
  bool HasLag();
  std::shared_ptr<RunningReplay> FindRunning(uint64_t id) const {
    std::shared_lock lock(mutex);
    auto found = replays.find(id);
    return found == replays.end() ? nullptr : found->second;
  }
  ReplayStatus StatusOf(const ReplayRecord& record) const;

  // engine_cutover.cc
  Result<std::vector<ReplayRun::Part>> RebuildPartsOf(const ReplayRecord& record);
  /// Makes tables anew, under `change_mutex`. The id.
  tl::expected<uint64_t, ChangeRefusal> StartRebuild(const std::vector<std::string>& names,
                                                     Definitions definitions, double share,
                                                     const std::string& who);
  /// kConflict if a change, after which `next` holds, is of something that changes with a cutover to come.
  Status CheckNotRebuilt(const std::vector<Change>& changes, const Project& next);
  CutoverFacts FactsOf(const RunningReplay& replay, const ReplayRecord& record);
  /// One round of looking after a rebuild. True once it has ended.
  bool LookAfterRebuild(RunningReplay& replay, std::stop_token stop);
  Status Cutover(RunningReplay& replay, std::stop_token stop);
  void CloseTables(const ReplaySpec& spec);
  Status DecideCutover(RunningReplay& replay, const ReplayRecord& record,
                       std::map<std::string, PipelineRuntime::Bound>& bound);
  Status SwitchTables(const ReplaySpec& spec);
  Status DropShadows(const ReplaySpec& spec, const std::string& who);
  Status OpenRebuilt(const ReplayRecord& record, std::map<std::string, PipelineRuntime::Bound>& bound);
  /// What a crash has left of cutovers and of cancelled rebuilds.
  Status FinishCutovers();

  // engine_command.cc
  /// Makes the commands of `project` what can be asked for. `quiet`: nothing is on its way into a stream.
  Status OpenCommands(bool quiet);
  CommandContext MakeCommandContext(const std::string& stream, StreamIngest& ingest);
  std::map<uint32_t, uint64_t> TableNext(const std::string& stream, const std::string& table) const;
  void StopCommands();

  // engine_status.cc
  EngineStatus Count() const;
  void FillRates(EngineStatus& status);
  void SetLowWater();
  void WarnOfWindows(const EngineStatus& status);

  // engine_stored.cc, under `mutex`
  /// Where the sink goes on, by partition: of its loops, or as stored if the pipeline does not run here;
  /// nothing if that cannot be told.
  std::optional<std::map<uint32_t, uint64_t>> NextOf(const std::string& pipeline,
                                                     const SinkConfig& sink) const;
  uint64_t EventsAfter(const std::string& stream, const std::map<uint32_t, uint64_t>& next) const;
  void CountStopped(EngineStatus& status) const;

  // engine_watch.cc: what the sampler does about what it sees
  void PauseExceeded();
  void RetryBroken();
  void LogHead(const std::string& message);

  // engine_letters.cc, engine_letters_again.cc
  struct ActiveReplay {
    struct Again {
      Writer to;
      PipelineRuntime::LettersAgain letters;
    };
    std::optional<uint64_t> found;  // how many letters it had when `again` was made
    bool appended = false, finished = false;
    bool waits_for_removed = false;  // nothing else is left to be done
    std::vector<Again> again;
    std::string position, reason, told;
    uint64_t refused = 0;
  };
  static Writer WriterOf(const DeadLetter& letter) {
    return {letter.pipeline, letter.generation, letter.sink};
  }
  std::string WhyNotAgain(const DeadLetter& letter, const std::string& stream);
  bool IsWaiting(const Catalog& catalog, const DeadLetter& letter, const std::string& stream);
  /// Whether a table has what was sent again for the event; false for other sinks.
  bool HasCome(const Writer& to, uint32_t slot, uint64_t offset) const;
  bool IsInLog(const DeadLetter& letter, const std::string& stream);
  /// Looks at the letters that came since it was called last.
  Status FindObsolete(RunningReplay& replay, const ReplayRecord& record);
  Status DropLettersOf(uint64_t rebuild, const std::string& stream, const std::string& who);
  Status SelectLetters(const LettersRequest& request, bool again, LettersAnswer& answer,
                       LetterReplay& replay);
  std::vector<std::string> LateSinks(const LetterReplay& replay);
  Status AppendLetters(const LetterReplay& replay, ActiveReplay& active);
  /// Whether the live definitions have it.
  bool HasSink(const std::string& pipeline, const std::string& sink_id) const;
  Status FindAgain(const LetterReplay& replay, ActiveReplay& active);
  Result<bool> DeliverLetters(ActiveReplay& active);
  Status DropUndeliverable(const LetterReplay& replay, const ActiveReplay& active);
  Result<uint64_t> CountRefused(const LetterReplay& replay);
  /// Letters are being sent again, and not only to pipelines that were removed.
  bool AreLettersToCome();
  Status StepReplay(const LetterReplay& replay, ActiveReplay& active);
  Status FindLostReplays(std::vector<ActiveReplay>& lost);
  void RunLetterReplays(std::stop_token stop);

  // engine.cc
  bool LeadsTo(const SinkConfig& sink, const std::vector<std::string>& tables_asked) const;
  /// How far the sinks are that lead to the tables (none named: to any).
  struct Reach {
    bool is_there = true;
    Position reached;                  // the last event that all of them delivered
    std::vector<std::string> streams;  // that lie between the position's stream and the tables
  };
  Reach HowFar(const Position& position, const std::vector<std::string>& tables_asked);
  Status DeliverToEnd(std::stop_token stop, const std::function<void()>& progress);
  void Sample(std::stop_token stop);

  std::shared_ptr<StreamIngest> FindIngest(const std::string& stream) {
    std::shared_lock lock(mutex);
    auto it = ingests.find(stream);
    return it == ingests.end() ? nullptr : it->second;
  }
  /// kNotFound names the nearest stream.
  Result<std::shared_ptr<StreamIngest>> IngestNamed(const std::string& stream);
  std::shared_ptr<PipelineRuntime> FindPipeline(const std::string& name) {
    std::shared_lock lock(mutex);
    auto it = pipelines.find(name);
    return it == pipelines.end() ? nullptr : it->second;
  }
  std::vector<std::string> StreamNames() {
    std::shared_lock lock(mutex);
    std::vector<std::string> names;
    for (const auto& [name, ingest] : ingests) names.push_back(name);
    return names;
  }
  /// The table that a table sink writes.
  std::string TableOf(const SinkConfig& sink) const {
    return options.registry->sinks().at(sink.kind).target(sink.options);
  }
  RuntimeContext MakeRuntimeContext();

  const EngineOptions options;
  Metrics metrics;  // of what is timed where it happens; counts are taken by Count
  std::unique_ptr<DataFolder> folder;
  std::unique_ptr<Log> log;
  std::unique_ptr<ControlLog> control;
  std::unique_ptr<Database> database;
  std::unique_ptr<TableStore> tables;
  std::unique_ptr<DeadLetters> dead_letters;
  IdempotencyTable keys;
  Watchdog watchdog;
  Progress deliveries;
  std::vector<std::string> notices;
  bool is_held_back = false;  // something that the files changed cannot be changed

  std::mutex change_mutex;  // held through a change, before `mutex`
  mutable std::shared_mutex mutex;
  std::string url;
  std::shared_ptr<const Project> project;
  std::map<std::string, std::shared_ptr<StreamIngest>> ingests;
  std::map<std::string, std::shared_ptr<PipelineRuntime>> pipelines;
  std::map<std::string, std::shared_ptr<CommandDefinition>> commands;
  std::map<std::string, std::shared_ptr<CommandRunner>> command_runners;  // by stream
  struct RunningSource {
    SourceRunner runner;
    std::jthread thread;
  };
  std::map<std::string, std::unique_ptr<RunningSource>> sources;
  std::vector<std::shared_ptr<PipelineRuntime>> ending_pipelines;  // removed, and still at it
  std::map<uint64_t, std::shared_ptr<RunningReplay>> replays;      // of this process, ended ones too
  std::map<std::string, std::string> broken_pipelines;             // name, why it does not run

  std::mutex letters_mutex;         // held while letters are chosen and the choice is written
  std::mutex letter_replays_mutex;  // guards `letter_replays`
  std::condition_variable_any letters_changed;
  std::atomic<bool> letters_asked{false};
  std::map<uint64_t, ActiveReplay> letter_replays;  // of this process, by number
  std::jthread letter_replayer;
  int64_t retry_broken_ns = 0, retry_broken_wait_ns = 0;  // the sampler's
  int64_t head_logged_ns = 0;

  mutable std::mutex past_mutex;
  std::vector<std::weak_ptr<Engine::PastPlace>> past_places;  // under past_mutex

  std::atomic<bool> pipelines_started{false}, sources_started{false}, commands_started{false};
  bool stopped = false;
  std::atomic<bool> stopping{false};
  std::atomic<int64_t> sampled_ns{0};  // when the sampler last came round; 0: it does not run
  std::jthread sampler;
  std::mutex rates_mutex;
  EngineStatus earlier, later;  // samples, for rates
  int64_t earlier_ns = 0, later_ns = 0;
  std::map<std::string, int64_t> warned_windows_us;  // the sampler's; by stream, "" = Idempotency-Key
  const int64_t opened_ns;
};

}  // namespace millstream
