// PipelineRuntime::status: what its loops show, put together.
#include <algorithm>

#include "pipeline/pipeline_runtime.h"

namespace millstream {
namespace {

/// The worse of two states decides what a pipeline shows.
int Severity(const std::string& state) {
  static const std::vector<std::string> order{"done",   "live",     "catching_up", "starting",
                                              "paused", "degraded", "failed"};
  return static_cast<int>(std::find(order.begin(), order.end(), state) - order.begin());
}

}  // namespace

PipelineStatus PipelineRuntime::status() const {
  PipelineStatus status;
  Version version = gate_.latest();
  status.name = name_;
  status.stream = stream_name_;
  status.generation = generation_;
  status.version = version->number;
  status.p99_us = latency_.PercentileUs(0.99, context_.clock->MonotonicNs());
  for (const FilterConfig& filter : version->config.filters)
    status.filters.push_back({filter.name, 0, 0, 0, 0, 0});
  std::shared_lock lock(sinks_mutex_);
  status.state = sinks_.empty() ? "live" : "done";
  for (const auto& sink : sinks_) AddStatus(*sink, sink == sinks_.front(), status);
  for (const Leaving& leaving : leaving_) {
    if (!leaving.next) continue;
    AddStatus(*leaving.sink, false, status);
    status.sinks.back().state = "starting";
    status.sinks.back().reason = "it waits for what it delivers with its old settings";
  }
  for (const SinkStatus& shown : status.sinks) {
    status.lag_events = std::max(status.lag_events, shown.lag_events);
    status.lag_seconds = std::max(status.lag_seconds, shown.lag_seconds);
    if (Severity(shown.state) > Severity(status.state)) {
      status.state = shown.state;
      status.reason = shown.reason.empty() ? "" : shown.id + ": " + shown.reason;
    }
  }
  if (status.state == "paused" && status.reason.empty()) status.reason = paused_because_;
  for (const auto& [id, fault] : unmade_sinks_) {
    SinkStatus& shown = status.sinks.emplace_back();
    shown.id = id;
    shown.state = status.state = "failed";
    shown.reason = fault.message();
    status.reason = fmt::format("{}: {}", id, fault.message());
  }
  return status;
}

/// Filters run once a sink; the first sink's counts stand for the pipeline.
void PipelineRuntime::AddStatus(const RunningSink& sink, bool is_first, PipelineStatus& status) const {
  SinkStatus& shown = status.sinks.emplace_back();
  shown.id = sink.config.id;
  shown.state = sink.loops.empty() ? "live" : "done";
  int64_t now_us = context_.clock->WallUs();
  for (const auto& running : sink.loops) {
    DeliveryLoop::Snapshot loop = running->loop->snapshot();
    std::string state = paused_ && loop.state != "failed" ? "paused" : loop.state;
    if (Severity(state) > Severity(shown.state)) {
      shown.state = state;
      shown.reason = loop.reason;
    }
    uint64_t durable_end = stream_->partition(running->partition).bounds().durable_end;
    uint64_t next = running->loop->next();
    shown.lag_events += durable_end > next ? durable_end - next : 0;
    if (durable_end > next && loop.oldest_undelivered_us > 0)
      shown.lag_seconds =
          std::max(shown.lag_seconds, static_cast<double>(now_us - loop.oldest_undelivered_us) / 1e6);
    shown.rows += loop.rows;
    shown.retries += loop.retries;
    if (running->loop->is_open()) shown.next.emplace_back(running->partition, next);
    status.dead += loop.dead;
    if (!is_first) continue;
    status.in += loop.events;
    status.out += loop.rows;
    for (FilterStatus& filter : status.filters) {
      auto counts = loop.filters.find(filter.name);
      if (counts == loop.filters.end()) continue;
      filter.in += counts->second.in;
      filter.out += counts->second.out;
      filter.dead += counts->second.dead;
    }
  }
}

}  // namespace millstream
