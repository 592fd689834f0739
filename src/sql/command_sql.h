// SQL of commands: what a user writes with `$input`, as statements that decide many commands at once.
//
// Place: floor 2. Used by catalog/ (check) and pipeline/ (run). `$input` is the row of a command; in our
// statements it is the relation `_input`, which is as long, so that places in the text hold. Rows of `_input`
// have a column `_offset` that numbers the commands. Threads: any. Failure: kInvalid with a fault whose
// position counts in the user's text.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sql/database.h"

namespace millstream {

/// The text with `_input` for `$input`, without the semicolon at its end. kInvalid: another parameter, or
/// more or less than one SELECT of what a query may do.
Result<std::string> BindInput(Connection& connection, const std::string& sql, SqlFault* fault);

/// Lower case names of the tables that a text given by BindInput reads; kInvalid: a schema is named.
Result<std::vector<std::string>> TablesOfCommand(Connection& connection, const std::string& bound,
                                                 SqlFault* fault);

/// A table that a text reads in one place, by equality on fields of the command: rows of other keys make no
/// difference to it.
struct KeyedRead {
  std::string table;                          // lower case
  std::map<std::string, std::string> fields;  // column = field of the command
};
std::vector<KeyedRead> FindKeyedReads(Connection& connection, const std::string& bound);

/// Rows of a table, at most one a key.
struct KeyedRows {
  std::string sql;                         // to stand after FROM
  std::vector<std::string> columns;        // lower case
  std::map<std::string, std::string> key;  // the whole key: column = field of the command
};

/// Rules whose subqueries read one row of a table each, as conditions on a command's row with these rows
/// joined to it. DuckDB itself makes of each correlated subquery two joins and two aggregates, whatever it
/// reads.
class RowJoins {
 public:
  /// Nothing: the rule is of another shape; then none of the rules may stand beside the joins. `rows`: by
  /// table, those that the rule reads by their key.
  std::optional<std::string> ConditionSql(Connection& connection, const std::string& bound,
                                          const std::map<std::string, KeyedRows>& rows);
  std::string sql() const;

 private:
  friend class RowJoiner;
  std::vector<std::string> joined_;  // " LEFT JOIN … AS _row0 ON …"; equal ones once
};

/// A rule as a condition on a command's row.
std::string ExistsSql(const std::string& bound);
/// The same without a subquery where the rule reads nothing but expressions: "SELECT 1 WHERE …". To DuckDB
/// each join of few rows costs more than all else.
std::string ConditionSql(Connection& connection, const std::string& bound);
/// SELECT of each command's `_offset` and the number of the first condition that holds for it; NULL: none
/// does. `from`: the commands, to stand after FROM.
/// `joins`: what conditions name beside `_input`, each a LEFT JOIN.
std::string RequireSql(const std::string& from, const std::vector<std::string>& conditions,
                       const std::string& joins = "");
/// SELECT of `_offset`, then the columns of what the command emits.
std::string EmitSql(const std::string& from, const std::string& bound);
/// The same, without a subquery where it can be.
std::string FlatEmitSql(Connection& connection, const std::string& from, const std::string& bound);

/// Byte at which the user's text begins in a statement of one rule, or of what is emitted.
size_t RequirePrefix();
size_t EmitPrefix(const std::string& from);

}  // namespace millstream
