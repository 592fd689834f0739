// Ingest: how events come into a stream: split, check, deduplicate, quarantine, append, answer.
//
// Place: floor 5. Used by server/ (HTTP bodies), cli/ (`ingest` without a server) and the source runners. Two
// steps, so that a caller may prepare several pieces of a file on several cores and still commit them in
// order:
//   Prepare  splits and checks a body and lays out its columns. Any thread, in parallel; touches nothing
//   shared. Commit   deduplicates, appends to the log, and calls `done` once everything (dead letters too) is
//   durable.
// Order: events of one Commit keep their order; Commits queue in the order of their calls.
// Failure: a request that is at fault as a whole answers kInvalid (422) with faults, and nothing of it is
// appended.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fault.h"
#include "base/status.h"
#include "event/batch.h"
#include "event/position.h"
#include "log/log.h"

namespace millstream {

enum class BodyFormat : uint8_t {
  kJson,              // an object, or an array whose elements are events
  kNdjson,            // one event a line
  kCloudEvent,        // one structured CloudEvent
  kCloudEventBatch,   // an array of structured CloudEvents
  kCloudEventBinary,  // data alone; the attributes are in `envelope`
};

/// A piece of a file or of another origin that can be read again: makes the append exactly once (SEMANTICS,
/// 5).
struct OriginRange {
  std::string origin;    // e.g. "file/orders"
  std::string part;      // e.g. the file's identity
  uint64_t first = 0;    // position of the piece's first event, counted in events of the part
  std::string position;  // resume position after the piece, as the origin wants it back; begins with the
                         // decimal count of events so far
  bool in_bytes =
      false;  // NDJSON: `first` and `position` count bytes; an event is at the byte after its line
};

struct IngestRequest {
  std::string stream;
  BodyFormat format = BodyFormat::kJson;
  std::string_view body;  // 64 readable bytes must follow its end
  Envelope envelope;      // kCloudEventBinary: the attributes; else attributes for events that lack them
                          // (ce_source of a source)
  std::optional<std::string> idempotency_key;
  std::optional<OriginRange> origin;
  std::string subject;         // of a file: its path; "" else. ce_id is then PATH#line, ce_subject PATH
  std::string named;           // what ce_id begins with in place of PATH; "": PATH
  uint64_t first_line = 1;     // of the body in its file, for places
  std::optional<bool> reject;  // false: nobody is there to refuse, so that bad events become dead letters
};

struct IngestFault {
  uint64_t index = 0;  // of the event in the request
  uint64_t line = 0;   // NDJSON: its line, 1-based; else 0
  std::string code, path, message;
  std::optional<uint64_t> dead;  // number of its dead letter
};

struct PartitionRange {
  uint32_t partition = 0;
  uint64_t first = 0, last = 0;
};

struct IngestAnswer {
  uint64_t accepted = 0, quarantined = 0, duplicates = 0;
  Position position;  // of the last event in each partition that got one
  AckMode ack = AckMode::kDurable;
  std::vector<PartitionRange> partitions;
  std::vector<IngestFault> faults;  // at most 100, those of an event one after another
  bool replayed = false;            // answered from an Idempotency-Key

  /// The body of SURFACE's 200.
  std::string ToJson() const;
};

/// Faults of a request that was refused as a whole (422) or that could not be read (400, 415).
struct IngestRefusal {
  Status status;
  std::vector<IngestFault> faults;

  /// With a line for each fault. `subject`: the file that the events come from, "" for none.
  Status ToStatus(const std::string& subject) const;
};

using IngestDone = std::function<void(tl::expected<IngestAnswer, IngestRefusal>)>;

class PreparedIngest;

}  // namespace millstream
