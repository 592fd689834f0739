#include "cli/signals.h"

#include <csignal>
#include <cstdlib>
#include <ctime>

#include "cli/verb.h"

namespace millstream {
namespace {

sigset_t StopSet() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

StopSignals::StopSignals() {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t set = StopSet();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this] { Run(); });
}

StopSignals::~StopSignals() {
  ended_ = true;
  thread_.join();
}

void StopSignals::Run() {
  sigset_t set = StopSet();
  timespec tick{0, 100'000'000};
  while (!ended_) {
    if (sigtimedwait(&set, nullptr, &tick) < 0) {
      if (exit_on_next_.load() && std::chrono::steady_clock::now() > deadline_) {
        std::fputs("error: a filter does not end; its events are delivered after the next start\n", stderr);
        std::_Exit(0);
      }
      continue;
    }
    if (exit_on_next_.load()) std::_Exit(kExitInterrupted);
    received_ = true;
    received_.notify_all();
    source_.request_stop();
  }
}

void StopSignals::Wait() { received_.wait(false); }

}  // namespace millstream
