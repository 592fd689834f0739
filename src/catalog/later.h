// Kinds of sources, filters and sinks that this version does not have: what to do instead today.
//
// Place: floor 4. A sentence for check, run and help. Stateless.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace millstream {

enum class StageKind { kSource, kFilter, kSink };

/// What to do instead, if `kind` is a kind that a later version brings.
std::optional<std::string> InsteadOf(StageKind stage, std::string_view kind);

}  // namespace millstream
