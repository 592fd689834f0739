// The log's bytes: headers of batches and segments, footers, identity and state files. docs/log-format.md
// says the same in prose.
//
// Place: floor 2, the bottom of log/. Nothing else in log/ knows an offset into a structure.
// All integers are little-endian. Every structure starts with a magic and a CRC32C of all bytes after the
// CRC. Values; stateless functions. Failure: kCorrupt with what is wrong; the caller adds file and byte.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "base/status.h"
#include "event/batch.h"
#include "log/log.h"

namespace millstream {

inline constexpr uint16_t kLogFormatVersion = 1;
inline constexpr size_t kBatchHeaderBytes = 80;
inline constexpr size_t kSegmentHeaderFixedBytes = 64;
inline constexpr size_t kTrailerBytes = 104;
inline constexpr size_t kIdentityBytes = 32;
inline constexpr uint32_t kPayloadBytesMax = 1u << 30;
inline constexpr uint32_t kSegmentHeaderBytesMax = 1u << 30;
inline constexpr std::string_view kBatchMagic = "MSB1";

/// In front of each payload.
struct BatchHeader {
  static constexpr uint8_t kHasReceipts = 1;
  static constexpr uint8_t kMerged = 2;
  static constexpr uint8_t kHasErased = 4;  // reserved: some events were erased by a later rewrite

  uint32_t payload_crc = 0;
  uint32_t payload_bytes = 0;
  uint64_t base_offset = 0;
  uint32_t count = 0;
  uint32_t epoch = 0;
  int64_t first_us = 0;       // append stamp of the first event
  int64_t max_us = 0;         // the largest stamp of this and all earlier events of the partition
  uint64_t synced_bytes = 0;  // so much of this file was known to be synced when the header was written
  uint32_t data_bytes = 0;
  Codec codec = Codec::kNone;
  uint8_t flags = 0;

  uint64_t end_offset() const { return base_offset + count; }
  uint64_t total_bytes() const { return kBatchHeaderBytes + payload_bytes; }
};

void EncodeBatchHeader(const BatchHeader& header, const Uuid& log, char* to);
Result<BatchHeader> DecodeBatchHeader(const char* from, const Uuid& log);

/// The start of a segment file.
struct SegmentHeader {
  static constexpr uint16_t kMerged = 1;
  static constexpr uint16_t kRepaired = 2;

  uint32_t header_bytes = 0;  // set by decoding: the first batch lies there
  uint16_t flags = 0;
  uint64_t first_offset = 0;
  uint32_t epoch = 0;
  uint32_t partition = 0;
  int64_t max_us = 0;  // the largest stamp below first_offset
  std::string stream;
  std::vector<PlacedReceipt> receipts;  // where every source and pipeline stood at first_offset
};

std::string EncodeSegmentHeader(const SegmentHeader& header, const Uuid& log);
/// How many bytes the whole header has, from its first kSegmentHeaderFixedBytes.
Result<uint32_t> SegmentHeaderBytes(std::string_view fixed);
Result<SegmentHeader> DecodeSegmentHeader(std::string_view bytes, const Uuid& log);

/// One entry of the sparse index.
struct IndexEntry {
  uint64_t offset = 0;    // base offset of the batch ...
  uint64_t position = 0;  // ... whose header lies here
  int64_t max_us = 0;     // the largest stamp before it
};

/// The end of a sealed segment: `index` and `receipts` (the body), then the trailer of kTrailerBytes.
struct SegmentFooter {
  static constexpr uint16_t kMergePending = 1;

  uint16_t flags = 0;
  uint64_t body_position = 0;  // end of the last batch
  uint64_t end_offset = 0;
  uint64_t batches = 0;
  uint64_t events = 0;
  uint64_t data_bytes = 0;
  int64_t first_us = 0;
  int64_t max_us = 0;
  uint32_t last_epoch = 0;
  uint32_t body_crc = 0;  // this and the counts: set by decoding
  uint32_t index_count = 0;
  uint32_t receipt_count = 0;
  std::vector<IndexEntry> index;
  std::vector<PlacedReceipt> receipts;  // the newest of each origin and part in this segment
};

/// Body and trailer.
std::string EncodeFooter(const SegmentFooter& footer, const Uuid& log);
/// From the last kTrailerBytes of a file of `file_bytes`; index and receipts stay empty.
Result<SegmentFooter> DecodeTrailer(std::string_view trailer, uint64_t file_bytes, const Uuid& log);
/// Adds index and receipts from the bytes between body_position and the trailer.
Status DecodeFooterBody(std::string_view body, SegmentFooter* footer);

/// Offsets [first, end) that a repair has removed.
struct OffsetGap {
  uint64_t first = 0;
  uint64_t end = 0;
  bool operator==(const OffsetGap&) const = default;
};

/// `state` of a partition.
struct PartitionState {
  bool clean = false;        // the last stop was clean: the two below are exact
  uint64_t next_offset = 0;  // appends go on here (not clean: at or above it)
  uint64_t tail_bytes = 0;   // clean: size of the last segment
  int64_t max_us = 0;
  std::vector<EpochEnd> epochs;  // the current one last
  std::vector<OffsetGap> gaps{};
};

std::string EncodeState(const PartitionState& state, const Uuid& log);
Result<PartitionState> DecodeState(std::string_view bytes, const Uuid& log);

/// `log.id` (partitions = 0) and `stream.id`.
struct Identity {
  uint32_t partitions = 0;
  Uuid log{};
};

std::string EncodeIdentity(const Identity& identity);
Result<Identity> DecodeIdentity(std::string_view bytes);

/// "00000000000000000042.seg"
std::string SegmentName(uint64_t first_offset);
/// The first offset of a segment's name; kInvalid for another name.
Result<uint64_t> ParseSegmentName(std::string_view name);

}  // namespace millstream
