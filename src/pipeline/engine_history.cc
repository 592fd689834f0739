// What `_control` tells of the past.
#include "base/text.h"
#include "pipeline/engine_state.h"

namespace millstream {

Catalog Engine::catalog() const { return state_->control->catalog(); }

Status Engine::RecordSandbox(ControlKind kind, const SandboxRecord& sandbox, const std::string& who,
                             const std::string& why) {
  ControlEvent event;
  event.kind = kind;
  event.name = sandbox.name;
  event.who = who;
  event.selection = why;
  if (kind == ControlKind::kSandboxCreated) event.sandbox = sandbox;
  return state_->control->Append(std::move(event));
}

Result<std::vector<ControlEvent>> Engine::History() {
  ASSIGN_OR_FAIL(auto reader, state_->log->Find(kControlStream)->partition(0).Read(0));
  std::vector<ControlEvent> events;
  while (true) {
    ASSIGN_OR_FAIL(auto batch, reader->Next());
    if (batch == nullptr) return events;
    ASSIGN_OR_FAIL(const Column* data, batch->Data());
    for (uint32_t row = 0; row < batch->count(); ++row) {
      ASSIGN_OR_FAIL(ControlEvent event, ParseControlEvent(data->String(row)));
      events.push_back(std::move(event));
    }
  }
}

std::vector<std::shared_ptr<const PipelineVersion>> PastPipeline::VersionsFor(
    const std::function<bool(const SinkConfig&)>& is_meant) const {
  uint64_t since = 0;
  for (const auto& version : versions)
    for (const SinkConfig& sink : version->config.sinks)
      if (auto made = rebuilt.find(sink.id); made != rebuilt.end() && is_meant(sink))
        since = made->second.version;
  std::vector<std::shared_ptr<const PipelineVersion>> owners;
  for (const auto& version : versions) {
    if (version->number <= since) owners.clear();  // the one that was active then made it anew
    owners.push_back(version);
  }
  return owners;
}

Result<Node> Engine::DefinitionsOf(uint64_t version) {
  ASSIGN_OR_FAIL(std::vector<ControlEvent> events, History());
  for (ControlEvent& event : events)
    if (event.is_apply() && event.version == version) return std::move(event.root);
  return Fail(NotFound("there is no version {}; `millstream history` lists them", version));
}

namespace {

/// A pipeline that had been removed at a moment, and what is known of how far it had come.
struct Removed {
  PipelineRecord record;
  std::set<std::string> gone;             // table sinks whose rows went before that moment
  std::map<std::string, Boundary> stood;  // table sinks, as they were noted
  std::optional<Boundary> went_on = {};   // where it was taken back
};
using RemovedPipelines = std::map<std::pair<std::string, uint64_t>, Removed>;  // by name and generation

/// What an apply event makes of them: `records` live after it, and `removed` are those that were removed by
/// then, of which some may live again.
void TakeRemovals(const ControlEvent& event, const std::map<std::string, PipelineRecord>& removed,
                  const std::map<std::string, PipelineRecord>& records, RemovedPipelines& all) {
  for (const auto& [name, record] : removed) {
    auto lives = records.find(name);
    if (lives != records.end() && lives->second.generation == record.generation)
      all.erase({name, record.generation});
    else
      all.try_emplace({name, record.generation}, Removed{record, {}, {}});
  }
  for (const auto& [name, sinks] : event.rebuilt)  // without the rows of pipelines that are gone
    for (auto& [key, each] : all) each.gone.insert(sinks.begin(), sinks.end());
}

}  // namespace

Result<PastPipelines> Engine::PipelinesAt(int64_t time_us) {
  State& s = *state_;
  ASSIGN_OR_FAIL(std::vector<ControlEvent> events, History());
  std::map<std::string, PipelineRecord> records, removed;
  RemovedPipelines gone;
  std::shared_ptr<const Node> root;
  int64_t first_us = 0;
  for (ControlEvent& event : events) {
    const bool is_then = event.when_us <= time_us;
    if (event.is_apply()) {
      root = std::make_shared<const Node>(std::move(event.root));
      if (first_us == 0) first_us = event.when_us;
      if (!is_then) continue;
      records = PipelinesAfter(event, std::move(records), removed);
      for (const auto& [name, sinks] : event.rebuilt)
        for (const std::string& sink : sinks) records[name].rebuilt[sink].version = event.version;
      TakeRemovals(event, removed, records, gone);
    } else if (event.kind == ControlKind::kActivated) {
      auto record = records.find(event.name);
      if (record != records.end() && record->second.generation == event.generation) {
        record->second.versions.push_back({event.version, event.boundary, root});
        if (is_then) record->second.active_version = event.version;
      } else if (auto back = gone.find({event.name, event.generation}); back != gone.end()) {
        if (!back->second.went_on) back->second.went_on = event.boundary;
      }
    } else if (event.kind == ControlKind::kPipelineEnded) {
      auto ended = gone.find({event.name, event.generation});
      if (ended != gone.end() && !ended->second.went_on)
        ended->second.stood.try_emplace(event.sink, event.boundary);
    } else if (event.kind == ControlKind::kTableDropped && is_then) {
      for (auto& [key, each] : gone) each.gone.insert("table:" + event.name);
    }
  }
  if (first_us == 0 || first_us > time_us)
    return Fail(NotFound("nothing had been applied yet at {}: the first time was {}", FormatTime(time_us),
                         FormatTime(first_us)));
  PastPipelines pipelines;
  auto add = [&](const std::string& name, const PipelineRecord& record) -> PastPipeline& {
    return pipelines
        .emplace(name, PastPipeline{record.generation, record.start.offsets, s.VersionsOf(name, record),
                                    record.rebuilt, record.active_version, std::nullopt})
        ->second;
  };
  for (const auto& [name, record] : records) add(name, record);
  for (const auto& [key, each] : gone) {
    const auto& [name, generation] = key;
    PastPipeline& past = add(name, each.record);
    past.ended.emplace();
    for (const auto& version : past.versions)
      for (const SinkConfig& sink : version->config.sinks) {
        if (sink.kind != "table" || each.gone.contains(sink.id)) continue;
        auto noted = each.stood.find(sink.id);
        Boundary& end = (*past.ended)[sink.id];
        end = noted != each.stood.end() ? noted->second : each.went_on.value_or(Boundary{});
        if (noted != each.stood.end() || each.went_on) continue;
        for (const auto& [partition, stored] : s.tables->Offsets({name, generation, sink.id}))
          end[partition] = stored.next;
      }
  }
  return pipelines;
}

Result<std::shared_ptr<Engine::PastPlace>> Engine::TakePastPlace() {
  constexpr size_t kPlaces = 2;
  // A question that was answered just now gives its place back a moment later.
  constexpr auto kWaitMax = std::chrono::milliseconds(1000), kLookEvery = std::chrono::milliseconds(5);
  const auto until = std::chrono::steady_clock::now() + kWaitMax;
  while (true) {
    {
      std::lock_guard lock(state_->past_mutex);
      std::erase_if(state_->past_places, [](const auto& place) { return place.expired(); });
      if (state_->past_places.size() < kPlaces) {
        auto place = std::make_shared<PastPlace>();
        state_->past_places.push_back(place);
        return place;
      }
    }
    if (std::chrono::steady_clock::now() >= until)
      return Fail(Exhausted("{} questions about the past are being answered already", kPlaces));
    std::this_thread::sleep_for(kLookEvery);
  }
}

std::vector<std::shared_ptr<const Engine::PastPlace>> Engine::PastPlaces() const {
  std::vector<std::shared_ptr<const PastPlace>> places;
  std::lock_guard lock(state_->past_mutex);
  for (const auto& each : state_->past_places)
    if (std::shared_ptr<const PastPlace> place = each.lock()) places.push_back(std::move(place));
  return places;
}

PastPipelines Engine::PipelinesNow() {
  State& s = *state_;
  std::shared_ptr<const Project> live = project();
  Catalog catalog = s.control->catalog();
  PastPipelines pipelines;
  for (const auto& [name, config] : live->pipelines) {
    auto record = catalog.pipelines().find(name);
    auto stream = live->streams.find(config.stream);
    if (record == catalog.pipelines().end() || stream == live->streams.end()) continue;
    uint64_t number = std::max<uint64_t>(record->second.active_version, 1);
    pipelines.emplace(
        name,
        PastPipeline{record->second.generation,
                     record->second.start.offsets,
                     {std::make_shared<PipelineVersion>(PipelineVersion{number, config, stream->second, {}})},
                     {},
                     number,
                     std::nullopt});
  }
  return pipelines;
}

}  // namespace millstream
