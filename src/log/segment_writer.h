// SegmentWriter: appends batches to the last segment of a partition and seals it; SegmentTally: what its
// footer will say.
//
// Place: floor 2. Used by a partition's writer thread, by recovery (Resume), by merges and repairs.
// Threads: one thread; the file is shared with readers, who stay below what was synced.
// Failure: a write that fails is cut off again, so that nothing half written or unanswered stays; if that
// fails too: kIo.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "log/format.h"
#include "log/segment.h"

namespace millstream {

/// Gathers a segment's footer from its batches' headers.
class SegmentTally {
 public:
  SegmentTally(const LogOptions& options, uint64_t first_offset, int64_t max_us);
  void Add(const BatchHeader& header, uint64_t position);
  /// The footer as it would be written now, without receipts.
  const SegmentFooter& footer() const { return footer_; }

 private:
  uint64_t index_every_bytes_;
  uint32_t merge_below_events_;
  SegmentFooter footer_;
  bool last_was_small_ = false;
};

struct StampedBatch {
  BatchHeader header;
  std::string_view payload;
};

class SegmentWriter {
 public:
  /// Makes the file with its header, durably: a segment's name never stands for less than a whole header.
  static Result<std::unique_ptr<SegmentWriter>> Create(FileSystem& fs, const std::string& path,
                                                       const SegmentHeader& header, const Uuid& log,
                                                       const LogOptions& options);
  /// Goes on at `position` in a segment whose batches are in `tally`, all of it synced.
  SegmentWriter(std::shared_ptr<File> file, std::string path, const Uuid& log, SegmentTally tally,
                uint64_t position);

  /// Writes batches at the end; sets synced_bytes in their headers.
  Status Write(std::span<StampedBatch> batches);
  Status Sync();
  /// Writes the footer after the last batch and syncs. The writer is of no more use after success; after
  /// kExhausted it goes on as before.
  Result<SegmentFooter> Seal(std::vector<PlacedReceipt> receipts, const Uuid& log);

  const std::string& path() const { return path_; }
  const std::shared_ptr<File>& file() const { return file_; }
  uint64_t position() const { return position_; }
  uint64_t synced() const { return synced_; }
  const SegmentTally& tally() const { return tally_; }

 private:
  // Reserves disk ahead, writes, and cuts off what a failure left.
  Status WriteParts(std::span<const std::string_view> parts, uint64_t bytes);

  const std::shared_ptr<File> file_;
  const std::string path_;
  const Uuid& log_;
  SegmentTally tally_;
  uint64_t position_;
  uint64_t synced_;
  uint64_t reserved_;
  std::string headers_;
  std::vector<std::string_view> parts_;
};

}  // namespace millstream
