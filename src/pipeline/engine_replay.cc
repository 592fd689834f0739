// Replays: history through filters into another place, beside the live pipelines.
//
// `_control` has `replay_started` with all that a restart needs; a conductor thread looks after each, and
// writes how it ended once what it made is durable. Tables that are made anew end in engine_cutover.cc.
#include "base/logging.h"
#include "base/text.h"
#include "base/thread.h"
#include "catalog/edit.h"
#include "catalog/three_way.h"
#include "pipeline/engine_state.h"
#include "pipeline/object_text.h"
#include "stage/make_kind.h"

namespace millstream {
namespace {

constexpr int64_t kLookEveryUs = 100'000;
constexpr int64_t kFinishAgainUs = 200'000;
constexpr size_t kEndedKept = 16;
constexpr int64_t kReplaysStandstillNs =
    60'000'000'000;  // `run --once` gives up when none went forward so long

/// A bound of history as offsets of every partition; a position leaves those that it does not name at
/// `missing`.
Result<Boundary> ResolveBound(const std::string& text, Stream& stream, Clock& clock, Boundary missing) {
  Boundary bound;
  std::optional<int64_t> time_us;
  if (auto ago = ParseDurationUs(text)) time_us = clock.WallUs() - *ago;
  if (auto time = ParseTimeUs(text)) time_us = *time;
  if (!time_us && text != "earliest" && text != "latest") {
    auto position = ParsePosition(text);
    if (!position)
      return Fail(
          Invalid("'{}' is none of earliest, latest, a time (2026-11-01T00:00:00Z), a duration ago "
                  "(2h) and a position ({}/0:17,1:9)",
                  text, stream.name()));
    if (position->stream != stream.name())
      return Fail(Invalid("the position is of stream '{}', the pipeline reads '{}'", position->stream,
                          stream.name()));
    if (!position->offsets.empty() && position->offsets.rbegin()->first >= stream.partitions())
      return Fail(Invalid("{}: the stream has {} partitions", text, stream.partitions()));
    for (const auto& [partition, offset] : position->offsets) missing[partition] = offset;
    return missing;
  }
  for (uint32_t p = 0; p < stream.partitions(); ++p) {
    Partition& partition = stream.partition(p);
    Bounds bounds = partition.bounds();
    bound[p] = text == "earliest" ? bounds.start : bounds.durable_end;
    if (time_us) {
      ASSIGN_OR_FAIL(bound[p], partition.OffsetForTime(*time_us));
    }
  }
  return bound;
}

}  // namespace

Result<ReplaySpec> Engine::State::SpecOf(const ReplayRequest& request, const Catalog& catalog) {
  auto record = catalog.pipelines().find(request.pipeline);
  if (record == catalog.pipelines().end()) {
    std::vector<std::string> names;
    for (const auto& [name, each] : catalog.pipelines()) names.push_back(name);
    std::string nearest = Nearest(request.pipeline, names);
    return Fail(NotFound("no pipeline '{}'{}", request.pipeline,
                         nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
  }
  if (record->second.versions.empty())
    return Fail(Unavailable("pipeline {} has not begun yet", request.pipeline));
  ReplaySpec spec;
  spec.id = catalog.last_replay() + 1;
  spec.share = request.share, spec.effects = request.effects, spec.into = request.into;
  if (request.edit) {
    ASSIGN_OR_FAIL(Node edited, request.edit(catalog.root()));
    const Node* filters = FindPath(edited, fmt::format("pipelines.{}.filters", request.pipeline));
    spec.filters.kind = Node::Kind::kSequence;
    if (filters != nullptr) spec.filters = *filters;
  }
  const std::string& stream_name = record->second.start.stream;
  Stream* stream = log->Find(stream_name);
  if (stream == nullptr) return Fail(NotFound("no stream '{}'", stream_name));
  Boundary starts, ends;
  for (uint32_t p = 0; p < stream->partitions(); ++p) {
    auto start = record->second.start.offsets.find(p);
    starts[p] = start == record->second.start.offsets.end() ? 0 : start->second;
    ends[p] = stream->partition(p).bounds().durable_end;
  }
  Boundary from = starts, to = ends;
  if (!request.from.empty()) {
    auto resolved = ResolveBound(request.from, *stream, *options.clock, starts);
    if (!resolved) return Fail(resolved.error().Within("from"));
    from = std::move(*resolved);
  }
  if (!request.to.empty()) {
    auto resolved = ResolveBound(request.to, *stream, *options.clock, ends);
    if (!resolved) return Fail(resolved.error().Within("to"));
    to = std::move(*resolved);
  }
  Position earliest{stream_name, {}};
  bool is_gone = false;
  for (uint32_t p = 0; p < stream->partitions(); ++p) {
    earliest.offsets[p] = stream->partition(p).bounds().start;
    is_gone = is_gone || from[p] < earliest.offsets[p];
    to[p] = std::min(to[p], ends[p]);
  }
  if (is_gone)
    return Fail(Invalid("the log no longer has all of that: the earliest position is {}; --from earliest",
                        earliest.ToString()));
  spec.starts[request.pipeline] = {stream_name, std::move(from)};
  spec.ends[request.pipeline] = {stream_name, std::move(to)};
  return spec;
}

Result<Node> Engine::State::WithReplay(const Node& root, const ReplaySpec& spec, std::string* name) {
  const Node* live = FindPath(root, "pipelines." + spec.pipeline());
  if (live == nullptr) return Fail(NotFound("pipeline {} is not there any more", spec.pipeline()));
  *name = fmt::format("replay_{}", spec.id);
  while (FindPath(root, "pipelines." + *name) != nullptr) *name += "_";
  Node own;
  own.kind = Node::Kind::kMap;
  if (const Node* from = live->Find("from")) own.members.emplace_back("from", *from);
  const Node* filters = spec.filters.kind == Node::Kind::kNull ? live->Find("filters") : &spec.filters;
  if (filters != nullptr && !filters->items.empty()) own.members.emplace_back("filters", *filters);
  Node to;
  to.kind = Node::Kind::kSequence;
  to.items.push_back(spec.into);
  own.members.emplace_back("to", std::move(to));
  return EditItem(root, "pipelines", *name, own);
}

/// A replay writes where nothing else does, and where nothing is yet.
Status Engine::State::CheckPlace(const ReplaySpec& spec, const Project& with_replay) {
  std::string name = fmt::format("replay_{}", spec.id);
  while (project->pipelines.contains(name)) name += "_";
  const PipelineConfig& own = with_replay.pipelines.at(name);
  const SinkConfig& into = own.sinks.at(0);
  std::string target = TableOf(into);
  if (target.empty()) return OkStatus();
  for (const auto& [other, pipeline] : project->pipelines)
    for (const SinkConfig& sink : pipeline.sinks)
      if (sink.kind == into.kind && TableOf(sink) == target)
        return Conflict("pipeline {} writes {} '{}': a replay goes to a place of its own", other, into.kind,
                        target);
  Catalog catalog = control->catalog();
  for (const auto& [id, record] : catalog.replays())
    if (record.is_open() && record.spec.Target() == spec.Target())
      return Conflict("replay {} writes {} '{}' already", id, into.kind, target);
  if (into.kind == "table" && tables->Find(target))
    return Conflict("table '{}' is there already: name another, or drop it first", target);
  if (into.kind == "file" && options.fs->Exists(PathIn(project->directory, target)))
    return Conflict("{} is there already: name another, or move it away", target);
  if (into.kind != "stream") return OkStatus();
  if (target == own.stream) return Conflict("stream '{}' is what the replay reads", target);
  for (const auto& [source, config] : project->sources)
    if (config.stream == target)
      return Conflict("source {} writes stream '{}': a replay goes to a place of its own", source, target);
  for (const auto& [other, pipeline] : project->pipelines)
    if (pipeline.stream == target && !spec.effects)
      return Conflict("pipeline {} reads stream '{}', so what a replay sends there goes on: --effects", other,
                      target);
  return OkStatus();
}

tl::expected<ReplayStatus, ChangeRefusal> Engine::StartReplay(const ReplayRequest& request) {
  State& s = *state_;
  std::unique_lock change(s.change_mutex);
  if (s.stopping) return tl::unexpected(Refused(Unavailable("the server is stopping")));
  if (!(request.share > 0 && request.share <= 1))  // also for what is no number
    return tl::unexpected(Refused(Invalid("share: expected more than 0 and at most 100%")));
  Catalog catalog = s.control->catalog();
  auto spec = s.SpecOf(request, catalog);
  if (!spec) return tl::unexpected(Refused(spec.error()));
  uint64_t id = spec->id;
  if (request.cutover) {
    std::vector<std::string> names;
    auto config = s.project->pipelines.find(request.pipeline);
    for (const SinkConfig& sink : config->second.sinks)
      if (sink.kind == "table") names.push_back(s.TableOf(sink));
    Definitions definitions;
    if (request.edit) {
      auto edited = request.edit(catalog.root());
      if (!edited) return tl::unexpected(Refused(edited.error()));
      definitions.pipelines[request.pipeline] = *FindPath(*edited, "pipelines." + request.pipeline);
    }
    if (!request.from.empty() || !request.to.empty() || request.effects)
      return tl::unexpected(Refused(
          Invalid("cutover: tables are made anew from where their pipelines began, and nothing else is "
                  "written: from, to and effects have no meaning")));
    auto started = s.StartRebuild(names, std::move(definitions), request.share, request.who);
    if (!started) return tl::unexpected(std::move(started.error()));
    id = *started;
  } else {
    std::string name;
    auto root = State::WithReplay(catalog.root(), *spec, &name);
    if (!root) return tl::unexpected(Refused(root.error()));
    Faults faults, warnings;
    Project next = ParseProject(*root, s.options.project.directory, *s.options.registry, faults);
    if (faults.empty()) {
      if (Status status = s.CheckPlace(*spec, next); !status.ok())
        return tl::unexpected(Refused(std::move(status)));
      CheckProject(next, *s.options.registry, faults, warnings, {.workers = s.options.sql_workers});
    }
    if (!faults.empty()) return tl::unexpected(Refused(faults));
    ControlEvent event;
    event.kind = ControlKind::kReplayStarted;
    event.who = request.who, event.name = request.pipeline, event.replay = std::move(*spec);
    if (Status status = s.control->Append(std::move(event)); !status.ok())
      return tl::unexpected(Refused(std::move(status)));
    s.RunReplay(id);
  }
  auto status = FindReplay(id);
  if (!status) return tl::unexpected(Refused(status.error()));
  return std::move(*status);
}

Result<std::vector<ReplayRun::Part>> Engine::State::PartsOf(const ReplayRecord& record) {
  if (record.spec.is_rebuild()) return RebuildPartsOf(record);
  const std::string& pipeline = record.spec.pipeline();
  std::string name;
  ASSIGN_OR_FAIL(Node root, WithReplay(*record.root, record.spec, &name));
  Faults faults;
  Project with = ParseProject(root, options.project.directory, *options.registry, faults);
  if (!faults.empty()) return Fail(Invalid("{}", faults[0].ToString()));
  const PipelineConfig& own = with.pipelines.at(name);
  ReplayRun::Part part;
  part.pipeline = fmt::format("{}@{}", pipeline, record.spec.id);
  part.stream = own.stream;
  part.from = record.spec.starts.at(pipeline).offsets;
  part.to = record.spec.ends.at(pipeline).offsets;
  if (record.spec.filters.kind != Node::Kind::kNull) {
    part.versions.push_back(
        std::make_shared<PipelineVersion>(PipelineVersion{1, own, with.streams.at(own.stream), {}}));
  } else {
    PipelineRecord past;
    past.versions = record.versions.at(pipeline);
    for (const PipelineRuntime::Version& version : VersionsOf(pipeline, past)) {
      auto replayed = std::make_shared<PipelineVersion>(*version);
      replayed->config.sinks = own.sinks;
      part.versions.push_back(std::move(replayed));
    }
  }
  return std::vector<ReplayRun::Part>{std::move(part)};
}

void Engine::State::RunReplay(uint64_t id) {
  Catalog catalog = control->catalog();
  auto record = catalog.replays().find(id);
  if (record == catalog.replays().end() || !record->second.is_open()) return;
  auto replay = std::make_shared<RunningReplay>();
  replay->id = id;
  auto open = [&]() -> Status {
    ASSIGN_OR_RETURN(auto parts, PartsOf(record->second));
    RuntimeContext context = MakeRuntimeContext();
    const bool is_rebuild = record->second.spec.is_rebuild();
    if (is_rebuild)
      context.count_writers = [count = context.count_writers](const std::string& table) {
        return count(table.substr(0, table.find('@')));
      };
    replay->run = std::make_unique<ReplayRun>(std::move(context), std::move(parts), record->second.spec.share,
                                              is_rebuild ? id : 0);
    return replay->run->Open();
  };
  if (Status status = open(); !status.ok()) {
    replay->run.reset();
    replay->failure = status.message();
  }
  std::unique_lock lock(mutex);
  if (stopping) return;
  size_t ended = 0;
  for (const auto& [other, each] : replays)
    ended += !catalog.replays().contains(other) || !catalog.replays().at(other).is_open();
  for (auto it = replays.begin(); it != replays.end() && ended > kEndedKept;) {
    auto found = catalog.replays().find(it->first);
    bool is_open = found != catalog.replays().end() && found->second.is_open();
    bool goes = !is_open && it->second->over;  // else its thread may still want the lock that is held here
    if (goes) --ended;
    it = goes ? replays.erase(it) : std::next(it);
  }
  replays[id] = replay;
  if (!replay->run) return;
  replay->run->Start(record->second.state == ReplayRecord::State::kPaused);
  replay->over = false;
  replay->conductor = std::jthread([this, running = replay.get()](std::stop_token stop) {
    NameThread("replay");
    Conduct(*running, stop);
    running->over = true;
  });
}

void Engine::State::RunReplays() {
  Catalog catalog = control->catalog();
  for (const auto& [id, record] : catalog.replays())
    if (record.is_open() && FindRunning(id) == nullptr) RunReplay(id);
}

Result<bool> Engine::State::ReplaysToEnd(std::stop_token stop, const std::function<void()>& progress) {
  uint64_t reached = 0;
  int64_t reached_ns = options.clock->MonotonicNs();
  for (bool had_some = false; !stop.stop_requested(); had_some = true) {
    uint64_t done = 0, running = 0;
    std::string first;
    Catalog catalog = control->catalog();
    for (const auto& [id, record] : catalog.replays()) {
      ReplayStatus status = StatusOf(record);
      if (status.state == "failed") return Fail(Invalid("replay {}: {}", id, status.reason));
      done += status.done;
      if (status.state == "running" && ++running == 1)
        first = fmt::format("replay {}: {}", id, status.reason);
    }
    if (running == 0) return had_some;
    int64_t now_ns = options.clock->MonotonicNs();
    if (done != reached) reached = done, reached_ns = now_ns;
    if (now_ns - reached_ns > kReplaysStandstillNs) return Fail(Invalid("{} (it stands still)", first));
    progress();
    std::this_thread::sleep_for(std::chrono::microseconds(kLookEveryUs));
  }
  return false;
}

/// Its loops end, and its conductor has ended.
void Engine::State::EndReplay(RunningReplay& replay) {
  replay.conductor.request_stop();
  if (replay.conductor.joinable()) replay.conductor.join();
  if (replay.run) replay.run->Stop();
}

bool Engine::State::HasLag() {
  std::shared_lock lock(mutex);
  return std::any_of(pipelines.begin(), pipelines.end(),
                     [](const auto& each) { return each.second->status().state == "catching_up"; });
}

void Engine::State::Conduct(RunningReplay& replay, std::stop_token stop) {
  Catalog catalog = control->catalog();
  const ReplayRecord& record = catalog.replays().at(replay.id);
  bool is_rebuild = record.spec.is_rebuild();
  while (!stop.stop_requested()) {
    replay.run->WaitDone(kLookEveryUs, stop);
    replay.run->Look(HasLag());
    if (is_rebuild && LookAfterRebuild(replay, stop)) return;
    if (!is_rebuild && replay.run->IsDone()) return Finish(replay, stop);
  }
}

/// What it has made becomes as durable as the event that says so. Others' checkpoints interrupt folds, so it
/// may take several attempts; it ends once one succeeds, or with a stop: a restart goes on.
void Engine::State::Finish(RunningReplay& replay, std::stop_token stop) {
  ReplayRun::Amounts amounts = replay.run->amounts();
  replay.run->Stop();
  ControlEvent event;
  event.kind = ControlKind::kReplayFinished;
  event.who = options.who, event.replay.id = replay.id;
  event.events = amounts.done, event.dead_letters = amounts.dead_letters;
  std::mutex wait_mutex;
  std::condition_variable_any wake;
  for (std::string told; !stop.stop_requested();) {
    Status status = tables->FoldAll();
    if (status.ok()) status = tables->Checkpoint();
    {
      std::lock_guard change(change_mutex);
      Catalog catalog = control->catalog();
      if (!catalog.replays().at(replay.id).is_open()) return;  // cancelled meanwhile
      if (status.ok()) status = control->Append(event);
      std::unique_lock lock(mutex);
      replay.failure = status.message();
    }
    if (status.ok()) return;
    if (status.message() != told && options.logger != nullptr)
      options.logger->Warn("a replay is not finished yet",
                           {{"replay", std::to_string(replay.id)}, {"reason", status.message()}});
    told = status.message();
    std::unique_lock lock(wait_mutex);
    wake.wait_for(lock, stop, std::chrono::microseconds(kFinishAgainUs), [] { return false; });
  }
}

Status Engine::SetReplayPaused(uint64_t id, bool paused, const std::string& who) {
  State& s = *state_;
  std::unique_lock change(s.change_mutex);
  Catalog catalog = s.control->catalog();
  auto record = catalog.replays().find(id);
  if (record == catalog.replays().end()) return NotFound("no replay {}", id);
  if (!record->second.is_open()) return Conflict("replay {} has ended", id);
  ControlEvent event;
  event.kind = paused ? ControlKind::kReplayPaused : ControlKind::kReplayResumed;
  event.who = who, event.replay.id = id;
  RETURN_IF_ERROR(s.control->Append(std::move(event)));
  auto running = s.FindRunning(id);
  if (running != nullptr && running->run && !running->run->stopped()) {
    running->run->SetPaused(paused);
  } else if (!paused) {
    change.unlock();  // its conductor may wait for it
    if (running != nullptr) s.EndReplay(*running);
    change.lock();
    s.RunReplay(id);
  }
  return OkStatus();
}

Status Engine::CancelReplay(uint64_t id, const std::string& who) {
  State& s = *state_;
  ReplaySpec spec;
  {
    std::lock_guard change(s.change_mutex);
    Catalog catalog = s.control->catalog();
    auto record = catalog.replays().find(id);
    if (record == catalog.replays().end()) return NotFound("no replay {}", id);
    if (!record->second.is_open()) return Conflict("replay {} has ended", id);
    spec = record->second.spec;
    auto running = s.FindRunning(id);
    ControlEvent event;
    event.kind = ControlKind::kReplayCancelled;
    event.who = who, event.replay.id = id;
    if (running != nullptr && running->run) {
      ReplayRun::Amounts amounts = running->run->amounts();
      event.events = amounts.done, event.dead_letters = amounts.dead_letters;
    }
    RETURN_IF_ERROR(s.control->Append(std::move(event)));
  }
  if (auto running = s.FindRunning(id)) s.EndReplay(*running);
  return s.DropShadows(spec, who);
}

ReplayStatus Engine::State::StatusOf(const ReplayRecord& record) const {
  using Stage = ReplayRecord::State;
  ReplayStatus status;
  const ReplaySpec& spec = record.spec;
  status.id = spec.id, status.pipeline = spec.pipeline(), status.into = spec.Target();
  status.cutover = spec.is_rebuild(), status.share = spec.share;
  status.who = record.who, status.started_us = record.started_us, status.ended_us = record.ended_us;
  status.state = record.state == Stage::kRunning    ? "running"
                 : record.state == Stage::kPaused   ? "paused"
                 : record.state == Stage::kFinished ? "finished"
                                                    : "cancelled";
  status.done = status.total = record.events, status.dead_letters = record.dead_letters;
  for (const auto& [pipeline, end] : spec.ends) {
    status.total = 0;
    for (const auto& [partition, to] : end.offsets) {
      uint64_t from = spec.starts.at(pipeline).offsets.at(partition);
      status.total += to > from ? to - from : 0;
    }
  }
  auto running = FindRunning(spec.id);
  if (running == nullptr) return status;
  if (running->run) status.letters = running->run->letters();
  // Decided, and its tables are being switched.
  if (!record.is_open() && running->closed) status.state = "running", status.ended_us = 0;
  if (!record.is_open() && status.state != "running") return status;
  {
    std::shared_lock lock(mutex);
    status.reason = running->failure;
  }
  if (!record.is_open()) return status;
  if (!status.reason.empty()) status.state = "failed";
  if (!running->run) return status;
  ReplayRun::Amounts amounts = running->run->amounts();
  status.done = amounts.done, status.total = amounts.total, status.dead_letters = amounts.dead_letters;
  if (status.reason.empty()) status.reason = running->run->Failure();
  if (record.state == Stage::kPaused) return status;
  status.events_per_second = amounts.events_per_second;
  if (amounts.events_per_second > 0)
    status.seconds_left = static_cast<double>(amounts.total - amounts.done) / amounts.events_per_second;
  return status;
}

std::vector<ReplayStatus> Engine::Replays() const {
  Catalog catalog = state_->control->catalog();
  std::vector<ReplayStatus> list;
  for (const auto& [id, record] : catalog.replays()) list.push_back(state_->StatusOf(record));
  return list;
}

Result<ReplayStatus> Engine::FindReplay(uint64_t id) const {
  Catalog catalog = state_->control->catalog();
  auto record = catalog.replays().find(id);
  if (record == catalog.replays().end()) return Fail(NotFound("no replay {}", id));
  return state_->StatusOf(record->second);
}

std::string ReplayStatus::ToJson() const {
  std::string out;
  {
    ObjectText object(out);
    object.Number("id", id).Text("pipeline", pipeline).Text("into", into).Text("state", state);
    if (!reason.empty()) object.Text("reason", reason);
    object.Number("cutover", cutover).Number("done", done).Number("total", total);
    object.Rate("events_per_second", events_per_second);
    if (seconds_left) object.Rate("seconds_left", *seconds_left);
    object.Number("dead_letters", dead_letters).Number("share", share);
    object.Text("who", who).Text("started", FormatTime(started_us));
    if (ended_us != 0) object.Text("ended", FormatTime(ended_us));
    if (!letters.empty())
      object.Array("letters", letters, [&](const DeadLetter& letter) { out += letter.ToJson(false); });
  }
  return out;
}

}  // namespace millstream
