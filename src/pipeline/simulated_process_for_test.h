// SimulatedProcess: what an Engine makes of a data folder, of the real parts, without threads: log, control
// log, way in, dead letters, and a pipeline whose loops are stepped.
//
// Place: floor 5, tests of pipeline/ only. One thread. To destroy it is to end the process without warning.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/memory_file_system.h"
#include "log/disk_log.h"
#include "pipeline/control_log.h"
#include "pipeline/pipeline_runtime.h"
#include "pipeline/simulated_outside_for_test.h"
#include "pipeline/stream_ingest.h"

namespace millstream {

/// What outlives processes.
struct SimulatedMachine {
  explicit SimulatedMachine(uint64_t seed) : random(seed) { registry.Add(SimulatedSinkKind(outside)); }

  MemoryFileSystem fs;
  ManualClock clock;
  SeededRandom random;
  Outside outside;
  Registry registry;
  Database* database = nullptr;  // asked for nothing
  Watchdog* watchdog = nullptr;
  bool dedupe = false, written = false;  // settings of the stream
};

class SimulatedProcess {
 public:
  static constexpr uint32_t kPartitions = 2;

  explicit SimulatedProcess(SimulatedMachine& machine) : machine_(machine) {}
  ~SimulatedProcess() {
    runtime_.reset();
    log_.reset();  // answers what waits, to what is still there
  }

  /// The start of an Engine.
  Status Open() {
    LogOptions options;
    options.segment_bytes = 2 << 10;
    options.index_every_bytes = 512;
    options.reserve_bytes = 512;
    options.merge_below_events = 4;
    options.merged_events = 10;
    auto on_fatal = [this](const Status& status) { fatal_ = status; };
    ASSIGN_OR_RETURN(
        log_, DiskLog::OpenStepped(machine_.fs, machine_.clock, machine_.random, "/data", options, on_fatal,
                                   [this](DiskPartition& partition) { Queued(partition); }));
    ASSIGN_OR_RETURN(control_, ControlLog::Open(*log_, machine_.clock));
    if (control_->catalog().version() == 0) RETURN_IF_ERROR(Apply(true));
    RETURN_IF_ERROR(control_->Append(ControlKind::kStarted, "", "simulator"));
    project_ = ProjectOf(control_->catalog().root());
    const StreamConfig& config = project_.streams.at("orders");
    ASSIGN_OR_RETURN(stream_, log_->OpenStream("orders", kPartitions));
    stream_->SetLayout(config.shape.contract, config.shape.codec, config.retention);
    letters_ = std::make_unique<DeadLetters>(*log_);
    RETURN_IF_ERROR(letters_->Open("orders"));
    keys_ = std::make_unique<IdempotencyTable>(machine_.clock);
    ingest_ = std::make_shared<StreamIngest>(config, *stream_, *letters_, *machine_.database,
                                             *machine_.watchdog, *keys_, machine_.clock);
    RETURN_IF_ERROR(ingest_->Recover());
    return OpenPipeline();
  }

  /// A clean stop.
  Status Close() {
    runtime_->Stop();
    RETURN_IF_ERROR(control_->Append(ControlKind::kStopped, "", "simulator"));
    return log_->Close();
  }

  /// Other filters, and with the sink `printed` or without: the steps of Engine::State::Carry.
  Status Change(bool printed) {
    RETURN_IF_ERROR(Apply(printed));
    project_ = ProjectOf(control_->catalog().root());
    PipelineRuntime::Version version = NewVersion();
    ASSIGN_OR_RETURN(PipelineRuntime::Bound bound, runtime_->Bind(version));
    auto changed = runtime_->Change(std::move(bound), SealOf(version->number));
    return changed ? OkStatus() : changed.error();
  }
  bool has_printed() const { return project_.pipelines.at("p").sinks.size() == 3; }

  /// Answers come by WriteQueued, or at once.
  void Post(const std::string& body, const std::string& key, IngestDone done) {
    IngestRequest request;
    request.stream = "orders";
    request.format = BodyFormat::kNdjson;
    request.body = body;
    if (!key.empty()) request.idempotency_key = key;
    posting_ = &request;
    ingest_->Commit(ingest_->Prepare(request), std::move(done));
    posting_ = nullptr;
  }
  void WriteQueued(uint32_t partition) {
    WriteQueued(dynamic_cast<DiskPartition&>(stream_->partition(partition)));
  }
  /// Dead letters of requests without a key.
  void WriteLetters() {
    WriteQueued(dynamic_cast<DiskPartition&>(log_->Find(DeadStreamName("orders"))->partition(0)));
  }

  Log& log() { return *log_; }
  ControlLog& control() { return *control_; }
  DeadLetters& letters() { return *letters_; }
  Partition& partition(uint32_t index) { return stream_->partition(index); }
  PipelineRuntime& runtime() { return *runtime_; }
  const Status& fatal() const { return fatal_; }

