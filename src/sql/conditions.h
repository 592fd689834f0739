// What a query's WHERE says of a table beside it: shared by what finds bounds on streams and keys of tables.
//
// Place: floor 2, inside sql/. Over the parse tree; threads: that of the connection.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "sql/database.h"
#include "sql/json_tree.h"

namespace millstream {

/// Calls `visit(reference, SELECT whose text holds it, or null)` for each reference to `table` ("name" or
/// "schema.name", lower case), CTEs of that name too.
void WalkReferences(const JsonNode& tree, const std::string& table,
                    const std::function<void(const JsonNode&, const JsonNode*)>& visit);

/// True if the reference stands in the FROM clause itself, not in a subquery of it, and WHERE sees its
/// columns.
bool StandsIn(const JsonNode& from, const JsonNode* reference);

/// True if an expression has columns or subqueries (or, where it `must_stay`, calls what changes).
bool DependsOnRows(const JsonNode& expression, bool must_stay);

/// The one row of `SELECT columns FROM (SELECT expression AS v)`; nothing where it cannot be computed.
std::optional<Chunk> EvaluateAlone(Connection& connection, const JsonNode& expression,
                                   const std::string& columns,
                                   const std::map<std::string, SqlValue>& parameters);

bool IsWholeNumber(std::string_view type);

}  // namespace millstream
