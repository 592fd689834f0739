// The functions that filters and queries may call: an allow list, reviewed when DuckDB is upgraded.
//
// Place: floor 2, inside sql/. Stateless.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace millstream {

enum class FunctionKind : uint8_t {
  kScalar,
  kVolatile,   // another answer at a replay: now(), random(), uuid()
  kFansOut,    // several rows for one: unnest
  kAggregate,  // also as a window function
};

/// Nothing if `name` (lower case) may not be called.
std::optional<FunctionKind> FindFunction(std::string_view name);
/// May stand after FROM: range, unnest, …
bool IsTableFunction(std::string_view name);
/// All of them, sorted by kind, then name; for "did you mean".
std::vector<std::string> FunctionNames();

}  // namespace millstream
