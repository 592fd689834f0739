// Changes of what runs (SEMANTICS, "Hot change"): plan, apply, and the order of steps, each of which a start
// can do again: `apply` event → streams → pipelines, each by an `activated` event → sources.
#include <set>

#include "base/logging.h"
#include "catalog/edit.h"
#include "pipeline/engine_state.h"
#include "pipeline/object_text.h"

namespace millstream {
namespace {

std::string PipelineOf(const std::string& path) {
  constexpr std::string_view kPrefix = "pipelines.";
  if (!path.starts_with(kPrefix)) return "";
  return path.substr(kPrefix.size(), path.find('.', kPrefix.size()) - kPrefix.size());
}

bool IsDone(const Change& change) { return change.how == "live" || change.how == "backfill"; }

ChangeRefusal Refused(Status status) { return {std::move(status), {}, std::nullopt}; }
ChangeRefusal Refused(const Faults& faults) {
  return {Invalid("{} fault{}", faults.size(), faults.size() == 1 ? "" : "s"), faults, std::nullopt};
}

}  // namespace

/// What a change stands on and what comes of it.
struct Engine::State::Decided {
  Catalog catalog;
  std::shared_ptr<const Project> live;
  Project proposed;
  ChangeDecision decision;
  std::set<std::string> rebuild;  // tables, as asked for
  std::shared_ptr<Project> next;
  std::map<std::string, PipelineRuntime::Bound> bound;  // pipelines that run and change
};

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
  Status status = s.CheckNotRebuilt(decided.decision.changes);
  bool is_known = request.edit || decided.decision.files == decided.catalog.files_root();
  bool is_same = is_known && decided.decision.root == decided.catalog.root();
  if (status.ok() && !is_same) status = s.Carry(request, decided, plan);
  if (!status.ok()) return tl::unexpected(Refused(std::move(status)));
  if (decided.decision.rebuilt.empty()) return plan;
  auto replay = s.StartRebuild(plan.rebuild, decided.decision.rebuilt, 1, request.who);
  if (!replay) return tl::unexpected(std::move(replay.error()));
  plan.replay = *replay;
  return plan;
}

std::optional<ChangeRefusal> Engine::State::Decide(const ChangeRequest& request, Decided& decided) {
  decided.catalog = control->catalog();
  {
    std::shared_lock lock(mutex);
    decided.live = project;
  }
  ChangeOptions change = request.options;
  decided.rebuild = change.rebuild;
  if (request.edit) {
    auto root = request.edit(decided.catalog.root());
    if (!root) return Refused(root.error());
    Faults faults;
    decided.proposed = ParseProject(*root, options.project.directory, *options.registry, faults);
    if (!faults.empty()) return Refused(faults);
    change.is_edit = change.prune = true;
  } else {
    decided.proposed = request.files;
  }
  std::map<std::string, uint64_t> events;
  for (const auto& [name, config] : decided.live->streams)
    events[name] = EventsIn(name) + dead_letters->Count(name);
  decided.decision =
      DecideChange(decided.proposed, *decided.live, decided.catalog, *options.registry, change, events);
  ChangeDecision& decision = decided.decision;
  while (true) {
    if (!decision.faults.empty())
      return ChangeRefusal{Invalid("what would be live then is at fault"), decision.faults, {}};
    Faults faults, warnings;
    decided.next = std::make_shared<Project>(
        ParseProject(decision.root, options.project.directory, *options.registry, faults));
    if (faults.empty() && !(decision.root == decided.catalog.root()))
      CheckProject(*decided.next, *options.registry, faults, warnings, {.workers = options.sql_workers});
    if (!faults.empty()) return Refused(faults);
    decided.next->server = options.project.server;
    auto held_back = BindChanged(decided);
    if (!held_back) return Refused(held_back.error());
    if (!*held_back) break;
  }
  return CheckRebuilt(decided);
}

/// What is to be live once tables were made anew must be sound too; and who asks for a table must mean one.
std::optional<ChangeRefusal> Engine::State::CheckRebuilt(const Decided& decided) {
  std::set<std::string> unknown = decided.rebuild;
  for (const auto& [name, pipeline] : decided.next->pipelines)
    for (const SinkConfig& sink : pipeline.sinks)
      if (sink.kind == "table") unknown.erase(TableOf(sink));
  if (!unknown.empty()) return Refused(NotFound("rebuild: no pipeline writes table '{}'", *unknown.begin()));
  if (decided.decision.rebuilt.empty()) return std::nullopt;
  Faults faults, warnings;
  Project next = ParseProject(WithDefinitions(decided.decision.root, decided.decision.rebuilt),
                              options.project.directory, *options.registry, faults);
  if (faults.empty())
    CheckProject(next, *options.registry, faults, warnings, {.workers = options.sql_workers});
  return faults.empty() ? std::nullopt : std::optional(Refused(faults));
}

