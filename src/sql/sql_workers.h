// SqlWorkers: SQL that nobody has bound yet is bound in a process of its own before it is bound in this one.
//
// Place: floor 2. DuckDB computes constants while it binds a statement and cannot be interrupted in that, and
// a text that it falls over ends the process that has the log. So the same binary, started as a worker
// (sql/sql_worker.h), binds each candidate first, over tables without rows; only what it survives is bound
// here. A worker that dies is replaced.
// Operation. A request is one line of JSON that this room does not look into: whoever asks and whoever
// answers (cli/worker.cc) agree on it. Bounds are the worker's own: CPU time and memory for each step of a
// request. Threads: thread-safe; at most kProcesses requests at a time, others wait for their turn.
// Ownership: the destructor ends the processes.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include "base/child_process.h"
#include "base/clock.h"
#include "base/status.h"

namespace millstream {

class SqlWorkers {
 public:
  static constexpr size_t kProcesses = 3;
  static constexpr size_t kIdleProcesses = 1;  // that are kept for the next request

  /// `command`: starts a worker; empty: nothing is tried.
  SqlWorkers(std::vector<std::string> command, Clock& clock);
  ~SqlWorkers();

  /// OK: a worker survived the request, or there are none, or none can be started now (no descriptors, no
  /// memory): then nothing is known. kInvalid: it did not, and why; `where`: in which step, as the worker
  /// named it. kDeadline: no answer within `timeout_us`, for whatever reason. kCancelled: stopped.
  Status Try(const std::string& request, int64_t timeout_us, const std::stop_token& stop, std::string* where);

 private:
  std::unique_ptr<ChildProcess> Take(int64_t timeout_us);
  void GiveBack(std::unique_ptr<ChildProcess> process);

  const std::vector<std::string> command_;
  Clock& clock_;
  std::mutex mutex_;
  std::condition_variable given_back_;
  std::vector<std::unique_ptr<ChildProcess>> idle_;
  size_t busy_ = 0;
};

}  // namespace millstream
