// Payload: a batch's bytes: a directory, then sections that are compressed one by one
// (docs/log-format-payload.md).
//
// Place: floor 1; inside event/ only. Written by EncodeBatch for the assembler and MergeBatches, read by
// EventBatch. Failure: ReadDirectory answers kCorrupt on any damage; it trusts nothing.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "event/batch.h"

namespace millstream {

inline constexpr uint8_t kPayloadVersion = 1;
/// Batches with fewer events are stored without field columns: they are read from the data.
inline constexpr uint32_t kColumnsFromEvents = 16;
inline constexpr uint32_t kBatchEventsMax = 1 << 24;
inline constexpr uint64_t kSectionBytesMax = 1ull << 30;

enum class SectionKind : uint8_t {
  kReceipts = 1,
  kStamps = 2,
  kErased = 3,
  kAttribute = 4,
  kData = 5,
  kField = 6
};

/// What a batch is made of. Everything is borrowed.
struct BatchColumns {
  uint32_t count = 0;
  const Column* data = nullptr;
  std::array<const Column*, kAttributes> attributes = {};  // null: no event has it
  std::array<int, kAttributes> attribute_fields;           // index in `fields` of an equal column, or -1
  std::vector<std::pair<const Field*, const Column*>> fields;
  const Receipts* receipts = nullptr;
  std::vector<StampRun> stamps;
  std::string erased;  // a bit an event, lowest first; empty: none

  BatchColumns() { attribute_fields.fill(-1); }
};

EncodedBatch EncodeBatch(const BatchColumns& columns, Codec codec);

/// One entry of the directory.
struct SectionEntry {
  uint8_t kind = 0;
  bool compressed = false;
  std::string_view extra;  // attribute; or fingerprint, name and type of a field
  std::string_view stored;
  uint64_t raw_bytes = 0;
};

/// The views point into `payload`.
Result<std::vector<SectionEntry>> ReadDirectory(std::string_view payload);

/// What a field's entry says.
struct FieldEntry {
  uint64_t fingerprint = 0;
  std::string_view name, type;
};
Result<FieldEntry> ReadFieldEntry(std::string_view extra);

Result<Receipts> ReadReceipts(std::string_view body, uint32_t count);
Result<std::vector<StampRun>> ReadStamps(std::string_view body, uint32_t count);

/// The type of an envelope column: varchar, for kTime timestamptz.
const Type& AttributeType(Attribute attribute);

}  // namespace millstream
