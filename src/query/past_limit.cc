#include "query/past_limit.h"

#include "base/text.h"

namespace millstream {
namespace {

constexpr int64_t kMostUs = 24 * 3600ll * 1'000'000;

}  // namespace

PastLimit::PastLimit(Engine& engine, int64_t timeout_us, std::stop_token caller)
    : timeout_us_(
          std::min(kMostUs, timeout_us > 0 ? timeout_us : engine.project()->server.query_deadline_us)),
      until_(std::chrono::steady_clock::now() + std::chrono::microseconds(timeout_us_)),
      caller_(std::move(caller)) {
  guard_.emplace(watchdog_, timeout_us_, [this] { End(); });
  on_gone_.emplace(caller_, [this] { guard_->Expire(); });
}

void PastLimit::End() {
  ended_.request_stop();
  std::lock_guard lock(mutex_);
  if (connection_ != nullptr) connection_->Interrupt();
}

void PastLimit::Watch(Connection* connection) {
  std::lock_guard lock(mutex_);
  connection_ = connection;
}

Status PastLimit::Tell(Status status) const {
  if (!ended_.stop_requested() && std::chrono::steady_clock::now() < until_) return status;
  if (caller_.stop_requested()) return Cancelled("the question was cancelled");
  return Deadline("it took longer than its deadline of {}", FormatDuration(timeout_us_));
}

}  // namespace millstream
