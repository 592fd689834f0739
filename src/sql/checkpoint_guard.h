// CheckpointGuard: a copy of what a checkpoint of DuckDB's file writes over in place.
//
// DuckDB keeps its metadata (catalog, row groups, free list) in blocks of 256 KiB with 64 parts each. A
// checkpoint writes new parts beside those that the file's present header still needs, and then the whole
// block in place. A write of that size is not atomic: SIGKILL ends it at a page, a power cut anywhere. The
// old header then points at a block whose checksum is wrong, and the file does not open again. So before each
// checkpoint the metadata blocks and both headers go into `FILE.guard`, durably; a start whose file still has
// the guard's header puts them back, and the write-ahead log, which is still whole, is replayed.
// (docs/decisions/0009-checkpoints.md)
//
// Place: floor 2, inside sql/; owned by Database. Threads: one at a time. The file's descriptor stays open
// from before DuckDB opens the file until after it has closed it: closing it earlier would drop DuckDB's
// lock. Failure: kIo, and kInternal if the file does not look as this page says (another version of DuckDB).
//
// The guard: "MSGUARD1", u64 block bytes, u64 count, count × u64 block numbers, the file's first 12,288 bytes
// (main header, two database headers), count × block, u32 CRC32C of all before; little-endian.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/file_system.h"

namespace millstream {

class Connection;

class CheckpointGuard {
 public:
  /// `path`: DuckDB's file, which exists.
  static Result<std::unique_ptr<CheckpointGuard>> Open(const std::string& path);
  /// Before DuckDB opens the file: puts back what an unfinished checkpoint wrote. True if a block was torn or
  /// changed.
  Result<bool> Restore();
  /// Before a CHECKPOINT, while nothing else writes.
  Status Save(Connection& connection);

 private:
  CheckpointGuard(std::string path, std::unique_ptr<File> file);
  Result<std::string> ReadHeaders();

  PosixFileSystem fs_;
  std::string path_;
  std::unique_ptr<File> file_;
};

}  // namespace millstream
