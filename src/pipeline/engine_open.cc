// The steps of a start (SEMANTICS, "Start"): lock → `_control` → streams → DuckDB → stored offsets → loops.
#include "base/logging.h"
#include "base/text.h"
#include "base/thread.h"
#include "event/literals.h"
#include "log/backup.h"
#include "pipeline/engine_state.h"

namespace millstream {

Status Engine::State::OpenStores() {
  if (options.read_only && !options.fs->Exists(options.data_directory))
    return NotFound("there is no data in {} yet", options.data_directory);
  ASSIGN_OR_RETURN(
      folder, DataFolder::Open(*options.fs, *options.clock, options.data_directory, options.lock_wait_us));
  ASSIGN_OR_RETURN(auto backup, RestoreBackup(*options.fs, folder->path()));
  if (backup)
    notices.push_back(fmt::format(
        "this folder was a backup of {}: tables are made anew from its log, sinks outside go on where "
        "they stand, and what came to the log later is not here; the server that it was taken of must not "
        "run "
        "beside this one",
        FormatTime(backup->taken_us)));
  LogOptions log_options;
  log_options.metrics = &metrics;
  log_options.free_space_floor = options.project.server.limits.free_space;
  if (options.isolated) {  // its segments are links to those of another log, which a merge would copy
    log_options.reserve_bytes = 0;
    log_options.merge_in_background = false;
  }
  ASSIGN_OR_RETURN(log, Log::Open(*options.fs, *options.clock, *options.random, folder->log_path(),
                                  log_options, options.on_fatal));
  ASSIGN_OR_RETURN(control, ControlLog::Open(*log, *options.clock));
  if (!options.read_only) RETURN_IF_ERROR(FinishPurges());
  DatabaseOptions database_options;
  database_options.memory_bytes = options.project.server.memory_bytes;
  database_options.temp_directory = folder->temporary_path();
  Status opened = OpenTables(database_options);
  if (opened.code() == Code::kCorrupt && !options.read_only) {
    RETURN_IF_ERROR(SetTablesAside(opened));
    opened = OpenTables(database_options);
  }
  RETURN_IF_ERROR(opened);
  if (database->restored())
    notices.push_back(
        "a checkpoint of the tables was cut short at the last end and was undone; nothing is lost");
  dead_letters = std::make_unique<DeadLetters>(*log);
  Uuid uuid = log->uuid();
  return folder->Describe(Hex({reinterpret_cast<const char*>(uuid.data()), uuid.size()}), "");
}

Status Engine::State::OpenTables(const DatabaseOptions& database_options) {
  tables.reset(), database.reset();
  ASSIGN_OR_RETURN(database, Database::Open(folder->tables_path(), database_options));
  ASSIGN_OR_RETURN(tables, TableStore::Open(*database, *options.clock, options.on_fatal));
  return OkStatus();
}

/// The tables' file is damaged. Tables and their offsets lie in it together, so all of them are made anew
/// from the log, if that still has all of their events.
Status Engine::State::SetTablesAside(const Status& fault) {
  ASSIGN_OR_RETURN(std::vector<std::string> missing, MissingForTables());
  if (!missing.empty())
    return Corrupt(
        "the tables' file is damaged ({}), and the log no longer has all of its events: {}. Put a copy of {} "
        "back, or move it away: tables are then made anew from the events that the log still has",
        fault.message(), fmt::join(missing, ", "), folder->tables_path());
  std::string aside = fmt::format("{}.damaged-{}", folder->tables_path(), options.clock->WallUs());
  for (const char* part : {"", ".wal", ".guard", ".opening", ".damaged"})
    if (options.fs->Exists(folder->tables_path() + part))
      RETURN_IF_ERROR(options.fs->Rename(folder->tables_path() + part, aside + part));
  RETURN_IF_ERROR(options.fs->SyncDirectory(DirectoryOf(aside)));
  notices.push_back(
      fmt::format("the tables' file is damaged and was set aside as {}; the tables of all pipelines are made "
                  "anew from the log ({})",
                  aside, fault.message()));
  return OkStatus();
}

/// Of each pipeline with a table: partitions whose events since its start retention has removed in part.
Result<std::vector<std::string>> Engine::State::MissingForTables() {
  std::vector<std::string> missing;
  Catalog catalog = control->catalog();
  Faults faults;
  Project live = ParseProject(catalog.root(), options.project.directory, *options.registry, faults);
  for (const auto& [name, pipeline] : live.pipelines) {
    auto record = catalog.pipelines().find(name);
    if (record == catalog.pipelines().end()) continue;
    bool has_table = std::any_of(pipeline.sinks.begin(), pipeline.sinks.end(),
                                 [](const SinkConfig& sink) { return sink.kind == "table"; });
    if (!has_table) continue;
    uint32_t partitions = live.streams.at(pipeline.stream).shape.partitions;
    ASSIGN_OR_FAIL(Stream * stream, log->OpenStream(pipeline.stream, partitions));
    for (const auto& [partition, start] : record->second.start.offsets) {
      uint64_t first = stream->partition(partition).bounds().start;
      if (first > start)
        missing.push_back(fmt::format("{}:{} begins at offset {}, pipeline {} at {}", pipeline.stream,
                                      partition, first, name, start));
    }
  }
  return missing;
}

Status Engine::State::TakeCatalog() {
  Catalog catalog = control->catalog();
  Faults faults;
  auto live = std::make_shared<Project>();
  if (catalog.version() > 0)
    *live = ParseProject(catalog.root(), options.project.directory, *options.registry, faults);
  else if (options.read_only)
    *live = options.project;
  if (!faults.empty()) return Invalid("what `_control` holds does not parse: {}", faults[0].ToString());
  live->server = options.project.server;
  project = std::move(live);
  return OkStatus();
}

Status Engine::State::ApplyFiles() {
  std::lock_guard lock(change_mutex);
  const bool is_first = control->catalog().version() == 0;
  if (options.read_only || (!options.applies_files && !is_first)) return OkStatus();
  if (!is_first && options.project.hash == control->catalog().files_hash()) return OkStatus();
  ChangeRequest request;
  request.files = options.project;
  request.is_checked = true;
  request.options.keep_live = true;
  request.who = options.who;
  Decided decided;
  if (auto refusal = Decide(request, decided)) {
    std::string text = "the files together with what is live: " + refusal->status.message();
    for (const Fault& fault : refusal->faults) text += "\n  " + fault.ToString();
    return Status(refusal->status.code(), text);
  }
  notices.insert(notices.end(), decided.decision.notices.begin(), decided.decision.notices.end());
  for (const Fault& fault : decided.decision.refused) notices.push_back(fault.ToString());
  is_held_back = !decided.decision.refused.empty();
  if (decided.is_same) return OkStatus();
  if (Status free = CheckNotRebuilt(decided.decision.changes, *decided.next); !free.ok()) {
    notices.push_back(fmt::format("the changed files were not applied: {}; apply them then", free.message()));
    return OkStatus();
  }
  ChangePlan plan = PlanOf(decided);
  RETURN_IF_ERROR(Carry(request, decided, plan));
  if (is_first) return OkStatus();
  for (const PlannedChange& planned : plan.changes) {
    if (planned.what.how == "kept" || planned.what.how == "refused") continue;
    notices.push_back(fmt::format("{}: {} ({})", planned.what.path, planned.what.change, planned.what.how));
  }
  return OkStatus();
}

Result<Position> Engine::State::ResolveStart(const PipelineConfig& pipeline, const StreamConfig& config) {
  Position start{pipeline.stream, {}};
  // Opens it here if it exists; an empty stream made before its apply event harms nothing.
  ASSIGN_OR_FAIL(Stream * stream, log->OpenStream(pipeline.stream, config.shape.partitions));
  for (uint32_t p = 0; p < config.shape.partitions; ++p) {
    Bounds bounds = stream->partition(p).bounds();
    uint64_t offset = bounds.start;
    if (pipeline.start.from == StartConfig::From::kLatest) {
      offset = bounds.durable_end;
    } else if (pipeline.start.from == StartConfig::From::kTime) {
      const StartConfig& start_at = pipeline.start;
      int64_t time_us = start_at.ago_us == 0 ? start_at.time_us : options.clock->WallUs() - start_at.ago_us;
      ASSIGN_OR_FAIL(offset, stream->partition(p).OffsetForTime(time_us));
    } else if (pipeline.start.from == StartConfig::From::kPosition) {
      auto given = pipeline.start.position.offsets.find(p);
      if (given != pipeline.start.position.offsets.end()) offset = given->second;
    }
    start.offsets[p] = offset;
  }
  return start;
}

Status Engine::State::OpenStreams() {
  for (const auto& [name, config] : project->streams) RETURN_IF_ERROR(OpenStream(config));
  return OkStatus();
}

Status Engine::State::OpenStream(const StreamConfig& config) {
  const std::string& name = config.shape.name;
  ASSIGN_OR_RETURN(Stream * stream, log->OpenStream(name, config.shape.partitions));
  stream->SetLayout(config.shape.contract, config.shape.codec,
                    options.isolated ? Retention() : config.retention);
  RETURN_IF_ERROR(dead_letters->Open(name));
  auto ingest = std::make_shared<StreamIngest>(config, *stream, *dead_letters, *database, watchdog, keys,
                                               *options.clock);
  if (!options.read_only) RETURN_IF_ERROR(ingest->Recover().Within("stream " + name));
  std::unique_lock lock(mutex);
  ingests[name] = std::move(ingest);
  return OkStatus();
}

RuntimeContext Engine::State::MakeRuntimeContext() {
  RuntimeContext context;
  context.log = log.get();
  context.database = database.get();
  context.tables = tables.get();
  context.dead_letters = dead_letters.get();
  context.fs = options.fs;
  context.clock = options.clock;
  context.random = options.random;
  context.watchdog = &watchdog;
  context.progress = &deliveries;
  context.registry = options.registry;
  context.logger = options.logger;
  context.project_directory = options.project.directory;
  context.data_uuid = FormatUuid(reinterpret_cast<const char*>(log->uuid().data()));
  context.sinks_directory = folder->sinks_path();
  context.limits = options.project.server.limits;
  context.find_stream = [this](const std::string& name) { return FindIngest(name); };
  context.stream_names = [this] { return StreamNames(); };
  context.count_writers = [this](const std::string& table) {
    size_t count = 0;
    std::shared_lock lock(mutex);
    for (const auto& [name, pipeline] : project->pipelines)
      for (const SinkConfig& sink : pipeline.sinks) count += sink.kind == "table" && TableOf(sink) == table;
    return count;
  };
  context.on_fatal = options.on_fatal;
  if (options.isolated) context.pace = [](int64_t, const std::stop_token&) { LetOthersFirst(); };
  return context;
}

std::vector<PipelineRuntime::Version> Engine::State::VersionsOf(const std::string& name,
                                                                const PipelineRecord& record) {
  std::vector<PipelineRuntime::Version> versions;
  for (const ActivatedVersion& past : record.versions) {
    Faults faults;
    Project old = ParseProject(*past.root, project->directory, *options.registry, faults);
    auto found = old.pipelines.find(name);
    if (found == old.pipelines.end()) continue;
    versions.push_back(std::make_shared<PipelineVersion>(
        PipelineVersion{past.version, found->second, old.streams.at(found->second.stream), past.boundary}));
  }
  return versions;
}

Status Engine::State::OpenPipelines() {
  if (options.read_only) return OkStatus();
  // A filter that looks up a table binds only once the pipeline that writes it is open: those that do not
  // bind are tried again after the others.
  while (true) {
    {
      std::unique_lock lock(mutex);
      broken_pipelines.clear();
    }
    size_t open_before = pipelines.size();
    for (const auto& [name, config] : project->pipelines)
      if (!pipelines.contains(name)) RETURN_IF_ERROR(OpenPipeline(name, config));
    if (broken_pipelines.empty() || pipelines.size() == open_before) break;
  }
  return OkStatus();
}

std::shared_ptr<PipelineRuntime> Engine::State::MakeRuntime(const std::string& name,
                                                            const PipelineConfig& config,
                                                            const PipelineRecord& record) {
  auto runtime =
      std::make_shared<PipelineRuntime>(MakeRuntimeContext(), name, config.stream, record.generation,
                                        VersionsOf(name, record), record.start.offsets);
  runtime->SetRebuilt(record.rebuilt);
  runtime->SetSkips(record.skips);
  return runtime;
}

Status Engine::State::OpenPipeline(const std::string& name, const PipelineConfig& config) {
  Catalog catalog = control->catalog();
  const PipelineRecord& record = catalog.pipelines().at(name);
  std::shared_ptr<PipelineRuntime> runtime = MakeRuntime(name, config, record);
  bool is_pending = catalog.IsPending(name);
  PipelineRuntime::Version wanted = is_pending ? NewVersion(catalog.version(), config) : runtime->newest();
  Status status = runtime->Open(wanted);
  if (status.code() == Code::kIo) return status;
  if (!status.ok()) {
    std::unique_lock lock(mutex);
    broken_pipelines[name] = status.message();
    return OkStatus();
  }
  if (is_pending) {
    if (!record.versions.empty()) RETURN_IF_ERROR(runtime->OpenRemote());
    auto changed = runtime->Activate(wanted, SealOf(name, record.generation, wanted->number, options.who));
    if (!changed) return changed.error();
  }
  std::unique_lock lock(mutex);
  pipelines[name] = std::move(runtime);
  return OkStatus();
}

PipelineRuntime::Version Engine::State::NewVersion(uint64_t number, const PipelineConfig& config) {
  return std::make_shared<PipelineVersion>(
      PipelineVersion{number, config, project->streams.at(config.stream), {}});
}

PipelineRuntime::Seal Engine::State::SealOf(const std::string& name, uint64_t generation, uint64_t version,
                                            const std::string& who) {
  return [this, name, generation, version, who](const Boundary& boundary) {
    ControlEvent activated;
    activated.kind = ControlKind::kActivated;
    activated.who = who;
    activated.name = name;
    activated.version = version;
    activated.generation = generation;
    activated.boundary = boundary;
    return control->Append(std::move(activated));
  };
}

Status Engine::State::OpenSources() {
  for (const auto& [name, config] : project->sources) {
    if (sources.contains(name)) continue;
    std::shared_ptr<StreamIngest> ingest = FindIngest(config.stream);
    if (ingest == nullptr) return NotFound("source {}: no stream '{}'", name, config.stream);
    auto source = std::unique_ptr<RunningSource>(
        new RunningSource{{config, ingest, *options.clock, *options.random}, {}});
    RETURN_IF_ERROR(
        source->runner.Open(*options.registry, *options.fs, project->directory).Within("source " + name));
    std::unique_lock lock(mutex);
    sources[name] = std::move(source);
  }
  return OkStatus();
}

void Engine::State::StartPipelines() {
  Catalog catalog = control->catalog();
  {
    std::shared_lock lock(mutex);
    for (auto& [name, pipeline] : pipelines) {
      const PipelineRecord& record = catalog.pipelines().at(name);
      pipeline->Start(record.paused, record.paused_because);
    }
    pipelines_started = true;
    if (!options.read_only && !letter_replayer.joinable())
      letter_replayer = std::jthread([this](std::stop_token stop) { RunLetterReplays(stop); });
  }
  RunReplays();
}

void Engine::State::StartSources() {
  Catalog catalog = control->catalog();
  std::shared_lock lock(mutex);
  for (auto& [name, source] : sources) {
    if (source->thread.joinable()) continue;
    source->runner.SetPaused(catalog.paused_sources().contains(name));
    source->thread = std::jthread([runner = &source->runner](std::stop_token stop) {
      NameThread("source");
      runner->Run(stop);
    });
  }
  sources_started = true;
}

}  // namespace millstream
