// The steps of a start (SEMANTICS, "Start"): lock → `_control` → streams → DuckDB → stored offsets → loops.
#include "base/logging.h"
#include "base/text.h"
#include "event/literals.h"
#include "pipeline/engine_state.h"

namespace millstream {
namespace {

/// The trees of a pipeline and of the stream that it reads: what decides whether two versions differ.
std::string Definition(const Node& root, const std::string& pipeline, const std::string& stream) {
  std::string text;
  for (const auto& [section, name] : {std::pair("pipelines", pipeline), std::pair("streams", stream)}) {
    const Node* items = root.Find(section);
    const Node* item = items == nullptr ? nullptr : items->Find(name);
    if (item != nullptr) text += ToJson(*item);
    text += '\n';
  }
  return text;
}

}  // namespace

Status Engine::State::OpenStores() {
  if (options.read_only && !options.fs->Exists(options.data_directory))
    return NotFound("there is no data in {} yet", options.data_directory);
  ASSIGN_OR_RETURN(
      folder, DataFolder::Open(*options.fs, *options.clock, options.data_directory, options.lock_wait_us));
  LogOptions log_options;
  log_options.metrics = &metrics;
  log_options.free_space_floor = options.project.server.limits.free_space;
  ASSIGN_OR_RETURN(log, Log::Open(*options.fs, *options.clock, *options.random, folder->log_path(),
                                  log_options, options.on_fatal));
  ASSIGN_OR_RETURN(control, ControlLog::Open(*log, *options.clock));
  DatabaseOptions database_options;
  database_options.memory_bytes = options.project.server.memory_bytes;
  database_options.temp_directory = folder->temporary_path();
  auto opened = Database::Open(folder->tables_path(), database_options);
  if (!opened && !options.read_only &&
      opened.error().message().find("Corrupt database file") != std::string::npos) {
    RETURN_IF_ERROR(SetTablesAside(opened.error()));
    opened = Database::Open(folder->tables_path(), database_options);
  }
  if (!opened) return opened.error();
  database = std::move(*opened);
  if (database->restored())
    notices.push_back(
        "a checkpoint of the tables was cut short at the last end and was undone; nothing is lost");
  ASSIGN_OR_RETURN(tables, TableStore::Open(*database, *options.clock));
  dead_letters = std::make_unique<DeadLetters>(*log);
  Uuid uuid = log->uuid();
  return folder->Describe(Hex({reinterpret_cast<const char*>(uuid.data()), uuid.size()}), "");
}

/// The tables' file is damaged. Tables and their offsets lie in it together, so all of them are made anew
/// from the log.
Status Engine::State::SetTablesAside(const Status& fault) {
  std::string aside = fmt::format("{}.damaged-{}", folder->tables_path(), options.clock->WallUs());
  RETURN_IF_ERROR(options.fs->Rename(folder->tables_path(), aside));
  std::string wal = folder->tables_path() + ".wal";
  if (options.fs->Exists(wal)) RETURN_IF_ERROR(options.fs->Rename(wal, aside + ".wal"));
  RETURN_IF_ERROR(options.fs->SyncDirectory(DirectoryOf(aside)));
  notices.push_back(fmt::format(
      "the tables' file is damaged and was set aside as {}; all tables are made anew from the log ({})",
      aside, fault.message()));
  return OkStatus();
}

Status Engine::State::ApplyFiles() {
  Catalog catalog = control->catalog();
  Faults faults;
  auto live = std::make_shared<Project>();
  if (catalog.version() > 0)
    *live = ParseProject(catalog.root(), options.project.directory, *options.registry, faults);
  if (!faults.empty()) return Invalid("what `_control` holds does not parse: {}", faults[0].ToString());
  StartDecision decision = DecideStart(options.project, *live, catalog);
  if (options.read_only || !decision.apply) {
    if (catalog.version() == 0) *live = options.project;
    live->server = options.project.server;
    project = std::move(live);
    return OkStatus();
  }
  notices.insert(notices.end(), decision.notices.begin(), decision.notices.end());
  for (const Fault& fault : decision.refused) notices.push_back(fault.ToString());
  auto next = std::make_shared<Project>(
      ParseProject(decision.root, options.project.directory, *options.registry, faults));
  if (!faults.empty())
    return Invalid("the files together with what is live do not parse: {}", faults[0].ToString());
  next->server = options.project.server;
  ControlEvent event;
  event.kind = ControlKind::kApply;
  event.who = options.who;
  event.version = decision.version;
  event.files_hash = options.project.hash;
  event.root = decision.root;
  event.generations = decision.generations;
  event.changes = decision.changes;
  for (const std::string& name : decision.new_pipelines) {
    const PipelineConfig& pipeline = next->pipelines.at(name);
    ASSIGN_OR_RETURN(event.starts[name], ResolveStart(pipeline, next->streams.at(pipeline.stream)));
  }
  RETURN_IF_ERROR(control->Append(std::move(event)));
  if (catalog.version() > 0)
    for (const Change& change : decision.changes)
      if (change.how != "kept" && change.how != "refused")
        notices.push_back(fmt::format("{}: {} ({})", change.path, change.change, change.how));
  project = std::move(next);
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
  for (const auto& [name, config] : project->streams) {
    auto opened = log->OpenStream(name, config.shape.partitions);
    if (!opened) return opened.error();
    (*opened)->SetLayout(config.shape.contract, config.shape.codec, config.retention);
    RETURN_IF_ERROR(dead_letters->Open(name));
    auto ingest =
        std::make_unique<StreamIngest>(config, **opened, *dead_letters, *database, keys, *options.clock);
    if (!options.read_only) RETURN_IF_ERROR(ingest->Recover().Within("stream " + name));
    ingests[name] = std::move(ingest);
  }
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
    for (const auto& [name, pipeline] : project->pipelines)
      for (const SinkConfig& sink : pipeline.sinks) count += sink.kind == "table" && TableOf(sink) == table;
    return count;
  };
  context.on_fatal = options.on_fatal;
  return context;
}

