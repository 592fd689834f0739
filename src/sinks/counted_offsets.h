// CountedOffsets: the offsets of a sink whose target keeps none (`drop`, `stdout`): at least once.
//
// Place: floor 4, sinks/ only. Threads: one.
// Stored at most once a second and at Close, so that a crash repeats at most the last second's rows and a
// fast pipeline is not held back by the disk.
#pragma once

#include <map>
#include <string>

#include "sinks/sink_state.h"

namespace millstream {

class CountedOffsets {
 public:
  explicit CountedOffsets(const SinkContext& context);
  Result<std::map<uint32_t, uint64_t>> Open();
  /// The next offset of a partition, 0 if there is none.
  uint64_t Next(uint32_t partition) const;
  Status Advance(uint32_t partition, uint64_t next);
  Status Close();
  /// What survives a power cut.
  uint64_t Durable(uint32_t partition) const;

 private:
  Status Store();

  FileSystem& fs_;
  Clock& clock_;
  std::string directory_, path_;
  SinkState state_;
  std::map<uint32_t, uint64_t> durable_;
  int64_t stored_ns_ = 0;
};

}  // namespace millstream
