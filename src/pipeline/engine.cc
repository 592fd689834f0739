#include "pipeline/engine.h"

#include <future>

#include "base/logging.h"
#include "base/process_memory.h"
#include "base/text.h"
#include "event/literals.h"
#include "pipeline/engine_state.h"

namespace millstream {
namespace {

constexpr int64_t kSampleUs = 1'000'000;
constexpr int64_t kRetainEverySamples = 2;
constexpr int64_t kHeadEveryNs = 3'600'000'000'000;
constexpr int64_t kProgressUs = 200'000;
constexpr int64_t kStandstillUs = 60'000'000;  // `run --once` gives up when nothing went forward so long

}  // namespace

Engine::Engine(std::unique_ptr<State> state) : state_(std::move(state)) {}

Engine::~Engine() {
  if (state_ && !state_->stopped) (void)Stop();
}

Result<std::unique_ptr<Engine>> Engine::Open(EngineOptions options) {
  auto state = std::make_unique<State>(std::move(options));
  FAIL_IF_ERROR(state->OpenStores());
  FAIL_IF_ERROR(state->TakeCatalog());
  FAIL_IF_ERROR(state->OpenStreams());
  FAIL_IF_ERROR(state->FinishCutovers());
  FAIL_IF_ERROR(state->OpenPipelines());
  FAIL_IF_ERROR(state->ApplyFiles());
  for (const auto& [name, reason] : state->broken_pipelines) state->notices.push_back(reason);
  return std::unique_ptr<Engine>(new Engine(std::move(state)));
}

Status Engine::Start() {
  State& s = *state_;
  RETURN_IF_ERROR(s.control->Append(ControlKind::kStarted, "", s.options.who));
  s.LogHead("_control at the start");
  if (!s.options.isolated) RETURN_IF_ERROR(s.OpenSources());
  RETURN_IF_ERROR(s.OpenCommands(true));
  s.commands_started = true;
  s.StartPipelines();
  s.StartSources();
  s.sampler = std::jthread([&s](std::stop_token stop) { s.Sample(stop); });
  return OkStatus();
}

Status Engine::RunOnce(std::stop_token stop, std::function<void(const EngineStatus&)> progress) {
  State& s = *state_;
  RETURN_IF_ERROR(s.OpenSources());
  s.StartPipelines();
  s.sampler = std::jthread([&s](std::stop_token inner) { s.Sample(inner); });
  std::vector<std::future<Status>> reading;
  for (auto& [name, source] : s.sources)
    reading.push_back(
        std::async(std::launch::async, [runner = &source->runner, stop] { return runner->RunToEnd(stop); }));
  Status first;
  for (auto& each : reading) {
    while (each.wait_for(std::chrono::microseconds(kProgressUs)) != std::future_status::ready)
      if (progress) progress(TakeStatus());
    Status status = each.get();
    if (first.ok()) first = status;
  }
  auto show = [&] {
    if (progress) progress(TakeStatus());
  };
  for (bool goes_on = true; goes_on && !stop.stop_requested();) {
    RETURN_IF_ERROR(s.DeliverToEnd(stop, show));
    ASSIGN_OR_RETURN(goes_on, s.ReplaysToEnd(stop, show));  // what they gave to streams is delivered too
  }
  return first;
}

void Engine::StartDelivery() { state_->StartPipelines(); }

Status Engine::DeliverAll(std::stop_token stop, std::function<void(const EngineStatus&)> progress) {
  State& s = *state_;
  s.StartPipelines();
  return s.DeliverToEnd(stop, [&] {
    if (progress) progress(TakeStatus());
  });
}

Status Engine::Stop(bool discard) {
  State& s = *state_;
  if (s.stopped) return OkStatus();
  s.stopped = true;
  s.stopping = true;
  std::vector<std::shared_ptr<State::RunningReplay>> replays;
  {
    std::shared_lock lock(s.mutex);
    for (const auto& [id, replay] : s.replays) replays.push_back(replay);
  }
  for (const auto& replay : replays) replay->conductor.request_stop();
  for (const auto& replay : replays) s.EndReplay(*replay);
  std::lock_guard change(s.change_mutex);
  if (s.sampler.joinable()) {
    s.sampler.request_stop();
    s.sampler.join();
    s.sampled_ns = 0;
  }
  s.StopCommands();
  if (s.letter_replayer.joinable()) {
    s.letter_replayer.request_stop();
    s.letter_replayer.join();
  }
  for (auto& [name, source] : s.sources) source->thread.request_stop();
  for (auto& [name, source] : s.sources)
    if (source->thread.joinable()) source->thread.join();
  bool was_started = s.pipelines_started;
  ControlEvent stop;
  stop.kind = ControlKind::kStopped, stop.who = s.options.who;
  if (was_started) stop.rates = s.RatesOfPipelines();
  std::vector<std::shared_ptr<PipelineRuntime>> running;
  {
    std::shared_lock lock(s.mutex);
    for (const auto& [name, pipeline] : s.pipelines) running.push_back(pipeline);
    running.insert(running.end(), s.ending_pipelines.begin(), s.ending_pipelines.end());
  }
  // Without the lock: a stream sink that is being opened looks its target up under it.
  for (const auto& pipeline : running) pipeline->Stop();
  running.clear();
  Status status;
  if (was_started && !s.options.read_only) status = s.control->Append(std::move(stop));
  if (s.head_logged_ns != 0) s.LogHead("_control at the stop");
  if (s.tables && !s.options.read_only && !discard) {
    Status saved = s.tables->FoldAll();
    if (saved.ok()) saved = s.tables->Checkpoint();
    if (status.ok()) status = saved;
  }
  // The log first: its writers answer what is under way, through what is cleared next.
  if (s.log) {
    Status closed = s.log->Close();
    if (status.ok()) status = closed;
  }
  {
    std::unique_lock lock(s.mutex);
    s.pipelines.clear();
    s.ending_pipelines.clear();
    s.replays.clear();
    s.sources.clear();
    s.command_runners.clear();
    s.ingests.clear();
  }
  s.tables.reset();
  s.database.reset();
  s.folder.reset();
  return status;
}

Status Engine::Announce(const std::string& url) {
  {
    std::unique_lock lock(state_->mutex);
    state_->url = url;
  }
  return state_->folder->Describe(data_uuid(), url);
}

Result<std::shared_ptr<StreamIngest>> Engine::State::IngestNamed(const std::string& stream) {
  if (std::shared_ptr<StreamIngest> ingest = FindIngest(stream)) return ingest;
  std::string nearest = Nearest(stream, StreamNames());
  return Fail(NotFound("no stream '{}'{}", stream,
                       nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
}

void Engine::Ingest(const IngestRequest& request, IngestDone done) {
  auto ingest = state_->IngestNamed(request.stream);
  if (!ingest) return done(tl::unexpected(IngestRefusal{ingest.error(), {}}));
  (*ingest)->Commit((*ingest)->Prepare(request), std::move(done));
}

Result<std::unique_ptr<ParallelIngest>> Engine::OpenIngest(const std::string& stream) {
  ASSIGN_OR_FAIL(std::shared_ptr<StreamIngest> ingest, state_->IngestNamed(stream));
  return std::make_unique<ParallelIngest>(std::move(ingest));
}

tl::expected<IngestAnswer, IngestRefusal> Engine::IngestAndWait(const IngestRequest& request) {
  std::promise<tl::expected<IngestAnswer, IngestRefusal>> promise;
  Ingest(request,
         [&](tl::expected<IngestAnswer, IngestRefusal> answer) { promise.set_value(std::move(answer)); });
  return promise.get_future().get();
}

Result<std::optional<Engine::OriginPosition>> Engine::FindOrigin(const std::string& stream,
                                                                 const std::string& origin,
                                                                 const std::string& part) {
  std::shared_ptr<StreamIngest> ingest = state_->FindIngest(stream);
  if (ingest == nullptr) return Fail(NotFound("no stream '{}'", stream));
  auto receipt = ingest->FindOrigin(origin, part);
  if (!receipt) return std::optional<OriginPosition>();
  return std::optional(
      OriginPosition{std::strtoull(receipt->position.c_str(), nullptr, 10), receipt->position});
}

std::shared_ptr<const Project> Engine::project() const {
  std::shared_lock lock(state_->mutex);
  return state_->project;
}

const std::vector<std::string>& Engine::notices() const { return state_->notices; }
Log& Engine::log() { return *state_->log; }
Database& Engine::database() { return *state_->database; }
TableStore& Engine::tables() { return *state_->tables; }
DeadLetters& Engine::dead_letters() { return *state_->dead_letters; }
FileSystem& Engine::fs() { return *state_->options.fs; }
Clock& Engine::clock() { return *state_->options.clock; }
Random& Engine::random() { return *state_->options.random; }
const Registry& Engine::registry() const { return *state_->options.registry; }
SqlWorkers* Engine::sql_workers() const { return state_->options.sql_workers; }
std::string Engine::temporary_directory() const { return state_->folder->temporary_path(); }
bool Engine::read_only() const { return state_->options.read_only; }
std::string Engine::data_directory() const { return state_->folder->path(); }
std::string Engine::sandboxes_directory() const { return state_->folder->path() + "/sandboxes"; }
std::string Engine::log_directory() const { return state_->folder->log_path(); }

std::string Engine::data_uuid() const {
  return FormatUuid(reinterpret_cast<const char*>(state_->log->uuid().data()));
}

Status Engine::SetPipelinePaused(const std::string& name, bool paused, const std::string& who) {
  std::shared_ptr<PipelineRuntime> pipeline = state_->FindPipeline(name);
  if (pipeline == nullptr) {
    std::vector<std::string> names;
    for (const auto& [each, config] : project()->pipelines) names.push_back(each);
    std::string nearest = Nearest(name, names);
    return NotFound("no pipeline '{}'{}", name,
                    nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
  }
  RETURN_IF_ERROR(state_->control->Append(
      paused ? ControlKind::kPipelinePaused : ControlKind::kPipelineResumed, name, who));
  pipeline->SetPaused(paused);
  return OkStatus();
}

Status Engine::SetSourcePaused(const std::string& name, bool paused, const std::string& who) {
  std::shared_ptr<const Project> live = project();
  if (!live->sources.contains(name)) {
    std::vector<std::string> names;
    for (const auto& [each, config] : live->sources) names.push_back(each);
    std::string nearest = Nearest(name, names);
    return NotFound("no source '{}'{}", name,
                    nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
  }
  RETURN_IF_ERROR(
      state_->control->Append(paused ? ControlKind::kSourcePaused : ControlKind::kSourceResumed, name, who));
  std::shared_lock lock(state_->mutex);
  auto source = state_->sources.find(name);
  if (source != state_->sources.end()) source->second->runner.SetPaused(paused);
  return OkStatus();
}

Status Engine::DropTable(const std::string& name, const std::string& who) {
  std::lock_guard lock(state_->change_mutex);  // nobody begins to write it meanwhile
  if (!state_->tables->Find(name)) return NotFound("no table '{}'", name);
  for (const auto& [table, spec] : TablesOf(*project()))
    if (table == name) return Conflict("table '{}' is written by a pipeline; remove its sink first", name);
  Catalog catalog = state_->control->catalog();
  for (const auto& [id, replay] : catalog.replays())
    if (replay.is_open() && replay.spec.Writes(name))
      return Conflict("replay {} writes table '{}'; cancel it first", id, name);
  RETURN_IF_ERROR(state_->NoteEnded({name}));
  RETURN_IF_ERROR(state_->control->Append(ControlKind::kTableDropped, name, who));
  return state_->tables->Drop(name);
}

namespace {

bool IsAsked(const std::vector<std::string>& tables, const std::string& table) {
  return tables.empty() || std::find(tables.begin(), tables.end(), table) != tables.end();
}

/// Where a stream ends now, as a position; nothing if it is empty.
std::optional<Position> EndOf(Stream& stream) {
  Position position{stream.name(), {}};
  for (uint32_t p = 0; p < stream.partitions(); ++p)
    if (uint64_t end = stream.partition(p).bounds().durable_end; end > 0) position.offsets[p] = end - 1;
  return position.offsets.empty() ? std::nullopt : std::optional(std::move(position));
}

}  // namespace

/// Whether a sink writes one of the tables, or a stream that leads to one. Under the lock.
bool Engine::State::LeadsTo(const SinkConfig& sink, const std::vector<std::string>& tables_asked) const {
  if (sink.kind == "table") return IsAsked(tables_asked, TableOf(sink));
  if (sink.kind != "stream") return false;
  std::string target = TableOf(sink);
  for (const auto& [name, pipeline] : project->pipelines) {  // without cycles: `check` refuses them
    if (pipeline.stream != target) continue;
    for (const SinkConfig& next : pipeline.sinks)
      if (LeadsTo(next, tables_asked)) return true;
  }
  return false;
}

Engine::State::Reach Engine::State::HowFar(const Position& position,
                                           const std::vector<std::string>& tables_asked) {
  Reach reach;
  std::map<uint32_t, uint64_t> next;  // the lowest of all sinks
  std::shared_lock lock(mutex);
  for (const auto& [name, pipeline] : project->pipelines) {
    if (pipeline.stream != position.stream) continue;
    for (const SinkConfig& sink : pipeline.sinks) {
      if (!LeadsTo(sink, tables_asked)) continue;
      if (sink.kind == "stream") reach.streams.push_back(TableOf(sink));
      bool is_broken =
          !options.read_only && (!pipelines.contains(name) || pipelines.at(name)->Delivered(sink.id).empty());
      if (is_broken && tables_asked.empty()) continue;  // what is broken is waited for only by name
      auto delivered = NextOf(name, sink);
      if (!delivered) continue;
      for (const auto& [partition, offset] : position.offsets) {
        auto [it, is_new] = next.try_emplace(partition, (*delivered)[partition]);
        it->second = std::min(it->second, (*delivered)[partition]);
        if (it->second <= offset) reach.is_there = false;
      }
    }
  }
  reach.reached.stream = position.stream;
  for (const auto& [partition, end] : next)
    if (end > 0) reach.reached.offsets[partition] = end - 1;
  return reach;
}

Status Engine::Wait(const Position& position, const std::vector<std::string>& tables, int64_t timeout_us,
                    std::stop_token stop) {
  State& s = *state_;
  Stream* stream = s.log->Find(position.stream);
  if (stream == nullptr) return NotFound("no stream '{}'", position.stream);
  if (!position.offsets.empty() && position.offsets.rbegin()->first >= stream->partitions())
    return Invalid("{}: the stream has {} partitions", position.ToString(), stream->partitions());
  int64_t until_ns = s.options.clock->MonotonicNs() + timeout_us * 1000;
  State::Reach reach;
  int64_t most_us = s.options.read_only ? 0 : timeout_us;
  bool is_there = s.deliveries.Wait(most_us, stop, [&] {
    reach = s.HowFar(position, tables);
    return reach.is_there;
  });
  if (stop.stop_requested()) return Cancelled("the wait was ended");
  if (!is_there)
    return Deadline(
        "{}; {}",
        s.options.read_only ? "no server runs, so nothing is delivered meanwhile"
                            : "not delivered within the time",
        reach.reached.offsets.empty() ? "no event of it is there" : "reached " + reach.reached.ToString());
  for (const std::string& name : reach.streams) {  // what is in them now came from before the position
    Stream* between = s.log->Find(name);
    std::optional<Position> end = between == nullptr ? std::nullopt : EndOf(*between);
    if (!end) continue;
    int64_t left_us = std::max<int64_t>(0, (until_ns - s.options.clock->MonotonicNs()) / 1000);
    RETURN_IF_ERROR(Wait(*end, tables, left_us, stop));
  }
  return OkStatus();
}

std::vector<Position> Engine::TablePositions(const std::string& table) const {
  std::map<std::string, Position> positions;
  std::shared_lock lock(state_->mutex);
  for (const auto& [name, pipeline] : state_->project->pipelines) {
    for (const SinkConfig& sink : pipeline.sinks) {
      if (sink.kind != "table" || state_->TableOf(sink) != table) continue;
      Position& position = positions[pipeline.stream];
      position.stream = pipeline.stream;
      auto delivered = state_->NextOf(name, sink);
      if (!delivered) continue;
      for (const auto& [partition, next] : *delivered) {
        if (next == 0) continue;
        auto [it, is_new] = position.offsets.try_emplace(partition, next - 1);
        if (!is_new) it->second = std::min(it->second, next - 1);
      }
    }
  }
  std::vector<Position> list;
  for (auto& [stream, position] : positions) list.push_back(std::move(position));
  return list;
}

EngineStatus Engine::TakeStatus() const {
  State& s = *state_;
  EngineStatus status = s.Count();
  {
    std::shared_lock lock(s.mutex);
    status.url = s.url;
  }
  status.up_us = (s.options.clock->MonotonicNs() - s.opened_ns) / 1000;
  status.rss_bytes = ResidentBytes();
  if (auto space = s.options.fs->Space(s.options.data_directory)) status.free_bytes = space->free_bytes;
  s.FillRates(status);
  return status;
}

std::string Engine::MetricsText() const { return state_->metrics.Text(); }

int64_t Engine::SampledAgoUs() const {
  int64_t sampled_ns = state_->sampled_ns;
  return sampled_ns == 0 ? 0 : (state_->options.clock->MonotonicNs() - sampled_ns) / 1000;
}

Status Engine::State::DeliverToEnd(std::stop_token stop, const std::function<void()>& progress) {
  int64_t shown_ns = 0;
  bool stands_still = false;
  uint64_t reached = 0;
  int64_t reached_ns = options.clock->MonotonicNs();
  while (!stop.stop_requested()) {
    // A stream sink may have appended to a stream after its readers were looked at: all must be at the end
    // twice without progress between.
    auto look = [&] {
      std::shared_lock lock(mutex);
      uint64_t sum = 0;
      bool at_end = !AreLettersToCome();
      for (const auto& [name, pipeline] : pipelines) {
        sum += pipeline->Progress();
        at_end = at_end && pipeline->AtEnd();
      }
      return std::pair(at_end, sum);
    };
    auto before = look();
    if (before.first && look() == before) break;
    if (int64_t now_ns = options.clock->MonotonicNs(); before.second != reached) {
      reached = before.second;
      reached_ns = now_ns;
    } else if (now_ns - reached_ns > kStandstillUs * 1000) {
      stands_still = true;
      break;
    }
    if (options.clock->MonotonicNs() - shown_ns > kProgressUs * 1000) {
      progress();
      shown_ns = options.clock->MonotonicNs();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  std::shared_lock lock(mutex);
  for (const auto& [name, pipeline] : pipelines) {
    PipelineStatus status = pipeline->status();
    if (status.state == "failed" || (status.state == "paused" && !status.reason.empty()))
      return Invalid("pipeline {}: {}", name, status.reason);
    if (!stands_still || pipeline->AtEnd()) continue;
    for (const SinkStatus& sink : status.sinks)
      if (sink.lag_events > 0)
        return Invalid(
            "pipeline {}, sink {}: nothing went forward for {} s, {} {} left ({}); put that right and run "
            "again{}",
            name, sink.id, kStandstillUs / 1'000'000, FormatCount(sink.lag_events),
            sink.lag_events == 1 ? "event is" : "events are",
            sink.reason.empty() ? "it stands still" : sink.reason,
            sink.next.empty()
                ? ""  // it is not open
                : fmt::format(", or set events aside: millstream pipeline skip {} --sink {}", name, sink.id));
    return Invalid("pipeline {}: it stands still", name);
  }
  for (const auto& [name, reason] : broken_pipelines) return Invalid("{}", reason);
  if (stands_still && AreLettersToCome())
    return Unavailable(
        "dead letters that are sent again have not arrived in {} s; the next run goes on with them",
        kStandstillUs / 1'000'000);
  return OkStatus();
}

void Engine::State::Sample(std::stop_token stop) {
  std::mutex wait_mutex;
  std::condition_variable_any wake;
  int64_t samples = 0;
  while (!stop.stop_requested()) {
    {
      EngineStatus now = Count();
      std::lock_guard lock(rates_mutex);
      earlier = std::move(later);
      earlier_ns = later_ns;
      later = std::move(now);
      later_ns = options.clock->MonotonicNs();
      sampled_ns = later_ns;
      WarnOfWindows(later);
    }
    Reap();
    PauseExceeded();
    RetryBroken();
    if (head_logged_ns != 0 && options.clock->MonotonicNs() - head_logged_ns > kHeadEveryNs)
      LogHead("_control");
    if (++samples % kRetainEverySamples == 0) {
      SetLowWater();
      if (auto status = log->Retain(); !status.ok() && options.logger != nullptr)
        options.logger->Warn("retention", {{"reason", status.message()}});
    }
    std::unique_lock lock(wait_mutex);
    wake.wait_for(lock, stop, std::chrono::microseconds(kSampleUs), [] { return false; });
  }
}

}  // namespace millstream