/// Binds the new versions of pipelines that run. True if one was held back, because a table that it writes
/// does not take its columns: then the rest is looked at anew.
Result<bool> Engine::State::BindChanged(Decided& decided) {
  ChangeDecision& decision = decided.decision;
  decided.bound.clear();
  // What reads a table that the same change makes is bound after that was made.
  bool makes_tables = !decision.new_pipelines.empty();
  for (const Change& change : decision.changes) makes_tables = makes_tables || change.how == "backfill";
  for (const auto& [name, config] : decided.next->pipelines) {
    auto running = FindPipeline(name);
    if (!running || decision.generations.at(name) != running->generation()) continue;
    if (IsSamePipeline(decided.catalog.root(), decision.root, name) && !decided.catalog.IsPending(name))
      continue;
    auto version = std::make_shared<PipelineVersion>(
        PipelineVersion{decision.version, config, decided.next->streams.at(config.stream), {}});
    auto bound = running->Bind(version);
    if (bound) {
      decided.bound.emplace(name, std::move(*bound));
    } else if (bound.error().code() == Code::kConflict) {
      FAIL_IF_ERROR(HoldBackChange(decided, config, bound.error()));
      return true;
    } else if (!makes_tables) {
      return Fail(bound.error());
    }
  }
  return false;
}

/// What makes a pipeline's columns others than its table has keeps its old definition: the pipeline, or else
/// the contract of its stream.
Status Engine::State::HoldBackChange(Decided& decided, const PipelineConfig& pipeline, const Status& why) {
  const std::string item = "pipelines." + pipeline.name, stream = "streams." + pipeline.stream;
  ChangeDecision& decision = decided.decision;
  const Node before = decision.root;
  HoldBack(decision, decided.proposed, decided.catalog, {item, "edit", "rebuild", why.message()});
  if (!(decision.root == before)) return OkStatus();
  decision.changes.pop_back();  // its own definition is as it was
  HoldBack(decision, decided.proposed, decided.catalog, {stream, "edit", "refused", why.message()});
  return decision.root == before ? why : OkStatus();
}

uint64_t Engine::State::EventsIn(const std::string& name) {
  Stream* stream = log->Find(name);
  uint64_t events = 0;
  for (uint32_t p = 0; stream != nullptr && p < stream->partitions(); ++p) {
    Bounds bounds = stream->partition(p).bounds();
    events += bounds.durable_end - bounds.start;
  }
  return events;
}

/// The costs: events to run, by partition at once, at the rate of the pipeline's own loops, or of all that
/// ran.
ChangePlan Engine::State::PlanOf(const Decided& decided) {
  ChangePlan plan;
  plan.hash = decided.decision.Hash(decided.catalog);
  plan.base_version = decided.catalog.version();
  plan.version = plan.base_version;
  plan.refused = decided.decision.refused;
  if (!decided.decision.rebuilt.empty()) plan.rebuild.assign(decided.rebuild.begin(), decided.rebuild.end());
  std::map<std::string, double> rates;
  double sum = 0;
  {
    std::shared_lock lock(mutex);
    for (const auto& [name, pipeline] : pipelines) {
      double rate = pipeline->WorkDone().EventsPerSecond();
      if (rate <= 0) continue;
      rates[name] = rate;
      sum += rate;
    }
  }
  for (const Change& change : decided.decision.changes) {
    PlannedChange& planned = plan.changes.emplace_back();
    planned.what = change;
    std::string name = PipelineOf(change.path);
    if (IsDone(change) && change.how != "backfill") planned.events = 0, planned.seconds = 0;
    if (name.empty() || (change.how != "backfill" && change.how != "rebuild")) continue;
    auto config = decided.next->pipelines.find(name);
    Stream* stream = config == decided.next->pipelines.end() ? nullptr : log->Find(config->second.stream);
    if (config == decided.next->pipelines.end()) continue;
    planned.events = 0;
    if (stream == nullptr) continue;  // it is made with the change
    Boundary start;
    auto record = decided.catalog.pipelines().find(name);
    if (record != decided.catalog.pipelines().end()) {
      start = record->second.start.offsets;
    } else if (change.how == "backfill") {
      if (auto resolved = ResolveStart(config->second, decided.next->streams.at(config->second.stream)))
        start = resolved->offsets;
    }
    uint64_t most = 0;
    for (uint32_t p = 0; p < stream->partitions(); ++p) {
      Bounds bounds = stream->partition(p).bounds();
      uint64_t from = std::max(bounds.start, start.contains(p) ? start.at(p) : 0);
      uint64_t events = bounds.durable_end > from ? bounds.durable_end - from : 0;
      *planned.events += events;
      most = std::max(most, events);
    }
    double rate = rates.contains(name) ? rates.at(name)
                  : rates.empty()      ? 0
                                       : sum / static_cast<double>(rates.size());
    if (rate > 0) planned.seconds = static_cast<double>(most) / rate;
  }
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
      if (PipelineOf(planned.what.path) != name || !IsDone(planned.what)) continue;
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
    if (PipelineOf(planned.what.path) == pipeline && IsDone(planned.what)) planned.what.note = note;
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

std::string ChangePlan::ToJson() const {
  std::string out;
  {
    ObjectText object(out);
    if (is_applied)
      object.Number("version", version);
    else
      object.Text("plan", hash).Number("base_version", base_version);
    if (replay != 0) object.Number("replay", replay);
    if (!refused.empty()) object.Number("held", refused.size());
    if (!rebuild.empty())
      object.Array("rebuild", rebuild, [&](const std::string& table) { AppendJsonString(out, table); });
    object.Array("changes", changes, [&](const PlannedChange& planned) {
      ObjectText change(out);
      change.Text("path", planned.what.path)
          .Text("change", planned.what.change)
          .Text("how", planned.what.how);
      if (planned.events) change.Number("events", *planned.events);
      if (planned.seconds) change.Rate("seconds", *planned.seconds);
      if (!planned.from.empty()) change.Text("from", planned.from).Number("held_us", planned.held_us);
      change.Text("note", planned.what.note);
    });
  }
  return out;
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
}

}  // namespace millstream
