#include "sinks/postgres_target.h"

#include <algorithm>

#include "base/text.h"
#include "sql/sql_tree.h"

namespace millstream {
namespace {

constexpr const char* kStaging = "pg_temp._millstream_rows";
constexpr size_t kNameBytesMax = 63;  // PostgreSQL cuts longer ones in silence

std::string Joined(const std::vector<std::string>& items, std::string_view between) {
  return fmt::format("{}", fmt::join(items, between));
}

std::vector<std::string> Quoted(const std::vector<std::string>& names) {
  std::vector<std::string> quoted;
  for (const std::string& name : names) quoted.push_back(PostgresName(name));
  return quoted;
}

}  // namespace

std::string PostgresTarget::NameOf(const std::string& table) const {
  return (options_.schema.empty() ? "" : PostgresName(options_.schema) + ".") + PostgresName(table);
}

Result<std::string> PostgresTarget::FindTable(PostgresSession& session, const std::string& name) {
  ASSIGN_OR_FAIL(auto found,
                 session.Run(fmt::format("SELECT c.oid, c.relkind FROM pg_catalog.pg_class c WHERE c.oid "
                                         "= pg_catalog.to_regclass({})",
                                         session.Literal(name))));
  if (found.rows.empty()) return std::string();
  if (*found.rows[0][1] != "r" && *found.rows[0][1] != "p") return Fail(Conflict("{} is no table", name));
  return *found.rows[0][0];
}

Status PostgresTarget::Adapt(PostgresSession& session, const std::vector<ColumnInfo>& columns) {
  if (columns.empty()) return Invalid("table {}: the rows have no columns", name());
  for (const ColumnInfo& column : columns)
    if (column.name.size() > kNameBytesMax)
      return Invalid(
          "table {}: the column's name '{}' is longer than PostgreSQL's {} bytes; give it another with AS",
          name(), column.name, kNameBytesMax);
  ASSIGN_OR_RETURN(std::string oid, FindTable(session, NameOf(name())));
  if (oid.empty()) {
    if (!options_.create) return NotFound("there is no table {}, and 'create' is false", NameOf(name()));
    RETURN_IF_ERROR(Create(session, columns));
    ASSIGN_OR_RETURN(oid, FindTable(session, NameOf(name())));
    if (oid.empty()) return Unavailable("table {} was dropped", NameOf(name()));
  }
  RETURN_IF_ERROR(AdaptColumns(session, oid, columns));
  columns_.clear();
  for (const ColumnInfo& column : columns) columns_.push_back(PostgresName(column.name));
  if (options_.key.empty()) return OkStatus();
  RETURN_IF_ERROR(CheckKey(session, oid));
  auto staged =
      session.Run(fmt::format("DROP TABLE IF EXISTS {0}; CREATE TEMP TABLE _millstream_rows ON COMMIT DELETE "
                              "ROWS AS SELECT {1}, 0::bigint AS "
                              "_millstream_row, false AS _millstream_deleted FROM {2} WITH NO DATA",
                              kStaging, Joined(columns_, ", "), NameOf(name())));
  return staged ? OkStatus() : staged.error();
}

Status PostgresTarget::Create(PostgresSession& session, const std::vector<ColumnInfo>& columns) const {
  std::vector<std::string> parts;
  for (const ColumnInfo& column : columns)
    parts.push_back(PostgresName(column.name) + " " + PostgresTypeOf(column.type));
  if (!options_.key.empty())
    parts.push_back(fmt::format("PRIMARY KEY ({})", Joined(Quoted(options_.key), ", ")));
  auto made =
      session.Run(fmt::format("CREATE TABLE IF NOT EXISTS {} ({})", NameOf(name()), Joined(parts, ", ")));
  if (made) return OkStatus();
  // Another session may have made it just now.
  return made.error().code() == Code::kInvalid ? Unavailable("{}", made.error().message()) : made.error();
}

Status PostgresTarget::AdaptColumns(PostgresSession& session, const std::string& oid,
                                    const std::vector<ColumnInfo>& columns) const {
  ASSIGN_OR_RETURN(auto answer,
                   session.Run(fmt::format("SELECT a.attname, pg_catalog.format_type(a.atttypid, "
                                           "a.atttypmod), coalesce(b.typname, t.typname), "
                                           "t.typcategory, t.typtype, a.attgenerated <> '' OR a.attidentity "
                                           "= 'a' FROM pg_catalog.pg_attribute a "
                                           "JOIN pg_catalog.pg_type t ON t.oid = a.atttypid LEFT JOIN "
                                           "pg_catalog.pg_type b ON b.oid = t.typbasetype "
                                           "WHERE a.attrelid = {} AND a.attnum > 0 AND NOT a.attisdropped",
                                           oid)));
  std::map<std::string, PostgresColumn> there;
  for (const auto& row : answer.rows)
    there[*row[0]] = {*row[0], *row[1], *row[2], row[3]->at(0), row[4]->at(0), *row[5] == "t"};
  std::vector<std::string> added;
  for (const ColumnInfo& column : columns) {
    auto found = there.find(column.name);
    if (found == there.end()) {
      if (!options_.create)
        return Invalid(
            "table {} has no column {}, and 'create' is false: add it, or leave it out of the filter", name(),
            column.name);
      added.push_back(fmt::format("ADD COLUMN IF NOT EXISTS {} {}", PostgresName(column.name),
                                  PostgresTypeOf(column.type)));
    } else if (found->second.is_generated) {
      return Invalid("table {}: column {} is generated by the database: leave it out of the filter", name(),
                     column.name);
    } else if (!TakesType(found->second, column.type)) {
      return Invalid(
          "table {}: column {} is {} in the table and {} in the rows: cast it in the filter, or change the "
          "column with ALTER TABLE",
          name(), column.name, found->second.type, column.type);
    }
  }
  if (added.empty()) return OkStatus();
  auto altered = session.Run(fmt::format("ALTER TABLE {} {}", NameOf(name()), Joined(added, ", ")));
  return altered ? OkStatus() : altered.error();
}

Status PostgresTarget::CheckKey(PostgresSession& session, const std::string& oid) const {
  std::vector<std::string> names = options_.key;
  std::sort(names.begin(), names.end());
  for (std::string& each : names) each = session.Literal(each);
  ASSIGN_OR_RETURN(
      auto answer,
      session.Run(fmt::format(
          "SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = {} AND i.indisunique AND i.indisvalid AND "
          "i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AND (SELECT array_agg(a.attname::text "
          "ORDER BY "
          "a.attname::text COLLATE \"C\") FROM generate_series(0, i.indnkeyatts - 1) n JOIN "
          "pg_catalog.pg_attribute a "
          "ON a.attrelid = i.indrelid AND a.attnum = i.indkey[n]) = ARRAY[{}]::text[]",
          oid, Joined(names, ", "))));
  if (!answer.rows.empty()) return OkStatus();
  std::string key = Joined(Quoted(options_.key), ", ");
  return Invalid("table {} has no unique index on its key: CREATE UNIQUE INDEX ON {} ({})", name(),
                 NameOf(name()), key);
}

std::string PostgresTarget::MergeSql(bool with_deletions) const {
  std::vector<std::string> key = Quoted(options_.key), set, same;
  for (const std::string& column : columns_)
    if (std::find(key.begin(), key.end(), column) == key.end())
      set.push_back(fmt::format("{0} = excluded.{0}", column));
  for (const std::string& column : key) same.push_back(fmt::format("t.{0} = n.{0}", column));
  std::string list = Joined(columns_, ", "), keys = Joined(key, ", ");
  std::string sql = fmt::format(
      "WITH newest AS (SELECT s.* FROM {0} s JOIN (SELECT max(_millstream_row) AS r FROM {0} GROUP BY {1}) m "
      "ON "
      "s._millstream_row = m.r)",
      kStaging, keys);
  if (with_deletions)
    sql += fmt::format(", gone AS (DELETE FROM {} t USING newest n WHERE n._millstream_deleted AND {})",
                       NameOf(name()), Joined(same, " AND "));
  sql += fmt::format(
      " INSERT INTO {} ({}) SELECT {} FROM newest WHERE NOT _millstream_deleted ON CONFLICT ({}) DO {}",
      NameOf(name()), list, list, keys, set.empty() ? "NOTHING" : "UPDATE SET " + Joined(set, ", "));
  return sql;
}

Status PostgresTarget::Write(PostgresSession& session, const PostgresLines& lines) const {
  bool staged = !options_.key.empty();
  std::string list = Joined(columns_, ", ");
  if (staged) list += ", _millstream_row, _millstream_deleted";
  ASSIGN_OR_RETURN(uint64_t taken, session.Copy(fmt::format("COPY {} ({}) FROM STDIN",
                                                            staged ? kStaging : NameOf(name()), list),
                                                lines.text));
  // A trigger may drop rows of a table; the staging table has none.
  if (staged && taken != lines.rows) return Internal("{} of {} rows were taken", taken, lines.rows);
  if (!staged) return OkStatus();
  auto merged = session.Run(MergeSql(lines.deletions > 0));
  return merged ? OkStatus() : merged.error();
}

}  // namespace millstream
