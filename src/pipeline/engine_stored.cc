// How far pipelines are that do not run here: as their tables' stored offsets say (a read-only Engine,
// `query` and `top` without a server).
#include "base/text.h"
#include "pipeline/engine_state.h"

namespace millstream {

std::optional<std::map<uint32_t, uint64_t>> Engine::State::NextOf(const std::string& pipeline,
                                                                  const SinkConfig& sink) const {
  auto running = pipelines.find(pipeline);
  if (running != pipelines.end()) return running->second->Delivered(sink.id);
  // Sinks of other kinds keep their offsets where only they look.
  if (sink.kind != "table") return std::nullopt;
  Stream* stream = log->Find(project->pipelines.at(pipeline).stream);
  Catalog catalog = control->catalog();
  auto record = catalog.pipelines().find(pipeline);
  if (stream == nullptr || record == catalog.pipelines().end()) return std::nullopt;
  auto offsets = tables->Offsets({pipeline, record->second.generation, sink.id});
  std::map<uint32_t, uint64_t> next;
  for (uint32_t p = 0; p < stream->partitions(); ++p) {
    auto stored = offsets.find(p);
    auto start = record->second.start.offsets.find(p);
    next[p] = stored != offsets.end()                       ? stored->second.next
              : start != record->second.start.offsets.end() ? start->second
                                                            : 0;
  }
  return next;
}

uint64_t Engine::State::EventsAfter(const std::string& stream,
                                    const std::map<uint32_t, uint64_t>& next) const {
  uint64_t events = 0;
  for (const auto& [partition, offset] : next) {
    uint64_t end = log->Find(stream)->partition(partition).bounds().durable_end;
    events += end > offset ? end - offset : 0;
  }
  return events;
}

void Engine::State::CountStopped(EngineStatus& status) const {
  Catalog catalog = control->catalog();
  for (const auto& [name, source] : project->sources) {
    bool is_paused = catalog.paused_sources().contains(name);
    status.sources.push_back({name, source.kind, source.stream, is_paused ? "paused" : "stopped", "", 0, 0});
  }
  for (const auto& [name, pipeline] : project->pipelines) {
    PipelineStatus& shown = status.pipelines.emplace_back();
    shown.name = name;
    shown.stream = pipeline.stream;
    auto record = catalog.pipelines().find(name);
    shown.state = record != catalog.pipelines().end() && record->second.paused ? "paused" : "stopped";
    if (record != catalog.pipelines().end()) shown.generation = record->second.generation;
    for (const FilterConfig& filter : pipeline.filters) shown.filters.push_back({filter.name, 0, 0, 0, 0, 0});
    for (const SinkConfig& sink : pipeline.sinks) {
      SinkStatus& each = shown.sinks.emplace_back();
      each.id = sink.id;
      each.state = shown.state;
      auto next = NextOf(name, sink);
      if (!next) continue;
      each.next.assign(next->begin(), next->end());
      each.lag_events = EventsAfter(pipeline.stream, *next);
      shown.lag_events = std::max(shown.lag_events, each.lag_events);
    }
  }
}

std::vector<Engine::TableLag> Engine::TableLags() const {
  const State& s = *state_;
  std::vector<TableLag> lags;
  std::shared_lock lock(s.mutex);
  for (const auto& [name, pipeline] : s.project->pipelines)
    for (const SinkConfig& sink : pipeline.sinks)
      if (auto next = s.NextOf(name, sink); next && sink.kind == "table")
        lags.push_back({s.TableOf(sink), pipeline.stream, s.EventsAfter(pipeline.stream, *next)});
  return lags;
}

Status Engine::CheckRoom() const {
  auto space = state_->options.fs->Space(state_->options.data_directory);
  if (!space) return OkStatus();
  const double floor = project()->server.limits.free_space * static_cast<double>(space->total_bytes);
  if (space->free_bytes > 0 && static_cast<double>(space->free_bytes) >= floor) return OkStatus();
  return Exhausted("the disk has {} free, which is less than server.limits.free_space",
                   FormatBytes(space->free_bytes));
}

bool Engine::is_held_back() const { return state_->is_held_back; }

Stream* Engine::FindStream(const std::string& name) {
  std::shared_ptr<const Project> live = project();
  bool is_ours = name == kControlStream;
  for (const auto& [stream, config] : live->streams)
    is_ours = is_ours || name == stream || name == DeadStreamName(stream);
  return is_ours ? log().Find(name) : nullptr;
}

}  // namespace millstream
