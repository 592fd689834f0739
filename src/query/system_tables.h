// System tables: what the engine knows of itself, as SQL that stands for a table: `_pipelines`, `_filters`,
// `_dead_letters`, `_segments`.
//
// Place: floor 6, inside query/. Stateless: a snapshot of the moment at which the query begins.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "pipeline/engine.h"

namespace millstream {

/// Text in single quotes.
std::string SqlLiteral(std::string_view text);
/// Name in double quotes.
std::string SqlIdentifier(std::string_view name);

/// "(SELECT … FROM (VALUES …))" of a system table; nothing if there is none of that name.
Result<std::optional<std::string>> SystemTableSql(Engine& engine, const std::string& name);

}  // namespace millstream
