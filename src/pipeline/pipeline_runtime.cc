#include "pipeline/pipeline_runtime.h"

#include "base/fault.h"
#include "catalog/checker.h"
#include "stage/table_options.h"

namespace millstream {

PipelineRuntime::PipelineRuntime(RuntimeContext context, std::string name, std::string stream_name,
                                 uint64_t generation, std::vector<Version> versions, Boundary start)
    : context_(std::move(context)),
      name_(std::move(name)),
      stream_name_(std::move(stream_name)),
      generation_(generation),
      gate_(std::move(versions)),
      start_(std::move(start)) {}

PipelineRuntime::~PipelineRuntime() { Stop(); }

Status PipelineRuntime::Open(const Version& wanted) {
  stream_ = context_.log->Find(stream_name_);
  if (stream_ == nullptr) return NotFound("pipeline {}: no stream '{}'", name_, stream_name_);
  for (const SinkConfig& config : wanted->config.sinks) {
    auto within = fmt::format("pipeline {}, sink {}", name_, config.id);
    RETURN_IF_ERROR(AddSink(config, *wanted).Within(within));
  }
  for (const auto& sink : sinks_)
    if (!sink->shared->sink().remote()) RETURN_IF_ERROR(OpenSink(*sink));
  return OkStatus();
}

Status PipelineRuntime::OpenRemote() {
  for (const auto& sink : sinks_)
    if (sink->shared->sink().remote()) RETURN_IF_ERROR(OpenSink(*sink));
  return OkStatus();
}

/// A sink that is broken holds back nobody: its loops go on with it.
Status PipelineRuntime::OpenSink(RunningSink& sink) {
  if (!sink.shared->EnsureOpen().status.ok()) return OkStatus();
  for (const auto& running : sink.loops)
    RETURN_IF_ERROR(
        running->loop->TakeStored().Within(fmt::format("pipeline {}, sink {}", name_, sink.config.id)));
  return OkStatus();
}

/// Makes the sink and its loops, which do not run yet.
Status PipelineRuntime::AddSink(const SinkConfig& config, const PipelineVersion& version) {
  auto kind = context_.registry->sinks().find(config.kind);
  if (kind == context_.registry->sinks().end()) return NotFound("no sink kind '{}'", config.kind);
  auto added = std::make_unique<RunningSink>();
  added->config = config;
  added->is_new = !WasThere(config.id);
  added->appender = std::make_unique<EngineAppender>(context_.find_stream, context_.stream_names);
  SinkContext context;
  context.pipeline = name_;
  context.generation = generation_;
  context.data_uuid = context_.data_uuid;
  context.id = config.id;
  context.stream = stream_name_;
  context.partitions = stream_->partitions();
  context.project_directory = context_.project_directory;
  context.data_directory = context_.sinks_directory;
  context.fs = context_.fs;
  context.clock = context_.clock;
  context.database = context_.database;
  context.tables = context_.tables;
  context.appender = added->appender.get();
  if (config.kind == "table") {
    ASSIGN_OR_RETURN(context.key_in_one_partition, KeyInOnePartition(config, version));
    added->key_in_one_partition = context.key_in_one_partition;
  }
  auto sink = kind->second.make(config.options, context);
  if (!sink) {
    std::unique_lock lock(sinks_mutex_);
    unmade_sinks_[config.id] = sink.error();
    return OkStatus();
  }
  // What does not bind is known before the first event comes.
  RunnerContext runner = RunnerContextOf(**sink);
  ASSIGN_OR_RETURN(auto bound, PipelineRunner::Make(runner, version.config, version.stream));
  added->shared = std::make_unique<SharedSink>(
      SharedSink::Context{name_, config.id, context_.clock, context_.random, context_.logger},
      std::move(*sink), SharedSink::Layout{version.number, bound->columns(), bound->visible()});
  for (uint32_t p = 0; p < stream_->partitions(); ++p) {
    LoopContext loop;
    loop.pipeline = name_;
    loop.generation = generation_;
    loop.stream = stream_name_;
    loop.partition_index = p;
    loop.partition = &stream_->partition(p);
    loop.dead_letters = context_.dead_letters;
    loop.runner = runner;
    loop.sink = added->shared.get();
    loop.gate = &gate_;
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
    auto running = std::make_unique<Running>();
    running->partition = p;
    running->loop = std::make_unique<DeliveryLoop>(std::move(loop));
    added->loops.push_back(std::move(running));
  }
  std::unique_lock lock(sinks_mutex_);
  unmade_sinks_.erase(config.id);
  sinks_.push_back(std::move(added));
  return OkStatus();
}

bool PipelineRuntime::WasThere(const std::string& sink_id) const {
  for (const Version& version : gate_.versions())
    for (const SinkConfig& sink : version->config.sinks)
      if (sink.id == sink_id) return true;
  return false;
}

RunnerContext PipelineRuntime::RunnerContextOf(const Sink& sink) const {
  return {context_.database,          context_.registry,    context_.clock,
          context_.project_directory, sink.WantedColumns(), sink.wants_deletes()};
}

/// Every version counts: an old one owns what lies before the boundary of the next, also of a table that is
/// made anew.
Result<bool> PipelineRuntime::KeyInOnePartition(const SinkConfig& config,
                                                const PipelineVersion& wanted) const {
  Faults none;  // the loader has reported them
  TableOptions table = TableOptionsSpec().Parse(config.options, {config.path, "", &none});
  if (table.key.empty() || context_.count_writers(table.name) != 1) return false;
  ASSIGN_OR_FAIL(auto connection, context_.database->Connect());
  if (!OnePartitionAKey(*connection, wanted.stream, wanted.config, table.key)) return false;
  for (const Version& version : gate_.versions())
    if (!OnePartitionAKey(*connection, version->stream, version->config, table.key)) return false;
  return true;
}

Result<PipelineRuntime::Bound> PipelineRuntime::Bind(const Version& version) {
  Bound bound;
  bound.version = version;
  for (const auto& sink : sinks_) {  // only changes change the list, and they come one after another
    auto config = std::find_if(version->config.sinks.begin(), version->config.sinks.end(),
                               [&](const SinkConfig& each) { return each.id == sink->config.id; });
    if (config == version->config.sinks.end()) continue;
    bool reopens = config->kind != sink->config.kind || config->options != sink->config.options;
    if (sink->key_in_one_partition && !reopens) {
      ASSIGN_OR_FAIL(bool one, KeyInOnePartition(*config, *version));
      reopens = !one;
    }
    if (reopens) bound.reopened.push_back(sink->config.id);
    RunnerContext context = RunnerContextOf(sink->shared->sink());
    for (const auto& running : sink->loops) {
      ASSIGN_OR_FAIL(auto runner, PipelineRunner::Make(context, version->config, version->stream));
      if (running == sink->loops.front() && !reopens) {
        Status taken = sink->shared->sink().CheckColumns(runner->columns(), runner->visible());
        if (!taken.ok())
          return Fail(Conflict("pipeline {}, sink {}: {}", name_, sink->config.id, taken.message()));
      }
      bound.runners.emplace_back(running->loop.get(), std::move(runner));
    }
  }
  return bound;
}

/// How far a sink came that is not open is not known: it can have delivered all that the log holds.
void PipelineRuntime::ClaimUnknown() {
  std::shared_lock lock(sinks_mutex_);
  for (uint32_t p = 0; p < stream_->partitions(); ++p) {
    auto is_unknown = [&](const auto& sink) { return !sink->is_new && !sink->loops[p]->loop->is_open(); };
    if (!unmade_sinks_.empty() || std::any_of(sinks_.begin(), sinks_.end(), is_unknown))
      gate_.Delivered(p, stream_->partition(p).bounds().durable_end);
  }
}

Result<PipelineRuntime::Changed> PipelineRuntime::Activate(const Version& version, const Seal& seal) {
  Changed changed;
  bool is_first = gate_.versions().empty();
  ClaimUnknown();
  int64_t began_ns = context_.clock->MonotonicNs();
  Boundary claimed = gate_.Hold();
  if (!is_first) changed.boundary = std::move(claimed);
  if (Status sealed = seal(changed.boundary); !sealed.ok()) {
    gate_.Release();
    return Fail(std::move(sealed));
  }
  auto owned = std::make_shared<PipelineVersion>(*version);
  owned->from = changed.boundary;
  gate_.Activate(std::move(owned));
  changed.held_ns = context_.clock->MonotonicNs() - began_ns;
  return changed;
}

Result<PipelineRuntime::Changed> PipelineRuntime::Change(Bound bound, const Seal& seal) {
  std::map<std::string, const SinkConfig*> wanted;
  for (const SinkConfig& config : bound.version->config.sinks) wanted[config.id] = &config;
  std::vector<std::string> gone;
  std::set<std::string> there;
  for (const auto& sink : sinks_) {
    there.insert(sink->config.id);
    if (!wanted.contains(sink->config.id)) gone.push_back(sink->config.id);
    if (!wanted.contains(sink->config.id)) continue;
    for (const auto& [loop, runner] : bound.runners) {
      if (loop != sink->loops.front()->loop.get()) continue;
      SharedSink::Layout layout{bound.version->number, runner->columns(), runner->visible()};
      // Tables get their columns before the first row comes; other sinks learn them from the loop that brings
      // it.
      if (sink->shared->sink().concurrent() && sink->shared->is_open())
        FAIL_IF_ERROR(sink->shared->Prepare(layout));
      sink->shared->SetLayout(std::move(layout));
    }
  }
  for (const auto& leaving : leaving_)
    if (wanted.contains(leaving.sink->config.id)) there.insert(leaving.sink->config.id);
  for (const SinkConfig& config : bound.version->config.sinks)
    if (!there.contains(config.id))
      FAIL_IF_ERROR(AddSink(config, *bound.version).Within(fmt::format("sink {}", config.id)));

  for (auto& [loop, runner] : bound.runners) loop->Prepare(bound.version, std::move(runner));
  ASSIGN_OR_FAIL(Changed changed, Activate(bound.version, seal));
  for (const auto& sink : sinks_)
    for (const auto& running : sink->loops) running->loop->Reconsider();
  for (const std::string& id : gone) TakeOut(id, std::nullopt);
  for (const std::string& id : bound.reopened) TakeOut(id, *wanted.at(id));
  // What is on its way out takes the newest settings, or does not come back.
  for (Leaving& leaving : leaving_) {
    auto config = wanted.find(leaving.sink->config.id);
    leaving.next = config == wanted.end() ? std::nullopt : std::optional(*config->second);
  }
  std::unique_lock lock(sinks_mutex_);
  std::erase_if(unmade_sinks_, [&](const auto& unmade) { return !wanted.contains(unmade.first); });
  lock.unlock();
  if (started_) StartLoops();
  ResumeFailed();  // the change may be what they needed
  (void)Reap();
  return changed;
}

void PipelineRuntime::TakeOut(const std::string& id, std::optional<SinkConfig> next) {
  std::lock_guard threads(threads_mutex_);
  std::unique_lock lock(sinks_mutex_);
  auto found =
      std::find_if(sinks_.begin(), sinks_.end(), [&](const auto& sink) { return sink->config.id == id; });
  if (found == sinks_.end()) return;
  for (const auto& running : (*found)->loops) running->thread.request_stop();
  (*found)->shared->Interrupt();
  leaving_.push_back({std::move(*found), std::move(next)});
  sinks_.erase(found);
}

bool PipelineRuntime::Reap() {
  std::vector<Leaving> ended;
  {
    std::lock_guard threads(threads_mutex_);
    std::unique_lock lock(sinks_mutex_);
    auto is_left = [](const Leaving& leaving) {
      return std::any_of(leaving.sink->loops.begin(), leaving.sink->loops.end(),
                         [](const auto& running) { return running->thread.joinable() && !running->ended; });
    };
    auto first = std::stable_partition(leaving_.begin(), leaving_.end(), is_left);
    std::move(first, leaving_.end(), std::back_inserter(ended));
    leaving_.erase(first, leaving_.end());
  }
  for (Leaving& leaving : ended) {
    Close(*leaving.sink);
    leaving.sink.reset();
    if (!leaving.next) continue;
    if (Status status = AddSink(*leaving.next, *gate_.latest()); !status.ok()) {
      std::unique_lock lock(sinks_mutex_);
      unmade_sinks_[leaving.next->id] = status;
    }
    if (started_) StartLoops();
  }
  std::shared_lock lock(sinks_mutex_);
  return leaving_.empty();
}

void PipelineRuntime::Close(RunningSink& sink) {
  for (const auto& running : sink.loops)
    if (running->thread.joinable()) running->thread.join();
  if (auto status = sink.shared->Close(); status.code() == Code::kIo && context_.on_fatal)
    context_.on_fatal(status);
}

void PipelineRuntime::Start(bool paused) {
  paused_ = paused;
  started_ = true;
  StartLoops();
}

void PipelineRuntime::RunLoop(Running& running) {
  running.ended = false;
  running.loop->SetPaused(paused_);
  running.thread = std::jthread([&running](std::stop_token stop) {
    running.loop->Run(stop);
    running.ended = true;
  });
}

void PipelineRuntime::StartLoops() {
  std::lock_guard threads(threads_mutex_);
  for (const auto& sink : sinks_)
    for (const auto& running : sink->loops)
      if (!running->thread.joinable()) RunLoop(*running);
}

void PipelineRuntime::AskToStop() {
  std::lock_guard threads(threads_mutex_);
  std::shared_lock lock(sinks_mutex_);
  for (const auto& sink : sinks_)
    for (const auto& running : sink->loops) running->thread.request_stop();
  for (const auto& sink : sinks_) sink->shared->Interrupt();
}

bool PipelineRuntime::HasEnded() const {
  std::shared_lock lock(sinks_mutex_);
  auto is_done = [](const RunningSink& sink) {
    return std::all_of(sink.loops.begin(), sink.loops.end(),
                       [](const auto& running) { return !running->thread.joinable() || running->ended; });
  };
  return std::all_of(sinks_.begin(), sinks_.end(), [&](const auto& sink) { return is_done(*sink); }) &&
         std::all_of(leaving_.begin(), leaving_.end(),
                     [&](const Leaving& each) { return is_done(*each.sink); });
}

void PipelineRuntime::Stop() {
  AskToStop();
  std::vector<std::unique_ptr<RunningSink>> ended;
  {
    std::lock_guard threads(threads_mutex_);
    std::unique_lock lock(sinks_mutex_);
    ended.swap(sinks_);
    for (Leaving& leaving : leaving_) ended.push_back(std::move(leaving.sink));
    leaving_.clear();
  }
  for (const auto& sink : ended) Close(*sink);
}

void PipelineRuntime::SetPaused(bool paused) {
  {
    std::lock_guard threads(threads_mutex_);
    paused_ = paused;
    std::shared_lock lock(sinks_mutex_);
    for (const auto& sink : sinks_)
      for (const auto& running : sink->loops) running->loop->SetPaused(paused);
  }
  if (!paused) ResumeFailed();
}

/// Going on after a failure takes a new thread over the same loop.
void PipelineRuntime::ResumeFailed() {
  std::lock_guard threads(threads_mutex_);
  std::shared_lock lock(sinks_mutex_);
  for (const auto& sink : sinks_) {
    for (const auto& running : sink->loops) {
      if (!running->loop->failed() || !running->thread.joinable()) continue;
      running->thread.join();
      running->loop->Reset();
      RunLoop(*running);
    }
  }
}

std::map<uint32_t, uint64_t> PipelineRuntime::Delivered(const std::string& sink_id) const {
  std::map<uint32_t, uint64_t> delivered;
  ForEachLoop([&](const RunningSink& sink, const Running& running) {
    if (sink.config.id == sink_id && running.loop->is_open())
      delivered[running.partition] = running.loop->next();
  });
  return delivered;
}

bool PipelineRuntime::AtEnd() const {
  if (paused_) return true;
  bool at_end = true;
  ForEachLoop([&](const RunningSink&, const Running& running) {
    if (running.loop->failed()) return;
    at_end = at_end && (running.loop->is_open() &&
                        running.loop->next() >= stream_->partition(running.partition).bounds().durable_end);
  });
  return at_end;
}

uint64_t PipelineRuntime::Progress() const {
  uint64_t sum = 0;
  ForEachLoop([&](const RunningSink&, const Running& running) { sum += running.loop->next(); });
  return sum;
}

uint64_t PipelineRuntime::LowWater(uint32_t partition) const {
  uint64_t low = UINT64_MAX;
  ForEachLoop([&](const RunningSink& sink, const Running& running) {
    if (running.partition != partition) return;
    // Where one stands that is not open is not known.
    uint64_t mark =
        running.loop->is_open() ? sink.shared->DurableOffset(partition).value_or(running.loop->next()) : 0;
    low = std::min(low, mark);
  });
  std::shared_lock lock(sinks_mutex_);
  return unmade_sinks_.empty() ? low : 0;
}

double PipelineRuntime::EventsPerBusySecond() const {
  double events = 0, seconds = 0;
  ForEachLoop([&](const RunningSink&, const Running& running) {
    DeliveryLoop::Snapshot shown = running.loop->snapshot();
    events += static_cast<double>(shown.events);
    seconds += static_cast<double>(shown.busy_ns) / 1e9;
  });
  return seconds > 0 ? events / seconds : 0;
}

/// Calls with each loop of the sinks that are there and of those that come back with other settings.
template <typename Call>
void PipelineRuntime::ForEachLoop(Call call) const {
  std::shared_lock lock(sinks_mutex_);
  for (const auto& sink : sinks_)
    for (const auto& running : sink->loops) call(*sink, *running);
  for (const Leaving& leaving : leaving_)
    if (leaving.next)
      for (const auto& running : leaving.sink->loops) call(*leaving.sink, *running);
}

}  // namespace millstream
