#include "pipeline/data_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cerrno>

#include "event/json_scan.h"

namespace millstream {
namespace {

constexpr int64_t kLockPollUs = 100'000;

std::optional<LockHolder> ReadHolder(int descriptor) {
  std::string text(4096, '\0');
  ssize_t size = pread(descriptor, text.data(), text.size(), 0);
  if (size <= 0) return std::nullopt;
  text.resize(static_cast<size_t>(size));
  boost::json::error_code error;
  boost::json::value root = boost::json::parse(text, error);
  if (error || !root.is_object()) return std::nullopt;
  const boost::json::object& object = root.as_object();
  LockHolder holder;
  if (const auto* pid = object.if_contains("pid"); pid != nullptr && pid->is_int64())
    holder.pid = static_cast<int>(pid->as_int64());
  if (const auto* url = object.if_contains("url"); url != nullptr && url->is_string())
    holder.url = url->as_string();
  if (const auto* uuid = object.if_contains("uuid"); uuid != nullptr && uuid->is_string())
    holder.uuid = uuid->as_string();
  return holder;
}

}  // namespace

Result<std::unique_ptr<DataFolder>> DataFolder::Open(FileSystem& fs, Clock& clock, const std::string& path,
                                                     int64_t wait_us) {
  FAIL_IF_ERROR(fs.CreateDirectories(path));
  std::string lock = path + "/lock";
  int descriptor = open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) return Fail(IoError("cannot open {}: {}", lock, std::strerror(errno)));
  int64_t until_ns = clock.MonotonicNs() + wait_us * 1000;
  while (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    if (clock.MonotonicNs() < until_ns) {
      usleep(kLockPollUs);
      continue;
    }
    auto holder = ReadHolder(descriptor);
    close(descriptor);
    if (!holder) return Fail(Conflict("the data folder {} is in use by another process", path));
    return Fail(Conflict("the data folder {} is in use by process {}{}", path, holder->pid,
                         holder->url.empty() ? "" : fmt::format(", which listens on {}", holder->url)));
  }
  auto folder = std::unique_ptr<DataFolder>(new DataFolder(path, descriptor));
  if (fs.Exists(folder->temporary_path())) FAIL_IF_ERROR(fs.RemoveAll(folder->temporary_path()));
  FAIL_IF_ERROR(fs.CreateDirectories(folder->temporary_path()));
  FAIL_IF_ERROR(fs.CreateDirectories(folder->sinks_path()));
  FAIL_IF_ERROR(folder->Describe("", ""));
  return folder;
}

DataFolder::~DataFolder() {
  if (ftruncate(descriptor_, 0) != 0) {
    // An old text only names a process that does not hold the lock any more.
  }
  close(descriptor_);
}

Status DataFolder::Describe(const std::string& uuid, const std::string& url) {
  std::string text = fmt::format("{{\"pid\":{},\"uuid\":", getpid());
  AppendJsonString(text, uuid);
  text += ",\"url\":";
  AppendJsonString(text, url);
  text += "}\n";
  if (ftruncate(descriptor_, 0) != 0 ||
      pwrite(descriptor_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    return IoError("cannot write {}/lock: {}", path_, std::strerror(errno));
  return OkStatus();
}

std::optional<LockHolder> FindLockHolder(const std::string& data_path) {
  int descriptor = open((data_path + "/lock").c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return std::nullopt;
  std::optional<LockHolder> holder;
  if (flock(descriptor, LOCK_SH | LOCK_NB) == 0) {
    flock(descriptor, LOCK_UN);
  } else {
    holder = ReadHolder(descriptor);
    if (!holder) holder.emplace();
  }
  close(descriptor);
  return holder;
}

}  // namespace millstream
