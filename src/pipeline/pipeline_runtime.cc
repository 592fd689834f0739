#include "pipeline/pipeline_runtime.h"

#include "base/fault.h"
#include "catalog/checker.h"
#include "stage/table_options.h"

namespace millstream {
namespace {

/// The worse of two states decides what a pipeline shows.
int Severity(const std::string& state) {
  static const std::vector<std::string> order{"live",   "catching_up", "starting",
                                              "paused", "degraded",    "failed"};
  return static_cast<int>(std::find(order.begin(), order.end(), state) - order.begin());
}

}  // namespace

PipelineRuntime::PipelineRuntime(RuntimeContext context, uint64_t generation,
                                 std::vector<std::shared_ptr<const PipelineVersion>> versions,
                                 std::map<uint32_t, uint64_t> start)
    : context_(std::move(context)),
      generation_(generation),
      versions_(std::move(versions)),
      start_(std::move(start)) {}

PipelineRuntime::~PipelineRuntime() { Stop(); }

Status PipelineRuntime::Open() {
  stream_ = context_.log->Find(config().stream);
  if (stream_ == nullptr) return NotFound("pipeline {}: no stream '{}'", config().name, config().stream);
  for (const SinkConfig& sink : config().sinks)
    RETURN_IF_ERROR(MakeSink(sink).Within(fmt::format("pipeline {}, sink {}", config().name, sink.id)));
  for (const auto& sink : sinks_)
    if (!sink->sink().remote()) RETURN_IF_ERROR(OpenSink(*sink));
  return OkStatus();
}

Status PipelineRuntime::OpenRemote() {
  for (const auto& sink : sinks_)
    if (sink->sink().remote()) RETURN_IF_ERROR(OpenSink(*sink));
  return OkStatus();
}

/// A sink that is broken holds back nobody: its loops go on with it.
Status PipelineRuntime::OpenSink(SharedSink& sink) {
  if (!sink.EnsureOpen().status.ok()) return OkStatus();
  for (const auto& running : running_)
    if (running->sink == &sink)
      RETURN_IF_ERROR(
          running->loop->TakeStored().Within(fmt::format("pipeline {}, sink {}", config().name, sink.id())));
  return OkStatus();
}

SinkContext PipelineRuntime::MakeSinkContext(const SinkConfig& config) {
  appenders_.push_back(std::make_unique<EngineAppender>(context_.find_stream, context_.stream_names));
  SinkContext context;
  context.pipeline = this->config().name;
  context.generation = generation_;
  context.data_uuid = context_.data_uuid;
  context.id = config.id;
  context.stream = this->config().stream;
  context.partitions = stream_->partitions();
  context.project_directory = context_.project_directory;
  context.data_directory = context_.sinks_directory;
  context.fs = context_.fs;
  context.clock = context_.clock;
  context.database = context_.database;
  context.tables = context_.tables;
  context.appender = appenders_.back().get();
  return context;
}

Status PipelineRuntime::MakeSink(const SinkConfig& config) {
  auto kind = context_.registry->sinks().find(config.kind);
  if (kind == context_.registry->sinks().end()) return NotFound("no sink kind '{}'", config.kind);
  SinkContext sink_context = MakeSinkContext(config);
  if (config.kind == "table") {
    ASSIGN_OR_RETURN(sink_context.key_in_one_partition, KeyInOnePartition(config));
  }
  auto sink = kind->second.make(config.options, sink_context);
  if (!sink) {
    unmade_sinks_[config.id] = sink.error();
    return OkStatus();
  }
  RunnerContext runner{context_.database,          context_.registry,        context_.clock,
                       context_.project_directory, (*sink)->WantedColumns(), (*sink)->wants_deletes()};
  // What does not bind is known before the first event comes.
  const PipelineVersion& live = *versions_.back();
  ASSIGN_OR_RETURN(auto bound, PipelineRunner::Make(runner, live.config, live.stream));
  sinks_.push_back(std::make_unique<SharedSink>(
      SharedSink::Context{this->config().name, config.id, context_.clock, context_.random, context_.logger},
      std::move(*sink), SharedSink::Layout{live.number, bound->columns(), bound->visible()}));
  for (uint32_t p = 0; p < stream_->partitions(); ++p) {
    LoopContext loop;
    loop.pipeline = this->config().name;
    loop.generation = generation_;
    loop.stream = this->config().stream;
    loop.partition_index = p;
    loop.partition = &stream_->partition(p);
    loop.dead_letters = context_.dead_letters;
    loop.runner = runner;
    loop.sink = sinks_.back().get();
    loop.versions = versions_;
    auto start = start_.find(p);
    loop.start = std::max(start == start_.end() ? 0 : start->second, stream_->partition(p).bounds().start);
    loop.batch_events = context_.limits.batch_events;
    loop.batch_bytes = context_.limits.batch_bytes;
    loop.clock = context_.clock;
    loop.random = context_.random;
    loop.watchdog = context_.watchdog;
    loop.latency = &latency_;
    loop.progress = context_.progress;
    if (config.kind == "table") loop.on_fatal = context_.on_fatal;
    running_.push_back(std::make_unique<Running>(
        Running{sinks_.back().get(), p, std::make_unique<DeliveryLoop>(std::move(loop)), {}}));
  }
  return OkStatus();
}

/// Every version counts: an old one owns what lies before the boundary of the next, also of a table that is
/// made anew.
Result<bool> PipelineRuntime::KeyInOnePartition(const SinkConfig& config) const {
  Faults none;  // the loader has reported them
  TableOptions table = TableOptionsSpec().Parse(config.options, {config.path, "", &none});
  if (table.key.empty() || context_.count_writers(table.name) != 1) return false;
  ASSIGN_OR_FAIL(auto connection, context_.database->Connect());
  for (const auto& version : versions_)
    if (!OnePartitionAKey(*connection, version->stream, version->config, table.key)) return false;
  return true;
}

void PipelineRuntime::Start(bool paused) {
  std::lock_guard lock(threads_mutex_);
  paused_ = paused;
  for (auto& running : running_) {
    running->loop->SetPaused(paused);
    if (!running->thread.joinable())
      running->thread = std::jthread([loop = running->loop.get()](std::stop_token stop) { loop->Run(stop); });
  }
}

void PipelineRuntime::Stop() {
  std::lock_guard lock(threads_mutex_);
  for (auto& running : running_) running->thread.request_stop();
  for (auto& sink : sinks_) sink->Interrupt();
  for (auto& running : running_)
    if (running->thread.joinable()) running->thread.join();
  for (auto& sink : sinks_)
    if (auto status = sink->Close(); !status.ok() && context_.on_fatal && status.code() == Code::kIo)
      context_.on_fatal(status);
  running_.clear();
  sinks_.clear();
}

void PipelineRuntime::SetPaused(bool paused) {
  std::lock_guard lock(threads_mutex_);
  paused_ = paused;
  for (auto& running : running_) {
    running->loop->SetPaused(paused);
    // Going on after a failure takes a new thread over the same loop.
    if (!paused && running->loop->failed() && running->thread.joinable()) {
      running->thread.join();
      running->loop->Reset();
      running->thread = std::jthread([loop = running->loop.get()](std::stop_token stop) { loop->Run(stop); });
    }
  }
}

std::map<uint32_t, uint64_t> PipelineRuntime::Delivered(const std::string& sink_id) const {
  std::map<uint32_t, uint64_t> delivered;
  for (const auto& running : running_)
    if (running->sink->id() == sink_id && running->loop->is_open())
      delivered[running->partition] = running->loop->next();
  return delivered;
}

std::map<uint32_t, uint64_t> PipelineRuntime::Boundary() const {
  std::map<uint32_t, uint64_t> boundary;
  for (const auto& running : running_) {
    uint64_t durable_end = stream_->partition(running->partition).bounds().durable_end;
    bool is_known = running->loop->is_open() && unmade_sinks_.empty();
    uint64_t& highest = boundary[running->partition];
    highest = std::max(highest, is_known ? running->loop->next() : durable_end);
  }
  return boundary;
}

bool PipelineRuntime::AtEnd() const {
  if (paused_) return true;
  return std::all_of(running_.begin(), running_.end(), [&](const auto& running) {
    return running->loop->failed() ||
           (running->loop->is_open() &&
            running->loop->next() >= stream_->partition(running->partition).bounds().durable_end);
  });
}

uint64_t PipelineRuntime::Progress() const {
  uint64_t sum = 0;
  for (const auto& running : running_) sum += running->loop->next();
  return sum;
}

uint64_t PipelineRuntime::LowWater(uint32_t partition) const {
  // Where one stands that is not open is not known.
  uint64_t low = unmade_sinks_.empty() ? UINT64_MAX : 0;
  for (const auto& running : running_) {
    if (running->partition != partition) continue;
    if (!running->loop->is_open()) return 0;
    low = std::min(low, running->sink->DurableOffset(partition).value_or(running->loop->next()));
  }
  return low;
}

PipelineStatus PipelineRuntime::status() const {
  PipelineStatus status;
  status.name = config().name;
  status.stream = config().stream;
  status.generation = generation_;
  status.version = versions_.back()->number;
  status.state = "live";
  status.p99_us = latency_.PercentileUs(0.99, context_.clock->MonotonicNs());
  int64_t now_us = context_.clock->WallUs();
  // Filters run once a sink; the first sink's counts stand for the pipeline.
  for (const FilterConfig& filter : config().filters) status.filters.push_back({filter.name, 0, 0, 0, 0, 0});
  for (const auto& sink : sinks_) {
    SinkStatus& shown = status.sinks.emplace_back();
    shown.id = sink->id();
    shown.state = "live";
    bool is_first = sink == sinks_.front();
    for (const auto& running : running_) {
      if (running->sink != sink.get()) continue;
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
      for (size_t i = 0; i < status.filters.size(); ++i) {
        status.filters[i].in += i == 0 ? loop.events : loop.filter_out[i - 1];
        status.filters[i].out += loop.filter_out[i];
        status.filters[i].dead += loop.filter_dead[i];
      }
    }
    status.lag_events = std::max(status.lag_events, shown.lag_events);
    status.lag_seconds = std::max(status.lag_seconds, shown.lag_seconds);
    if (Severity(shown.state) > Severity(status.state)) {
      status.state = shown.state;
      status.reason = shown.reason.empty() ? "" : shown.id + ": " + shown.reason;
    }
  }
  for (const auto& [id, fault] : unmade_sinks_) {
    SinkStatus& shown = status.sinks.emplace_back();
    shown.id = id;
    shown.state = status.state = "failed";
    shown.reason = fault.message();
    status.reason = fmt::format("{}: {}", id, fault.message());
  }
  return status;
}

}  // namespace millstream
