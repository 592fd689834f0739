#include "pipeline/source_runner.h"

namespace millstream {
namespace {

constexpr uint64_t kCommitEvents = 10'000;
constexpr uint64_t kCommitBytes = 4 << 20;
constexpr int64_t kFirstRetryUs = 100'000;
constexpr int64_t kLastRetryUs = 30'000'000;

}  // namespace

SourceRunner::SourceRunner(SourceConfig config, std::shared_ptr<StreamIngest> ingest, Clock& clock,
                           Random& random)
    : config_(std::move(config)),
      ingest_(std::move(ingest)),
      clock_(clock),
      random_(random),
      origin_("source/" + config_.name),
      writer_(*ingest_, origin_) {}

Status SourceRunner::Open(const Registry& registry, FileSystem& fs, const std::string& project_directory) {
  auto kind = registry.sources().find(config_.kind);
  if (kind == registry.sources().end()) return NotFound("no source kind '{}'", config_.kind);
  SourceContext context{
      config_.name, config_.stream, project_directory, &fs, &clock_, this, ingest_->config().shape.contract};
  ASSIGN_OR_RETURN(source_, kind->second.make(config_.options, context));
  return OkStatus();
}

SourceStatus SourceRunner::status() const {
  std::lock_guard lock(mutex_);
  uint64_t events = events_ + (lines_ ? lines_->totals().accepted : 0);
  return {config_.name, config_.kind, config_.stream, paused_ ? "paused" : state_, reason_, events, 0};
}

void SourceRunner::SetState(const std::string& state, const std::string& reason) {
  std::lock_guard lock(mutex_);
  state_ = state;
  reason_ = reason;
}

void SourceRunner::Sleep(int64_t us, std::stop_token stop) {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  wake.wait_for(lock, stop, std::chrono::microseconds(us), [] { return false; });
}

void SourceRunner::Run(std::stop_token stop) {
  uint32_t attempt = 0;
  while (!stop.stop_requested()) {
    if (paused_) {
      Sleep(source_->poll_us(), stop);
      continue;
    }
    auto worked = source_->Poll(stop);
    if (worked) {
      attempt = 0;
      SetState("live", "");
      if (!*worked) Sleep(source_->poll_us(), stop);
      continue;
    }
    writer_.Drop();
    (void)FinishLines();  // its failure is the one that is told here, or comes of it
    marked_ = false;
    Code code = worked.error().code();
    if (code == Code::kCancelled) break;
    if (code == Code::kCorrupt || code == Code::kInvalid || code == Code::kInternal) {
      SetState("failed", worked.error().message());
      return;
    }
    int64_t wait_us = std::min(kLastRetryUs, kFirstRetryUs << std::min(attempt++, 10u));
    wait_us += static_cast<int64_t>(random_.Below(static_cast<uint64_t>(wait_us / 4)));
    SetState("degraded", fmt::format("{}, try {} in {:.1f} s", worked.error().message(), attempt + 1,
                                     static_cast<double>(wait_us) / 1e6));
    Sleep(wait_us, stop);
  }
  (void)FinishLines();  // before the log is closed
}

Status SourceRunner::RunToEnd(std::stop_token stop) {
  while (!stop.stop_requested() && !paused_) {
    auto worked = source_->Poll(stop);
    if (worked && !*worked) worked = source_->Finish(stop);
    if (!worked) {
      (void)FinishLines();
      SetState("failed", worked.error().message());
      return worked.error().Within("source " + config_.name);
    }
    if (!*worked) return CommitPart(true);
  }
  return FinishLines();
}

Status SourceRunner::FinishLines() { return lines_ ? lines_->Finish() : OkStatus(); }

Status SourceRunner::TakeLines(SourceLines lines) {
  RETURN_IF_ERROR(CommitPart(true));
  if (!lines_) {
    std::lock_guard lock(mutex_);
    lines_ = std::make_unique<ParallelIngest>(ingest_);
  }
  part_ = lines.part;
  IngestRequest request;
  request.stream = config_.stream;
  request.format = BodyFormat::kNdjson;
  request.body = lines.text;
  request.envelope.source = config_.name;
  request.origin =
      OriginRange{origin_, std::move(lines.part), lines.first_byte, std::move(lines.position), true};
  request.subject = std::move(lines.path);
  request.named = std::move(lines.name);
  request.first_line = lines.first_line;
  request.reject = false;
  return lines_->Send(std::move(request), std::move(lines.owner));
}

Status SourceRunner::Take(const SourceEvent& event) {
  RETURN_IF_ERROR(FinishLines());
  if (event.part != part_) {
    RETURN_IF_ERROR(CommitPart(true));
    part_ = event.part;
  }
  if (!event.fault.empty()) {
    writer_.Refuse(part_, event.data, event.sequence, event.at, {"json", "", event.fault}, std::nullopt);
    return OkStatus();
  }
  Envelope envelope = event.envelope;
  if (!envelope.source) envelope.source = config_.name;
  writer_.Add(part_, envelope, event.data, event.sequence, event.at, true);
  return OkStatus();
}

Status SourceRunner::Mark(const std::string& part, const std::string& position) {
  if (part != part_) {
    RETURN_IF_ERROR(CommitPart(true));
    part_ = part;
  }
  position_ = position;
  marked_ = true;
  if (writer_.count() >= kCommitEvents || writer_.bytes() >= kCommitBytes) return CommitPart(false);
  return OkStatus();
}

Status SourceRunner::Commit() {
  RETURN_IF_ERROR(FinishLines());
  return CommitPart(false);
}

Status SourceRunner::CommitPart(bool everywhere) {
  if (!marked_) return OkStatus();
  marked_ = false;
  auto answer = writer_.Commit(part_, position_, everywhere, false);
  if (!answer) return answer.error().status;
  events_ += answer->accepted;
  return OkStatus();
}

std::optional<std::string> SourceRunner::Position(const std::string& part) {
  auto receipt = ingest_->FindOrigin(origin_, part);
  return receipt ? std::optional(receipt->position) : std::nullopt;
}

std::vector<std::pair<std::string, std::string>> SourceRunner::Positions() {
  std::vector<std::pair<std::string, std::string>> all;
  Stream& stream = ingest_->stream();
  for (uint32_t p = 0; p < stream.partitions(); ++p)
    for (Receipt& receipt : stream.partition(p).FindReceipts(origin_))
      all.emplace_back(std::move(receipt.part), std::move(receipt.position));
  return all;
}

}  // namespace millstream
