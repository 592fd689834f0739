// The names of the flat types: ours, DuckDB's, and the aliases that ParseType takes.
//
// Place: floor 1; used by type.cc and type_parse.cc only. Stateless.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "event/type.h"

namespace millstream {

/// "bigint"; also the bare "decimal", "enum", "struct". A list has none.
std::string_view FlatTypeName(Type::Kind kind);
/// "BIGINT", "TIMESTAMP WITH TIME ZONE".
std::string_view FlatTypeSqlName(Type::Kind kind);
/// By name or alias, lower case.
std::optional<Type::Kind> FindTypeKind(std::string_view name);
/// All names that a user may write, for the nearest one.
std::vector<std::string> TypeNames();

}  // namespace millstream
