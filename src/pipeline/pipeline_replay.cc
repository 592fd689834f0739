// PipelineRuntime: dead letters that one of its sinks takes again, beside the live events.
#include "pipeline/pipeline_runtime.h"

namespace millstream {

PipelineRuntime::RunningSink* PipelineRuntime::FindSink(const std::string& id) const {
  auto found =
      std::find_if(sinks_.begin(), sinks_.end(), [&](const auto& sink) { return sink->config.id == id; });
  return found == sinks_.end() ? nullptr : found->get();
}

Status PipelineRuntime::Replay(const LettersAgain& again) {
  Version version = gate_.latest();
  for (const Version& each : gate_.versions())
    if (each->number == again.version) version = each;
  auto whole = std::make_shared<PipelineVersion>(*version);
  whole->from.clear();  // it owns these events wherever they lie
  auto replay = std::make_unique<RunningReplay>();
  replay->id = again.id;
  replay->gate = std::make_unique<VersionGate>(std::vector<Version>{whole});
  {
    std::lock_guard threads(threads_mutex_);
    std::unique_lock lock(sinks_mutex_);
    RunningSink* sink = FindSink(again.sink);
    if (sink == nullptr) return NotFound("pipeline {} has no sink {}", name_, again.sink);
    for (const auto& [partition, letters] : again.letters) {
      LoopContext loop = LoopContextOf(*sink, partition);
      loop.gate = replay->gate.get();
      loop.replay = LoopReplay{again.id, again.slot + partition, letters};
      auto running = std::make_unique<Running>();
      running->partition = partition;
      running->loop = std::make_unique<DeliveryLoop>(std::move(loop));
      replay->loops.push_back(std::move(running));
    }
    sink->replays.push_back(std::move(replay));
  }
  if (started_) StartLoops();
  return OkStatus();
}

PipelineRuntime::ReplayState PipelineRuntime::ReplayOf(uint64_t id, const std::string& sink_id) const {
  ReplayState state;
  std::shared_lock lock(sinks_mutex_);
  const RunningSink* sink = FindSink(sink_id);
  if (sink == nullptr) return state;
  for (const auto& replay : sink->replays) {
    if (replay->id != id) continue;
    state.is_there = state.done = true;
    for (const auto& running : replay->loops) {
      if (running->loop->done()) continue;
      state.done = false;
      DeliveryLoop::Snapshot shown = running->loop->snapshot();
      if (shown.state != "live" && shown.state != "starting")
        state.reason = shown.reason.empty() ? shown.state : shown.reason;
    }
  }
  return state;
}

void PipelineRuntime::ForgetReplay(uint64_t id) {
  std::vector<std::unique_ptr<RunningReplay>> ended;
  {
    std::lock_guard threads(threads_mutex_);
    std::unique_lock lock(sinks_mutex_);
    for (const auto& sink : sinks_) {
      auto first = std::stable_partition(sink->replays.begin(), sink->replays.end(),
                                         [&](const auto& replay) { return replay->id != id; });
      std::move(first, sink->replays.end(), std::back_inserter(ended));
      sink->replays.erase(first, sink->replays.end());
    }
  }
  for (const auto& replay : ended)
    for (const auto& running : replay->loops)
      if (running->thread.joinable()) running->thread.join();
}

Result<std::string> PipelineRuntime::RefusesOlder(const std::string& sink_id) const {
  std::shared_lock lock(sinks_mutex_);
  const RunningSink* sink = FindSink(sink_id);
  if (sink == nullptr) return Fail(NotFound("pipeline {} has no sink {}", name_, sink_id));
  return sink->shared->sink().RefusesOlder();
}

Result<Boundary> PipelineRuntime::StuckAt(const std::string& sink_id,
                                          std::optional<uint32_t> partition) const {
  Boundary stuck;
  std::string why_closed;
  auto closed = [&](const std::string& why) {
    return Fail(
        Conflict("sink {} of pipeline {} is not open: {}; where it stands is not known before it is, so "
                 "no event can be set aside",
                 sink_id, name_, why));
  };
  std::shared_lock lock(sinks_mutex_);
  const RunningSink* sink = FindSink(sink_id);
  if (sink == nullptr) {
    if (auto unmade = unmade_sinks_.find(sink_id); unmade != unmade_sinks_.end())
      return closed(unmade->second.message());
    for (const Leaving& leaving : leaving_)
      if (leaving.next && leaving.next->id == sink_id) return closed("its settings are being changed");
    return Fail(NotFound("pipeline {} has no sink '{}'", name_, sink_id));
  }
  for (const auto& running : sink->loops) {
    DeliveryLoop::Snapshot shown = running->loop->snapshot();
    if (!running->loop->is_open()) {
      if (!partition || *partition == running->partition)
        why_closed = shown.reason.empty() ? "it is " + shown.state : shown.reason;
      continue;
    }
    bool is_meant =
        partition ? *partition == running->partition : shown.state == "degraded" || shown.state == "failed";
    uint64_t end = stream_->partition(running->partition).bounds().durable_end;
    if (is_meant && running->loop->next() < end) stuck[running->partition] = running->loop->next();
  }
  if (stuck.empty() && !why_closed.empty()) return closed(why_closed);
  return stuck;
}

void PipelineRuntime::Skip(const std::string& sink_id, const Boundary& to) {
  {
    std::unique_lock lock(sinks_mutex_);
    for (const auto& [partition, offset] : to) {
      uint64_t& known = skips_[sink_id][partition];
      known = std::max(known, offset);
    }
    const RunningSink* sink = FindSink(sink_id);
    if (sink == nullptr) return;
    for (const auto& running : sink->loops)
      if (to.contains(running->partition)) running->loop->SkipTo(to.at(running->partition));
  }
  ResumeFailed();  // what failed may be what was skipped
}

std::optional<std::string> PipelineRuntime::TakeExceeded() {
  if (!allowance_.exceeded() || told_exceeded_.exchange(true)) return std::nullopt;
  return allowance_.reason();
}

}  // namespace millstream
