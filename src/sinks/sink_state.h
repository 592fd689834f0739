// SinkState: how far a sink has come, for sinks whose target cannot say it: a small JSON file in the data
// folder.
//
// Place: floor 4. `file` keeps its sidecar so (SEMANTICS, "file sink"), `drop` and `stdout` their offsets
// alone. The file is DATA/sinks/PIPELINE.GENERATION/ID.json and is replaced by write, fsync, rename, fsync of
// the folder. Failure: kIo from the disk; kCorrupt for a file that is not what StoreSinkState wrote.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "base/file_system.h"
#include "stage/stage.h"

namespace millstream {

struct SinkState {
  uint64_t generation = 0;
  std::map<uint32_t, uint64_t> offsets;  // next, by partition

  // The open file of a `file` sink.
  std::string name;  // its path as the project gives it
  uint64_t inode = 0;
  uint64_t length = 0;           // bytes that belong to it
  bool has_rows = false;         // the two below are known
  uint32_t first_partition = 0;  // of its first row, which decides its final name
  uint64_t first_offset = 0;
  int64_t opened_us = 0;  // wall time of its first row
  std::string header;     // CSV: the first line
};

/// Where the state of a sink lies.
std::string SinkStatePath(const SinkContext& context);
/// Nothing if it was never stored.
Result<std::optional<SinkState>> LoadSinkState(FileSystem& fs, const std::string& path);
Status StoreSinkState(FileSystem& fs, const std::string& path, const SinkState& state);

}  // namespace millstream
