// What a change would do (SEMANTICS, "Hot change"): what is decided by its files alone, and what only tables,
// sinks and the events in the log can tell. engine_change.cc carries it out.
#include <set>

#include "base/text.h"
#include "catalog/edit.h"
#include "pipeline/engine_state.h"

namespace millstream {
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
    if (auto frozen = faults.empty() ? FindFrozen(decided, *decided.next) : std::nullopt) {
      HoldBack(decision, decided.proposed, decided.catalog, {frozen->path, "add", "refused", frozen->why});
      continue;
    }
    bool is_checked = decision.root == decided.catalog.root() ||
                      (request.is_checked && decision.root == decided.proposed.root);
    if (faults.empty() && !is_checked)
      CheckProject(*decided.next, *options.registry, faults, warnings, {.workers = options.sql_workers});
    if (!faults.empty()) return Refused(faults);
    decided.next->server = options.project.server;
    auto held_back = BindChanged(decided);
    if (!held_back) return Refused(held_back.error());
    if (!*held_back) break;
  }
  bool is_known = request.edit || decision.files == decided.catalog.files_root();
  decided.is_same = decided.catalog.version() > 0 && is_known && decision.root == decided.catalog.root();
  return CheckRebuilt(decided);
}

/// A table keeps the rows of a pipeline that was removed. Nobody begins to write it, and least of all the
/// same pipeline again, which would bring all of them a second time (SEMANTICS, 4). The first that would.
std::optional<Engine::State::Frozen> Engine::State::FindFrozen(const Decided& decided, const Project& next) {
  for (const auto& [name, pipeline] : next.pipelines) {
    auto live = decided.live->pipelines.find(name);
    const bool is_new = live == decided.live->pipelines.end();
    for (const SinkConfig& sink : pipeline.sinks) {
      if (sink.kind != "table" || (!is_new && live->second.FindSink(sink.id) != nullptr)) continue;
      const Writer writer{name, decided.decision.generations.at(name), sink.id};
      std::string why = WhyFrozen(next, decided.decision, writer, TableOf(sink));
      const std::string item = "pipelines." + name;
      if (!why.empty()) return Frozen{is_new ? item : item + ".to." + sink.id, std::move(why)};
    }
  }
  return std::nullopt;
}

/// Why a writer may not begin to write a table; empty: it may, or has begun long ago.
std::string Engine::State::WhyFrozen(const Project& next, const ChangeDecision& decision,
                                     const Writer& writer, const std::string& table) {
  std::optional<TableInfo> info = tables->Find(table);
  if (!info || info->rows == 0) return "";
  const std::vector<Writer> writers = tables->WritersOf(table);
  if (std::find(writers.begin(), writers.end(), writer) != writers.end()) return "";
  auto goes_on = [&](const Writer& each) {
    auto pipeline = next.pipelines.find(each.pipeline);
    return pipeline != next.pipelines.end() && pipeline->second.FindSink(each.sink) != nullptr &&
           decision.generations.at(each.pipeline) == each.generation;
  };
  const bool is_written = std::any_of(writers.begin(), writers.end(), goes_on);
  for (const Writer& each : writers) {
    if (goes_on(each) || (is_written && each.pipeline != writer.pipeline)) continue;
    return fmt::format(
        "table '{0}' holds rows of pipeline '{1}', which does not write it any more; they would come a "
        "second time: drop it (millstream table drop {0}){2}, or give the new one another name",
        table, each.pipeline, each.pipeline == writer.pipeline ? ", go on where it stood (adopt: true)" : "");
  }
  return "";
}

/// What is to be live once tables were made anew must be sound too; and who asks for a table must mean one.
std::optional<ChangeRefusal> Engine::State::CheckRebuilt(Decided& decided) {
  std::set<std::string> unknown = decided.rebuild;
  for (const auto& [name, pipeline] : decided.next->pipelines)
    for (const SinkConfig& sink : pipeline.sinks)
      if (sink.kind == "table") unknown.erase(TableOf(sink));
  if (!unknown.empty()) return Refused(NotFound("rebuild: no pipeline writes table '{}'", *unknown.begin()));
  if (decided.decision.rebuilt.empty()) return std::nullopt;
  Faults faults, warnings;
  decided.switched =
      std::make_shared<Project>(ParseProject(WithDefinitions(decided.decision.root, decided.decision.rebuilt),
                                             options.project.directory, *options.registry, faults));
  const Project& then = *decided.switched;
  if (auto frozen = faults.empty() ? FindFrozen(decided, then) : std::nullopt)
    return Refused(Conflict("{} cannot be added; {}", frozen->path, frozen->why));
  if (faults.empty())
    CheckProject(then, *options.registry, faults, warnings, {.workers = options.sql_workers});
  if (!faults.empty()) return Refused(faults);
  const std::string not_taken = ColumnsNotTaken(decided, then, decided.rebuild);
  return not_taken.empty() ? std::nullopt : std::optional(Refused(Conflict("{}", not_taken)));
}

