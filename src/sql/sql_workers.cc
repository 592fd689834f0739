#include "sql/sql_workers.h"

#include <chrono>

#include "sql/sql_worker.h"

namespace millstream {

SqlWorkers::SqlWorkers(std::vector<std::string> command, Clock& clock)
    : command_(std::move(command)), clock_(clock) {}
SqlWorkers::~SqlWorkers() = default;

std::unique_ptr<ChildProcess> SqlWorkers::Take(int64_t timeout_us) {
  std::unique_lock lock(mutex_);
  if (!given_back_.wait_for(lock, std::chrono::microseconds(timeout_us), [&] { return busy_ < kProcesses; }))
    return nullptr;
  ++busy_;
  if (idle_.empty()) {
    lock.unlock();
    auto started = ChildProcess::Start(command_, "/", clock_);
    if (started) return std::move(*started);
    GiveBack(nullptr);
    return nullptr;
  }
  auto process = std::move(idle_.back());
  idle_.pop_back();
  return process;
}

void SqlWorkers::GiveBack(std::unique_ptr<ChildProcess> process) {
  {
    std::lock_guard lock(mutex_);
    --busy_;
    if (process && idle_.size() < kIdleProcesses) idle_.push_back(std::move(process));
  }
  given_back_.notify_one();
}

Status SqlWorkers::Try(const std::string& request, int64_t timeout_us, const std::stop_token& stop,
                       std::string* where) {
  if (command_.empty()) return OkStatus();
  const int64_t deadline_us = clock_.MonotonicNs() / 1000 + timeout_us;
  // A worker that was idle may have been ended by somebody else: then a new one is asked.
  constexpr int kTries = 2;
  for (int tries = 1;; ++tries) {
    const int64_t left_us = deadline_us - clock_.MonotonicNs() / 1000;
    std::unique_ptr<ChildProcess> process = Take(std::max<int64_t>(0, left_us));
    if (!process) {
      if (clock_.MonotonicNs() / 1000 < deadline_us) return OkStatus();
      return Deadline("the processes that try SQL first are all at work");
    }
    std::vector<std::string> replies;
    Status asked = process->Exchange(request + '\n', 1, std::max<int64_t>(0, left_us), stop, replies);
    if (asked.ok()) {
      auto death = ReadDeath(replies[0]);
      GiveBack(death ? nullptr : std::move(process));
      if (!death) return OkStatus();
      if (where != nullptr) *where = std::move(death->where);
      return Invalid("{}", death->why);
    }
    process.reset();
    GiveBack(nullptr);
    if (asked.code() != Code::kUnavailable) return asked;
    // It died without a word, such as by the machine's want of memory.
    if (tries == kTries) return Invalid("a process that tries SQL first {}", asked.message());
  }
}

}  // namespace millstream
