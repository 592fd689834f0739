// Counting what runs, rates between samples, and the low-water marks of retention.
#include <iterator>

#include "base/logging.h"
#include "pipeline/engine_state.h"
#include "pipeline/object_text.h"

namespace millstream {
namespace {

double Rate(uint64_t now, uint64_t before, double seconds) {
  return seconds > 0 && now >= before ? static_cast<double>(now - before) / seconds : 0;
}

template <typename List>
auto FindNamed(const List& list, const std::string& name) {
  return std::find_if(list.begin(), list.end(), [&](const auto& each) { return each.name == name; });
}

}  // namespace

EngineStatus Engine::State::Count() const {
  EngineStatus status;
  status.version = MILLSTREAM_VERSION;
  status.idempotency_window_us = LogOptions().key_receipt_window_us;
  status.catalog_version = control->catalog().version();
  std::shared_ptr<const LetterBook> letters = control->letters();
  std::shared_lock lock(mutex);
  for (const auto& [name, ingest] : ingests) {
    StreamStatus& stream = status.streams.emplace_back();
    stream.name = name;
    for (uint32_t p = 0; p < ingest->stream().partitions(); ++p) {
      Bounds bounds = ingest->stream().partition(p).bounds();
      stream.events += bounds.durable_end - bounds.start;
      stream.bytes += bounds.bytes;
      stream.partitions.push_back(bounds);
      if (bounds.key_receipts_since_us > 0)
        status.idempotency_window_us =
            std::min(status.idempotency_window_us, options.clock->WallUs() - bounds.key_receipts_since_us);
    }
    stream.dead = dead_letters->Count(name);
    stream.dead_open = letters->OpenOf(name, stream.dead);
    stream.bytes_in = ingest->bytes_in();
    stream.dedupe_window_us = ingest->dedupe_window_us();
    stream.dedupe_shrunk =
        !ingest->config().dedupe_by.empty() && stream.dedupe_window_us < ingest->config().dedupe_window_us;
    status.data_bytes += stream.bytes;
  }
  if (auto info = options.fs->Stat(folder->tables_path())) status.data_bytes += info->size;
  if (options.read_only) CountStopped(status);
  for (const auto& [name, source] : sources) status.sources.push_back(source->runner.status());
  for (const auto& [name, pipeline] : pipelines) status.pipelines.push_back(pipeline->status());
  for (const auto& [name, reason] : broken_pipelines) {
    PipelineStatus& broken = status.pipelines.emplace_back();
    broken.name = name;
    broken.state = "failed";
    broken.reason = reason;
    auto config = project->pipelines.find(name);
    if (config != project->pipelines.end()) broken.stream = config->second.stream;
  }
  return status;
}

void Engine::State::FillRates(EngineStatus& status) {
  std::lock_guard lock(rates_mutex);
  double seconds = static_cast<double>(options.clock->MonotonicNs() - earlier_ns) / 1e9;
  if (earlier_ns == 0) return;
  for (StreamStatus& stream : status.streams) {
    auto before = FindNamed(earlier.streams, stream.name);
    if (before == earlier.streams.end()) continue;
    stream.in_per_s = Rate(stream.events, before->events, seconds);
    stream.bytes_per_s = Rate(stream.bytes_in, before->bytes_in, seconds);
  }
  for (SourceStatus& source : status.sources) {
    auto before = FindNamed(earlier.sources, source.name);
    if (before != earlier.sources.end()) source.events_per_s = Rate(source.events, before->events, seconds);
  }
  for (PipelineStatus& pipeline : status.pipelines) {
    auto before = FindNamed(earlier.pipelines, pipeline.name);
    if (before == earlier.pipelines.end()) continue;
    pipeline.in_per_s = Rate(pipeline.in, before->in, seconds);
    pipeline.out_per_s = Rate(pipeline.out, before->out, seconds);
    for (size_t i = 0; i < pipeline.filters.size() && i < before->filters.size(); ++i) {
      pipeline.filters[i].in_per_s = Rate(pipeline.filters[i].in, before->filters[i].in, seconds);
      pipeline.filters[i].out_per_s = Rate(pipeline.filters[i].out, before->filters[i].out, seconds);
    }
    for (size_t i = 0; i < pipeline.sinks.size() && i < before->sinks.size(); ++i)
      pipeline.sinks[i].rows_per_s = Rate(pipeline.sinks[i].rows, before->sinks[i].rows, seconds);
  }
}

/// A window that holds fewer keys than came says so once for each half that it lost.
void Engine::State::WarnOfWindows(const EngineStatus& status) {
  if (options.logger == nullptr) return;
  auto warn = [&](const std::string& what, const std::string& stream, int64_t window_us, int64_t full_us) {
    int64_t& warned_us = warned_windows_us.try_emplace(stream, full_us).first->second;
    if (window_us * 2 > warned_us) return;
    warned_us = window_us;
    options.logger->Warn(what + " remembers less than it should",
                         {{"stream", stream}, {"seconds", std::to_string(window_us / 1'000'000)}});
  };
  warn("the Idempotency-Key window", "", status.idempotency_window_us, LogOptions().key_receipt_window_us);
  for (const StreamStatus& stream : status.streams)
    if (stream.dedupe_shrunk)
      warn("the dedupe window", stream.name, stream.dedupe_window_us,
           project->streams.at(stream.name).dedupe_window_us);
}

void Engine::State::SetLowWater() {
  Catalog catalog = control->catalog();
  std::shared_lock lock(mutex);
  for (const auto& [name, ingest] : ingests) {
    for (uint32_t p = 0; p < ingest->stream().partitions(); ++p) {
      uint64_t low = UINT64_MAX;
      for (const auto& [pipeline_name, pipeline] : pipelines)
        if (pipeline->stream_name() == name) low = std::min(low, pipeline->LowWater(p));
      // A pipeline that does not run keeps everything that it may still need.
      for (const auto& [broken, reason] : broken_pipelines) {
        auto config = project->pipelines.find(broken);
        if (config != project->pipelines.end() && config->second.stream == name) low = 0;
      }
      for (const auto& [id, record] : catalog.replays()) {
        if (!record.is_open()) continue;
        auto running = replays.find(id);
        if (running != replays.end() && running->second->run) {
          low = std::min(low, running->second->run->LowWater(name, p));
          continue;
        }
        for (const auto& [pipeline_name, start] : record.spec.starts)
          if (start.stream == name && start.offsets.contains(p)) low = std::min(low, start.offsets.at(p));
      }
      ingest->stream().partition(p).SetLowWater(low);
    }
  }
}

std::string EngineStatus::ToJson() const {
  std::string out;
  {
    ObjectText object(out);
    object.Text("version", version)
        .Number("up_us", up_us)
        .Text("url", url)
        .Number("data_bytes", data_bytes)
        .Number("free_bytes", free_bytes);
    object.Number("rss_bytes", rss_bytes).Number("catalog_version", catalog_version);
    object.Number("idempotency_window_us", idempotency_window_us);
    object.Array("streams", streams, [&](const StreamStatus& s) {
      ObjectText stream(out);
      stream.Text("name", s.name).Number("events", s.events).Number("bytes", s.bytes).Number("dead", s.dead);
      stream.Number("dead_open", s.dead_open);
      stream.Rate("in_per_s", s.in_per_s).Rate("bytes_per_s", s.bytes_per_s);
      uint32_t index = 0;
      stream.Array("partitions", s.partitions, [&](const Bounds& b) {
        ObjectText partition(out);
        partition.Number("partition", index++)
            .Number("start", b.start)
            .Number("end", b.durable_end)
            .Number("epoch", b.epoch);
        partition.Number("bytes", b.bytes).Number("segments", b.segments);
      });
    });
    object.Array("sources", sources, [&](const SourceStatus& s) {
      ObjectText source(out);
      source.Text("name", s.name)
          .Text("kind", s.kind)
          .Text("stream", s.stream)
          .Text("state", s.state)
          .Text("reason", s.reason);
      source.Number("events", s.events).Rate("events_per_s", s.events_per_s);
    });
    object.Array("pipelines", pipelines, [&](const PipelineStatus& p) {
      ObjectText pipeline(out);
      pipeline.Text("name", p.name).Text("stream", p.stream).Text("state", p.state).Text("reason", p.reason);
      pipeline.Number("generation", p.generation)
          .Number("version", p.version)
          .Number("lag_events", p.lag_events);
      pipeline.Rate("lag_seconds", p.lag_seconds)
          .Number("in", p.in)
          .Number("out", p.out)
          .Number("dead", p.dead);
      pipeline.Rate("in_per_s", p.in_per_s).Rate("out_per_s", p.out_per_s).Number("p99_us", p.p99_us);
      pipeline.Array("filters", p.filters, [&](const FilterStatus& f) {
        ObjectText filter(out);
        filter.Text("name", f.name).Number("in", f.in).Number("out", f.out).Number("dead", f.dead);
        filter.Rate("in_per_s", f.in_per_s).Rate("out_per_s", f.out_per_s);
      });
      pipeline.Array("sinks", p.sinks, [&](const SinkStatus& s) {
        ObjectText sink(out);
        sink.Text("id", s.id)
            .Text("state", s.state)
            .Text("reason", s.reason)
            .Number("rows", s.rows)
            .Number("retries", s.retries);
        sink.Number("lag_events", s.lag_events)
            .Rate("lag_seconds", s.lag_seconds)
            .Rate("rows_per_s", s.rows_per_s);
        sink.Array("next", s.next, [&](const std::pair<uint32_t, uint64_t>& next) {
          ObjectText offset(out);
          offset.Number("partition", next.first).Number("offset", next.second);
        });
      });
    });
  }
  return out;
}

Status IngestRefusal::ToStatus(const std::string& subject) const {
  std::string text = status.message();
  for (const IngestFault& fault : faults) {
    const std::string where = fault.line == 0   ? fmt::format("event {}", fault.index)
                              : subject.empty() ? fmt::format("line {}", fault.line)
                                                : fmt::format("{}#{}", subject, fault.line);
    text += fmt::format("\n  {}: {}{}{}", where, fault.path, fault.path.empty() ? "" : ": ", fault.message);
  }
  return {status.code(), std::move(text)};
}

std::string IngestAnswer::ToJson() const {
  std::string out;
  {
    ObjectText object(out);
    object.Number("accepted", accepted).Number("quarantined", quarantined).Number("duplicates", duplicates);
    object.Text("position", position.offsets.empty() ? "" : position.ToString())
        .Text("ack", ack == AckMode::kDurable ? "durable" : "written");
    object.Array("partitions", partitions, [&](const PartitionRange& range) {
      ObjectText partition(out);
      partition.Number("partition", range.partition).Number("first", range.first).Number("last", range.last);
    });
    object.Array("faults", faults, [&](const IngestFault& f) {
      ObjectText fault(out);
      fault.Number("index", f.index);
      if (f.line > 0) fault.Number("line", f.line);
      fault.Text("code", f.code).Text("path", f.path).Text("message", f.message);
      if (f.dead) fault.Number("dead", *f.dead);
    });
  }
  return out;
}

}  // namespace millstream
