// Inspection of a partition's files: what is sound in them and what is damaged. Verify reports it, Repair
// acts on it.
//
// Place: floor 2. Reads only. Threads: one thread.
// Failure: kIo and the like; damage is a finding, not a failure.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "log/format.h"
#include "log/segment.h"

namespace millstream {

/// A range of bytes of a segment that is not what was written.
struct DamagedRange {
  uint64_t begin = 0, end = 0;
  Status status{};
};

struct SegmentFindings {
  std::string path;
  uint64_t first_offset = 0;                              // by its name
  std::optional<SegmentHeader> header{};                  // null if damaged
  std::optional<SegmentFooter> footer{};                  // null if damaged or not sealed
  std::vector<std::pair<uint64_t, BatchHeader>> sound{};  // positions and headers
  std::vector<DamagedRange> damaged{};
  uint64_t torn_bytes = 0;     // an unfinished tail, which is no damage
  uint64_t end_offset = 0;     // after the last sound batch
  uint64_t ends_seen = 0;      // the largest end that any sound header names, even of a damaged payload
  int64_t max_us = INT64_MIN;  // likewise
};

struct PartitionFindings {
  std::optional<PartitionState> state{};  // null if damaged
  std::vector<SegmentFindings> segments{};
  std::vector<OffsetGap> missing{};  // offsets that no sound batch holds and no repair has removed
  std::vector<LogDamage> damage{};   // all of the above, for people
};

/// `directory` is the log's folder, `partition` the partition's, below it.
Result<PartitionFindings> InspectPartition(FileSystem& fs, const std::string& directory,
                                           const std::string& partition, const Uuid& log);
/// The log's identity and how many partitions a stream has; damage of the two files goes to `damage`, and
/// then the answer is null.
Result<std::optional<Identity>> ReadStreamIdentity(FileSystem& fs, const std::string& directory,
                                                   const std::string& stream, std::vector<LogDamage>* damage);

}  // namespace millstream
