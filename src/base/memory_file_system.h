// MemoryFileSystem: a disk in memory that behaves as badly as a real one may.
//
// Place: floor 0; for unit tests of everything that must survive a crash.
// A crash keeps what was synced; of unsynced data it keeps any subset of 512-byte sectors, of unsynced
// creates, renames and removes a prefix of their order (as a metadata journal does). A call can be made to
// fail at its Nth time from now. Threads: thread-safe. Failure: as FileSystem; after PowerOffAt has struck
// every call answers kIo until Crash.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "base/random.h"

namespace millstream {

/// What of the unsynced a crash leaves, of each file and of the folders' entries.
enum class Survivors : unsigned char {
  kAny,     // any subset of the sectors, any prefix of the entries' changes
  kAll,     // everything, as when only the process ends
  kNone,    // nothing
  kPrefix,  // of the sectors a prefix, as a write that was torn
};

enum class FileCall : unsigned char {
  kOpen,
  kRead,
  kWrite,
  kSync,
  kTruncate,
  kReserve,
  kRename,
  kRemove,
  kSyncDirectory,
  kCreateDirectories,
  kCount
};

class MemoryFileSystem final : public FileSystem {
 public:
  explicit MemoryFileSystem(uint64_t capacity_bytes = 1ull << 40) : capacity_bytes_(capacity_bytes) {}

  /// The Nth call of this kind from now (1 = the next) fails with `status`; with `forever` every later one
  /// too. A failing write first writes some of its bytes.
  void FailAt(FileCall call, int nth, Status status, bool forever = false);
  void StopFailing();
  /// The Nth call from now that changes the disk fails half done, and so does everything after it, until
  /// Crash.
  void PowerOffAt(uint64_t nth);
  bool powered_off() const;
  /// Calls so far that change the disk.
  uint64_t changes() const;
  /// Loses what is not synced, by `seed`, and turns power on again. Open files are dead.
  void Crash(uint64_t seed, Survivors survivors = Survivors::kAny);
  /// `observer` is called before each call that changes the disk, by its caller; it may Clone, and nothing
  /// else.
  void ObserveChanges(std::function<void()> observer);
  /// A disk of its own with the same content, synced and not. No open files, no faults.
  std::unique_ptr<MemoryFileSystem> Clone() const;
  void SetCapacity(uint64_t bytes);
  /// Inverts one bit of a file, on disk and in the cache.
  void FlipBit(const std::string& path, uint64_t byte, int bit);

  Result<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override;
  Result<FileInfo> Stat(const std::string& path) override;
  Result<std::vector<std::string>> List(const std::string& directory) override;
  Status CreateDirectories(const std::string& path) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status Remove(const std::string& path) override;
  Status RemoveAll(const std::string& path) override;
  Status SyncDirectory(const std::string& path) override;
  Result<DiskSpace> Space(const std::string& path) override;

 private:
  friend class MemoryFile;
  struct Node {
    uint64_t inode = 0;
    bool is_directory = false;
    std::string data;          // what a reader sees
    std::string synced;        // what a crash keeps for certain
    std::set<uint64_t> dirty;  // sectors that differ, or may
    void MarkDirty(uint64_t begin, uint64_t end);
    void Lose(SeededRandom& random, Survivors survivors);
  };
  using NodePtr = std::shared_ptr<Node>;
  // A change of a folder's entries that is not synced yet: the entry now names `node`, or nothing.
  struct Change {
    std::vector<std::pair<std::string, NodePtr>> entries;
    std::string directory;
  };

  // Counts a call; answers the fault that was asked for it.
  Status Enter(FileCall call, bool changes);
  void Record(Change change);
  uint64_t UsedBytes() const;
  static void Apply(const Change& change, std::map<std::string, NodePtr>& entries);

  mutable std::recursive_mutex mutex_;  // an observer clones within a call
  std::map<std::string, NodePtr> entries_, durable_;
  std::vector<Change> pending_;
  uint64_t capacity_bytes_;
  uint64_t next_inode_ = 1;
  uint64_t generation_ = 0;  // goes up at a crash: older files are dead
  uint64_t changes_ = 0;
  uint64_t power_off_at_ = 0;
  bool powered_off_ = false;
  std::function<void()> observer_;
  struct Fault {
    int calls_left = 0;
    bool forever = false;
    Status status;
  };
  std::array<Fault, static_cast<size_t>(FileCall::kCount)> faults_;
};

}  // namespace millstream
