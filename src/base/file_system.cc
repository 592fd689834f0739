#include "base/file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "base/planted.h"

namespace millstream {
namespace {

constexpr int kPartsMax = 512;  // below every system's IOV_MAX

Status ErrnoStatus(int error, const std::string& path, std::string_view call) {
  Code code = Code::kIo;
  if (error == ENOENT || error == ENOTDIR) code = Code::kNotFound;
  if (error == ENOSPC || error == EDQUOT || error == EMFILE || error == ENFILE) code = Code::kExhausted;
  return Status(code, fmt::format("{}: {}: {}", path, call, std::system_category().message(error)));
}

class PosixFile final : public File {
 public:
  PosixFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  ~PosixFile() override { ::close(fd_); }
  PosixFile(const PosixFile&) = delete;
  PosixFile& operator=(const PosixFile&) = delete;

  Result<size_t> ReadAt(uint64_t offset, char* to, size_t size) override {
    size_t done = 0;
    while (done < size) {
      ssize_t got = ::pread(fd_, to + done, size - done, static_cast<off_t>(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return Fail(ErrnoStatus(errno, path_, "read"));
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    return done;
  }

  Status WriteAt(uint64_t offset, std::span<const std::string_view> parts) override {
    iovec vectors[kPartsMax];
    size_t next = 0, skip = 0;  // first part that is not written whole, and how much of it is
    while (true) {
      while (next < parts.size() && skip == parts[next].size()) ++next, skip = 0;
      if (next == parts.size()) return OkStatus();
      int used = 0;
      for (size_t i = next; i < parts.size() && used < kPartsMax; ++i) {
        std::string_view part = i == next ? parts[i].substr(skip) : parts[i];
        vectors[used++] = {const_cast<char*>(part.data()), part.size()};
      }
      ssize_t wrote = ::pwritev(fd_, vectors, used, static_cast<off_t>(offset));
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) return ErrnoStatus(errno, path_, "write");
      offset += static_cast<uint64_t>(wrote);
      for (size_t left = static_cast<size_t>(wrote); left > 0;) {
        size_t take = std::min(left, parts[next].size() - skip);
        skip += take, left -= take;
        if (skip == parts[next].size()) ++next, skip = 0;
      }
    }
  }

  Status Sync() override {
    return ::fdatasync(fd_) == 0 ? OkStatus()
                                 : Status(Code::kIo, ErrnoStatus(errno, path_, "fdatasync").message());
  }

  Status Truncate(uint64_t size) override {
    while (::ftruncate(fd_, static_cast<off_t>(size)) != 0) {
      if (errno != EINTR) return ErrnoStatus(errno, path_, "truncate");
    }
    reserved_ = size;
    return OkStatus();
  }

  Status Reserve(uint64_t size) override {
    uint64_t from = reserved_.load();
    if (size <= from) return OkStatus();
    while (::fallocate(fd_, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(from), static_cast<off_t>(size - from)) !=
           0) {
      if (errno == EINTR) continue;
      if (errno == EOPNOTSUPP || errno == ENOSYS) break;
      return ErrnoStatus(errno, path_, "fallocate");
    }
    reserved_ = size;
    return OkStatus();
  }

  Result<uint64_t> Size() override {
    struct stat info;
    if (::fstat(fd_, &info) != 0) return Fail(ErrnoStatus(errno, path_, "stat"));
    return static_cast<uint64_t>(info.st_size);
  }

 private:
  const int fd_;
  const std::string path_;
  std::atomic<uint64_t> reserved_ = 0;
};

Status SyncFolder(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, path, "open");
  int error = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  return error == 0 ? OkStatus() : Status(Code::kIo, ErrnoStatus(error, path, "fsync").message());
}

}  // namespace

Result<std::unique_ptr<File>> PosixFileSystem::Open(const std::string& path, OpenMode mode) {
  int flags =
      O_CLOEXEC | (mode == OpenMode::kRead ? O_RDONLY : O_RDWR) | (mode == OpenMode::kCreate ? O_CREAT : 0);
  int fd;
  do {
    fd = ::open(path.c_str(), flags, 0644);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return Fail(ErrnoStatus(errno, path, "open"));
  return std::make_unique<PosixFile>(fd, path);
}

Result<FileInfo> PosixFileSystem::Stat(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return Fail(ErrnoStatus(errno, path, "stat"));
  return FileInfo{.size = static_cast<uint64_t>(info.st_size),
                  .inode = static_cast<uint64_t>(info.st_ino),
                  .modified_us = int64_t{info.st_mtim.tv_sec} * 1'000'000 + info.st_mtim.tv_nsec / 1000,
                  .is_directory = S_ISDIR(info.st_mode)};
}

Result<std::vector<std::string>> PosixFileSystem::List(const std::string& directory) {
  DIR* opened = ::opendir(directory.c_str());
  if (opened == nullptr) return Fail(ErrnoStatus(errno, directory, "list"));
  std::vector<std::string> names;
  errno = 0;
  while (dirent* entry = ::readdir(opened)) {
    std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  int error = errno;
  ::closedir(opened);
  if (error != 0) return Fail(ErrnoStatus(error, directory, "list"));
  std::sort(names.begin(), names.end());
  return names;
}

Status PosixFileSystem::CreateDirectories(const std::string& path) {
  for (size_t slash = 0; slash != std::string::npos;) {
    slash = path.find('/', slash + 1);
    std::string part = path.substr(0, slash);
    if (part.empty() || part == "/") continue;
    if (::mkdir(part.c_str(), 0755) == 0) {
      RETURN_IF_ERROR(SyncFolder(DirectoryOf(part)));
    } else if (errno != EEXIST) {
      return ErrnoStatus(errno, part, "mkdir");
    }
  }
  ASSIGN_OR_RETURN(FileInfo info, Stat(path));
  return info.is_directory ? OkStatus() : Conflict("{}: is a file, not a folder", path);
}

Status PosixFileSystem::Rename(const std::string& from, const std::string& to) {
  return ::rename(from.c_str(), to.c_str()) == 0 ? OkStatus() : ErrnoStatus(errno, from, "rename to " + to);
}

Status PosixFileSystem::Remove(const std::string& path) {
  return ::unlink(path.c_str()) == 0 ? OkStatus() : ErrnoStatus(errno, path, "remove");
}

Status PosixFileSystem::RemoveAll(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  return error ? ErrnoStatus(error.value(), path, "remove") : OkStatus();
}

Status PosixFileSystem::SyncDirectory(const std::string& path) { return SyncFolder(path); }

Result<DiskSpace> PosixFileSystem::Space(const std::string& path) {
  struct statvfs info;
  if (::statvfs(path.c_str(), &info) != 0) return Fail(ErrnoStatus(errno, path, "statvfs"));
  return DiskSpace{.total_bytes = uint64_t{info.f_blocks} * info.f_frsize,
                   .free_bytes = uint64_t{info.f_bavail} * info.f_frsize};
}

std::string DirectoryOf(const std::string& path) {
  size_t slash = path.find_last_not_of('/');
  slash = slash == std::string::npos ? slash : path.rfind('/', slash);
  if (slash == std::string::npos) return !path.empty() && path[0] == '/' ? "/" : ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<std::string> ReadFile(FileSystem& fs, const std::string& path, uint64_t max_bytes) {
  ASSIGN_OR_FAIL(std::unique_ptr<File> file, fs.Open(path, OpenMode::kRead));
  ASSIGN_OR_FAIL(uint64_t size, file->Size());
  if (size > max_bytes) return Fail(Exhausted("{}: {} bytes, more than {}", path, size, max_bytes));
  std::string content(size, '\0');
  ASSIGN_OR_FAIL(size_t got, file->ReadAt(0, content.data(), size));
  content.resize(got);
  return content;
}

Status WriteFileDurably(FileSystem& fs, const std::string& path, std::string_view content) {
  const std::string beside = path + ".new";
  {
    ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs.Open(beside, OpenMode::kCreate));
    RETURN_IF_ERROR(file->Truncate(0));
    RETURN_IF_ERROR(file->WriteAt(0, content));
    RETURN_IF_ERROR(file->Sync());
  }
  RETURN_IF_ERROR(fs.Rename(beside, path));
  if (IsPlanted(Planted::no_dirsync)) return OkStatus();
  return fs.SyncDirectory(DirectoryOf(path));
}

}  // namespace millstream
