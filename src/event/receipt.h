// Receipt: where an origin stood when a range of events was appended; lies in the same synced bytes as the
// events.
//
// Place: floor 1 (SEMANTICS, 5). Written by ingest, sources and stream sinks; found again by the log at
// start.
//   source       origin = "source/NAME" or "file/PATH", part = its own partition (a file's identity),
//   position = its resume position pipeline     origin = "pipeline/NAME.GENERATION/SINK", part = source
//   partition, position = next source offset idempotency  origin = "key/STREAM", part = 32 hex digits of the
//   128-bit hash of the key, position = hash of body + answer
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace millstream {

struct Receipt {
  std::string origin;
  std::string part;
  std::string position;       // opaque to the log
  uint32_t first_event = 0;   // index in the batch of the first event that it covers
  uint32_t events = 0;        // how many; 0 = a receipt without events
  uint64_t first_offset = 0;  // not stored: offset of first_event, filled in when the log finds the receipt
  bool operator==(const Receipt&) const = default;
};

using Receipts = std::vector<Receipt>;

}  // namespace millstream
