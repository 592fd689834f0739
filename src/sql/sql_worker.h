// The inside of a process that SqlWorkers asks: a loop over requests, shut in, under bounds.
//
// Place: floor 2. Run by cli/worker.cc, which knows what requests mean. Before the first one the process
// gives up what it does not need: files (Landlock), the network, other programs and all system calls but the
// few that computing takes (seccomp), and its place before others (nice). A kernel without Landlock or
// seccomp goes without. A step that takes more CPU time or memory than it may, or that crashes, ends the
// process with a last line that says so.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace millstream {

/// Of each step. CPU time, so that a worker that got no core is not to blame.
inline constexpr int64_t kWorkerCpuUs = 1'000'000;
inline constexpr uint64_t kWorkerMemoryBytes = 512ull << 20;  // resident, beyond what it had

/// What a worker said last.
struct WorkerDeath {
  std::string where, why;
};
/// Of a reply; nothing: it survived.
std::optional<WorkerDeath> ReadDeath(const std::string& reply);

/// A worker tells here what it does next: a place that whoever asked knows; the bounds begin anew.
using WorkerStep = std::function<void(const std::string& where)>;

/// Reads requests from standard input until its end, calls `handle` for each, and answers. Returns the
/// process's exit code. `prepare` is called before the process is shut in.
int RunSqlWorker(const std::function<void()>& prepare,
                 const std::function<void(const std::string& request, const WorkerStep& step)>& handle);

}  // namespace millstream