bool Engine::State::WritesOneOf(const PipelineConfig& pipeline, const std::set<std::string>& names) const {
  return std::any_of(pipeline.sinks.begin(), pipeline.sinks.end(), [&](const SinkConfig& sink) {
    return sink.kind == "table" && names.contains(TableOf(sink));
  });
}

/// What tables do not take of what changed pipelines write when `then` holds; but for `rebuilt`.
std::string Engine::State::ColumnsNotTaken(const Decided& decided, const Project& then,
                                           const std::set<std::string>& rebuilt) {
  std::string not_taken;
  for (const auto& [name, config] : then.pipelines) {
    if (IsSamePipeline(decided.catalog.root(), then.root, name)) continue;
    std::shared_ptr<PipelineRuntime> running = RuntimeToBind(decided, config);
    if (!running || decided.bound.contains(name)) continue;
    PipelineConfig kept = config;
    std::erase_if(kept.sinks, [&](const SinkConfig& sink) {
      return sink.kind == "table" && rebuilt.contains(TableOf(sink));
    });
    auto version = std::make_shared<PipelineVersion>(
        PipelineVersion{decided.decision.version, std::move(kept), then.streams.at(config.stream), {}});
    auto bound = running->Bind(version);
    if (!bound && bound.error().code() == Code::kConflict)
      not_taken += (not_taken.empty() ? "" : "; ") + bound.error().message();
  }
  return not_taken;
}

std::shared_ptr<PipelineRuntime> Engine::State::RuntimeToBind(const Decided& decided,
                                                              const PipelineConfig& config) {
  const uint64_t generation = decided.decision.generations.at(config.name);
  if (std::shared_ptr<PipelineRuntime> running = FindPipeline(config.name))
    return running->generation() == generation ? running : nullptr;
  auto known = decided.catalog.pipelines().find(config.name);
  const PipelineRecord* record =
      known == decided.catalog.pipelines().end() ? decided.catalog.FindRemoved(config.name) : &known->second;
  if (record == nullptr || record->generation != generation || record->active_version == 0) return nullptr;
  auto stands = MakeRuntime(config.name, config, *record);  // where it does not run
  return stands->Build(stands->newest()).ok() ? stands : nullptr;
}

