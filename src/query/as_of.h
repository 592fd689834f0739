// AsOf: a point of the past as a vector: where each stream stood.
//
// Place: floor 6, inside query/. A position means "up to and with this event" of the partitions that it
// names; its other partitions are not bounded, other streams stand at that event's append time. A time means
// everything that was appended up to and with it. Resolved once. Failure: kInvalid for what lies in the
// future or beyond the log's end, kNotFound for a stream that is not there.
#pragma once

#include <map>
#include <string>

#include "pipeline/engine.h"

namespace millstream {

struct AsOf {
  int64_t time_us = 0;                      // of the append: what was applied after it was not there yet
  std::map<std::string, Boundary> streams;  // by partition: the first offset that is not part of it

  /// "orders/0:17,1:9 paid/0:3": the last event of each partition; of `only`, sorted.
  std::string PositionsOf(const std::vector<std::string>& only) const;
};

/// `when`: RFC 3339, a duration ago, or a position.
Result<AsOf> ResolveAsOf(Engine& engine, const std::string& when);

/// Where something begins that goes on by itself (a sandbox): as of `when` (empty: now), streams of ours too.
struct ForkPoint {
  int64_t time_us = 0;
  std::map<std::string, Boundary> ends;  // as AsOf::streams
};

/// As ResolveAsOf, but no stream has an event that was made of one that the position leaves out: other
/// streams, `_control` among them, stand before the first event that it leaves out of its own.
Result<ForkPoint> ResolveFork(Engine& engine, const std::string& when);

/// The first offset of each partition at or after a place: RFC 3339, a duration ago, or a position
/// (inclusive; a partition that it does not name begins with its first event).
Result<Boundary> ResolveFrom(Engine& engine, Stream& stream, const std::string& when);

}  // namespace millstream