std::vector<std::shared_ptr<const PipelineVersion>> Engine::State::VersionsOf(const PipelineConfig& pipeline,
                                                                              const PipelineRecord& record,
                                                                              uint64_t version) {
  std::vector<std::shared_ptr<const PipelineVersion>> versions;
  for (const ActivatedVersion& past : record.versions) {
    Faults faults;
    Project old = ParseProject(*past.root, project->directory, *options.registry, faults);
    auto found = old.pipelines.find(pipeline.name);
    if (found == old.pipelines.end()) continue;
    versions.push_back(std::make_shared<PipelineVersion>(
        PipelineVersion{past.version, found->second, old.streams.at(found->second.stream), past.boundary}));
  }
  std::string definition = Definition(control->catalog().root(), pipeline.name, pipeline.stream);
  if (record.versions.empty() ||
      Definition(*record.versions.back().root, pipeline.name, pipeline.stream) != definition)
    versions.push_back(std::make_shared<PipelineVersion>(
        PipelineVersion{version, pipeline, project->streams.at(pipeline.stream), {}}));
  return versions;
}

Status Engine::State::OpenPipelines() {
  if (options.read_only) return OkStatus();
  // A filter that looks up a table binds only once the pipeline that writes it is open: those that do not
  // bind are tried again after the others.
  while (true) {
    broken_pipelines.clear();
    size_t open_before = pipelines.size();
    for (const auto& [name, config] : project->pipelines)
      if (!pipelines.contains(name)) RETURN_IF_ERROR(OpenPipeline(name, config));
    if (broken_pipelines.empty() || pipelines.size() == open_before) break;
  }
  for (const auto& [name, reason] : broken_pipelines) notices.push_back(reason);
  return OkStatus();
}

Status Engine::State::OpenPipeline(const std::string& name, const PipelineConfig& config) {
  Catalog catalog = control->catalog();
  const PipelineRecord& record = catalog.pipelines().at(name);
  std::vector<std::shared_ptr<const PipelineVersion>> versions =
      VersionsOf(config, record, catalog.version());
  bool is_new = versions.size() > record.versions.size();
  auto runtime = std::make_unique<PipelineRuntime>(MakeRuntimeContext(), record.generation, versions,
                                                   record.start.offsets);
  Status status = runtime->Open();
  if (status.code() == Code::kIo) return status;
  if (!status.ok()) {
    broken_pipelines[name] = status.message();
    return OkStatus();
  }
  if (is_new) {
    // Boundary: 1 + the highest offset that any sink has committed (SEMANTICS, "Hot change"). The first
    // version owns all.
    ControlEvent activated;
    activated.kind = ControlKind::kActivated;
    activated.who = options.who;
    activated.name = name;
    activated.version = versions.back()->number;
    activated.generation = record.generation;
    if (versions.size() > 1) {
      RETURN_IF_ERROR(runtime->OpenRemote());
      activated.boundary = runtime->Boundary();
    }
    auto owned = std::make_shared<PipelineVersion>(*versions.back());
    owned->from = activated.boundary;
    versions.back() = std::move(owned);
    RETURN_IF_ERROR(control->Append(std::move(activated)));
    if (versions.size() > 1) {
      runtime->Stop();
      runtime = std::make_unique<PipelineRuntime>(MakeRuntimeContext(), record.generation, versions,
                                                  record.start.offsets);
      RETURN_IF_ERROR(runtime->Open());
    }
  }
  pipelines[name] = std::move(runtime);
  return OkStatus();
}

Status Engine::State::OpenSources() {
  for (const auto& [name, config] : project->sources) {
    StreamIngest* ingest = FindIngest(config.stream);
    if (ingest == nullptr) return NotFound("source {}: no stream '{}'", name, config.stream);
    auto source = std::unique_ptr<RunningSource>(
        new RunningSource{{config, *ingest, *options.clock, *options.random}, {}});
    RETURN_IF_ERROR(
        source->runner.Open(*options.registry, *options.fs, project->directory).Within("source " + name));
    std::unique_lock lock(mutex);
    sources[name] = std::move(source);
  }
  return OkStatus();
}

void Engine::State::StartPipelines() {
  Catalog catalog = control->catalog();
  std::shared_lock lock(mutex);
  for (auto& [name, pipeline] : pipelines) pipeline->Start(catalog.pipelines().at(name).paused);
  pipelines_started = true;
}

}  // namespace millstream
