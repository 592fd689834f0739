#include "pipeline/pipeline_runtime.h"

#include "base/fault.h"
#include "base/thread.h"
#include "catalog/checker.h"
#include "stage/table_options.h"

namespace millstream {

PipelineRuntime::PipelineRuntime(RuntimeContext context, std::string name, std::string stream_name,
                                 uint64_t generation, std::vector<Version> versions, Boundary start,
                                 std::optional<Boundary> end)
    : context_(std::move(context)),
      name_(std::move(name)),
      stream_name_(std::move(stream_name)),
      generation_(generation),
      gate_(std::move(versions)),
      start_(std::move(start)),
      end_(std::move(end)) {}

PipelineRuntime::~PipelineRuntime() { Stop(); }

Status PipelineRuntime::Build(const Version& wanted) {
  stream_ = context_.log->Find(stream_name_);
  if (stream_ == nullptr) return NotFound("pipeline {}: no stream '{}'", name_, stream_name_);
  if (!end_) allowance_.SetLimit(wanted->config.max_dead_letters);
  for (const SinkConfig& config : wanted->config.sinks) {
    auto within = fmt::format("pipeline {}, sink {}", name_, config.id);
    RETURN_IF_ERROR(AddSink(config, *wanted).Within(within));
  }
  return OkStatus();
}

Status PipelineRuntime::Open(const Version& wanted) {
  RETURN_IF_ERROR(Build(wanted));
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
    LoopContext loop = LoopContextOf(*added, p);
    auto start = start_.find(p);
    loop.start = std::max(start == start_.end() ? 0 : start->second, stream_->partition(p).bounds().start);
    if (end_) loop.end = end_->contains(p) ? end_->at(p) : 0;
    loop.gate = &gate_;
    loop.latency = &latency_;
    loop.allowance = &allowance_;
    auto running = std::make_unique<Running>();
    running->partition = p;
    running->loop = std::make_unique<DeliveryLoop>(std::move(loop));
    std::shared_lock lock(sinks_mutex_);
    if (auto skips = skips_.find(config.id); skips != skips_.end() && skips->second.contains(p))
      running->loop->SkipTo(skips->second.at(p));
    lock.unlock();
    added->loops.push_back(std::move(running));
  }
  std::unique_lock lock(sinks_mutex_);
  unmade_sinks_.erase(config.id);
  sinks_.push_back(std::move(added));
  return OkStatus();
}

void PipelineRuntime::SetRebuilt(std::map<std::string, Rebuilt> rebuilt) {
  std::unique_lock lock(sinks_mutex_);
  rebuilt_ = std::move(rebuilt);
}

Rebuilt PipelineRuntime::RebuiltOf(const std::string& sink_id) const {
  auto found = rebuilt_.find(sink_id);
  return found == rebuilt_.end() ? Rebuilt() : found->second;
}

LoopContext PipelineRuntime::LoopContextOf(const RunningSink& sink, uint32_t partition) const {
  LoopContext loop;
  loop.pipeline = name_;
  loop.generation = generation_;
  loop.stream = stream_name_;
  loop.partition_index = partition;
  loop.partition = &stream_->partition(partition);
  loop.dead_letters = context_.dead_letters;
  loop.runner = RunnerContextOf(sink.shared->sink());
  loop.sink = sink.shared.get();
  loop.rebuilt = RebuiltOf(sink.config.id);
  loop.pace = context_.pace;
  loop.batch_events = context_.limits.batch_events;
  loop.batch_bytes = context_.limits.batch_bytes;
  loop.clock = context_.clock;
  loop.random = context_.random;
  loop.watchdog = context_.watchdog;
  loop.progress = context_.progress;
  if (sink.config.kind == "table") loop.on_fatal = context_.on_fatal;
  return loop;
}

bool PipelineRuntime::WasThere(const std::string& sink_id) const {
  for (const Version& version : gate_.versions())
    if (version->config.FindSink(sink_id) != nullptr) return true;
  return false;
}

RunnerContext PipelineRuntime::RunnerContextOf(const Sink& sink) const {
  return {context_.database,    context_.registry,    context_.clock,      context_.project_directory,
          sink.WantedColumns(), sink.wants_deletes(), context_.make_runner};
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
  std::vector<Version> versions = gate_.versions();
  uint64_t since = RebuiltOf(config.id).version;
  while (versions.size() > 1 && versions[1]->number <= since) versions.erase(versions.begin());
  for (const Version& version : versions)
    if (!OnePartitionAKey(*connection, version->stream, version->config, table.key)) return false;
  return true;
}

