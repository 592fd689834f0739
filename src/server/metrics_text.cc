#include "server/metrics_text.h"

#include <iterator>

namespace millstream {
namespace {

using Labels = std::vector<std::pair<std::string_view, std::string_view>>;

std::string LabelText(const Labels& labels) {
  std::string out;
  for (const auto& [name, value] : labels) {
    fmt::format_to(std::back_inserter(out), "{}{}=\"", out.empty() ? "{" : ",", name);
    for (char c : value) {
      if (c == '\\' || c == '"') out += '\\';
      c == '\n' ? out += "\\n" : out += c;
    }
    out += '"';
  }
  return out.empty() ? out : out + "}";
}

/// One metric: its heading, then its samples.
class Family {
 public:
  Family(std::string& out, std::string_view name, std::string_view type, std::string_view help)
      : out_(out), name_(name) {
    fmt::format_to(std::back_inserter(out_), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  }
  void Add(const Labels& labels, auto value) {
    fmt::format_to(std::back_inserter(out_), "{}{} {}\n", name_, LabelText(labels), value);
  }

 private:
  std::string& out_;
  const std::string_view name_;
};

constexpr std::string_view kStates[] = {"starting", "catching_up", "live", "paused", "degraded", "failed"};
constexpr std::string_view kSandboxStates[] = {"starting", "filling", "ready", "full", "failed"};

void AppendStreams(std::string& out, const EngineStatus& status) {
  Family events(out, "millstream_stream_events_total", "counter", "Events that were ever taken in.");
  for (const StreamStatus& s : status.streams) {
    uint64_t sum = 0;
    for (const Bounds& bounds : s.partitions) sum += bounds.durable_end;
    events.Add({{"stream", s.name}}, sum);
  }
  Family bytes(out, "millstream_stream_bytes_total", "counter", "Bytes of data taken in since the start.");
  for (const StreamStatus& s : status.streams) bytes.Add({{"stream", s.name}}, s.bytes_in);
  Family kept(out, "millstream_stream_kept_bytes", "gauge", "Bytes of the stream's segments.");
  for (const StreamStatus& s : status.streams) kept.Add({{"stream", s.name}}, s.bytes);
  Family window(out, "millstream_dedupe_window_seconds", "gauge",
                "How far back duplicates are known; less than `window` where more keys came than it holds.");
  for (const StreamStatus& s : status.streams)
    if (s.dedupe_window_us > 0)
      window.Add({{"stream", s.name}}, static_cast<double>(s.dedupe_window_us) / 1e6);
  Family dead(out, "millstream_dead_letters_total", "counter", "Dead letters that are kept.");
  for (const StreamStatus& s : status.streams) dead.Add({{"stream", s.name}}, s.dead);
  Family open(out, "millstream_dead_letters_open", "gauge", "Dead letters neither sent again nor dropped.");
  for (const StreamStatus& s : status.streams) open.Add({{"stream", s.name}}, s.dead_open);
}

void AppendPipelines(std::string& out, const EngineStatus& status) {
  Family lag(out, "millstream_pipeline_lag_events", "gauge",
             "Events that the slowest sink has not delivered yet.");
  for (const PipelineStatus& p : status.pipelines) lag.Add({{"pipeline", p.name}}, p.lag_events);
  Family seconds(out, "millstream_pipeline_lag_seconds", "gauge",
                 "Age of the oldest event that is not delivered yet.");
  for (const PipelineStatus& p : status.pipelines) seconds.Add({{"pipeline", p.name}}, p.lag_seconds);
  Family state(out, "millstream_pipeline_state", "gauge", "1 for the state that the pipeline is in.");
  for (const PipelineStatus& p : status.pipelines)
    for (std::string_view each : kStates)
      state.Add({{"pipeline", p.name}, {"state", each}}, p.state == each ? 1 : 0);
}

void AppendFilters(std::string& out, const EngineStatus& status) {
  auto each = [&](Family family, uint64_t FilterStatus::*count) {
    for (const PipelineStatus& p : status.pipelines)
      for (const FilterStatus& f : p.filters)
        family.Add({{"pipeline", p.name}, {"filter", f.name}}, f.*count);
  };
  each(Family(out, "millstream_filter_in_total", "counter", "Rows that the filter was given."),
       &FilterStatus::in);
  each(Family(out, "millstream_filter_out_total", "counter", "Rows that the filter gave."),
       &FilterStatus::out);
}

void AppendSinks(std::string& out, const EngineStatus& status) {
  auto each = [&](Family family, uint64_t SinkStatus::*count) {
    for (const PipelineStatus& p : status.pipelines)
      for (const SinkStatus& s : p.sinks) family.Add({{"pipeline", p.name}, {"sink", s.id}}, s.*count);
  };
  each(Family(out, "millstream_sink_rows_total", "counter", "Rows that were delivered."), &SinkStatus::rows);
  each(Family(out, "millstream_sink_retries_total", "counter", "Deliveries that were tried again."),
       &SinkStatus::retries);
}

}  // namespace

std::string MetricsText(const EngineStatus& status) {
  std::string out;
  AppendStreams(out, status);
  AppendPipelines(out, status);
  AppendFilters(out, status);
  AppendSinks(out, status);
  Family(out, "millstream_idempotency_window_seconds", "gauge",
         "How far back every Idempotency-Key is known.")
      .Add({}, static_cast<double>(status.idempotency_window_us) / 1e6);
  Family(out, "millstream_disk_used_bytes", "gauge", "Bytes of the data folder.").Add({}, status.data_bytes);
  Family(out, "millstream_disk_free_bytes", "gauge", "Bytes that are free on its disk.")
      .Add({}, status.free_bytes);
  Family(out, "millstream_resident_bytes", "gauge", "Memory of the process.").Add({}, status.rss_bytes);
  Family(out, "millstream_up_seconds", "gauge", "Time since the start.")
      .Add({}, static_cast<double>(status.up_us) / 1e6);
  return out;
}

std::string MetricsText(const std::vector<SandboxStatus>& sandboxes) {
  std::string out;
  Family bytes(out, "millstream_sandbox_disk_bytes", "gauge", "Bytes that the sandbox alone holds.");
  for (const SandboxStatus& s : sandboxes) bytes.Add({{"sandbox", s.record.name}}, s.disk_bytes);
  Family state(out, "millstream_sandbox_state", "gauge", "1 for the state that the sandbox is in.");
  for (const SandboxStatus& s : sandboxes)
    for (std::string_view each : kSandboxStates)
      state.Add({{"sandbox", s.record.name}, {"state", each}}, s.state == each ? 1 : 0);
  return out;
}

}  // namespace millstream
