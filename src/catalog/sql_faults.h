// ExplainSql: DuckDB's complaint about a user's SQL as a Fault in the user's own text, with a caret.
//
// Place: floor 4. Stateless.
#pragma once

#include <string>
#include <vector>

#include "base/fault.h"
#include "sql/database.h"
#include "stage/node.h"

namespace millstream {

/// What a statement could have named.
struct SqlNames {
  std::vector<std::string> columns;  // of `input` (or of a table)
  std::string source = "input";      // what has those columns
  std::vector<std::string> tables;
};

/// `sql`: the scalar that holds the text which `fault.position` counts in.
Fault ExplainSql(const Node& sql, const std::string& path, const SqlFault& fault, const SqlNames& names,
                 const std::string& expected = "");

}  // namespace millstream