/// Where a pipeline that was removed goes on, as its tables tell; other sinks know it only once they are
/// open.
std::optional<Boundary> Engine::State::AdoptedFrom(const PipelineRecord& removed,
                                                   const PipelineConfig& pipeline) {
  std::optional<Boundary> from;
  for (const SinkConfig& sink : pipeline.sinks) {
    if (sink.kind != "table") continue;
    Boundary next = removed.start.offsets;
    for (const auto& [partition, stored] : tables->Offsets({pipeline.name, removed.generation, sink.id}))
      next[partition] = stored.next;
    if (!from) from = next;
    for (auto& [partition, offset] : *from) offset = std::min(offset, next[partition]);
  }
  return from;
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
    if (IsSamePipeline(decided.catalog.root(), decision.root, name) && !decided.catalog.IsPending(name))
      continue;
    std::shared_ptr<PipelineRuntime> running = RuntimeToBind(decided, config);
    if (!running) continue;
    auto version = std::make_shared<PipelineVersion>(
        PipelineVersion{decision.version, config, decided.next->streams.at(config.stream), {}});
    auto bound = running->Bind(version);
    if (bound) {
      if (running == FindPipeline(name)) decided.bound.emplace(name, std::move(*bound));
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
  const Node *live = FindPath(decided.catalog.root(), item), *now = FindPath(decision.root, item);
  const bool is_its_own = live == nullptr || now == nullptr || !(*live == *now);
  const Node before = decision.root;
  // A contract may be more than one table does not take.
  Change held{is_its_own ? item : stream, "edit", "rebuild",
              is_its_own ? why.message() : ColumnsNotTaken(decided, *decided.next, {})};
  if (live == nullptr) {
    held.change = "add", held.how = "refused";
    held.note += "; adopt it with the filters that it had, then change them";
  }
  HoldBack(decision, decided.proposed, decided.catalog, std::move(held));
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

/// What a stream's new contract would make of its newest events (SEMANTICS, "Log": it holds for those to
/// come).
std::string Engine::State::RefusedByContract(const StreamConfig& config) {
  constexpr uint64_t kNewest = 10'000;
  auto ingest = FindIngest(config.shape.name);
  if (!ingest) return "";
  auto looked = std::make_shared<StreamIngest>(config, *ingest)->LookBack(kNewest);
  if (!looked) return "; the newest events were not looked at: " + looked.error().message();
  if (looked->events == 0) return "";
  return fmt::format("; of the newest {} events {} would be refused", FormatCount(looked->events),
                     FormatCount(looked->refused));
}

std::map<std::string, uint64_t> Engine::State::RatesOfPipelines() {
  constexpr uint64_t kTelling = 10'000;  // events; fewer say little
  std::map<std::string, uint64_t> rates = control->catalog().rates();
  std::shared_lock lock(mutex);
  std::erase_if(rates, [&](const auto& rate) { return !project->pipelines.contains(rate.first); });
  for (const auto& [name, pipeline] : pipelines) {
    const PipelineRuntime::Work work = pipeline->WorkDone();
    const auto rate = static_cast<uint64_t>(work.EventsPerSecond());
    if (rate > 0 && (work.events >= kTelling || !rates.contains(name))) rates[name] = rate;
  }
  return rates;
}

/// What it costs to run a pipeline over history from its start: partitions run at once, at its own rate, or
/// at the mean of all.
Engine::State::Cost Engine::State::CostOf(const Decided& decided, const PipelineConfig& pipeline,
                                          const std::map<std::string, uint64_t>& rates) {
  Cost cost;
  Stream* stream = log->Find(pipeline.stream);
  if (stream == nullptr) return cost;  // it is made with the change
  Boundary start;
  auto record = decided.catalog.pipelines().find(pipeline.name);
  const PipelineRecord* removed = decided.catalog.FindRemoved(pipeline.name);
  if (record != decided.catalog.pipelines().end()) {
    start = record->second.start.offsets;
  } else if (removed != nullptr && removed->generation == decided.decision.generations.at(pipeline.name)) {
    auto from = AdoptedFrom(*removed, pipeline);
    if (!from) return cost;
    start = std::move(*from);
  } else if (auto resolved = ResolveStart(pipeline, decided.next->streams.at(pipeline.stream))) {
    start = resolved->offsets;
  }
  uint64_t most = 0;
  for (uint32_t p = 0; p < stream->partitions(); ++p) {
    Bounds bounds = stream->partition(p).bounds();
    uint64_t from = std::max(bounds.start, start.contains(p) ? start.at(p) : 0);
    uint64_t events = bounds.durable_end > from ? bounds.durable_end - from : 0;
    cost.events += events;
    most = std::max(most, events);
  }
  uint64_t sum = 0;
  for (const auto& [name, rate] : rates) sum += rate;
  auto own = rates.find(pipeline.name);
  const uint64_t rate = own != rates.end() ? own->second : sum / std::max<size_t>(rates.size(), 1);
  if (rate > 0) cost.seconds = static_cast<double>(most) / static_cast<double>(rate);
  return cost;
}

/// What it would take for a change of filters to hold for the rows that were made already.
std::string Engine::State::RebuildNote(const PipelineConfig& pipeline, const Cost& cost) {
  std::string rebuilds;
  for (const SinkConfig& sink : pipeline.sinks)
    if (sink.kind == "table") rebuilds += " --rebuild " + TableOf(sink);
  if (rebuilds.empty() || cost.events == 0) return "";
  std::string seconds;
  if (cost.seconds) seconds = fmt::format(" in about {:.0f} s", std::max(*cost.seconds, 1.0));
  return fmt::format(";{} makes {} events anew{}", rebuilds, FormatCount(cost.events), seconds);
}

ChangePlan Engine::State::PlanOf(const Decided& decided) {
  ChangePlan plan;
  plan.hash = decided.decision.Hash(decided.catalog);
  plan.base_version = decided.catalog.version();
  plan.version = plan.base_version;
  plan.refused = decided.decision.refused;
  if (!decided.decision.rebuilt.empty()) plan.rebuild.assign(decided.rebuild.begin(), decided.rebuild.end());
  const std::map<std::string, uint64_t> rates = RatesOfPipelines();
  for (const Change& change : decided.decision.changes) {
    PlannedChange& planned = plan.changes.emplace_back();
    planned.what = change;
    if (planned.is_done()) planned.events = 0, planned.seconds = 0;
    const bool is_switched = change.how == "rebuild" && decided.switched;
    const Project& then = is_switched ? *decided.switched : *decided.next;
    for (const auto& [stream, config] : then.streams)
      if ((planned.is_done() || is_switched) && change.path == fmt::format("streams.{}.contract", stream))
        planned.what.note += RefusedByContract(config);
    auto pipeline = then.pipelines.find(planned.pipeline());
    if (pipeline == then.pipelines.end()) continue;
    const bool goes_along = decided.decision.rebuilt.pipelines.contains(pipeline->first) &&
                            !WritesOneOf(pipeline->second, decided.rebuild);
    const bool adopts =
        change.how == "live" && change.change == "add" && change.path == "pipelines." + pipeline->first;
    const bool runs_history = change.how == "backfill" || (change.how == "rebuild" && !goes_along) || adopts;
    if (!runs_history && (change.how != "live" || change.path.find(".filters") == std::string::npos))
      continue;
    const Cost cost = CostOf(decided, pipeline->second, rates);
    if (runs_history)
      planned.events = cost.events, planned.seconds = cost.seconds;
    else
      planned.what.note += RebuildNote(pipeline->second, cost);
  }
  return plan;
}

}  // namespace millstream
