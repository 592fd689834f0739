// What a thread is for, told to the system: its name, so that `top -H`, a profile and a core dump show it,
// and whether others go first.
#pragma once

#include <sys/types.h>

namespace millstream {

/// For the calling thread. The name is cut to 15 bytes (prctl(2), PR_SET_NAME).
void NameThread(const char* name);

/// The calling thread's number for the system (gettid(2)).
pid_t ThreadNumber();

/// Others go first where the machine has too few cores, and at once (Linux keeps nice value, policy and slice
/// for each thread, sched_setattr(2)). Not to be undone, nor done twice: whoever may not raise a thread needs
/// another one.
void LetOthersFirst();
/// The same for `thread` of this process, which also leaves a core to others: it never runs on the first one
/// that the calling thread may use, unless it is the only one (sched_setaffinity(2)). Linux lets a thread
/// that wakes up wait for a tick of its clock, 4 ms at 250 Hz, where a core is busy with less urgent work; it
/// runs at once where one is idle.
void StandBack(pid_t thread);
/// The calling thread's nice value.
int Niceness();

}  // namespace millstream
