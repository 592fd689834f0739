#include "query/sandbox.h"

#include <sys/stat.h>

#include <filesystem>
#include <iterator>

#include "base/text.h"
#include "stage/isolated.h"

namespace millstream {
namespace {

constexpr int64_t kMeasureEveryNs = 1'000'000'000;
constexpr char kKeeper[] = "millstream";  // who pauses and resumes in its `_control`

struct Fill {
  uint64_t done = 0, total = 0;
  bool at_end = true;
  std::string failed;  // the first pipeline that does not go on
};

Fill FillOf(const EngineStatus& status) {
  Fill progress;
  std::map<std::string, const StreamStatus*> streams;
  for (const StreamStatus& stream : status.streams) streams[stream.name] = &stream;
  for (const PipelineStatus& pipeline : status.pipelines) {
    bool stands = pipeline.state == "failed" || (pipeline.state == "paused" && !pipeline.reason.empty());
    if (stands && progress.failed.empty())
      progress.failed = fmt::format("pipeline {}: {}", pipeline.name, pipeline.reason);
    auto stream = streams.find(pipeline.stream);
    if (stands || stream == streams.end()) continue;
    progress.at_end &= pipeline.state != "starting";
    for (const SinkStatus& sink : pipeline.sinks) {
      progress.at_end &= sink.lag_events == 0 && sink.state != "starting";
      for (const auto& [partition, next] : sink.next) {
        const Bounds& bounds = stream->second->partitions.at(partition);
        progress.total += bounds.durable_end - bounds.start;
        progress.done += std::min(next, bounds.durable_end) - std::min(next, bounds.start);
      }
    }
  }
  return progress;
}

}  // namespace

uint64_t OwnBytes(const std::string& directory) {
  uint64_t bytes = 0;
  std::error_code error;
  auto files = std::filesystem::recursive_directory_iterator(directory, error);
  for (; !error && files != std::filesystem::recursive_directory_iterator(); files.increment(error)) {
    struct stat info {};
    if (lstat(files->path().c_str(), &info) == 0 && S_ISREG(info.st_mode) && info.st_nlink == 1)
      bytes += static_cast<uint64_t>(info.st_size);
  }
  return bytes;
}

std::string SandboxStatus::ToJson() const {
  std::string out = "{\"name\":";
  AppendJsonString(out, record.name);
  out += ",\"state\":";
  AppendJsonString(out, state);
  if (!reason.empty()) {
    out += ",\"reason\":";
    AppendJsonString(out, reason);
  }
  out += ",\"as_of\":";
  AppendJsonString(out, record.as_of);
  out += ",\"positions\":{";
  for (const auto& [stream, ends] : record.ends) {
    if (stream.starts_with('_')) continue;
    Position position{stream, {}};
    for (const auto& [partition, end] : ends)
      if (end > 0) position.offsets[partition] = end - 1;
    if (!out.ends_with('{')) out += ',';
    AppendJsonString(out, stream);
    out += ':';
    AppendJsonString(out, position.offsets.empty() ? "" : position.ToString());
  }
  fmt::format_to(std::back_inserter(out),
                 "}},\"with_files\":{},\"allow_exec\":{},\"who\":", record.with_files, record.allow_exec);
  AppendJsonString(out, record.who);
  fmt::format_to(std::back_inserter(out),
                 ",\"created\":\"{}\",\"expires\":\"{}\",\"disk_bytes\":{},\"disk_max_bytes\":{},\"done\":{},"
                 "\"total\":{},\"events_per_second\":{:.0f}",
                 FormatTime(record.created_us), FormatTime(record.expires_us), disk_bytes, record.disk_bytes,
                 done, total, events_per_second);
  if (seconds_left) fmt::format_to(std::back_inserter(out), ",\"seconds_left\":{:.1f}", *seconds_left);
  if (filled_seconds) fmt::format_to(std::back_inserter(out), ",\"filled_seconds\":{:.3f}", *filled_seconds);
  out += ",\"outside\":[";
  for (const Outside& sink : outside) {
    if (!out.ends_with('[')) out += ',';
    out += "{\"pipeline\":";
    AppendJsonString(out, sink.pipeline);
    out += ",\"sink\":";
    AppendJsonString(out, sink.sink);
    fmt::format_to(std::back_inserter(out), ",\"rows\":{}}}", sink.rows);
  }
  return out + "]}";
}

Sandbox::Sandbox(Engine& live, Options options)
    : live_(live),
      options_(std::move(options)),
      registry_(Isolated(live.registry(), options_.record.allow_exec, options_.record.ends)) {}

Result<std::shared_ptr<Sandbox>> Sandbox::Open(Engine& live, Options options) {
  auto sandbox = std::shared_ptr<Sandbox>(new Sandbox(live, std::move(options)));
  Status opened = sandbox->OpenEngine();
  if (!opened.ok()) return Fail(opened.Within("sandbox " + sandbox->options_.record.name));
  return sandbox;
}

Status Sandbox::OpenEngine() {
  std::shared_ptr<const Project> live = live_.project();
  EngineOptions options;
  options.fs = &live_.fs();
  options.clock = &live_.clock();
  options.random = &live_.random();
  options.registry = &registry_;
  options.sql_workers = live_.sql_workers();
  options.applies_files = options_.files.has_value();
  options.project = options_.files ? std::move(*options_.files) : *live;
  options.project.directory = live->directory;
  options.project.server = live->server;
  options.project.server.memory_bytes = live->server.sandboxes.memory_bytes;
  options.starts = std::move(options_.starts);
  options.data_directory = options_.directory;
  options.who = options_.record.who;
  options.isolated = true;
  options.read_only = live_.read_only();
  options.on_fatal = [this](Status status) {
    std::lock_guard lock(mutex_);
    if (failure_.empty()) failure_ = status.message();
  };
  options_.files.reset();
  opened_ns_ = live_.clock().MonotonicNs();
  ASSIGN_OR_RETURN(engine_, Engine::Open(std::move(options)));
  if (!live_.read_only()) RETURN_IF_ERROR(engine_->Start());
  queries_ = std::make_unique<QueryRunner>(*engine_);
  {
    std::lock_guard lock(mutex_);
    standing_.record = options_.record;
    standing_.state = live_.read_only() ? "stopped" : "filling";
  }
  Measure();
  return OkStatus();
}

Sandbox::~Sandbox() {
  queries_.reset();
  if (engine_) (void)engine_->Stop(discard_);
}

void Sandbox::Measure() {
  disk_bytes_ = OwnBytes(options_.directory);
  taken_bytes_ = 0;
}

std::string Sandbox::FullText() const {
  return fmt::format("sandbox {} holds {} of the {} that it may; drop it, or make one with a larger --disk",
                     options_.record.name, FormatBytes(disk_bytes_), FormatBytes(options_.record.disk_bytes));
}

Status Sandbox::TakeIn(uint64_t bytes) {
  {
    std::lock_guard lock(mutex_);
    if (!failure_.empty())
      return Unavailable("sandbox {} has failed ({}); drop it and make another", options_.record.name,
                         failure_);
  }
  const uint64_t most = options_.record.disk_bytes;
  if (disk_bytes_ + (taken_bytes_ += bytes) <= most) return OkStatus();
  Measure();  // what came in may have become smaller
  taken_bytes_ += bytes;
  return disk_bytes_ + bytes <= most ? OkStatus() : Exhausted("{}", FullText());
}

void Sandbox::PausePipelines(bool paused) {
  if (has_paused_ == paused) return;
  has_paused_ = paused;
  for (const auto& [name, pipeline] : engine_->project()->pipelines)
    (void)engine_->SetPipelinePaused(name, paused, kKeeper);  // one that is broken stands still as it is
}

void Sandbox::Look() {
  EngineStatus now = engine_->TakeStatus();
  Fill progress = FillOf(now);
  // A stream sink may have appended behind the back of a reader that was looked at first.
  const bool was_at_end = std::exchange(at_end_, progress.at_end);
  const int64_t now_ns = live_.clock().MonotonicNs();
  const bool measures = now_ns - measured_ns_ >= kMeasureEveryNs;
  if (measures) Measure();
  const bool is_full = disk_bytes_ > options_.record.disk_bytes;
  if (!live_.read_only()) PausePipelines(is_full);
  std::lock_guard lock(mutex_);
  SandboxStatus& s = standing_;
  s.done = progress.done, s.total = progress.total;
  s.disk_bytes = disk_bytes_;
  s.outside.clear();
  for (const PipelineStatus& pipeline : now.pipelines) {
    auto config = engine_->project()->pipelines.find(pipeline.name);
    for (const SinkStatus& sink : pipeline.sinks) {
      if (config == engine_->project()->pipelines.end()) continue;
      for (const SinkConfig& each : config->second.sinks)
        if (each.id == sink.id && !IsInside(each.kind))
          s.outside.push_back({pipeline.name, sink.id, sink.rows});
    }
  }
  if (measures && s.state == "filling") {
    double seconds = static_cast<double>(now_ns - std::max(measured_ns_, opened_ns_)) / 1e9;
    s.events_per_second =
        static_cast<double>(progress.done - std::min(measured_done_, progress.done)) / seconds;
    measured_done_ = progress.done;
  }
  if (measures) measured_ns_ = now_ns;
  if (progress.at_end && was_at_end && !s.filled_seconds && s.state == "filling") {
    s.filled_seconds = static_cast<double>(now_ns - opened_ns_) / 1e9;
    s.events_per_second = static_cast<double>(s.total) / *s.filled_seconds;
    s.state = "ready";
  }
  s.seconds_left.reset();
  if (s.state == "filling" && s.events_per_second > 0)
    s.seconds_left = static_cast<double>(progress.total - progress.done) / s.events_per_second;
  s.reason = !failure_.empty() ? failure_ : is_full ? FullText() : progress.failed;
}

SandboxStatus Sandbox::status() const {
  std::lock_guard lock(mutex_);
  SandboxStatus status = standing_;
  if (!failure_.empty())
    status.state = "failed", status.reason = failure_;
  else if (disk_bytes_ > options_.record.disk_bytes)
    status.state = "full", status.reason = FullText();
  else if (!status.reason.empty() && status.state != "stopped")
    status.state = "failed";
  return status;
}

}  // namespace millstream
