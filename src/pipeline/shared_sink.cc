#include "pipeline/shared_sink.h"

#include "base/logging.h"

namespace millstream {

bool IsRetried(Code code) {
  return code == Code::kUnavailable || code == Code::kExhausted || code == Code::kDeadline ||
         code == Code::kConflict;
}

bool IsRetriedAtOpen(Code code) { return IsRetried(code) || code == Code::kNotFound || code == Code::kIo; }

SharedSink::SharedSink(Context context, std::unique_ptr<Sink> sink, Layout layout)
    : context_(std::move(context)), sink_(std::move(sink)), layout_(std::move(layout)) {}

void SharedSink::SetLayout(Layout layout) {
  std::lock_guard told(told_mutex_);
  layout_ = std::move(layout);
}

SharedSink::Opening SharedSink::EnsureOpen() {
  if (is_open()) return {};
  std::lock_guard lock(mutex_);
  if (is_open()) return {};
  int64_t now_ns = context_.clock->MonotonicNs();
  if (failure_.ok() || now_ns >= due_ns_) {
    failure_ = Attempt();
    if (failure_.ok()) {
      is_open_.store(true, std::memory_order_release);
      return {};
    }
    int64_t wait_us = backoff_.NextUs(*context_.random);
    now_ns = context_.clock->MonotonicNs();
    // What is not tried again by itself is tried at once by whoever asks for it.
    due_ns_ = now_ns + (IsRetriedAtOpen(failure_.code()) ? wait_us * 1000 : 0);
  }
  return {failure_, backoff_.failures(), (due_ns_ - now_ns) / 1000};
}

Status SharedSink::Attempt() {
  ASSIGN_OR_RETURN(stored_, sink_->Open());
  Layout layout;
  {
    std::lock_guard told(told_mutex_);
    layout = layout_;
  }
  RETURN_IF_ERROR(sink_->SetColumns(layout.columns, layout.visible));
  prepared_version_ = layout.version;
  return OkStatus();
}

Status SharedSink::Prepare(const Layout& layout) {
  std::lock_guard lock(mutex_);
  if (prepared_version_ == layout.version) return OkStatus();
  RETURN_IF_ERROR(sink_->SetColumns(layout.columns, layout.visible));
  prepared_version_ = layout.version;
  return OkStatus();
}

Status SharedSink::Deliver(const RowBatch& rows, uint64_t version) {
  if (sink_->concurrent()) return sink_->Deliver(rows);
  std::lock_guard lock(mutex_);
  if (prepared_version_ != version) {  // another loop has delivered rows of another version
    Status status = sink_->SetColumns(rows.columns, rows.visible);
    if (status.code() == Code::kInvalid) return Conflict("{}", status.message());  // no fault of an event
    RETURN_IF_ERROR(status);
    prepared_version_ = version;
  }
  return sink_->Deliver(rows);
}

Status SharedSink::Older(Status (Sink::*call)()) {
  if (sink_->concurrent()) return (sink_.get()->*call)();
  std::lock_guard lock(mutex_);
  return (sink_.get()->*call)();
}

std::optional<uint64_t> SharedSink::DurableOffset(uint32_t partition) {
  if (sink_->concurrent()) return sink_->DurableOffset(partition);
  std::unique_lock lock(mutex_, std::try_to_lock);
  std::lock_guard told(told_mutex_);
  auto [known, is_new] = durable_.try_emplace(partition, 0);
  if (lock.owns_lock()) known->second = sink_->DurableOffset(partition);
  return known->second;
}

Status SharedSink::Close() {
  std::lock_guard lock(mutex_);
  return is_open() ? sink_->Close() : OkStatus();
}

void SharedSink::TellState(uint32_t partition, const std::string& state, const std::string& reason) {
  auto worst = [this] {
    int health = 0;
    for (const auto& [each, one] : health_) health = std::max(health, one);
    return health;
  };
  std::lock_guard lock(told_mutex_);
  int before = worst();
  health_[partition] = state == "failed" ? 2 : state == "degraded" ? 1 : 0;
  int now = worst();
  if (now == before || context_.logger == nullptr) return;
  if (now == 0)
    context_.logger->Info("the sink goes on", {{"pipeline", context_.pipeline}, {"sink", context_.id}});
  else
    context_.logger->Warn(now == 2 ? "the sink has failed" : "the sink is degraded",
                          {{"pipeline", context_.pipeline}, {"sink", context_.id}, {"reason", reason}});
}

}  // namespace millstream
