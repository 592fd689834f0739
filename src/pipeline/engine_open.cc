// The steps of a start (SEMANTICS, "Start"): lock → `_control` → streams → DuckDB → stored offsets → loops.
#include "base/logging.h"
#include "base/text.h"
#include "pipeline/engine_state.h"

namespace millstream {
namespace {

/// Pipelines of a tree whose source trees differ from the catalog's last version, or that it lacks.
bool IsNewPipeline(const Catalog& catalog, const std::string& name) {
  auto it = catalog.pipelines().find(name);
  return it == catalog.pipelines().end() || it->second.removed;
}

}  // namespace

Status Engine::State::OpenStores() {
  if (options.read_only && !options.fs->Exists(options.data_directory)) return NotFound("there is no data in {} yet", options.data_directory);
  ASSIGN_OR_RETURN(folder, DataFolder::Open(*options.fs, *options.clock, options.data_directory, options.lock_wait_us));
  LogOptions log_options;
  log_options.free_space_floor = options.project.server.limits.free_space;
  ASSIGN_OR_RETURN(log, Log::Open(*options.fs, *options.clock, *options.random, folder->log_path(), log_options, options.on_fatal));
  ASSIGN_OR_RETURN(control, ControlLog::Open(*log, *options.clock));
  DatabaseOptions database_options;
  database_options.memory_bytes = options.project.server.memory_bytes;
  database_options.temp_directory = folder->temporary_path();
  ASSIGN_OR_RETURN(database, Database::Open(folder->tables_path(), database_options));
  ASSIGN_OR_RETURN(tables, TableStore::Open(*database, *options.clock));
  dead_letters = std::make_unique<DeadLetters>(*log);
  Uuid uuid = log->uuid();
  return folder->Describe(Hex({reinterpret_cast<const char*>(uuid.data()), uuid.size()}), "");
}

Status Engine::State::ApplyFiles() {
  Catalog catalog = control->catalog();
  if (options.read_only || (!catalog.empty() && catalog.files_hash() == options.project.hash)) {
    if (catalog.empty()) {
      project = std::make_shared<Project>(options.project);
      return OkStatus();
    }
    Faults faults;
    auto live = std::make_shared<Project>(ParseProject(catalog.root(), options.project.directory, *options.registry, faults));
    if (!faults.empty()) return Invalid("what `_control` holds does not parse: {}", faults[0].ToString());
    live->server = options.project.server;
    project = std::move(live);
    return OkStatus();
  }
  std::vector<CatalogChange> changes = catalog.Diff(options.project.root);
  Node merged = catalog.Merge(options.project.root);
  Faults faults;
  auto live = std::make_shared<Project>(ParseProject(merged, options.project.directory, *options.registry, faults));
  if (!faults.empty()) return Invalid("the files together with what is live do not parse: {}", faults[0].ToString());
  live->server = options.project.server;
  // What cannot be changed once events are there is refused before anything is.
  for (const auto& [name, stream] : live->streams) {
    if (log->Find(name) == nullptr) continue;
    if (log->Find(name)->partitions() != stream.shape.partitions)
      return Conflict("streams.{}.partitions: the stream has {} partitions and that is fixed once made; replay it into a new stream", name,
                      log->Find(name)->partitions());
  }
  std::map<std::string, OffsetVector> starts;
  for (const auto& [name, pipeline] : live->pipelines) {
    if (!IsNewPipeline(catalog, name)) continue;
    OffsetVector start;
    const StreamConfig& stream = live->streams.at(pipeline.stream);
    Stream* existing = log->Find(pipeline.stream);
    for (uint32_t p = 0; p < stream.shape.partitions; ++p) {
      Bounds bounds = existing == nullptr ? Bounds{} : existing->partition(p).bounds();
      uint64_t offset = bounds.start;
      if (pipeline.start.from == StartConfig::From::kLatest) {
        offset = bounds.durable_end;
      } else if (pipeline.start.from == StartConfig::From::kTime && existing != nullptr) {
        ASSIGN_OR_RETURN(offset, existing->partition(p).OffsetForTime(pipeline.start.time_us));
      } else if (pipeline.start.from == StartConfig::From::kPosition) {
        auto given = pipeline.start.position.offsets.find(p);
        if (given != pipeline.start.position.offsets.end()) offset = given->second;
      }
      start[p] = offset;
    }
    starts[name] = std::move(start);
  }
  bool is_first = catalog.empty();
  RETURN_IF_ERROR(control->Append([&](const Catalog& now, int64_t now_us) {
    return now.ApplyEvent(merged, options.project.hash, changes, starts, options.who, now_us);
  }));
  for (const CatalogChange& change : changes) {
    if (change.how == CatalogChange::How::kKeep) {
      notices.push_back(change.path + ": not in the files, stays as it is");
    } else if (!is_first) {
      notices.push_back(change.path + (change.how == CatalogChange::How::kAdd ? ": added" : ": changed"));
    }
  }
  project = std::move(live);
  return OkStatus();
}

Status Engine::State::OpenStreams() {
  for (const auto& [name, config] : project->streams) {
    auto opened = log->OpenStream(name, config.shape.partitions);
    if (!opened) return opened.error();
    (*opened)->SetLayout(config.shape.contract, config.shape.codec, config.retention);
    RETURN_IF_ERROR(dead_letters->Open(name));
    auto ingest = std::make_unique<StreamIngest>(config, **opened, *dead_letters, *database, keys, *options.clock);
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
  context.registry = options.registry;
  context.project_directory = options.project.directory;
  context.sinks_directory = folder->sinks_path();
  context.limits = options.project.server.limits;
  context.find_stream = [this](const std::string& name) { return FindIngest(name); };
  context.stream_names = [this] { return StreamNames(); };
  context.on_fatal = options.on_fatal;
  return context;
}

Status Engine::State::OpenPipelines() {
  if (options.read_only) return OkStatus();
  Catalog catalog = control->catalog();
  for (const auto& [name, config] : project->pipelines) {
    const CatalogPipeline& entry = catalog.pipelines().at(name);
    std::vector<std::shared_ptr<const PipelineVersion>> versions;
    for (const CatalogVersion& version : entry.versions) {
      auto made = std::make_shared<PipelineVersion>();
      made->number = version.number;
      made->from = version.from;
      if (&version == &entry.versions.back()) {
        made->config = config;
        made->stream = project->streams.at(config.stream);
      } else {
        Faults tree_faults, faults;
        Project old = ParseProject(ParseJson(version.definition, "_control", tree_faults), project->directory, *options.registry, faults);
        auto pipeline = old.pipelines.find(name);
        if (pipeline == old.pipelines.end()) continue;
        made->config = pipeline->second;
        made->stream = old.streams.at(pipeline->second.stream);
      }
      versions.push_back(std::move(made));
    }
    auto runtime = std::make_unique<PipelineRuntime>(MakeRuntimeContext(), entry.generation, versions, entry.start);
    Status status = runtime->Open();
    if (!status.ok()) {
      if (status.code() == Code::kCorrupt || status.code() == Code::kIo) return status;
      broken_pipelines[name] = status.message();
      notices.push_back(status.message());
      continue;
    }
    if (!entry.versions.back().activated) {
      // Boundary: 1 + the highest offset that any sink has committed (SEMANTICS, "Hot change").
      OffsetVector from;
      for (const SinkConfig& sink : config.sinks)
        for (const auto& [partition, next] : runtime->Delivered(sink.id)) from[partition] = std::max(from[partition], next);
      bool is_first_version = entry.versions.size() == 1;
      if (is_first_version) from.clear();
      RETURN_IF_ERROR(control->Append([&, number = entry.versions.back().number](const Catalog& now, int64_t now_us) {
        return now.ActivatedEvent(name, number, from, now_us);
      }));
      auto activated = std::make_shared<PipelineVersion>(*versions.back());
      activated->from = from;
      versions.back() = std::move(activated);
      runtime = std::make_unique<PipelineRuntime>(MakeRuntimeContext(), entry.generation, versions, entry.start);
      RETURN_IF_ERROR(runtime->Open());
    }
    pipelines[name] = std::move(runtime);
  }
  return OkStatus();
}

Status Engine::State::OpenSources() {
  for (const auto& [name, config] : project->sources) {
    StreamIngest* ingest = FindIngest(config.stream);
    if (ingest == nullptr) return NotFound("source {}: no stream '{}'", name, config.stream);
    auto source = std::unique_ptr<RunningSource>(new RunningSource{{config, *ingest, *options.clock, *options.random}, {}});
    RETURN_IF_ERROR(source->runner.Open(*options.registry, *options.fs, project->directory).Within("source " + name));
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
