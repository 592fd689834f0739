#include "sql/sql_worker.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "base/process_memory.h"
#include "base/thread.h"
#include "sql/function_bounds.h"

namespace millstream {
namespace {

constexpr std::string_view kSurvived = "ok";
constexpr std::string_view kDied = "died ";
constexpr auto kLookEvery = std::chrono::milliseconds(5);
constexpr size_t kSignalStackBytes = 64u << 10;

// Sanitizers read files of /proc, and look at memory through system calls of their own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kIsSanitized = true;
#else
constexpr bool kIsSanitized = false;
#endif

// ---- Dying

// The step at work, for the thread that watches and for signal handlers: "died SIZE WHERE ", made beforehand.
std::atomic<const std::string*> last_words{nullptr};

// Async-signal-safe.
[[noreturn]] void Die(std::string_view why) {
  const std::string* words = last_words.exchange(nullptr);
  if (words != nullptr) {  // else another thread dies already
    char line[4096];
    const size_t size = std::min(words->size(), sizeof line - why.size() - 1);
    std::memcpy(line, words->data(), size);
    std::memcpy(line + size, why.data(), why.size());
    line[size + why.size()] = '\n';
    (void)!::write(STDOUT_FILENO, line, size + why.size() + 1);
  }
  ::_exit(1);
}

void OnCrash(int signal) {
  switch (signal) {
    case SIGSEGV:
      Die("DuckDB crashes over it (SIGSEGV)");
    case SIGABRT:
      Die("DuckDB crashes over it (SIGABRT)");
    default:
      Die("DuckDB crashes over it");
  }
}

void CatchCrashes() {
  static char stack[kSignalStackBytes];  // for a stack that has run over
  stack_t alternative{};
  alternative.ss_sp = stack;
  alternative.ss_size = sizeof stack;
  ::sigaltstack(&alternative, nullptr);
  struct sigaction action {};
  action.sa_handler = OnCrash;
  action.sa_flags = SA_ONSTACK | SA_RESETHAND;
  for (int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL}) ::sigaction(signal, &action, nullptr);
}

// ---- Bounds

int64_t CpuUs() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return now.tv_sec * 1'000'000 + now.tv_nsec / 1'000;
}

/// Watches the step at work; dies when it is beyond its bounds.
class Watch {
 public:
  Watch()
      : thread_([this](std::stop_token stop) {
          while (!stop.stop_requested()) {
            is_at_work_.wait(false);
            std::this_thread::sleep_for(kLookEvery);
            Look();
          }
        }) {}
  ~Watch() {
    thread_.request_stop();
    Begin("");
  }

  void Begin(const std::string& where) {
    std::string& words = words_[++begun_ % words_.size()];  // whoever dies now may read the other one
    words = fmt::format("{}{} {} ", kDied, where.size(), where);
    cpu_begun_us_ = CpuUs();
    bytes_begun_ = ResidentBytes();
    last_words = &words;
    is_at_work_ = true;
    is_at_work_.notify_one();
  }
  void End() { is_at_work_ = false; }

