// Position: where one stands in a stream: a next offset for each partition that is named.
//
// Place: floor 1. Text form (SURFACE): STREAM/PARTITION:OFFSET[,PARTITION:OFFSET…], e.g. "orders/0:17,1:9".
// In an answer and in `wait` the offset is that of an event ("up to and with it"); conversions to "next" are
// the caller's.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/status.h"

namespace millstream {

struct Position {
  std::string stream;
  std::map<uint32_t, uint64_t> offsets;

  std::string ToString() const;
  bool operator==(const Position&) const = default;
};

/// kInvalid shows the form that was expected.
Result<Position> ParsePosition(std::string_view text);

}  // namespace millstream
