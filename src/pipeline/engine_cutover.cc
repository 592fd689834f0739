// Tables made anew: the rebuild's pipelines, and the cutover by which they take the place of what readers
// see. catalog/cutover.h decides which step is next; here each is taken.
#include "base/logging.h"
#include "catalog/edit.h"
#include "catalog/three_way.h"
#include "pipeline/engine_state.h"

namespace millstream {
namespace {

constexpr int64_t kCatchUpNs = 10'000'000'000;  // for which a table stands still at most
constexpr int64_t kTryAgainNs = 5'000'000'000;  // after a cutover that did not come through
constexpr auto kBriefly = std::chrono::milliseconds(1);

/// The table sink's options with another table.
Node Renamed(const Node& options, const std::string& table) {
  if (options.kind != Node::Kind::kMap) return ScalarNode(table);
  Node renamed = options;
  *FindMember(renamed, "name") = ScalarNode(table);
  return renamed;
}

bool IsOneOf(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

Result<std::vector<ReplayRun::Part>> Engine::State::RebuildPartsOf(const ReplayRecord& record) {
  const ReplaySpec& spec = record.spec;
  Faults faults;
  Project next = ParseProject(WithDefinitions(*record.root, spec.definitions), options.project.directory,
                              *options.registry, faults);
  if (!faults.empty()) return Fail(Invalid("{}", faults[0].ToString()));
  std::vector<ReplayRun::Part> parts;
  for (const auto& [pipeline, start] : spec.starts) {
    PipelineConfig config = next.pipelines.at(pipeline);
    std::erase_if(config.sinks, [&](const SinkConfig& sink) {
      return sink.kind != "table" || !IsOneOf(spec.tables, TableOf(sink));
    });
    for (SinkConfig& sink : config.sinks) {
      sink.id = spec.Shadow(sink.id);
      sink.options = Renamed(sink.options, spec.Shadow(TableOf(sink)));
    }
    ReplayRun::Part& part = parts.emplace_back();
    part.pipeline = pipeline, part.stream = config.stream;
    part.generation = record.generations.at(pipeline);
    part.from = start.offsets;
    StreamConfig stream = next.streams.at(config.stream);
    part.versions = {
        std::make_shared<PipelineVersion>(PipelineVersion{1, std::move(config), std::move(stream), {}})};
  }
  return parts;
}

Status Engine::State::CheckNotRebuilt(const std::vector<Change>& changes, const Project& next) {
  Catalog catalog = control->catalog();
  for (const auto& [id, record] : catalog.replays()) {
    const ReplaySpec& spec = record.spec;
    if (!record.is_open() || !spec.is_rebuild()) continue;
    std::set<std::string> held;
    for (const auto& [pipeline, start] : spec.starts)
      held.insert({"pipelines." + pipeline, "streams." + start.stream});
    for (const auto& [pipeline, config] : next.pipelines)  // that will read another contract
      if (spec.definitions.streams.contains(config.stream)) held.insert("pipelines." + pipeline);
    for (const Change& change : changes) {
      if (change.how != "live" && change.how != "backfill" && change.how != "rebuild") continue;
      for (const std::string& item : held)
        if (change.path == item || change.path.starts_with(item + "."))
          return Conflict(
              "{} is held by replay {}, which makes {} anew: wait for it, or millstream replay cancel {}",
              item, id, spec.Target(), id);
    }
  }
  return OkStatus();
}

tl::expected<uint64_t, ChangeRefusal> Engine::State::StartRebuild(const std::vector<std::string>& names,
                                                                  Definitions definitions, double share,
                                                                  const std::string& who) {
  Catalog catalog = control->catalog();
  Faults faults, warnings;
  Project next = ParseProject(WithDefinitions(catalog.root(), definitions), options.project.directory,
                              *options.registry, faults);
  if (faults.empty())
    CheckProject(next, *options.registry, faults, warnings, {.workers = options.sql_workers});
  if (!faults.empty()) return tl::unexpected(Refused(faults));
  ControlEvent event;
  event.kind = ControlKind::kReplayStarted;
  event.who = who;
  ReplaySpec& spec = event.replay;
  spec.id = catalog.last_replay() + 1, spec.share = share, spec.tables = names;
  std::vector<Change> held;
  std::set<std::string> written;
  for (const auto& [name, config] : next.pipelines) {
    bool writes = false;
    for (const SinkConfig& sink : config.sinks)
      if (sink.kind == "table" && IsOneOf(names, TableOf(sink))) writes = true, written.insert(TableOf(sink));
    if (!writes) continue;
    auto record = catalog.pipelines().find(name);
    if (record == catalog.pipelines().end() || record->second.start.stream.empty())
      return tl::unexpected(Refused(Unavailable("pipeline {} has not begun yet", name)));
    spec.starts[name] = record->second.start;
    held.push_back({"pipelines." + name, "edit", "rebuild", ""});
    Stream* stream = log->Find(config.stream);
    for (const auto& [partition, offset] : record->second.start.offsets)
      if (uint64_t first = stream->partition(partition).bounds().start; offset < first)
        return tl::unexpected(Refused(
            Invalid("{} cannot be made anew: pipeline {} began at {}/{}:{}, and the log begins at {} now",
                    spec.Target(), name, config.stream, partition, offset, first)));
  }
  for (const std::string& name : names)
    if (!written.contains(name))
      return tl::unexpected(Refused(NotFound("no pipeline writes table '{}'", name)));
  if (names.empty()) return tl::unexpected(Refused(Invalid("the pipeline writes no table")));
  if (Status status = CheckNotRebuilt(held, next); !status.ok())
    return tl::unexpected(Refused(std::move(status)));
  spec.definitions = std::move(definitions);
  auto is_live = [&](const std::string& section) {
    return [&, section](const auto& each) {
      const Node* live = FindPath(catalog.root(), section + "." + each.first);
      return live == nullptr || *live == each.second;
    };
  };
  std::erase_if(spec.definitions.pipelines, is_live("pipelines"));
  std::erase_if(spec.definitions.streams, is_live("streams"));
  uint64_t id = spec.id;
  event.name = spec.pipeline();
  if (Status status = control->Append(std::move(event)); !status.ok())
    return tl::unexpected(Refused(std::move(status)));
  RunReplay(id);
  return id;
}

CutoverFacts Engine::State::FactsOf(const RunningReplay& replay, const ReplayRecord& record) {
  const ReplaySpec& spec = record.spec;
  std::shared_ptr<const Project> live;
  {
    std::shared_lock lock(mutex);
    live = project;
  }
  CutoverFacts facts;
  facts.is_decided = record.state == ReplayRecord::State::kFinished;
  facts.is_cancelled = record.state == ReplayRecord::State::kCancelled;
  facts.is_closed = replay.closed, facts.is_durable = replay.is_durable;
  bool are_all_there = true;
  for (const std::string& table : spec.tables) {
    bool is_there = tables->Find(spec.Shadow(table)).has_value();
    facts.has_shadow = facts.has_shadow || is_there;
    are_all_there = are_all_there && is_there;
  }
  facts.is_near = are_all_there && record.state == ReplayRecord::State::kRunning && replay.run &&
                  replay.run->IsNear(options.project.server.limits.batch_events);
  auto offsets = [&](const Writer& writer) {
    Boundary next;
    for (const auto& [partition, offset] : tables->Offsets(writer))
      if (partition < LetterBook::kFirstSlot) next[partition] = offset.next;
    return next;
  };
  int writer = 0;
  for (const auto& [pipeline, start] : spec.starts) {
    auto config = live->pipelines.find(pipeline);
    if (config == live->pipelines.end()) continue;
    for (const SinkConfig& sink : config->second.sinks) {
      if (sink.kind != "table" || !IsOneOf(spec.tables, TableOf(sink))) continue;
      uint64_t generation = record.generations.at(pipeline);
      facts.live[writer] = offsets({pipeline, generation, sink.id});
      facts.rebuilt[writer++] = offsets({pipeline, generation, spec.Shadow(sink.id)});
    }
  }
  return facts;
}

bool Engine::State::LookAfterRebuild(RunningReplay& replay, std::stop_token stop) {
  Catalog catalog = control->catalog();
  const ReplayRecord& record = catalog.replays().at(replay.id);
  if (!record.is_open()) return true;
  if (options.clock->MonotonicNs() < replay.not_before_ns) return false;
  Status status;
  switch (NextCutoverStep(FactsOf(replay, record))) {
    case CutoverStep::kCheckpoint:
      status = tables->Checkpoint();
      if (status.ok()) status = FindObsolete(replay, record);  // while it disturbs nobody
      replay.is_durable = status.ok();
      break;
    case CutoverStep::kClose:
      status = Cutover(replay, stop);
      break;
    default:
      break;
  }
  if (!status.ok()) {
    replay.not_before_ns = options.clock->MonotonicNs() + kTryAgainNs;
    if (options.logger != nullptr)
      options.logger->Warn("a table is not switched yet",
                           {{"replay", std::to_string(replay.id)}, {"reason", status.message()}});
  }
  std::unique_lock lock(mutex);
  replay.failure = status.message();
  return false;
}

/// All steps from the end of the live loops on, while no other change goes on.
Status Engine::State::Cutover(RunningReplay& replay, std::stop_token stop) {
  std::lock_guard change(change_mutex);
  int64_t until_ns = options.clock->MonotonicNs() + kCatchUpNs;
  const std::shared_ptr<const Project> before = project;
  std::map<std::string, PipelineRuntime::Bound> bound;
  while (true) {
    Catalog catalog = control->catalog();
    ReplayRecord record = catalog.replays().at(replay.id);
    CutoverFacts facts = FactsOf(replay, record);
    bool is_over = stopping || stop.stop_requested() || options.clock->MonotonicNs() > until_ns;
    switch (NextCutoverStep(facts)) {
      case CutoverStep::kClose:
        if (is_over) return OkStatus();
        CloseTables(record.spec);
        replay.closed = true;
        break;
      case CutoverStep::kCatchUp:
        if (is_over) {
          replay.closed = false;
          (void)OpenRebuilt(record, bound);
          return Deadline("the rebuild did not catch up with the live table within {} s; it goes on",
                          kCatchUpNs / 1'000'000'000);
        }
        std::this_thread::sleep_for(kBriefly);
        break;
      case CutoverStep::kDecide:
        if (Status status = DecideCutover(replay, record, bound); !status.ok()) {
          replay.closed = false;
          (void)OpenRebuilt(record, bound);
          return status;
        }
        break;
      case CutoverStep::kSwitch:
        if (Status status = SwitchTables(record.spec); !status.ok()) {
          if (status.code() == Code::kIo && options.on_fatal) options.on_fatal(status);
          if (is_over || status.code() == Code::kIo)
            return status.Within("decided; a restart switches the tables");
          std::this_thread::sleep_for(kBriefly);
        }
        break;
      case CutoverStep::kOpen:
        replay.closed = false;
        RETURN_IF_ERROR(ChangeStreams(*before, *project));
        RETURN_IF_ERROR(OpenRebuilt(record, bound));
        if (commands_started) RETURN_IF_ERROR(OpenCommands(false));
        return ChangeSources(*before, *project);
      default:
        return OkStatus();
    }
  }
}

/// The live loops of the tables end.
void Engine::State::CloseTables(const ReplaySpec& spec) {
  std::vector<std::pair<std::shared_ptr<PipelineRuntime>, std::string>> closing;
  for (const auto& [pipeline, start] : spec.starts) {
    auto running = FindPipeline(pipeline);
    if (!running) continue;
    for (const SinkConfig& sink : project->pipelines.at(pipeline).sinks)
      if (sink.kind == "table" && IsOneOf(spec.tables, TableOf(sink))) closing.emplace_back(running, sink.id);
  }
  for (const auto& [running, sink] : closing) running->AskToReopen(sink);
  for (const auto& [running, sink] : closing)
    while (!running->HasLeft(sink)) std::this_thread::sleep_for(kBriefly);
}

Status Engine::State::DecideCutover(RunningReplay& replay, const ReplayRecord& record,
                                    std::map<std::string, PipelineRuntime::Bound>& bound) {
  const ReplaySpec& spec = record.spec;
  RETURN_IF_ERROR(NoteEnded(spec.tables));
  Catalog catalog = control->catalog();
  ControlEvent event;
  event.kind = ControlKind::kCutover;
  event.who = record.who, event.is_edit = true, event.files_hash = catalog.files_hash();
  event.version = catalog.version() + 1, event.replay.id = spec.id;
  event.root = WithDefinitions(catalog.root(), spec.definitions);
  Faults faults;
  auto next = std::make_shared<Project>(
      ParseProject(event.root, options.project.directory, *options.registry, faults));
  if (!faults.empty()) return Invalid("{}", faults[0].ToString());
  next->server = options.project.server, next->hash = project->hash;
  for (const auto& [pipeline, known] : catalog.pipelines()) {
    event.generations[pipeline] = known.generation;
    event.starts[pipeline] = known.start;
    auto running = FindPipeline(pipeline);
    if (!running || IsSamePipeline(catalog.root(), event.root, pipeline)) continue;
    const PipelineConfig& config = next->pipelines.at(pipeline);
    auto version = std::make_shared<PipelineVersion>(
        PipelineVersion{event.version, config, next->streams.at(config.stream), {}});
    ASSIGN_OR_RETURN(PipelineRuntime::Bound one, running->Bind(version));
    bound.emplace(pipeline, std::move(one));
  }
  for (const auto& [pipeline, start] : spec.starts) {
    const PipelineConfig& config = next->pipelines.at(pipeline);
    for (const SinkConfig& sink : config.sinks) {
      if (sink.kind != "table" || !IsOneOf(spec.tables, TableOf(sink))) continue;
      event.rebuilt[pipeline].push_back(sink.id);
      event.changes.push_back({fmt::format("pipelines.{}.to.{}", pipeline, sink.id), "edit", "rebuild",
                               fmt::format("made anew by replay {}", spec.id)});
    }
  }
  for (const auto& [section, changed] :
       {std::pair("streams.", &spec.definitions.streams), {"pipelines.", &spec.definitions.pipelines}})
    for (const auto& [name, definition] : *changed)
      event.changes.push_back({section + name, "edit", "live", "with the tables"});
  ReplayRun::Amounts amounts = replay.run->amounts();
  event.events = amounts.done, event.dead_letters = amounts.dead_letters;
  replay.run->Stop();
  std::lock_guard letters(letters_mutex);
  RETURN_IF_ERROR(FindObsolete(replay, record));
  for (const auto& [stream, obsolete] : replay.obsolete) {
    event.letters_before[stream] = obsolete.looked;
    if (!obsolete.letters.empty()) event.obsolete[stream] = obsolete.letters;
  }
  RETURN_IF_ERROR(control->Append(std::move(event)));
  std::unique_lock lock(mutex);
  project = std::move(next);
  return OkStatus();
}

Status Engine::State::SwitchTables(const ReplaySpec& spec) {
  std::vector<std::pair<std::string, std::string>> shadows;
  for (const std::string& table : spec.tables) shadows.emplace_back(spec.Shadow(table), table);
  return tables->Switch(shadows);
}

/// Of a replay that was cancelled. Letters go first: a start that finds a shadow drops them too.
Status Engine::State::DropShadows(const ReplaySpec& spec, const std::string& who) {
  std::set<std::string> streams;
  for (const auto& [pipeline, start] : spec.starts)
    if (spec.is_rebuild()) streams.insert(start.stream);
  for (const std::string& stream : streams) RETURN_IF_ERROR(DropLettersOf(spec.id, stream, who));
  for (const std::string& table : spec.tables)
    if (tables->Find(spec.Shadow(table))) RETURN_IF_ERROR(tables->Drop(spec.Shadow(table)));
  return OkStatus();
}

/// The tables' loops go on: from what was made anew if that was decided, else from where they stood.
Status Engine::State::OpenRebuilt(const ReplayRecord& record,
                                  std::map<std::string, PipelineRuntime::Bound>& bound) {
  Catalog catalog = control->catalog();
  Status first;
  for (const auto& [pipeline, known] : catalog.pipelines()) {
    auto running = FindPipeline(pipeline);
    const bool is_rebuilt = record.spec.starts.contains(pipeline);
    auto one = bound.find(pipeline);
    if (!running || (!is_rebuilt && one == bound.end())) continue;
    if (is_rebuilt) running->SetRebuilt(known.rebuilt);
    if (one != bound.end() && catalog.IsPending(pipeline)) {
      auto changed = running->Change(std::move(one->second),
                                     SealOf(pipeline, running->generation(), catalog.version(), record.who));
      if (!changed && first.ok()) first = changed.error().Within("pipeline " + pipeline);
    }
    (void)running->Reap();
  }
  RETURN_IF_ERROR(OpenPipelines());  // one that did not run may do so now
  if (pipelines_started) StartPipelines();
  return first;
}

Status Engine::State::FinishCutovers() {
  if (options.read_only) return OkStatus();
  Catalog catalog = control->catalog();
  for (const auto& [id, record] : catalog.replays()) {
    if (!record.spec.is_rebuild() || record.is_open()) continue;
    RunningReplay none;
    switch (NextCutoverStep(FactsOf(none, record))) {
      case CutoverStep::kSwitch:
        RETURN_IF_ERROR(SwitchTables(record.spec));
        break;
      case CutoverStep::kDropShadow:
        RETURN_IF_ERROR(DropShadows(record.spec, record.who));
        break;
      default:
        break;
    }
  }
  return OkStatus();
}

}  // namespace millstream
