// Assembler: checks events and gathers them into one encoded batch a partition. The ingest side's hot loop.
//
// Place: floor 1. Used by pipeline/ingest for every source, by stream sinks, by `ingest` without a server.
// Every byte is parsed and checked once, here: full JSON syntax, UTF-8, depth, size, the contract's types;
// the values of flat contract fields become columns beside the raw bytes, so that nothing downstream parses
// JSON again. Threads: one thread at a time. Bounds: limits in StreamShape. Failure: Add answers a Rejection
// for a bad event, with all that its contract finds, and is then as if it had not been called.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fault.h"
#include "base/status.h"
#include "event/batch.h"
#include "event/envelope.h"
#include "event/type.h"

namespace millstream {

/// Everything about a stream that decides how an event is checked, keyed and laid out.
struct StreamShape {
  std::string name;
  uint32_t partitions = 1;
  Codec codec = Codec::kLz4;
  Contract contract;
  std::vector<std::string> key;  // JSON pointers; empty: partitionkey, else hash of ce_id, else spread
  // Envelope attributes filled from the data where a source leaves them absent: JSON pointers, empty = none.
  std::string id_from, source_from, type_from, subject_from, time_from;
  uint32_t max_event_bytes = 1 << 20;
  uint32_t max_depth = 128;
};

/// Why an event was refused: code json, utf8, depth, size or contract (SURFACE, "Dead letters").
struct Rejection {
  static constexpr size_t kMost = 10;  // faults that are told of one event

  std::string code;
  std::string path;                 // JSON pointer of the value, "" for the whole event
  std::string message;              // "\"abc\" is not decimal(12,2)"
  std::vector<Rejection> others{};  // what else is wrong with the event

  /// Puts another fault of the event beside `first`, or first. False: no more are told.
  static bool Add(std::optional<Rejection>& first, Rejection another);
};

class Assembler {
 public:
  /// `shape` must outlive the assembler.
  explicit Assembler(const StreamShape& shape);
  ~Assembler();

  /// Takes one event. `data` is its JSON text (surrounding white space is not kept) and is copied. On success
  /// the event lies at the end of partition *partition. Not every reader may look past data's end: up to 64
  /// bytes after it must be readable.
  std::optional<Rejection> Add(const Envelope& envelope, std::string_view data,
                               uint32_t* partition = nullptr);

  /// Where events that have neither key nor id go, up to Finish. A request that may come again sets it, so
  /// that it is laid out again as before.
  void SpreadTo(uint32_t partition);

  /// Events and raw data bytes gathered since the last Finish, over all partitions.
  uint32_t count() const;
  uint64_t data_bytes() const;
  uint32_t count(uint32_t partition) const;

  /// Uncompressed columns of what was gathered for one partition, so that `check (…)` can be run before
  /// Finish.
  Result<std::unique_ptr<EventBatch>> Preview(uint32_t partition);
  /// Removes events (ascending indexes) of one partition, e.g. those that failed a check.
  void Remove(uint32_t partition, const std::vector<uint32_t>& rows);
  /// Attribute and data views of a gathered event (valid until the next call that is not const).
  std::string_view DataOf(uint32_t partition, uint32_t row) const;

  /// Encodes what was gathered for one partition and empties it. `receipts` are stored with it; a receipt
  /// with events == UINT32_MAX covers all.
  EncodedBatch Finish(uint32_t partition, Receipts receipts);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// A batch of receipts alone.
EncodedBatch EncodeReceipts(Receipts receipts);

/// The partition of a key: XXH3-64 (seed 0) of its bytes, modulo the number of partitions
/// (docs/log-format.md).
uint32_t PartitionOf(std::string_view key, uint32_t partitions);

}  // namespace millstream
