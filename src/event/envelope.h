// Envelope: what surrounds an event's data, as CloudEvents 1.0 names it.
//
// Place: floor 1. Values. An attribute that a source does not give is absent and takes its default when read:
// ce_id the position, ce_source the source's name, ce_type the stream's name, ce_time `_ingested_at`
// (SURFACE, "Sources").
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace millstream {

/// Views into the caller's memory; valid for the call that they are given to.
struct Envelope {
  std::optional<std::string_view> id, source, type, subject, dataschema;
  std::optional<int64_t> time_us;  // CloudEvents `time`, microseconds UTC
  std::optional<std::string_view>
      partition_key;                   // CloudEvents `partitionkey`: used where the stream has no `key`
  std::optional<std::string_view> op;  // change data: c u d r
  std::optional<std::string_view> extensions;  // the other extension attributes, as one JSON object
};

/// The envelope's columns in a batch, in the order in which sql/ shows them.
enum class Attribute : uint8_t { kId, kSource, kType, kSubject, kTime, kDataschema, kExtensions, kKey, kOp };
inline constexpr int kAttributes = 9;

}  // namespace millstream
