// RotatedFile: a file that grows by whole deliveries and knows, through a sidecar, which of its bytes count.
//
// Place: floor 4; the durable part of the `file` sink (SEMANTICS, "file sink").
// Operation. Data is written and synced first, then the sidecar (SinkState: inode, length, all offsets) is
// replaced durably. At open the file must have the stored inode and at least the stored length; what is
// longer was never stored and is cut. A full file is renamed to NAME.FIRSTOFFSET.EXT and is final; a crash
// between the rename and the next sidecar is told by the inode. Threads: one. Failure: kCorrupt if the file
// is not the one that was written; kConflict if its place is taken by somebody else's; kIo, kExhausted from
// the disk: the sidecar is read anew before the next write.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/file_system.h"
#include "sinks/sink_state.h"

namespace millstream {

class RotatedFile {
 public:
  struct Place {
    std::string path;        // of the open file
    std::string name;        // the same as the project gives it
    std::string state_path;  // of the sidecar
    uint64_t generation = 0;
    bool one_partition = true;  // final names need no partition
  };

  RotatedFile(FileSystem& fs, Place place) : fs_(fs), place_(std::move(place)) {}

  /// Finds out what is there, mends what a crash or a failed Append left, makes the file if it is missing.
  /// Does nothing if all is well. Before state() and Append are used.
  Status Recover();
  const SinkState& state() const { return state_; }

  struct First {
    uint64_t offset = 0;  // of the first row in `bytes`
    int64_t wall_us = 0;  // now
    std::string header;   // CSV: the header that `bytes` are written under
  };
  /// Appends `bytes` (may be empty) and stores `next` for `partition`; durable on return. With `rotate` the
  /// open file is closed first. After a failure it may or may not have come through: Recover tells.
  Status Append(std::string_view bytes, uint32_t partition, uint64_t next, const First& first, bool rotate);
  /// What the open file would be called if it were closed now.
  std::string FinalPath() const;

 private:
  Status RecoverFile(const FileInfo* found);
  Status Start();
  Status Rotate();
  Status AppendOnce(std::string_view bytes, uint32_t partition, uint64_t next, const First& first,
                    bool rotate);

  FileSystem& fs_;
  Place place_;
  SinkState state_;
  std::unique_ptr<File> file_;
  bool recovered_ = false;
};

}  // namespace millstream
