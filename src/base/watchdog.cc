#include "base/watchdog.h"

namespace millstream {
namespace {

// The thread looks this often; a deadline is exceeded by no more than it. It needs no waking for each piece
// of work.
constexpr auto kTick = std::chrono::milliseconds(50);

}  // namespace

Watchdog::Watchdog() : thread_([this](std::stop_token stop) { Run(stop); }) {}

Watchdog::~Watchdog() {
  thread_.request_stop();
  changed_.notify_all();
}

Watchdog::Guard::Guard(Watchdog& watchdog, int64_t deadline_us, std::function<void()> interrupt)
    : watchdog_(watchdog) {
  std::lock_guard lock(watchdog.mutex_);
  id_ = watchdog.next_id_++;
  watchdog.watches_.emplace(id_,
                            Watch{std::chrono::steady_clock::now() + std::chrono::microseconds(deadline_us),
                                  std::move(interrupt), this});
}

Watchdog::Guard::~Guard() {
  std::lock_guard lock(watchdog_.mutex_);
  watchdog_.watches_.erase(id_);
}

bool Watchdog::Guard::fired() {
  std::lock_guard lock(watchdog_.mutex_);
  return fired_;
}

void Watchdog::Guard::Expire() {
  std::lock_guard lock(watchdog_.mutex_);
  watchdog_.watches_.at(id_).deadline = std::chrono::steady_clock::now();
}

void Watchdog::Run(std::stop_token stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    changed_.wait_for(lock, stop, kTick, [] { return false; });
    Time now = std::chrono::steady_clock::now();
    for (auto& [id, watch] : watches_) {
      if (now < watch.deadline) continue;
      watch.guard->fired_ = true;
      watch.interrupt();  // again and again until the work ends
    }
  }
}

}  // namespace millstream
