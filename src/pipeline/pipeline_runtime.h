// PipelineRuntime: one pipeline as it runs: its sinks, a delivery loop for each of them and each partition,
// and the version that takes over while they run.
//
// Place: floor 5; owned by the Engine. Threads: Open, Start, Bind, Change, Reap, Stop from the Engine's, one
// at a time; the rest from any. A change waits for nobody: a sink that is taken out, or made anew with other
// options, is asked to end and is reaped when it has. Failure: a sink that cannot be opened leaves its loops
// `degraded` (they try again) or `failed`; the other sinks go on. Filters that do not bind stop the whole.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "pipeline/delivery_loop.h"
#include "pipeline/stream_appender.h"
#include "pipeline/version_gate.h"
#include "tables/table_store.h"

namespace millstream {

struct RuntimeContext {
  Log* log = nullptr;
  Database* database = nullptr;
  TableStore* tables = nullptr;
  LetterStore* dead_letters = nullptr;
  FileSystem* fs = nullptr;
  Clock* clock = nullptr;
  Random* random = nullptr;
  Watchdog* watchdog = nullptr;
  Progress* progress = nullptr;
  const Registry* registry = nullptr;
  const Logger* logger = nullptr;  // may be null
  std::string project_directory, sinks_directory, data_uuid;
  LimitsConfig limits;
  std::function<std::shared_ptr<StreamIngest>(const std::string&)> find_stream;
  std::function<std::vector<std::string>()> stream_names;
  std::function<size_t(const std::string& table)> count_writers;  // table sinks of the project that name it
  std::function<void(Status)> on_fatal;
  Pace pace;                         // of every loop; may be null
  MakeRunner make_runner = nullptr;  // as RunnerContext::make
};

class PipelineRuntime {
 public:
  using Version = std::shared_ptr<const PipelineVersion>;

  /// `versions` ascending, as activated; `start` where partitions begin for a sink that stored nothing; `end`
  /// where they end, for a part of history (a partition that it does not name has none of it): loops are
  /// `done` there.
  PipelineRuntime(RuntimeContext context, std::string name, std::string stream_name, uint64_t generation,
                  std::vector<Version> versions, Boundary start, std::optional<Boundary> end = std::nullopt);
  ~PipelineRuntime();

  /// Sinks that were made anew, and the version since which they are what they are. Before Open, and before
  /// Reap opens such a sink again.
  void SetRebuilt(std::map<std::string, Rebuilt> rebuilt);
  /// Binds `wanted`, the newest version or the one that Activate will be given, and makes its sinks, so that
  /// Bind has something to compare with. kInvalid: the filters do not bind.
  Status Build(const Version& wanted);
  /// Build, and opens the sinks that are at hand; what cannot be opened is left to the loops. kIo: the start
  /// must end.
  Status Open(const Version& wanted);
  /// Opens the others too, as far as they can be opened now.
  Status OpenRemote();
  void Start(bool paused, const std::string& because = "");
  /// For who never calls Start and takes the loops' steps himself: those of the sinks that are there, by sink
  /// and partition. A change that takes a sink out ends its loops at once.
  std::vector<DeliveryLoop*> loops() const;
  /// Asks all loops to stop, and returns at once; HasEnded says when they have.
  void AskToStop();
  bool HasEnded() const;
  /// Asks all loops to stop and waits for them; closes the sinks.
  void Stop();

  /// A version that was bound for every loop, to take over at once.
  struct Bound {
    Version version;
    std::vector<std::pair<DeliveryLoop*, std::unique_ptr<PipelineRunner>>> runners;
    std::vector<std::string> reopened;  // sinks whose settings the version changes
  };
  /// Binds a version while the others run. kInvalid says which filter does not bind, kConflict which sink
  /// does not take its columns.
  Result<Bound> Bind(const Version& version);

  /// Makes the boundary durable before anything is delivered by it.
  using Seal = std::function<Status(const Boundary&)>;
  struct Changed {
    Boundary boundary;
    int64_t held_ns = 0;  // for which commits stood still
  };
  /// Opens new sinks, lets the version take over at a batch boundary of each partition, ends old sinks. If
  /// `seal` fails nothing has changed.
  Result<Changed> Change(Bound bound, const Seal& seal);
  /// The same for a version that Open has bound, before Start.
  Result<Changed> Activate(const Version& version, const Seal& seal);
  /// Closes sinks whose loops have ended, and opens what was to follow them. True if nothing is left.
  bool Reap();
  /// A table sink is to be opened anew, by Reap or the next Change: its loops are asked to end.
  void AskToReopen(const std::string& sink_id);
  /// True once none of the sink's loops delivers any more.
  bool HasLeft(const std::string& sink_id) const;

  /// Before Open: events that are to be dead letters of a sink, as `_control` has them.
  void SetSkips(std::map<std::string, Boundary> skips) { skips_ = std::move(skips); }
  /// Where each loop of a sink stands that cannot go on, or the one of `partition`. kNotFound: no such sink;
  /// kConflict: it is not open, so where it stands is not known.
  Result<Boundary> StuckAt(const std::string& sink, std::optional<uint32_t> partition) const;
  void Skip(const std::string& sink, const Boundary& to);
  /// Why its loops stand still, once for each time that there were too many dead letters.
  std::optional<std::string> TakeExceeded();

