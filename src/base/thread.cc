#include "base/thread.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

namespace millstream {

constexpr int kNiceOfBackground = 10;                // a ninth of the weight of a thread at 0
constexpr uint64_t kSliceOfBackground = 20'000'000;  // ns

namespace {

// The first version of the system call's structure (sched_setattr(2)), which glibc 2.36 does not declare.
struct SchedulingAttributes {
  uint32_t size = sizeof(SchedulingAttributes), policy = SCHED_BATCH;
  uint64_t flags = 0;
  int32_t nice = kNiceOfBackground;
  uint32_t priority = 0;
  uint64_t runtime = kSliceOfBackground, deadline = 0, period = 0;
};

void LowerPriority(pid_t thread) {
  // Since Linux 6.12 a thread that wakes up takes the place at once of one with a longer slice, and else only
  // when that one's slice is over. Older ones pass over the slice.
  SchedulingAttributes attributes;
  if (syscall(SYS_sched_setattr, thread, &attributes, 0) == 0) return;
  (void)setpriority(PRIO_PROCESS, static_cast<id_t>(thread), kNiceOfBackground);
}

}  // namespace

void NameThread(const char* name) { prctl(PR_SET_NAME, name); }

pid_t ThreadNumber() { return gettid(); }

void StandBack(pid_t thread) {
  LowerPriority(thread);
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) != 0 || CPU_COUNT(&cores) < 2) return;
  size_t first = 0;
  while (!CPU_ISSET(first, &cores)) ++first;
  CPU_CLR(first, &cores);
  (void)sched_setaffinity(thread, sizeof cores, &cores);
}

void LetOthersFirst() {
  static thread_local bool does_already = false;
  if (!std::exchange(does_already, true)) LowerPriority(gettid());
}

int Niceness() { return getpriority(PRIO_PROCESS, static_cast<id_t>(gettid())); }

}  // namespace millstream