 private:
  void WriteQueued(DiskPartition& partition) {
    if (std::exchange(writing_, true)) return;  // what an answer queues waits for the next turn
    partition.WriteQueued();
    writing_ = false;
  }
  /// Who appends waits for the answer, save a request: it waits only for the dead letters of one with a key.
  void Queued(DiskPartition& partition) {
    if (posting_ == nullptr || (posting_->idempotency_key && partition.stream() != "orders"))
      WriteQueued(partition);
  }

  Project ProjectOf(const Node& root) {
    Faults faults;
    Project project = ParseProject(root, "/", machine_.registry, faults);
    CHECK(faults.empty());
    return project;
  }
  Node RootOf(uint64_t version, bool printed) const {
    std::string text = fmt::format(
        R"({{"streams": {{"orders": {{"partitions": {}, "key": ["k"], "codec": "none", "ack": "{}",
             "contract": {{"k": "varchar", "n": "bigint"}}, "retain": {{"age": "1h"}}{}}}}},
             "pipelines": {{"p": {{"from": "orders", "filters": [{{"f": "SELECT {} FROM input"}}],
             "to": [{{"model": "exact"}}, {{"model": "table"}}{}]}}}}}})",
        kPartitions, machine_.written ? "written" : "durable",
        machine_.dedupe ? R"(, "dedupe": {"by": ["n"], "window": "24h"})" : "", version,
        printed ? R"(, {"model": "printed"})" : "");
    Faults faults;
    Node root = ParseJson(text, "", faults);
    CHECK(faults.empty());
    return root;
  }
  Status Apply(bool printed) {
    ControlEvent event;
    event.kind = ControlKind::kApply;
    event.who = "simulator";
    event.version = control_->catalog().version() + 1;
    event.root = RootOf(event.version, printed);
    event.generations["p"] = 1;
    event.starts["p"].stream = "orders";
    return control_->Append(std::move(event));
  }

  PipelineRuntime::Version NewVersion() {
    return std::make_shared<PipelineVersion>(PipelineVersion{
        control_->catalog().version(), project_.pipelines.at("p"), project_.streams.at("orders"), {}});
  }
  PipelineRuntime::Seal SealOf(uint64_t version) {
    return [this, version](const Boundary& boundary) {
      machine_.outside.at(Moment::kHeld);
      ControlEvent activated;
      activated.kind = ControlKind::kActivated;
      activated.who = "simulator";
      activated.name = "p";
      activated.version = version;
      activated.generation = 1;
      activated.boundary = boundary;
      Status sealed = control_->Append(std::move(activated));
      machine_.outside.at(Moment::kSealed);
      return sealed;
    };
  }

  /// As Engine::State::OpenPipeline.
  Status OpenPipeline() {
    Catalog catalog = control_->catalog();
    std::vector<PipelineRuntime::Version> versions;
    for (const ActivatedVersion& past : catalog.pipelines().at("p").versions) {
      Project old = ProjectOf(*past.root);
      versions.push_back(std::make_shared<PipelineVersion>(
          PipelineVersion{past.version, old.pipelines.at("p"), old.streams.at("orders"), past.boundary}));
    }
    const bool is_first = versions.empty(), is_pending = catalog.IsPending("p");
    PipelineRuntime::Version wanted = is_pending ? NewVersion() : versions.back();
    runtime_ =
        std::make_unique<PipelineRuntime>(MakeContext(), "p", "orders", 1, std::move(versions), Boundary());
    RETURN_IF_ERROR(runtime_->Open(wanted));
    if (!is_pending) return OkStatus();
    if (!is_first) RETURN_IF_ERROR(runtime_->OpenRemote());
    auto changed = runtime_->Activate(wanted, SealOf(wanted->number));
    return changed ? OkStatus() : changed.error();
  }
  RuntimeContext MakeContext() {
    RuntimeContext context;
    context.log = log_.get();
    context.dead_letters = letters_.get();
    context.fs = &machine_.fs;
    context.clock = &machine_.clock;
    context.random = &machine_.random;
    context.watchdog = machine_.watchdog;
    context.registry = &machine_.registry;
    context.limits.batch_events = 5;
    context.make_runner = [this](const PipelineConfig& pipeline) {
      return std::make_unique<SimulatedFilters>(machine_.outside, VersionOf(pipeline));
    };
    return context;
  }

  SimulatedMachine& machine_;
  Status fatal_;
  bool writing_ = false;
  const IngestRequest* posting_ = nullptr;  // under way
  std::unique_ptr<DiskLog> log_;
  std::unique_ptr<ControlLog> control_;
  std::unique_ptr<DeadLetters> letters_;
  std::unique_ptr<IdempotencyTable> keys_;
  Project project_;
  Stream* stream_ = nullptr;
  std::shared_ptr<StreamIngest> ingest_;
  std::unique_ptr<PipelineRuntime> runtime_;
};

}  // namespace millstream
