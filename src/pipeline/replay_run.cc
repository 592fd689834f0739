#include "pipeline/replay_run.h"

#include "base/thread.h"

namespace millstream {
namespace {

constexpr int64_t kRateNs = 5'000'000'000;      // the span of "lately"
constexpr int64_t kPauseMaxNs = 1'000'000'000;  // between two pieces, to keep its share

/// Sleeps, or until the stop.
void SleepFor(int64_t ns, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  wake.wait_for(lock, stop, std::chrono::nanoseconds(ns), [] { return false; });
}

uint64_t At(const Boundary& offsets, uint32_t partition) {
  auto found = offsets.find(partition);
  return found == offsets.end() ? 0 : found->second;
}

}  // namespace

ReplayRun::ReplayRun(RuntimeContext context, std::vector<Part> parts, double share, uint64_t rebuild)
    : share_(share),
      clock_(*context.clock),
      letters_(rebuild == 0
                   ? std::make_unique<CollectedLetters>(kLettersShown)
                   : std::make_unique<RebuildLetters>(*context.dead_letters, rebuild, kLettersShown)),
      parts_(std::move(parts)) {
  context.dead_letters = letters_.get();
  context.progress = &progress_;
  context.on_fatal = nullptr;
  context.logger = nullptr;
  context.pace = [this](int64_t busy_ns, std::stop_token stop) { Yield(busy_ns, stop); };
  for (const Part& part : parts_) {
    streams_.push_back(context.log->Find(part.stream));
    runtimes_.push_back(std::make_unique<PipelineRuntime>(
        context, part.pipeline, part.stream, part.generation, part.versions, part.from, part.to));
  }
}

ReplayRun::~ReplayRun() = default;

Status ReplayRun::Open() {
  for (size_t i = 0; i < parts_.size(); ++i) RETURN_IF_ERROR(runtimes_[i]->Open(parts_[i].versions.back()));
  return OkStatus();
}

void ReplayRun::Start(bool paused) {
  for (const auto& runtime : runtimes_) runtime->Start(paused);
}

void ReplayRun::SetPaused(bool paused) {
  for (const auto& runtime : runtimes_) runtime->SetPaused(paused);
}

void ReplayRun::Stop() {
  Amounts last = amounts();
  {
    std::lock_guard lock(mutex_);
    if (!last_) last_ = last;
  }
  for (const auto& runtime : runtimes_) runtime->AskToStop();
  for (const auto& runtime : runtimes_) runtime->Stop();
}

bool ReplayRun::stopped() const {
  std::lock_guard lock(mutex_);
  return last_.has_value();
}

void ReplayRun::Yield(int64_t busy_ns, std::stop_token stop) {
  LetOthersFirst();
  double share = live_lag_ ? std::min(share_, kShareBehind) : share_;
  if (share >= 1) return;
  auto pause_ns = static_cast<int64_t>(static_cast<double>(busy_ns) * (1 - share) / share);
  SleepFor(std::min(pause_ns, kPauseMaxNs), stop);
}

bool ReplayRun::WaitDone(int64_t timeout_us, std::stop_token stop) {
  return progress_.Wait(timeout_us, stop, [this] { return IsDone(); });
}

bool ReplayRun::IsDone() const {
  return std::all_of(runtimes_.begin(), runtimes_.end(),
                     [](const auto& runtime) { return runtime->status().state == "done"; });
}

std::string ReplayRun::Failure() const {
  for (const auto& runtime : runtimes_) {
    PipelineStatus status = runtime->status();
    if (!status.reason.empty()) return status.reason;
    for (const SinkStatus& sink : status.sinks)
      if (sink.state == "failed" || sink.state == "degraded") return sink.reason;
  }
  return "";
}

bool ReplayRun::IsNear(uint64_t events) const {
  for (size_t i = 0; i < parts_.size(); ++i) {
    Stream* stream = streams_[i];
    for (const SinkConfig& sink : parts_[i].versions.back()->config.sinks) {
      Boundary next = runtimes_[i]->Delivered(sink.id);
      for (uint32_t p = 0; p < stream->partitions(); ++p)
        if (At(next, p) + events < stream->partition(p).bounds().durable_end) return false;
    }
  }
  return true;
}

ReplayRun::Amounts ReplayRun::amounts() const {
  Amounts amounts;
  {
    std::lock_guard lock(mutex_);
    if (last_) return *last_;
  }
  for (size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    Stream* stream = streams_[i];
    for (const SinkConfig& sink : part.versions.back()->config.sinks) {
      Boundary next = runtimes_[i]->Delivered(sink.id);
      for (uint32_t p = 0; p < stream->partitions(); ++p) {
        Bounds bounds = stream->partition(p).bounds();
        uint64_t from = std::max(At(part.from, p), bounds.start);
        uint64_t to = part.to ? At(*part.to, p) : bounds.durable_end;
        amounts.total += to > from ? to - from : 0;
        amounts.done += std::max(from, std::min(At(next, p), to)) - from;
      }
    }
  }
  amounts.dead_letters = letters_->count();
  std::lock_guard lock(mutex_);
  if (samples_.empty()) return amounts;
  auto [then_ns, before] = samples_.front();
  double seconds = static_cast<double>(clock_.MonotonicNs() - then_ns) / 1e9;
  if (seconds > 0 && amounts.done > before)
    amounts.events_per_second = static_cast<double>(amounts.done - before) / seconds;
  return amounts;
}

void ReplayRun::Look(bool live_lag) {
  live_lag_ = live_lag;
  int64_t now_ns = clock_.MonotonicNs();
  uint64_t done = amounts().done;
  std::lock_guard lock(mutex_);
  samples_.emplace_back(now_ns, done);
  while (samples_.size() > 2 && now_ns - samples_[1].first > kRateNs) samples_.pop_front();
}

uint64_t ReplayRun::LowWater(const std::string& stream, uint32_t partition) const {
  {
    std::lock_guard lock(mutex_);
    if (last_) return 0;  // what it made is not durable yet
  }
  uint64_t low = UINT64_MAX;
  for (size_t i = 0; i < parts_.size(); ++i)
    if (parts_[i].stream == stream) low = std::min(low, runtimes_[i]->LowWater(partition));
  return low;
}

}  // namespace millstream
