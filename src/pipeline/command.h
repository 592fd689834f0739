// What a client asks to happen, and what became of it (SURFACE, `commands:`).
//
// Place: floor 5; Engine::Decide. Plain values.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fault.h"
#include "base/status.h"
#include "pipeline/ingest.h"

namespace millstream {

struct CommandRequest {
  std::string command;
  std::string_view body;                       // JSON; 64 readable bytes must follow its end
  std::optional<uint64_t> if_match;            // offset of the key's last event
  std::optional<std::string> idempotency_key;  // as for ingest
  std::vector<std::string> wait_tables;        // that hold the events before the answer
  int64_t timeout_us = 0;                      // of waiting for tables; 0 = kCommandTimeoutUs
};
inline constexpr int64_t kCommandTimeoutUs = 10'000'000;

/// Why nothing was appended, unless `code` is "deadline": then a table of wait_tables came too late, and
/// `position` says where the events are.
struct CommandRefusal {
  Status status;
  std::string code;  // of the problem: refused, version, deadline; empty: as the status says
  Faults faults{};
  std::optional<uint64_t> version{};  // the key's, where it is known
  std::string position{};
};

inline CommandRefusal Because(Status status, std::string code = "") {
  return {std::move(status), std::move(code), {}, {}, {}};
}

/// Events, their position, and whether it was answered before (an Idempotency-Key).
using CommandDone = std::function<void(tl::expected<IngestAnswer, CommandRefusal>)>;

}  // namespace millstream
