#include "base/thread.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

namespace millstream {

constexpr int kNiceOfBackground = 10;  // a ninth of the weight of a thread at 0

void NameThread(const char* name) { prctl(PR_SET_NAME, name); }

pid_t ThreadNumber() { return gettid(); }

void LetOthersFirst() { LetOthersFirst(gettid()); }

void LetOthersFirst(pid_t thread) {
  (void)setpriority(PRIO_PROCESS, static_cast<id_t>(thread), kNiceOfBackground);
}

int Niceness() { return getpriority(PRIO_PROCESS, static_cast<id_t>(gettid())); }

}  // namespace millstream
