// FollowReplay: shows how far a replay is until it ends.
//
// Place: floor 8; `replay start`, and changes that make tables anew.
#pragma once

#include <cstdint>

#include "cli/http_client.h"
#include "cli/signals.h"
#include "cli/verb.h"

namespace millstream {

/// The exit code: done, no (cancelled, failed), or interrupted, which leaves it running. `is_local`: in this
/// process, without a server.
int FollowReplay(const Everywhere& everywhere, HttpClient& api, uint64_t id, const StopSignals& signals,
                 bool is_local);
/// SQL, @FILE, - for standard input, or a path that ends in .sql; what begins with { is YAML of another kind.
Result<std::string> FilterValueOf(const Everywhere& everywhere, const std::string& value);

}  // namespace millstream