  /// Dead letters for one of its sinks, by partition.
  struct LettersAgain {
    uint64_t id = 0;  // of the replay
    std::string sink;
    uint32_t slot = 0;  // of partition 0
    uint64_t version = 0;
    std::map<uint32_t, std::map<uint64_t, uint64_t>> letters;  // by partition: offset, number of the letter
    uint64_t last_letter = 0, last_rebuild = 0;  // the newest of them, and the rebuild that refused it
  };
  /// How a replay of dead letters stands here.
  struct ReplayState {
    bool is_there = false, done = false;
    std::string reason;  // why it does not go on just now
  };
  /// Delivers them beside the live events, through the version that is named, or the latest. kNotFound: no
  /// such sink now.
  Status Replay(const LettersAgain& again);
  ReplayState ReplayOf(uint64_t id, const std::string& sink) const;
  /// After it is done.
  void ForgetReplay(uint64_t id);
  /// Why the sink takes no older events; empty if it does. kNotFound: no such sink now.
  Result<std::string> RefusesOlder(const std::string& sink) const;

  /// Going on renews the allowance of dead letters. `because` is shown.
  void SetPaused(bool paused, const std::string& because = "");
  bool paused() const { return paused_; }
  PipelineStatus status() const;
  const std::string& name() const { return name_; }
  const std::string& stream_name() const { return stream_name_; }
  uint64_t generation() const { return generation_; }
  Version newest() const { return gate_.latest(); }  // that was activated; one was

  /// Next offsets of a sink by partition, as delivered.
  std::map<uint32_t, uint64_t> Delivered(const std::string& sink_id) const;
  /// True if every loop has delivered up to its end or the durable end of its partition, or has failed, or is
  /// paused.
  bool AtEnd() const;
  /// Sum of delivered offsets: grows while there is progress.
  uint64_t Progress() const;
  /// Lowest offset of a partition that a sink still needs after a power cut (retention).
  uint64_t LowWater(uint32_t partition) const;
  /// What all loops together have delivered, and how long each of them worked at it, summed up.
  struct Work {
    uint64_t events = 0;
    double seconds = 0;
    double EventsPerSecond() const { return seconds > 0 ? static_cast<double>(events) / seconds : 0; }
  };
  Work WorkDone() const;

 private:
  struct Running {
    uint32_t partition = 0;
    std::unique_ptr<DeliveryLoop> loop;
    std::atomic<bool> ended{false};
    std::jthread thread;
  };
  struct RunningReplay {
    uint64_t id = 0;
    std::unique_ptr<VersionGate> gate;  // of its one version
    std::vector<std::unique_ptr<Running>> loops;
  };
  struct RunningSink {
    SinkConfig config;
    bool key_in_one_partition = false;
    bool is_new = false;  // no version before had it: it has stored nothing
    std::unique_ptr<EngineAppender> appender;
    std::unique_ptr<SharedSink> shared;
    std::vector<std::unique_ptr<Running>> loops;
    std::vector<std::unique_ptr<RunningReplay>> replays;

    /// Those of replays too.
    template <typename Call>
    void ForEach(Call call) const {
      for (const auto& running : loops) call(*running);
      for (const auto& replay : replays)
        for (const auto& running : replay->loops) call(*running);
    }
  };
  /// A sink that was asked to end, and what takes its place.
  struct Leaving {
    std::unique_ptr<RunningSink> sink;
    std::optional<SinkConfig> next;

    bool IsAtWork() const {
      bool works = false;
      sink->ForEach([&](const Running& running) { works |= running.thread.joinable() && !running.ended; });
      return works;
    }
  };

  LoopContext LoopContextOf(const RunningSink& sink, uint32_t partition) const;
  RunningSink* FindSink(const std::string& id) const;
  Status AddSink(const SinkConfig& config, const PipelineVersion& version);
  Status OpenSink(RunningSink& sink);
  bool WasThere(const std::string& sink_id) const;
  Rebuilt RebuiltOf(const std::string& sink_id) const;
  void ClaimUnknown();
  void TakeOut(const std::string& id, std::optional<SinkConfig> next);
  void RunLoop(Running& running);
  void StartLoops();
  void ResumeFailed();
  void Close(RunningSink& sink);
  RunnerContext RunnerContextOf(const Sink& sink) const;
  Result<bool> KeyInOnePartition(const SinkConfig& config, const PipelineVersion& wanted) const;
  template <typename Call>
  void ForEachLoop(Call call) const;
  void AddStatus(const RunningSink& sink, bool is_first, PipelineStatus& status) const;

  RuntimeContext context_;
  const std::string name_, stream_name_;
  const uint64_t generation_;
  VersionGate gate_;
  const Boundary start_;
  const std::optional<Boundary> end_;
  Stream* stream_ = nullptr;
  LetterAllowance allowance_;
  std::atomic<bool> told_exceeded_{false};
  std::atomic<bool> paused_{false};
  std::atomic<bool> started_{false};
  std::mutex threads_mutex_;               // held while loops' threads are started, replaced and stopped
  mutable std::shared_mutex sinks_mutex_;  // guards what is below; taken for moments only
  std::vector<std::unique_ptr<RunningSink>> sinks_;
  std::vector<Leaving> leaving_;
  std::map<std::string, Status> unmade_sinks_;  // id, what is wrong with its options
  std::map<std::string, Rebuilt> rebuilt_;      // of sinks_ to come
  std::map<std::string, Boundary> skips_;
  std::string paused_because_;
  mutable LatencyWindow latency_;
};

}  // namespace millstream
