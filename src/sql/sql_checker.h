// SqlChecker: what a filter or a query may not do, told from DuckDB's parse tree.
//
// Place: floor 2, inside sql/. A filter is row-local over `input` (SEMANTICS, 1): `input` is read once,
// projected, filtered, unnested, joined to tables where it is the preserved or inner side. Whatever would
// give another result for another cut of the batches is refused, with what to use instead. Stateless. All
// faults are told, in the order of the text where DuckDB says where.
#pragma once

#include <string>
#include <vector>

#include "sql/filter_chain.h"
#include "sql/json_tree.h"

namespace millstream {

struct CheckedSql {
  std::vector<SqlFilterFault> faults;  // .filter is not set
  FilterFlags flags;
};

/// Of a filter's query node; `sql` is its text.
CheckedSql CheckFilterTree(const JsonNode& node, const std::string& sql);
/// Of a user's query: aggregates, windows, ORDER BY and the like are allowed.
CheckedSql CheckQueryTree(const JsonNode& node, const std::string& sql);
/// Of `SELECT (CONDITION)`: an expression over one row that holds or not whenever it is asked.
CheckedSql CheckConditionTree(const JsonNode& node, const std::string& sql);

/// True if the node of a FROM clause, or a query node, gives `input`'s rows. `carrying`: names of CTEs that
/// do.
bool CarriesInput(const JsonNode& node, const std::vector<std::string>& carrying);

}  // namespace millstream
