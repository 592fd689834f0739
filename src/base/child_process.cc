#include "base/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

extern char** environ;

namespace millstream {
namespace {

constexpr int kPollMs = 50;  // how often a stop is looked for
constexpr size_t kReadBytes = 64u << 10;
constexpr int64_t kReapWaitMs = 200;

void CloseDescriptor(int& descriptor) {
  if (descriptor >= 0) ::close(descriptor);
  descriptor = -1;
}

/// While it lives, writing into a closed pipe gives EPIPE rather than a signal that ends us.
class BrokenPipeBlocked {
 public:
  BrokenPipeBlocked() {
    sigemptyset(&broken_pipe_);
    sigaddset(&broken_pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &broken_pipe_, &before_);
  }
  ~BrokenPipeBlocked() {
    timespec now{};
    while (sigtimedwait(&broken_pipe_, nullptr, &now) > 0) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t broken_pipe_, before_;
};

struct Pipe {
  int read = -1, write = -1;
  Status Open() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return Unavailable("no pipe: {}", std::strerror(errno));
    read = ends[0], write = ends[1];
    return OkStatus();
  }
  ~Pipe() { CloseDescriptor(read), CloseDescriptor(write); }
};

/// posix_spawn's settings: pipes for stdin and stdout, nothing else of ours, a group of its own, signals as
/// new.
class SpawnSettings {
 public:
  SpawnSettings(int input, int output, const std::string& directory) {
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
    if (!directory.empty()) posix_spawn_file_actions_addchdir_np(&actions, directory.c_str());
    posix_spawnattr_init(&attributes);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

}  // namespace

Result<std::unique_ptr<ChildProcess>> ChildProcess::Start(const std::vector<std::string>& command,
                                                          const std::string& directory, Clock& clock) {
  CHECK(!command.empty());
  Pipe input, output;
  FAIL_IF_ERROR(input.Open());
  FAIL_IF_ERROR(output.Open());
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  SpawnSettings settings(input.read, output.write, directory);
  std::unique_ptr<ChildProcess> child(new ChildProcess(command[0], clock));
  int error = ::posix_spawnp(&child->pid_, arguments[0], &settings.actions, &settings.attributes,
                             arguments.data(), environ);
  if (error != 0) {
    child->pid_ = -1;
    return Fail(Unavailable("{} cannot be started: {}", command[0], std::strerror(error)));
  }
  std::swap(child->input_, input.write);
  std::swap(child->output_, output.read);
  ::fcntl(child->input_, F_SETFL, O_NONBLOCK);
  ::fcntl(child->output_, F_SETFL, O_NONBLOCK);
  return child;
}

ChildProcess::~ChildProcess() {
  CloseDescriptor(input_);
  CloseDescriptor(output_);
  if (pid_ < 0) return;
  ::kill(-pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::string ChildProcess::Ending() {
  int status = 0;
  int64_t give_up_ns = clock_.MonotonicNs() + kReapWaitMs * 1'000'000;
  pid_t ended = 0;
  // Its pipes close a moment before it can be reaped.
  for (int tries = 0; tries < kReapWaitMs && clock_.MonotonicNs() < give_up_ns; ++tries) {
    ended = ::waitpid(pid_, &status, WNOHANG);
    if (ended != 0) break;
    ::usleep(1000);
  }
  if (ended != pid_) return "closed its output";
  ::kill(-pid_, SIGKILL);  // what it has started
  pid_ = -1;
  if (WIFSIGNALED(status)) return fmt::format("was ended by signal {}", WTERMSIG(status));
  return fmt::format("ended with exit code {}", WEXITSTATUS(status));
}

Status ChildProcess::WriteSome(std::string_view& lines) {
  BrokenPipeBlocked blocked;
  while (!lines.empty()) {
    ssize_t written = ::write(input_, lines.data(), lines.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) return OkStatus();
    if (written < 0) {
      // It may close its input and still answer what it has read; only the end of its output ends the
      // exchange.
      lines = {};
      return OkStatus();
    }
    lines.remove_prefix(static_cast<size_t>(written));
  }
  return OkStatus();
}

Status ChildProcess::ReadSome(size_t count, std::vector<std::string>& replies) {
  char buffer[kReadBytes];
  for (;;) {
    ssize_t size = ::read(output_, buffer, sizeof(buffer));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return OkStatus();
    if (size <= 0) {
      if (replies.size() == count && partial_.empty()) return OkStatus();  // the next exchange starts another
      return Unavailable("{} {} after {} of {} replies", name_, Ending(), replies.size(), count);
    }
    std::string_view bytes(buffer, static_cast<size_t>(size));
    for (size_t end = bytes.find('\n'); end != std::string_view::npos; end = bytes.find('\n')) {
      if (replies.size() == count)
        return Unavailable("{} gives more replies than it gets lines; it must answer each line with one",
                           name_);
      partial_.append(bytes.substr(0, end));
      replies.push_back(std::exchange(partial_, {}));
      bytes.remove_prefix(end + 1);
    }
    if (replies.size() == count && !bytes.empty())
      return Unavailable("{} gives more replies than it gets lines; it must answer each line with one",
                         name_);
    partial_.append(bytes);
    if (partial_.size() > kMaxReplyBytes)
      return Invalid("{}: a reply is longer than {} bytes", name_, kMaxReplyBytes);
  }
}

Status ChildProcess::Exchange(std::string_view lines, size_t count, int64_t timeout_us, std::stop_token stop,
                              std::vector<std::string>& replies) {
  replies.clear();
  RETURN_IF_ERROR(ReadSome(0, replies));  // nothing may be waiting
  int64_t deadline_ns = clock_.MonotonicNs() + timeout_us * 1000;
  while (replies.size() < count) {
    if (stop.stop_requested()) return Cancelled("stopped while {} was at work", name_);
    size_t came = replies.size();
    pollfd waits[2] = {{output_, POLLIN, 0}, {input_, POLLOUT, 0}};
    int ready = ::poll(waits, lines.empty() ? 1 : 2, kPollMs);
    if (ready < 0 && errno != EINTR) return Internal("poll: {}", std::strerror(errno));
    if (!lines.empty() && waits[1].revents != 0) RETURN_IF_ERROR(WriteSome(lines));
    if (waits[0].revents != 0) RETURN_IF_ERROR(ReadSome(count, replies));
    int64_t now_ns = clock_.MonotonicNs();
    if (replies.size() > came) deadline_ns = now_ns + timeout_us * 1000;
    if (replies.size() < count && now_ns > deadline_ns)
      return Deadline("{} has not answered line {} of {} within {} ms", name_, replies.size() + 1, count,
                      timeout_us / 1000);
  }
  return OkStatus();
}

}  // namespace millstream
