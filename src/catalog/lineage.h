// Lineage: what a filter's parse tree says without binding it: which tables it reads, which columns of
// `input` it hands on as they are.
//
// Place: floor 4, over the tree of sql/sql_tree.h. Stateless.
#pragma once

#include <set>
#include <string>

#include "sql/json_tree.h"

namespace millstream {

/// Tables that a query node names, without `input` and its own CTEs.
std::set<std::string> TablesIn(const JsonNode& query);
/// True if the result's column is surely `input`'s column of that name: `*` or a plain reference. False where
/// that is not plain to see.
bool PassesUnchanged(const JsonNode& query, const std::string& column);

}  // namespace millstream
