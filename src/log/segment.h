// Segment: one file of a partition, as its readers see it; SegmentCursor: its batches one after another.
//
// Place: floor 2. A Segment is an immutable description that partition and readers share. The last segment of
// a partition grows: its open file is shared, and how far it may be read is the partition's word. A sealed
// one is opened by each reader by its path and read by the footer in that very file, since a merge may have
// put another file under the path. Threads: a Segment is immutable; a SegmentCursor belongs to one thread.
// Failure: kCorrupt with file and byte.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "log/format.h"

namespace millstream {

struct Segment {
  std::string path;
  std::string name;  // relative to the log's folder
  uint64_t first_offset = 0;
  bool sealed = false;
  SegmentFooter footer;        // sealed: without index and receipts
  uint64_t file_bytes = 0;     // sealed
  std::shared_ptr<File> file;  // not sealed
};

/// An opened sealed segment: its footer, with index and receipts if `with_body`.
Result<SegmentFooter> ReadFooter(File& file, const std::string& path, const Uuid& log, bool with_body);
Result<SegmentHeader> ReadSegmentHeader(File& file, const std::string& path, const Uuid& log);

/// "FILE: byte N: message", and back to its parts (the file relative to `directory`).
Status DamagedAt(const std::string& path, uint64_t position, const Status& what);
LogDamage DamageOf(const Status& damaged, const std::string& directory);

class SegmentCursor {
 public:
  /// Reads below `limit`, from `position` on. `file` and `log` must outlive the cursor.
  SegmentCursor(File& file, std::string path, const Uuid& log, uint64_t position, uint64_t limit);

  uint64_t position() const { return position_; }
  uint64_t limit() const { return limit_; }
  /// Moves; what was read ahead is kept where it is still right.
  void Seek(uint64_t position) { position_ = position; }
  void SetLimit(uint64_t limit) { limit_ = limit; }

  /// The header of the batch at position(); null at the limit. kCorrupt if there is none, or the batch would
  /// go beyond the limit.
  Result<std::optional<BatchHeader>> Header();
  /// The payload of the batch whose header was just read, its CRC checked.
  Result<std::string> Payload(const BatchHeader& header);
  /// Checks the payload's CRC only.
  Status CheckPayload(const BatchHeader& header);
  /// Goes to the batch after the one with this header.
  void Skip(const BatchHeader& header) { position_ += header.total_bytes(); }
  /// Goes to the next place, after position(), that holds a sound header; false if there is none below the
  /// limit.
  Result<bool> FindNext();
  Status Damaged(uint64_t position, const Status& what) const { return DamagedAt(path_, position, what); }

 private:
  static constexpr size_t kWindowBytes = 1 << 20;

  // `size` bytes at `position`, from the window; fewer at the limit. Valid until the next call.
  Result<std::string_view> View(uint64_t position, size_t size);

  File& file_;
  const std::string path_;
  const Uuid& log_;
  uint64_t position_;
  uint64_t limit_;
  std::unique_ptr<char[]> window_;
  size_t window_capacity_ = 0;
  uint64_t window_position_ = 0;
  size_t window_bytes_ = 0;
};

}  // namespace millstream
