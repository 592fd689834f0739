// FileSystem and File: the disk behind a small interface.
//
// Place: floor 0; log/, sinks/ and sources/ reach the disk through it (DuckDB's own files excepted).
// PosixFileSystem is the machine's. MemoryFileSystem (memory_file_system.h) tears writes, loses what is not
// synced and fails at the Nth call. Threads: a FileSystem is thread-safe. A File may be read and written by
// several threads at different offsets. Failure: kIo with the path and errno's text; kNotFound for a missing
// path; kExhausted for ENOSPC, EDQUOT, EMFILE.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace millstream {

class File {
 public:
  virtual ~File() = default;
  /// Reads up to `size` bytes at `offset`; fewer only at the end of the file. Returns how many.
  virtual Result<size_t> ReadAt(uint64_t offset, char* to, size_t size) = 0;
  /// Writes all parts one after another from `offset` on. On failure any prefix may have been written.
  virtual Status WriteAt(uint64_t offset, std::span<const std::string_view> parts) = 0;
  /// fdatasync. After a failure nothing that was written since the last success may be trusted.
  virtual Status Sync() = 0;
  virtual Status Truncate(uint64_t size) = 0;
  /// Reserves room on disk up to `size` bytes without changing the visible length where the system can; else
  /// does nothing.
  virtual Status Reserve(uint64_t size) = 0;
  virtual Result<uint64_t> Size() = 0;

  Status WriteAt(uint64_t offset, std::string_view bytes) { return WriteAt(offset, std::span(&bytes, 1)); }
};

struct FileInfo {
  uint64_t size = 0;
  uint64_t inode = 0;
  int64_t modified_us = 0;
  bool is_directory = false;
};

enum class OpenMode : unsigned char {
  kRead,       // must exist
  kReadWrite,  // must exist
  kCreate,     // read and write; made if missing
};

inline constexpr size_t kCopyBytes = 1 << 20;  // of a file that are copied at a time

struct DiskSpace {
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual Result<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) = 0;
  virtual Result<FileInfo> Stat(const std::string& path) = 0;
  /// Names (not paths) in a folder, sorted.
  virtual Result<std::vector<std::string>> List(const std::string& directory) = 0;
  /// Makes the folder and its parents; each new entry is synced into its parent.
  virtual Status CreateDirectories(const std::string& path) = 0;
  virtual Status Rename(const std::string& from, const std::string& to) = 0;
  virtual Status Remove(const std::string& path) = 0;
  /// Removes a folder and all below it.
  virtual Status RemoveAll(const std::string& path) = 0;
  virtual Status SyncDirectory(const std::string& path) = 0;
  virtual Result<DiskSpace> Space(const std::string& path) = 0;

  bool Exists(const std::string& path) { return Stat(path).has_value(); }
};

class PosixFileSystem final : public FileSystem {
 public:
  Result<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override;
  Result<FileInfo> Stat(const std::string& path) override;
  Result<std::vector<std::string>> List(const std::string& directory) override;
  Status CreateDirectories(const std::string& path) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status Remove(const std::string& path) override;
  Status RemoveAll(const std::string& path) override;
  Status SyncDirectory(const std::string& path) override;
  Result<DiskSpace> Space(const std::string& path) override;
};

/// The folder part of a path, "." if it has none.
std::string DirectoryOf(const std::string& path);
/// The whole content of a file; kExhausted if it is larger than `max_bytes`.
Result<std::string> ReadFile(FileSystem& fs, const std::string& path, uint64_t max_bytes = 256ull << 20);
/// The one way by which small files become durable: write beside, fsync, rename, fsync the folder.
Status WriteFileDurably(FileSystem& fs, const std::string& path, std::string_view content);

}  // namespace millstream
