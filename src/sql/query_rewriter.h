// Rewriting of users' queries: tables that are not DuckDB's own, the bounds that a query sets on a stream,
// and the key that it asks of a table.
//
// Place: floor 2, used by query/ after CheckQuery. A table reference is replaced in the user's own text,
// which stays as it is around it, so that places in errors can be told in the user's text. Threads: those of
// the connection. Failure: kInvalid with a fault when the text does not parse.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sql/database.h"

namespace millstream {

/// A table that a query reads (no CTE). Names as written.
struct TableReference {
  std::string schema;  // "" for none
  std::string name;
  bool operator==(const TableReference&) const = default;
};

/// Every table once, in the order of the tree.
Result<std::vector<TableReference>> FindTables(Connection& connection, const std::string& sql,
                                               SqlFault* fault);

struct RewrittenQuery {
  std::string sql;
  /// Where a place in `sql` stands in the user's text; places inside a replacement stand at the table's name.
  int OriginalPosition(int position) const;

  struct Splice {
    int original_begin, original_end, begin, end;
  };
  std::vector<Splice> splices;
};

/// Gives calls that may take long the name of their bounded twin (function_bounds.h), and replaces table
/// references by SQL texts that may stand after FROM, e.g. "(SELECT 1 AS a)" or "_batch(7)"; the reference
/// keeps its alias, or gets its table's name as one. Keys: "name" or "schema.name", lower case.
Result<RewrittenQuery> RewriteTables(Connection& connection, const std::string& sql,
                                     const std::map<std::string, std::string>& replacements, SqlFault* fault);

/// Inclusive; nothing = no bound. `first > last` where conditions contradict each other.
struct ColumnBounds {
  std::optional<int64_t> first, last;
};

/// What a query asks of a stream's rows at most: rows outside are never needed.
struct StreamBounds {
  ColumnBounds partition, offset, ingested_at_us;
};

/// Bounds that the WHERE beside a table reference sets on `_partition`, `_offset` and `_ingested_at`:
/// conjuncts that compare them with expressions without columns (=, <, <=, >, >=, BETWEEN, IN). Several
/// references to the table: bounds that hold all of them. `table`: "schema.name" or "name", lower case.
/// `parameters` are values of $name (numbers as "1", "2").
Result<StreamBounds> FindStreamBounds(Connection& connection, const std::string& sql,
                                      const std::string& table,
                                      const std::map<std::string, SqlValue>& parameters, SqlFault* fault);

/// The key that a query asks of a table: the WHERE beside each reference to it compares every column of `key`
/// by `=`, in conjuncts, with expressions without columns, and rows of other keys are never needed. Values as
/// texts of the columns' types, in their order; none where no one key is told exactly. `table`, `parameters`:
/// as above.
Result<std::vector<std::string>> FindKey(Connection& connection, const std::string& sql,
                                         const std::string& table, const std::vector<ColumnInfo>& key,
                                         const std::map<std::string, SqlValue>& parameters);

}  // namespace millstream
