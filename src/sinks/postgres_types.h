// How types of rows are written in PostgreSQL, and which columns of a table that exists take them.
//
// Place: floor 4; for the `postgres` sink. Types of rows are in DuckDB's words (ColumnInfo), e.g.
// "DECIMAL(12,2)". Stateless.
#pragma once

#include <string>

namespace millstream {

/// The type of a column that is made for such rows; nested types and JSON: jsonb; unknown ones: text.
std::string PostgresTypeOf(const std::string& type);

/// A column of a table, as PostgreSQL's catalog has it.
struct PostgresColumn {
  std::string name;
  std::string type;           // with its modifiers: "numeric(12,2)"
  std::string base;           // pg_type.typname, of a domain that of its base: "numeric"
  char category = 'U';        // pg_type.typcategory
  char kind = 'b';            // pg_type.typtype: b base, e enum, d domain, …
  bool is_generated = false;  // its values cannot be written
};

/// Whether every value of such rows has a place there, or is text that the column's type reads (then one that
/// it does not read is a fault of its row).
bool TakesType(const PostgresColumn& column, const std::string& type);

}  // namespace millstream
