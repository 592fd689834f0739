// DataFolder: the folder that one process at a time owns: its lock, its identity, where things lie.
//
// Place: floor 5; opened first, closed last, by the Engine. Layout: `lock`, `log/` (log/log.h),
// `tables.duckdb`, `tmp/`, `sinks/`. The lock file is held by flock(2) and names the data's UUID, the process
// and, once it listens, its URL, so that verbs find the server. Failure: kConflict names the holder.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/file_system.h"
#include "base/status.h"

namespace millstream {

/// What a lock file says of the process that holds it.
struct LockHolder {
  int pid = 0;
  std::string url;   // empty: it does not listen
  std::string uuid;  // of the data
};

class DataFolder {
 public:
  /// Makes the folder if it is missing and takes the lock, waiting for it up to `wait_us`.
  static Result<std::unique_ptr<DataFolder>> Open(FileSystem& fs, Clock& clock, const std::string& path,
                                                  int64_t wait_us);
  ~DataFolder();

  /// Writes identity and URL into the lock file.
  Status Describe(const std::string& uuid, const std::string& url);

  const std::string& path() const { return path_; }
  std::string log_path() const { return path_ + "/log"; }
  std::string tables_path() const { return path_ + "/tables.duckdb"; }
  std::string temporary_path() const { return path_ + "/tmp"; }
  std::string sinks_path() const { return path_ + "/sinks"; }

 private:
  DataFolder(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  std::string path_;
  int descriptor_;
};

/// Who holds the folder now; nothing if nobody does.
std::optional<LockHolder> FindLockHolder(const std::string& data_path);

}  // namespace millstream
