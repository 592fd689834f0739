// SqlTree: what a filter's parse tree says without binding it: which tables it reads, which columns of
// `input` it hands on as they are.
//
// Place: floor 4, over DuckDB's own json_serialize_sql. Threads: uses the connection of the calling thread.
// Failure: a text that does not parse has no tree; DescribeChain says what is wrong with it.
#pragma once

#include <set>
#include <string>

#include "sql/database.h"
#include "sql/json_tree.h"

namespace millstream {

/// The tree of one SELECT; nothing if it does not parse.
std::optional<JsonNode> SqlTree(Connection& connection, const std::string& sql);
/// Tables that it names, without `input` and its own CTEs.
std::set<std::string> TablesIn(const JsonNode& tree);
/// True if the result's column is surely `input`'s column of that name: `*` or a plain reference. False where
/// that is not plain to see.
bool PassesUnchanged(const JsonNode& tree, const std::string& column);
/// The function that an expression calls outermost ("sum"), or "".
std::string OutermostFunction(Connection& connection, const std::string& expression);

}  // namespace millstream
