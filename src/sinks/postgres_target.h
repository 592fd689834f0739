// PostgresTarget: a table that the `postgres` sink writes: made, given new columns, checked, written.
//
// Place: floor 4; owned by the `postgres` sink. All of it but Adapt runs within a transaction of the
// caller's. Threads: that of the session. Failure: Adapt: kInvalid, with what to do, where rows and table do
// not fit; else the session's codes.
#pragma once

#include <string>
#include <vector>

#include "sinks/postgres_lines.h"
#include "sinks/postgres_session.h"
#include "sinks/postgres_types.h"
#include "sql/database.h"

namespace millstream {

class PostgresTarget {
 public:
  struct Options {
    std::string schema, table;  // no schema: that of the connection's search_path
    std::vector<std::string> key;
    bool create = true;
  };
  explicit PostgresTarget(Options options) : options_(std::move(options)) {}

  /// The name of a table of the target's schema, as it stands in SQL.
  std::string NameOf(const std::string& table) const;
  const std::string& name() const { return options_.table; }
  const std::vector<std::string>& key() const { return options_.key; }

  /// Makes the table, adds columns that it lacks, checks types and the key's index, and makes the session's
  /// staging table. For rows with these columns, once a session and layout.
  Status Adapt(PostgresSession& session, const std::vector<ColumnInfo>& columns);
  /// Appends, or upserts and deletes by key (the newest row of a key decides). kInvalid: a row is at fault.
  Status Write(PostgresSession& session, const PostgresLines& lines) const;

  /// The table of a schema exists?
  static Result<std::string> FindTable(PostgresSession& session, const std::string& name);

 private:
  Status Create(PostgresSession& session, const std::vector<ColumnInfo>& columns) const;
  Status AdaptColumns(PostgresSession& session, const std::string& oid,
                      const std::vector<ColumnInfo>& columns) const;
  Status CheckKey(PostgresSession& session, const std::string& oid) const;
  std::string MergeSql(bool with_deletions) const;

  const Options options_;
  std::vector<std::string> columns_;  // of the rows, quoted
};

}  // namespace millstream