 private:
  void Look() const {
    if (!is_at_work_) return;
    if (CpuUs() - cpu_begun_us_ > kWorkerCpuUs)
      Die(fmt::format("it takes more than {} ms of CPU to bind", kWorkerCpuUs / 1'000));
    if (ResidentBytes() > bytes_begun_ + kWorkerMemoryBytes)
      Die(fmt::format("it takes more than {} MiB of memory to bind", kWorkerMemoryBytes >> 20));
  }

  std::atomic<int64_t> cpu_begun_us_{0};
  std::atomic<uint64_t> bytes_begun_{0};
  std::atomic<bool> is_at_work_{false};
  std::array<std::string, 2> words_;
  size_t begun_ = 0;
  std::jthread thread_;  // last: it uses the others
};

// ---- Shut in

/// No file may be opened from now on (Landlock: every access is handled, and no rule allows one).
void GiveUpFiles() {
  landlock_ruleset_attr handled{};
  handled.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;  // all that the first version knows
  const long rules = ::syscall(SYS_landlock_create_ruleset, &handled, sizeof handled.handled_access_fs, 0);
  if (rules < 0) return;
  ::syscall(SYS_landlock_restrict_self, rules, 0);
  ::close(static_cast<int>(rules));
}

constexpr int kSystemCalls[] = {
    // what computing takes: memory, threads, clocks, signals
    SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_brk, SYS_futex, SYS_clone,
    SYS_set_robust_list, SYS_rseq, SYS_sched_yield, SYS_sched_getaffinity, SYS_sched_setaffinity,
    SYS_membarrier, SYS_prctl, SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep,
    SYS_gettimeofday, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack, SYS_tgkill,
    SYS_restart_syscall, SYS_exit, SYS_exit_group, SYS_getrandom, SYS_getpid, SYS_gettid, SYS_getuid,
    SYS_geteuid, SYS_uname, SYS_sysinfo, SYS_getrusage, SYS_prlimit64,
    // pipes and what is open already
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_lseek, SYS_fstat, SYS_close, SYS_ppoll,
    SYS_fcntl};

/// All other system calls fail with EPERM, for every thread (seccomp(2)).
void GiveUpSystemCalls() {
#if defined(__x86_64__)
  constexpr uint32_t kMachine = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
  constexpr uint32_t kMachine = AUDIT_ARCH_AARCH64;
#else
  return;
#endif
  constexpr auto kLoad = static_cast<uint16_t>(BPF_LD | BPF_W | BPF_ABS);
  constexpr auto kJumpIfEqual = static_cast<uint16_t>(BPF_JMP | BPF_JEQ | BPF_K);
  constexpr auto kReturn = static_cast<uint16_t>(BPF_RET | BPF_K);
  std::vector<sock_filter> program = {
      {kLoad, 0, 0, offsetof(seccomp_data, arch)},
      {kJumpIfEqual, 1, 0, kMachine},
      {kReturn, 0, 0, SECCOMP_RET_KILL_PROCESS},
      {kLoad, 0, 0, offsetof(seccomp_data, nr)},
  };
  for (int call : kSystemCalls) {
    program.push_back({kJumpIfEqual, 0, 1, static_cast<uint32_t>(call)});
    program.push_back({kReturn, 0, 0, SECCOMP_RET_ALLOW});
  }
  // glibc asks clone3 first and takes clone where there is none.
  program.push_back({kJumpIfEqual, 0, 1, SYS_clone3});
  program.push_back({kReturn, 0, 0, SECCOMP_RET_ERRNO | ENOSYS});
  program.push_back({kReturn, 0, 0, SECCOMP_RET_ERRNO | EPERM});
  sock_fprog filter{static_cast<uint16_t>(program.size()), program.data()};
  ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
}

}  // namespace

std::optional<WorkerDeath> ReadDeath(const std::string& reply) {
  if (!reply.starts_with(kDied)) return std::nullopt;
  char* after = nullptr;
  const size_t size = std::strtoull(reply.c_str() + kDied.size(), &after, 10);
  const size_t begin = static_cast<size_t>(after - reply.c_str()) + 1;
  if (begin + size + 1 > reply.size()) return WorkerDeath{"", "DuckDB crashes over it"};
  return WorkerDeath{reply.substr(begin, size), reply.substr(begin + size + 1)};
}

int RunSqlWorker(const std::function<void()>& prepare,
                 const std::function<void(const std::string& request, const WorkerStep& step)>& handle) {
  LiftBounds();
  NameThread("sql worker");
  prepare();
  LetOthersFirst();
  // No bound on addresses: where memory cannot be had DuckDB leaves a constant uncomputed, so that a worker
  // with less of it would find harmless what is not so elsewhere.
  rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  CatchCrashes();
  Watch watch;
  (void)ResidentBytes();  // while its file may be opened
  if (!kIsSanitized) {
    GiveUpFiles();
    GiveUpSystemCalls();
  }
  std::string request;
  std::ios::sync_with_stdio(false);
  while (std::getline(std::cin, request)) {
    watch.Begin("");
    handle(request, [&](const std::string& where) { watch.Begin(where); });
    watch.End();
    std::cout << kSurvived << std::endl;
  }
  return 0;
}

}  // namespace millstream