Result<PipelineRuntime::Bound> PipelineRuntime::Bind(const Version& version) {
  Bound bound;
  bound.version = version;
  for (const auto& sink : sinks_) {  // only changes change the list, and they come one after another
    const SinkConfig* config = version->config.FindSink(sink->config.id);
    if (config == nullptr) continue;
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

/// How far a sink came that is not open is not known: it can have delivered all that the log holds. So it is
/// with one that is not there any more, when a start makes up for a change that took it out.
void PipelineRuntime::ClaimUnknown() {
  bool is_gone = false;
  if (auto versions = gate_.versions(); !versions.empty())
    for (const SinkConfig& sink : versions.back()->config.sinks) is_gone |= FindSink(sink.id) == nullptr;
  std::shared_lock lock(sinks_mutex_);
  for (uint32_t p = 0; p < stream_->partitions(); ++p) {
    auto is_unknown = [&](const auto& sink) { return !sink->is_new && !sink->loops[p]->loop->is_open(); };
    if (is_gone || !unmade_sinks_.empty() || std::any_of(sinks_.begin(), sinks_.end(), is_unknown))
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
  if (!end_) allowance_.SetLimit(version->config.max_dead_letters);
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
  (*found)->ForEach([](Running& running) { running.thread.request_stop(); });
  (*found)->shared->Interrupt();
  leaving_.push_back({std::move(*found), std::move(next)});
  sinks_.erase(found);
}

void PipelineRuntime::AskToReopen(const std::string& sink_id) {
  for (const auto& sink : sinks_) {
    if (sink->config.id != sink_id) continue;
    TakeOut(sink_id, sink->config);
    return;
  }
}

bool PipelineRuntime::HasLeft(const std::string& sink_id) const {
  std::shared_lock lock(sinks_mutex_);
  return std::none_of(leaving_.begin(), leaving_.end(), [&](const Leaving& leaving) {
    return leaving.sink->config.id == sink_id && leaving.IsAtWork();
  });
}

bool PipelineRuntime::Reap() {
  std::vector<Leaving> ended;
  {
    std::lock_guard threads(threads_mutex_);
    std::unique_lock lock(sinks_mutex_);
    auto first = std::stable_partition(leaving_.begin(), leaving_.end(),
                                       [](const Leaving& leaving) { return leaving.IsAtWork(); });
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
  sink.ForEach([](Running& running) {
    if (running.thread.joinable()) running.thread.join();
  });
  if (auto status = sink.shared->Close(); status.code() == Code::kIo && context_.on_fatal)
    context_.on_fatal(status);
}

void PipelineRuntime::Start(bool paused, const std::string& because) {
  paused_ = paused;
  {
    std::unique_lock lock(sinks_mutex_);
    paused_because_ = because;
  }
  started_ = true;
  StartLoops();
}

void PipelineRuntime::RunLoop(Running& running) {
  running.ended = false;
  running.loop->SetPaused(paused_);
  running.thread = std::jthread([&running](std::stop_token stop) {
    NameThread("deliver");
    running.loop->Run(stop);
    running.ended = true;
  });
}

void PipelineRuntime::StartLoops() {
  std::lock_guard threads(threads_mutex_);
  for (const auto& sink : sinks_)
    sink->ForEach([&](Running& running) {
      if (!running.thread.joinable()) RunLoop(running);
    });
}

std::vector<DeliveryLoop*> PipelineRuntime::loops() const {
  std::vector<DeliveryLoop*> all;
  std::shared_lock lock(sinks_mutex_);
  for (const auto& sink : sinks_)
    for (const auto& running : sink->loops) all.push_back(running->loop.get());
  return all;
}

void PipelineRuntime::AskToStop() {
  std::lock_guard threads(threads_mutex_);
  std::shared_lock lock(sinks_mutex_);
  for (const auto& sink : sinks_) sink->ForEach([](Running& running) { running.thread.request_stop(); });
  for (const auto& sink : sinks_) sink->shared->Interrupt();
}

bool PipelineRuntime::HasEnded() const {
  std::shared_lock lock(sinks_mutex_);
  auto is_done = [](const RunningSink& sink) {
    bool all = true;
    sink.ForEach([&](Running& running) { all &= !running.thread.joinable() || running.ended; });
    return all;
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

void PipelineRuntime::SetPaused(bool paused, const std::string& because) {
  if (!paused) allowance_.Renew(), told_exceeded_ = false;
  {
    std::lock_guard threads(threads_mutex_);
    paused_ = paused;
    std::unique_lock lock(sinks_mutex_);
    paused_because_ = because;
    for (const auto& sink : sinks_) sink->ForEach([&](Running& running) { running.loop->SetPaused(paused); });
  }
  if (!paused) ResumeFailed();
}

/// Going on after a failure takes a new thread over the same loop.
void PipelineRuntime::ResumeFailed() {
  std::lock_guard threads(threads_mutex_);
  std::shared_lock lock(sinks_mutex_);
  for (const auto& sink : sinks_)
    sink->ForEach([&](Running& running) {
      if (!running.loop->failed() || !running.thread.joinable()) return;
      running.thread.join();
      running.loop->Reset();
      RunLoop(running);
    });
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
  if (paused_ || allowance_.exceeded()) return true;
  bool at_end = true;
  ForEachLoop([&](const RunningSink&, const Running& running) {
    if (running.loop->failed() || running.loop->done()) return;
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
    // Where one stands that is not open is not known. One whose answer was lost has more than its loop knows
    // of, which brings it again.
    const uint64_t next = running.loop->is_open() ? running.loop->next() : 0;
    low = std::min({low, next, next > 0 ? sink.shared->DurableOffset(partition).value_or(next) : 0});
  });
  std::shared_lock lock(sinks_mutex_);
  for (const auto& sink : sinks_)
    for (const auto& replay : sink->replays)
      for (const auto& running : replay->loops)
        if (running->partition == partition && !running->loop->done())
          low = std::min(low, running->loop->first_wanted());
  return unmade_sinks_.empty() ? low : 0;
}

PipelineRuntime::Work PipelineRuntime::WorkDone() const {
  Work work;
  ForEachLoop([&](const RunningSink&, const Running& running) {
    DeliveryLoop::Snapshot shown = running.loop->snapshot();
    work.events += shown.events;
    work.seconds += static_cast<double>(shown.busy_ns) / 1e9;
  });
  return work;
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
