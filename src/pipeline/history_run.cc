#include "pipeline/history_run.h"

namespace millstream {
namespace {

constexpr int64_t kShownEveryUs = 200'000;
constexpr int64_t kStandstillNs =
    30'000'000'000;  // a loop that tries again so long will not come through here

std::vector<PipelineRuntime::Version> WithSinks(const HistoryPart& part) {
  std::vector<PipelineRuntime::Version> versions;
  for (const PipelineRuntime::Version& version : part.versions) {
    auto changed = std::make_shared<PipelineVersion>(*version);
    changed->config.sinks = part.sinks;
    versions.push_back(std::move(changed));
  }
  return versions;
}

/// True once every loop is done; an error that ended one.
Result<bool> IsDone(const PipelineStatus& status) {
  if (status.state == "failed") return Fail(Invalid("pipeline {}: {}", status.name, status.reason));
  return status.state == "done";
}

}  // namespace

HistoryRun::HistoryRun(Options options) : options_(std::move(options)), letters_(options_.letters) {}

HistoryRun::~HistoryRun() {
  tables_.reset();
  database_.reset();
  if (!options_.temp_directory.empty()) (void)options_.fs->RemoveAll(options_.temp_directory);
}

Result<std::unique_ptr<HistoryRun>> HistoryRun::Open(Options options) {
  std::unique_ptr<HistoryRun> run(new HistoryRun(std::move(options)));
  DatabaseOptions database;
  database.memory_bytes = run->options_.memory_bytes;
  database.temp_directory = run->options_.temp_directory;
  database.temp_bytes = run->options_.temp_bytes;
  if (!database.temp_directory.empty())
    FAIL_IF_ERROR(run->options_.fs->CreateDirectories(database.temp_directory));
  ASSIGN_OR_FAIL(run->database_, Database::Open(run->options_.path, database));
  ASSIGN_OR_FAIL(run->tables_, TableStore::Open(*run->database_, *run->options_.clock, {}, Folding::kBulk));
  return run;
}

RuntimeContext HistoryRun::Context(const std::vector<HistoryPart>& parts) {
  RuntimeContext context;
  context.log = options_.log;
  context.database = database_.get();
  context.tables = tables_.get();
  context.dead_letters = &letters_;
  context.fs = options_.fs;
  context.clock = options_.clock;
  context.random = options_.random;
  context.watchdog = &watchdog_;
  context.progress = &progress_;
  context.registry = options_.registry;
  context.project_directory = options_.project_directory;
  context.limits = options_.limits;
  context.pace = options_.pace;
  context.find_stream = [](const std::string&) { return nullptr; };
  context.stream_names = [] { return std::vector<std::string>(); };
  context.count_writers = [this, &parts](const std::string& table) {
    size_t count = 0;
    for (const HistoryPart& part : parts)
      for (const SinkConfig& sink : part.sinks)
        count +=
            sink.kind == "table" && options_.registry->sinks().at(sink.kind).target(sink.options) == table;
    return count;
  };
  return context;
}

uint64_t HistoryRun::EventsOf(const std::vector<HistoryPart>& parts) const {
  uint64_t total = 0;
  for (const HistoryPart& part : parts) {
    Stream* stream = options_.log->Find(part.stream);
    if (stream == nullptr) continue;
    for (const auto& [partition, to] : part.to) {
      auto from = part.from.find(partition);
      uint64_t first =
          std::max(from == part.from.end() ? 0 : from->second, stream->partition(partition).bounds().start);
      total += (to > first ? to - first : 0) * part.sinks.size();
    }
  }
  return total;
}

Status HistoryRun::Run(std::vector<HistoryPart> parts, std::stop_token stop, const ShowProgress& progress) {
  std::vector<std::unique_ptr<PipelineRuntime>> runtimes;
  Done done{0, EventsOf(parts)};
  for (const HistoryPart& part : parts) {
    if (options_.log->Find(part.stream) == nullptr)
      return NotFound("pipeline {}: no stream '{}'", part.pipeline, part.stream);
    std::vector<PipelineRuntime::Version> versions = WithSinks(part);
    PipelineRuntime::Version latest = versions.back();
    auto& runtime = runtimes.emplace_back(
        std::make_unique<PipelineRuntime>(Context(parts), part.pipeline, part.stream, part.generation,
                                          std::move(versions), part.from, part.to));
    RETURN_IF_ERROR(runtime->Open(latest));
  }
  for (const auto& runtime : runtimes) runtime->Start(false);
  Status failure;
  auto has_ended = [&] {
    bool all = true;
    for (const auto& runtime : runtimes) {
      Result<bool> is_done = IsDone(runtime->status());
      if (!is_done) failure = is_done.error();
      if (!is_done) return true;
      all = all && *is_done;
    }
    return all;
  };
  auto show = [&] {
    done.events = 0;
    for (const auto& runtime : runtimes) done.events += runtime->WorkDone().events;
    if (progress) progress(done);
  };
  uint64_t reached = 0;
  int64_t reached_ns = options_.clock->MonotonicNs();
  while (!stop.stop_requested() && failure.ok() && !progress_.Wait(kShownEveryUs, stop, has_ended)) {
    show();
    int64_t now_ns = options_.clock->MonotonicNs();
    if (done.events != reached) reached = done.events, reached_ns = now_ns;
    if (now_ns - reached_ns < kStandstillNs) continue;
    for (const auto& runtime : runtimes)
      if (PipelineStatus status = runtime->status(); status.state == "degraded")
        failure = Exhausted("pipeline {}: {}", status.name, status.reason);
  }
  show();
  for (const auto& runtime : runtimes) runtime->AskToStop();
  for (const auto& runtime : runtimes) {
    statuses_.push_back(runtime->status());
    work_.push_back(runtime->WorkDone());
    runtime->Stop();
  }
  if (failure.ok() && !stop.stop_requested()) failure = tables_->FoldAll(stop);
  if (stop.stop_requested()) return Cancelled("stopped");
  return failure;
}

}  // namespace millstream
