// Changes of what runs (SEMANTICS, "Hot change"): apply, and the order of steps, each of which a start can do
// again: `apply` event → streams → pipelines, each by an `activated` event → sources.
#include "base/logging.h"
#include "pipeline/engine_state.h"

namespace millstream {
tl::expected<ChangePlan, ChangeRefusal> Engine::Plan(const ChangeRequest& request) {
  State& s = *state_;
  std::lock_guard lock(s.change_mutex);
  State::Decided decided;
  if (auto refusal = s.Decide(request, decided)) return tl::unexpected(std::move(*refusal));
  return s.PlanOf(decided);
}

tl::expected<ChangePlan, ChangeRefusal> Engine::Apply(const ChangeRequest& request) {
  State& s = *state_;
  std::lock_guard lock(s.change_mutex);
  if (s.stopping) return tl::unexpected(Refused(Unavailable("the server is stopping")));
  State::Decided decided;
  if (auto refusal = s.Decide(request, decided)) return tl::unexpected(std::move(*refusal));
  ChangePlan plan = s.PlanOf(decided);
  if (!request.plan.empty() && request.plan != plan.hash)
    return tl::unexpected(ChangeRefusal{
        Conflict("the plan {} is stale: what runs or the files have changed since; it is {} now",
                 request.plan, plan.hash),
        {},
        std::move(plan)});
  Status status = s.CheckNotRebuilt(decided.decision.changes, *decided.next);
  if (status.ok() && !decided.is_same) status = s.Carry(request, decided, plan);
  if (!status.ok()) return tl::unexpected(Refused(std::move(status)));
  if (decided.decision.rebuilt.empty()) return plan;
  auto replay = s.StartRebuild(plan.rebuild, decided.decision.rebuilt, 1, request.who);
  if (!replay) return tl::unexpected(std::move(replay.error()));
  plan.replay = *replay;
  return plan;
}

Status Engine::State::Carry(const ChangeRequest& request, Decided& decided, ChangePlan& plan) {
  const ChangeDecision& decision = decided.decision;
  std::shared_ptr<Project> next = decided.next;
  ControlEvent event =
      ApplyEvent(decision, decided.proposed, decided.catalog, static_cast<bool>(request.edit));
  event.who = request.who;
  for (const auto& [name, record] : decided.catalog.pipelines())
    if (decision.generations.contains(name)) event.starts[name] = record.start;
  for (const std::string& name : decision.new_pipelines) {
    const PipelineConfig& pipeline = next->pipelines.at(name);
    auto given = options.starts.find(name);
    if (given != options.starts.end() && given->second.stream == pipeline.stream) {
      event.starts[name] = given->second;
      continue;
    }
    ASSIGN_OR_RETURN(event.starts[name], ResolveStart(pipeline, next->streams.at(pipeline.stream)));
  }
  RETURN_IF_ERROR(control->Append(std::move(event)));
  plan.is_applied = true;
  plan.version = decision.version;
  next->hash = decided.proposed.hash;
  {
    std::unique_lock lock(mutex);
    project = next;
  }
  RETURN_IF_ERROR(ChangeStreams(*decided.live, *next));
  EndPipelines(*next, decision);
  RETURN_IF_ERROR(OpenPipelines());
  if (pipelines_started) StartPipelines();
  letters_asked = true, letters_changed.notify_all();  // some may wait for a pipeline
  for (const auto& [name, config] : next->pipelines) {
    auto running = FindPipeline(name);
    if (!running) {
      auto broken = broken_pipelines.find(name);
      NoteOn(plan, name, broken == broken_pipelines.end() ? "it does not run" : broken->second);
      continue;
    }
    if (!control->catalog().IsPending(name)) continue;
    auto changed = TakeOver(*running, NewVersion(decision.version, config), decided, request.who);
    if (!changed) {
      if (changed.error().code() == Code::kIo) return changed.error();
      NoteOn(plan, name, "the version before goes on: " + changed.error().message());
      continue;
    }
    for (PlannedChange& planned : plan.changes) {
      if (planned.pipeline() != name || !planned.is_done()) continue;
      planned.from = Position{config.stream, changed->boundary}.ToString();
      planned.held_us = changed->held_ns / 1000;
    }
  }
  if (commands_started) RETURN_IF_ERROR(OpenCommands(false));
  RETURN_IF_ERROR(ChangeSources(*decided.live, *next));
  return FinishPurges();
}

Result<PipelineRuntime::Changed> Engine::State::TakeOver(PipelineRuntime& running,
                                                         const PipelineRuntime::Version& version,
                                                         Decided& decided, const std::string& who) {
  auto seal = SealOf(running.name(), running.generation(), version->number, who);
  auto bound = decided.bound.find(running.name());
  if (bound != decided.bound.end()) return running.Change(std::move(bound->second), seal);
  ASSIGN_OR_FAIL(PipelineRuntime::Bound late, running.Bind(version));
  return running.Change(std::move(late), seal);
}

void Engine::State::NoteOn(ChangePlan& plan, const std::string& pipeline, const std::string& note) {
  for (PlannedChange& planned : plan.changes)
    if (planned.pipeline() == pipeline && planned.is_done()) planned.what.note = note;
}

Status Engine::State::ChangeStreams(const Project& live, const Project& next) {
  for (const auto& [name, config] : next.streams) {
    const StreamConfig* before = live.FindStream(name);
    auto ingest = FindIngest(name);
    if (ingest && before != nullptr && before->node == config.node) continue;
    if (!ingest) {
      RETURN_IF_ERROR(OpenStream(config));
      continue;
    }
    auto changed = std::make_shared<StreamIngest>(config, *ingest);
    bool keeps_window = before != nullptr && before->dedupe_by == config.dedupe_by &&
                        before->dedupe_window_us == config.dedupe_window_us;
    if (!keeps_window) RETURN_IF_ERROR(changed->Recover().Within("stream " + name));
    ingest->stream().SetLayout(config.shape.contract, config.shape.codec, config.retention);
    std::unique_lock lock(mutex);
    ingests[name] = std::move(changed);
  }
  std::unique_lock lock(mutex);
  std::erase_if(ingests, [&](const auto& each) { return !next.streams.contains(each.first); });
  return OkStatus();
}

Status Engine::State::FinishPurges() {
  Catalog catalog = control->catalog();
  for (const std::string& name : catalog.purges()) {
    auto replays_it = [&](const auto& replay) {
      return replay.second.is_open() &&
             std::any_of(replay.second.spec.starts.begin(), replay.second.spec.starts.end(),
                         [&](const auto& start) { return start.second.stream == name; });
    };
    if (std::any_of(catalog.replays().begin(), catalog.replays().end(), replays_it)) continue;
    {
      std::shared_lock lock(mutex);
      auto reads = [&](const auto& pipeline) { return pipeline->stream_name() == name; };
      if (std::any_of(ending_pipelines.begin(), ending_pipelines.end(), reads)) continue;
    }
    RETURN_IF_ERROR(log->RemoveStream(name));
    RETURN_IF_ERROR(log->RemoveStream(DeadStreamName(name)));
    RETURN_IF_ERROR(control->Append(ControlKind::kPurged, name, options.who));
  }
  return OkStatus();
}

/// Pipelines that are gone, or are others of the same name, are asked to end, and are reaped when they have.
void Engine::State::EndPipelines(const Project& next, const ChangeDecision& decision) {
  std::unique_lock lock(mutex);
  for (auto it = pipelines.begin(); it != pipelines.end();) {
    if (next.pipelines.contains(it->first) &&
        decision.generations.at(it->first) == it->second->generation()) {
      ++it;
      continue;
    }
    it->second->AskToStop();
    ending_pipelines.push_back(std::move(it->second));
    it = pipelines.erase(it);
  }
}

Status Engine::State::ChangeSources(const Project& live, const Project& next) {
  if (!pipelines_started || !sources_started) return OkStatus();
  std::vector<std::unique_ptr<RunningSource>> ended;
  {
    std::unique_lock lock(mutex);
    for (auto it = sources.begin(); it != sources.end();) {
      auto config = next.sources.find(it->first);
      bool is_same =
          config != next.sources.end() && config->second.node == live.sources.at(it->first).node &&
          live.streams.at(config->second.stream).node == next.streams.at(config->second.stream).node;
      if (is_same) {
        ++it;
        continue;
      }
      it->second->thread.request_stop();
      ended.push_back(std::move(it->second));
      it = sources.erase(it);
    }
  }
  ended.clear();  // joins: a source commits what it has read, so that its successor goes on from there
  RETURN_IF_ERROR(OpenSources());
  StartSources();
  return OkStatus();
}

Status Engine::State::NoteEnded(const std::vector<std::string>& going) {
  Catalog catalog = control->catalog();
  auto is_noted = [&](const Writer& writer) {
    const PipelineRecord* removed = catalog.FindRemoved(writer.pipeline);
    auto lives = catalog.pipelines().find(writer.pipeline);
    return removed == nullptr || removed->generation != writer.generation ||
           removed->ended.contains(writer.sink) ||
           (lives != catalog.pipelines().end() && lives->second.generation == writer.generation);
  };
  auto is_at_work = [&](const Writer& writer) {
    std::shared_lock lock(mutex);
    return std::any_of(ending_pipelines.begin(), ending_pipelines.end(), [&](const auto& pipeline) {
      return pipeline->name() == writer.pipeline && pipeline->generation() == writer.generation;
    });
  };
  for (const TableInfo& table : tables->List())
    for (const Writer& writer : tables->WritersOf(table.spec.name)) {
      if (is_noted(writer)) continue;
      const auto stored = tables->Offsets(writer);
      const bool is_going = std::find(going.begin(), going.end(), table.spec.name) != going.end();
      if (!is_going && (is_at_work(writer) || stored != tables->CheckpointedOffsets(writer))) continue;
      ControlEvent event;
      event.kind = ControlKind::kPipelineEnded;
      event.name = writer.pipeline;
      event.who = options.who;
      event.generation = writer.generation;
      event.sink = writer.sink;
      for (const auto& [partition, offset] : stored) event.boundary[partition] = offset.next;
      RETURN_IF_ERROR(control->Append(std::move(event)));
    }
  return OkStatus();
}

void Engine::State::Reap() {
  std::unique_lock change(change_mutex, std::try_to_lock);
  if (!change.owns_lock()) return;
  std::vector<std::shared_ptr<PipelineRuntime>> running, ended;
  {
    std::unique_lock lock(mutex);
    for (const auto& [name, pipeline] : pipelines) running.push_back(pipeline);
    auto first = std::stable_partition(ending_pipelines.begin(), ending_pipelines.end(),
                                       [](const auto& pipeline) { return !pipeline->HasEnded(); });
    std::move(first, ending_pipelines.end(), std::back_inserter(ended));
    ending_pipelines.erase(first, ending_pipelines.end());
  }
  for (const auto& pipeline : ended) pipeline->Stop();
  for (const auto& pipeline : running) (void)pipeline->Reap();
  if (Status purged = FinishPurges(); !purged.ok() && options.logger != nullptr)
    options.logger->Warn("a removed stream's events are still there", {{"reason", purged.message()}});
  if (Status noted = NoteEnded({}); !noted.ok() && options.logger != nullptr)
    options.logger->Warn("how far removed pipelines came is not noted", {{"reason", noted.message()}});
}

}  // namespace millstream
