// EventBatch: ordered raw events with their partition and offset range, as the log gives them.
//
// Place: floor 1. Encoded by EncodeBatch at ingest (EncodedBatch), stored by log/ behind a header, opened
// again by EventBatch::Open. The payload's bytes are described in docs/log-format.md. Threads: an EventBatch
// belongs to one thread at a time: sections are decompressed on first touch. Moved, never shared. Failure:
// kCorrupt when a section does not decode; the message names the section.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "event/column.h"
#include "event/envelope.h"
#include "event/receipt.h"
#include "event/type.h"

namespace millstream {

enum class Codec : uint8_t { kNone = 0, kLz4 = 1 };

/// From which event of a batch on an append stamp holds. A batch as appended has none: its header's stamp
/// holds for all. A merged one has one a former batch.
struct StampRun {
  uint32_t first_event = 0;
  int64_t ingested_at_us = 0;
  bool operator==(const StampRun&) const = default;
};

/// A batch ready to be appended to one partition: the payload, without offsets.
struct EncodedBatch {
  uint32_t count = 0;  // events; 0 = receipts only
  Codec codec = Codec::kLz4;
  std::string payload;
  uint32_t payload_crc = 0;  // CRC32C of `payload`
  uint64_t data_bytes = 0;   // raw bytes of all events' data
  Receipts receipts;         // those in the payload, once more: the log indexes them without opening it
};

/// What a batch's header says of it.
struct BatchPlace {
  std::string stream;
  uint32_t partition = 0;
  uint32_t epoch = 0;
  uint64_t base_offset = 0;
  uint32_t count = 0;
  int64_t ingested_at_us = 0;  // append stamp of the first event
};

/// Counts of a read, for benchmarks and `log list`: which share of a batch was decompressed, how many events
/// were parsed anew.
struct ReadCounts {
  uint64_t sections = 0;
  uint64_t bytes = 0;
  uint64_t parsed_events = 0;
};

class EventBatch {
 public:
  /// Takes a payload whose CRC has been checked.
  static Result<std::unique_ptr<EventBatch>> Open(BatchPlace place, Codec codec, std::string payload);
  ~EventBatch();
  EventBatch(const EventBatch&) = delete;
  EventBatch& operator=(const EventBatch&) = delete;

  const BatchPlace& place() const { return place_; }
  uint32_t count() const { return place_.count; }
  uint64_t end_offset() const { return place_.base_offset + place_.count; }

  /// Append stamp of event `row`, microseconds UTC.
  int64_t IngestedAtUs(uint32_t row) const;
  const std::vector<StampRun>& stamps() const { return stamps_; }
  const Receipts& receipts() const { return receipts_; }
  /// True if the event was erased: its data is empty (reserved in the format).
  bool Erased(uint32_t row) const;

  /// An envelope column as stored (varchar; kTime: timestamptz). kAbsent where no event has the attribute:
  /// the reader applies the default.
  Result<const Column*> AttributeColumn(Attribute attribute);
  /// The data bytes of all events, as a json column.
  Result<const Column*> Data();
  /// One contract field: the stored column if its fingerprint is right, else decoded from the data. Rows
  /// whose value does not convert are NULL in the column and listed in unconvertible(). The pointer holds
  /// until the batch dies.
  Result<const Column*> FieldColumn(const Field& field);
  /// Decodes several fields at once (one parse of the data for all that are not stored); FieldColumn then
  /// finds them.
  Status LoadFields(const std::vector<const Field*>& fields);

  struct Unconvertible {
    uint32_t row;
    std::string field;
    std::string reason;  // "/amount: \"abc\" is not decimal(12,2)"
  };
  /// Events that LoadFields or FieldColumn could not read under the given contract (SEMANTICS, "Log": dead
  /// letter `contract`).
  const std::vector<Unconvertible>& unconvertible() const { return unconvertible_; }

  const ReadCounts& read_counts() const { return read_counts_; }

 private:
  struct Section;
  struct Decoded;
  EventBatch();
  Status ReadSections();
  Result<std::string_view> Raw(Section& section);
  Result<const Column*> StoredColumn(Section& section, const Type& type);
  Result<const Column*> AttributeSection(Section& section, Attribute attribute);
  const Column* FindLoaded(uint64_t fingerprint) const;
  Section* FindSection(uint64_t fingerprint);
  Status DecodeFromData(const std::vector<std::pair<const Field*, uint64_t>>& fields);

  BatchPlace place_;
  Codec codec_ = Codec::kNone;
  std::string payload_;
  std::string erased_;
  std::vector<StampRun> stamps_;
  Receipts receipts_;
  std::vector<Unconvertible> unconvertible_;
  ReadCounts read_counts_;
  std::vector<std::unique_ptr<Section>> sections_;
  std::vector<std::unique_ptr<Decoded>> decoded_;  // from the data
  std::unique_ptr<Column> absent_[2];              // varchar, timestamptz
};

/// Merges consecutive batches of one partition into one (when a segment is sealed): columns under `contract`,
/// stamps and receipts kept per event range. The batches must be adjacent: each base_offset is the end of the
/// one before.
Result<EncodedBatch> MergeBatches(const std::vector<EventBatch*>& batches, const Contract& contract,
                                  Codec codec);

}  // namespace millstream
