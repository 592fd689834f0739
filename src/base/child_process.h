// ChildProcess: a program that answers each line on its standard input with one line on its standard output.
//
// Place: floor 0. Filters of the kind `exec` run in one, and SQL is tried in one (sql/sql_workers.h).
// Operation. The program leads a process group of its own, so that what it starts ends with it. Its stderr is
// ours. Lines are written and replies read in one poll loop, so that neither side waits for the other's pipe.
// Threads: one. Ownership: the destructor kills the group and reaps the program.
// Failure: kUnavailable if the program cannot be started, ends, closes its output, or answers unasked;
// kDeadline if the next reply takes too long; kInvalid for a reply that is too long; kCancelled on a stop.
// After any failure the two sides no longer agree on what was answered: the process is of no more use.
#pragma once

#include <sys/types.h>

#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"

namespace millstream {

class ChildProcess {
 public:
  static constexpr size_t kMaxReplyBytes = 16u << 20;

  /// Runs `command` (looked for in PATH) in `directory`.
  static Result<std::unique_ptr<ChildProcess>> Start(const std::vector<std::string>& command,
                                                     const std::string& directory, Clock& clock);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// Writes `lines` (each with its end) and reads `count` replies. `timeout_us` is the longest wait for the
  /// next reply. On failure `replies` holds those that came.
  Status Exchange(std::string_view lines, size_t count, int64_t timeout_us, std::stop_token stop,
                  std::vector<std::string>& replies);

 private:
  ChildProcess(std::string name, Clock& clock) : name_(std::move(name)), clock_(clock) {}
  Status WriteSome(std::string_view& lines);
  Status ReadSome(size_t count, std::vector<std::string>& replies);
  /// Why the program gives no more, in words.
  std::string Ending();

  std::string name_;
  Clock& clock_;
  pid_t pid_ = -1;
  int input_ = -1;       // we write
  int output_ = -1;      // we read
  std::string partial_;  // the beginning of a reply
};

}  // namespace millstream
