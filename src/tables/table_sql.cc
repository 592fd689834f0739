#include "tables/table_sql.h"

#include <cctype>

#include "base/planted.h"
#include "sql/row_buffer.h"

namespace millstream {
namespace {

std::string Join(const std::vector<std::string>& parts, std::string_view between) {
  std::string out;
  for (const std::string& part : parts) {
    if (!out.empty()) out += between;
    out += part;
  }
  return out;
}

std::string KeyList(const TableShape& shape, std::string_view prefix = "") {
  std::vector<std::string> names;
  for (const std::string& name : shape.spec.key) names.push_back(fmt::format("{}{}", prefix, Quoted(name)));
  return Join(names, ", ");
}

std::string VisibleList(const TableShape& shape) {
  std::vector<std::string> names;
  for (const ColumnInfo& column : shape.columns) names.push_back(Quoted(column.name));
  if (!shape.aggregate()) names.insert(names.end(), {"_partition", "_offset"});
  return Join(names, ", ");
}

std::vector<ColumnInfo> HiddenColumns(const TableShape& shape) {
  if (shape.aggregate()) {
    std::vector<ColumnInfo> hidden = {{"_hash", "UBIGINT"}};
    if (shape.has_last())
      hidden.push_back({"_order", shape.spec.key_in_one_partition
                                      ? "HUGEINT"
                                      : "STRUCT(ingested_at TIMESTAMP WITH TIME ZONE, pipeline UINTEGER, "
                                        "partition INTEGER, position HUGEINT)"});
    return hidden;
  }
  std::vector<ColumnInfo> hidden = {
      {"_pipeline", "UINTEGER"}, {"_partition", "INTEGER"}, {"_offset", "BIGINT"}, {"_ordinal", "INTEGER"}};
  if (shape.keyed())
    hidden.insert(
        hidden.end(),
        {{"_ingested_at", "TIMESTAMP WITH TIME ZONE"}, {"_hash", "UBIGINT"}, {"_deleted", "BOOLEAN"}});
  return hidden;
}

std::string StoredList(const TableShape& shape, std::string_view prefix = "") {
  std::vector<std::string> names;
  for (const ColumnInfo& column : shape.columns)
    names.push_back(fmt::format("{}{}", prefix, Quoted(column.name)));
  for (const ColumnInfo& column : HiddenColumns(shape))
    names.push_back(fmt::format("{}{}", prefix, Quoted(column.name)));
  return Join(names, ", ");
}

constexpr const char* kPosition = "(_offset::HUGEINT * 4294967296 + _ordinal)";

// ORDER BY that puts the newest row of a key first (SEMANTICS, 8).
std::string NewestFirst(const TableShape& shape) {
  if (IsPlanted(Planted::order_by_scan)) return "hash(_offset), _ordinal";
  if (shape.spec.key_in_one_partition) return "_offset DESC, _ordinal DESC";
  std::string order;
  for (const std::string& name : shape.spec.order_by) order += Quoted(name) + " DESC NULLS LAST, ";
  return order + "_ingested_at DESC NULLS LAST, _pipeline DESC, _partition DESC, _offset DESC, _ordinal DESC";
}

// True where row `a` is newer than row `b`.
std::string NewerThan(const TableShape& shape, std::string_view a, std::string_view b) {
  if (shape.spec.key_in_one_partition)
    return fmt::format(
        "({0}._offset > {1}._offset OR ({0}._offset = {1}._offset AND {0}._ordinal > {1}._ordinal))", a, b);
  auto sort_key = [&](std::string_view row) {
    std::string arguments;
    for (const std::string& name : shape.spec.order_by)
      arguments += fmt::format("{}.{}, 'ASC NULLS FIRST', ", row, Quoted(name));
    return fmt::format(
        "create_sort_key({0}{1}._ingested_at, 'ASC NULLS FIRST', {1}._pipeline, 'ASC NULLS FIRST', "
        "{1}._partition, 'ASC NULLS FIRST', {1}._offset, 'ASC NULLS FIRST', {1}._ordinal, 'ASC NULLS FIRST')",
        arguments, row);
  };
  return fmt::format("{} > {}", sort_key(a), sort_key(b));
}

std::string KeyEquals(const TableShape& shape, std::string_view a, std::string_view b) {
  std::vector<std::string> conditions;
  for (const std::string& name : shape.spec.key)
    conditions.push_back(fmt::format("{0}.{2} IS NOT DISTINCT FROM {1}.{2}", a, b, Quoted(name)));
  return Join(conditions, " AND ");
}

// One row a key out of `from`: upsert the newest, aggregate the sum. Stored columns.
std::string Combined(const TableShape& shape, const std::string& from) {
  if (shape.upsert())
    return fmt::format(
        "SELECT * FROM ({}) QUALIFY row_number() OVER (PARTITION BY _hash, {} ORDER BY {}) = 1", from,
        KeyList(shape), NewestFirst(shape));
  std::string list = KeyList(shape);
  for (const Aggregate& aggregate : shape.aggregates)
    list += fmt::format(", {} AS {}", CombineSql(aggregate, "_order"), Quoted(aggregate.name));
  return fmt::format("SELECT {}, _hash{} FROM ({}) GROUP BY _hash, {}", list,
                     shape.has_last() ? ", max(_order) AS _order" : "", from, KeyList(shape));
}

/// A number of 128 bits: sums of decimals and of large integers.
bool IsWide(const std::string& type) {
  constexpr int kDigitsOf64Bits = 18;
  int digits = 0;
  bool is_decimal = std::sscanf(type.c_str(), "DECIMAL(%d,", &digits) == 1;
  return type == "HUGEINT" || (is_decimal && digits > kDigitsOf64Bits);
}

std::string RowOrder(const TableShape& shape, bool has_ingested_at) {
  if (shape.spec.key_in_one_partition) return kPosition;
  return fmt::format(
      "{{'ingested_at': {}, 'pipeline': $1::UINTEGER, 'partition': _partition, 'position': {}}}",
      has_ingested_at ? "_ingested_at" : "NULL::TIMESTAMPTZ", kPosition);
}

/// Stored rows of the delta and of the base: what stands after FROM.
std::string BothParts(const TableShape& shape, const std::string& of_delta, const std::string& of_base) {
  return fmt::format("SELECT {0} FROM {1} UNION ALL SELECT {0} FROM {2} WHERE {3}", StoredList(shape),
                     of_delta, BaseName(shape, shape.base), of_base);
}

// Statements go by ranges of the hash, each about as large as DuckDB sorts in its caches.
std::string InRange(std::string_view hash, uint32_t index, uint32_t ranges) {
  if (ranges <= 1) return "true";
  uint64_t width = UINT64_MAX / ranges + 1;
  uint64_t low = width * index;
  uint64_t high = index + 1 == ranges ? UINT64_MAX : low + width - 1;
  return fmt::format("{} BETWEEN {}::UBIGINT AND {}::UBIGINT", hash, low, high);
}

}  // namespace

std::string Quoted(std::string_view name) {
  std::string out = "\"";
  for (char c : name) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + "\"";
}

std::string QuotedText(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\'') out += '\'';
    out += c;
  }
  return out;
}

bool TableShape::has_last() const {
  for (const Aggregate& aggregate : aggregates)
    if (aggregate.kind == Aggregate::Kind::kLast) return true;
  return false;
}

int TableShape::Find(std::string_view name) const {
  for (size_t i = 0; i < columns.size(); ++i)
    if (SameName(columns[i].name, name)) return static_cast<int>(i);
  return -1;
}

bool IsKeyColumn(const TableShape& shape, std::string_view name) {
  return std::any_of(shape.spec.key.begin(), shape.spec.key.end(),
                     [&](auto& key) { return SameName(key, name); });
}

uint32_t PipelineNumber(std::string_view pipeline) {
  uint32_t hash = 2166136261u;  // FNV-1a
  for (unsigned char c : pipeline) hash = (hash ^ c) * 16777619u;
  return hash;
}

std::string BaseName(const TableShape& shape, int64_t base) {
  return fmt::format("_millstream.t{}_{}", shape.id, base);
}

std::string CreateBaseSql(const TableShape& shape, int64_t base) {
  // To try all ways to compress texts would be most of what a row costs. Keys and hashes are read by each
  // fold and look-up, which would have to decompress them; numbers of 128 bits DuckDB unpacks bit by bit.
  auto compression = [&](const ColumnInfo& column) {
    bool is_text = column.type == "VARCHAR";
    bool is_read_by_folds =
        column.name == "_hash" || (is_text && IsKeyColumn(shape, column.name)) || IsWide(column.type);
    if (shape.keyed() && is_read_by_folds) return " USING COMPRESSION uncompressed";
    return is_text ? " USING COMPRESSION fsst" : "";
  };
  std::vector<std::string> columns;
  for (const ColumnInfo& column : shape.columns) {
    bool required = shape.upsert() && IsKeyColumn(shape, column.name);
    columns.push_back(fmt::format("{} {}{}{}", Quoted(column.name), column.type, required ? " NOT NULL" : "",
                                  compression(column)));
  }
  for (const ColumnInfo& column : HiddenColumns(shape))
    columns.push_back(fmt::format("{} {}{}", Quoted(column.name), column.type, compression(column)));
  return fmt::format("CREATE TABLE {} ({})", BaseName(shape, base), Join(columns, ", "));
}

std::string CreateViewSql(const TableShape& shape) {
  std::string head = fmt::format("CREATE OR REPLACE VIEW main.{} AS ", Quoted(shape.spec.name));
  std::string visible = VisibleList(shape);
  if (!shape.keyed())
    return head + fmt::format("SELECT {0} FROM {1} UNION ALL SELECT {0} FROM {2}", visible,
                              BaseName(shape, shape.base), shape.recent);
  // Base rows whose hash the delta has not are read as they are; the others meet the delta's rows by their
  // key, so that two keys of one hash do no harm.
  std::string hashes = "SELECT _hash FROM " + shape.recent;
  std::string stored = StoredList(shape);
  std::string met = fmt::format("SELECT {} FROM {} b SEMI JOIN ({}) h ON b._hash = h._hash",
                                StoredList(shape, "b."), BaseName(shape, shape.base), hashes);
  std::string changed =
      Combined(shape, fmt::format("SELECT {} FROM {} UNION ALL {}", stored, shape.recent, met));
  std::string alive = shape.upsert() ? " WHERE NOT _deleted" : "";
  return head + fmt::format(
                    "SELECT {0} FROM ({1}){2} UNION ALL SELECT {0} FROM {3} b ANTI JOIN ({4}) h ON "
                    "b._hash = h._hash{2}",
                    visible, changed, alive, BaseName(shape, shape.base), hashes);
}

std::vector<ColumnInfo> RecentColumns(const TableShape& shape) {
  std::vector<ColumnInfo> columns = shape.columns, hidden = HiddenColumns(shape);
  columns.insert(columns.end(), hidden.begin(), hidden.end());
  if (shape.keyed()) columns.push_back({RowBuffer::kRow, "BIGINT"});
  return columns;
}

std::string SaveRowsSql(const TableShape& shape, const std::string& from) {
  std::string list = StoredList(shape);
  return fmt::format("INSERT INTO {} ({}) SELECT {} FROM {}", BaseName(shape, shape.base), list, list, from);
}

std::string DeltaRowsSql(const TableShape& shape, const std::vector<ColumnInfo>& row_columns,
                         const std::string& from) {
  auto has = [&](std::string_view name) {
    return std::any_of(row_columns.begin(), row_columns.end(),
                       [&](const ColumnInfo& column) { return SameName(column.name, name); });
  };
  std::vector<std::string> values;
  auto add = [&](const std::string& expression, const ColumnInfo& column) {
    values.push_back(fmt::format("CAST({} AS {}) AS {}", expression, column.type, Quoted(column.name)));
  };
  if (!shape.aggregate())
    for (const ColumnInfo& column : shape.columns)
      if (has(column.name)) add(Quoted(column.name), column);
  if (!shape.keyed())
    return fmt::format("SELECT {}, _partition, _offset, _ordinal FROM {}", Join(values, ", "), from);
  const std::string hash = fmt::format("hash({}) AS _hash", KeyList(shape));
  if (shape.upsert()) {
    const std::string& when = shape.spec.delete_when;
    std::string deleted = !when.empty() ? fmt::format("coalesce(CAST(({}) AS BOOLEAN), false)", when)
                          : has("_op")  ? "coalesce(_op = 'd', false)"
                                        : "false";
    if (has("_ingested_at")) values.push_back("_ingested_at");
    return fmt::format("SELECT {}, _partition, _offset, _ordinal, {}, {} AS _deleted FROM {}",
                       Join(values, ", "), hash, deleted, from);
  }
  const std::string order = RowOrder(shape, has("_ingested_at"));
  for (const std::string& key : shape.spec.key) add(Quoted(key), shape.columns[shape.Find(key)]);
  for (const Aggregate& aggregate : shape.aggregates)
    add(PartialSql(aggregate, order), shape.columns[shape.Find(aggregate.name)]);
  values.push_back(hash);
  if (shape.has_last()) add(fmt::format("max({})", order), HiddenColumns(shape)[1]);
  std::string where;
  if (has("_op"))
    where =
        " WHERE CASE WHEN _op IN ('u', 'd') THEN error('an aggregate cannot take back what an update or "
        "a delete changes: keep the rows in a table with this key, and aggregate in the query') ELSE true "
        "END";
  return fmt::format("SELECT {} FROM {}{} GROUP BY {}", Join(values, ", "), from, where, KeyList(shape));
}

// The hash is a constant of the statement, so that DuckDB reads only the row groups that may have it.
std::string LookupSql(const TableShape& shape, const std::vector<std::string>& key) {
  std::vector<std::string> values, conditions;
  for (size_t i = 0; i < key.size(); ++i) {
    const std::string& name = shape.spec.key[i];
    values.push_back(
        fmt::format("CAST('{}' AS {})", QuotedText(key[i]), shape.columns[shape.Find(name)].type));
    conditions.push_back(fmt::format("{} = {}", Quoted(name), values.back()));
  }
  const std::string hash = fmt::format("hash({})", Join(values, ", ")), is_key = Join(conditions, " AND ");
  const std::string all =
      BothParts(shape, fmt::format("{} WHERE {}", RowBuffer::OfHash(shape.recent, hash), is_key),
                fmt::format("{} AND _hash = {}", is_key, hash));
  if (shape.aggregate()) return fmt::format("SELECT {} FROM ({})", VisibleList(shape), Combined(shape, all));
  return fmt::format("SELECT {} FROM (SELECT * FROM ({}) ORDER BY {} LIMIT 1) WHERE NOT _deleted",
                     VisibleList(shape), all, NewestFirst(shape));
}

std::string RowsOfHashesSql(const TableShape& shape, const std::string& of_delta,
                            const std::string& of_base) {
  return fmt::format("(SELECT {} FROM ({}){})", VisibleList(shape),
                     Combined(shape, BothParts(shape, of_delta, of_base)),
                     shape.upsert() ? " WHERE NOT _deleted" : "");
}

std::vector<std::string> FoldPrepareSql(const TableShape& shape, bool one_row_an_event) {
  const std::string base = BaseName(shape, shape.base);
  const std::string& delta = shape.recent;
  if (shape.aggregate())
    return {
        fmt::format("CREATE TEMP TABLE replaced AS SELECT b.rowid AS r, b._hash FROM {} b SEMI JOIN {} d ON "
                    "b._hash = d._hash",
                    base, delta)};
  std::string newest =
      shape.spec.key_in_one_partition
          ? fmt::format("SELECT arg_max(_row, {}) AS r FROM {} GROUP BY _hash, {}",
                        one_row_an_event ? "_offset" : kPosition, delta, KeyList(shape))
          : fmt::format(
                "SELECT _row AS r FROM {} QUALIFY row_number() OVER (PARTITION BY _hash, {} ORDER BY "
                "{}) = 1",
                delta, KeyList(shape), NewestFirst(shape));
  // Rows that met their key in the base: the older of the two goes.
  return {
      fmt::format("CREATE TEMP TABLE newest AS {}", newest),
      fmt::format(
          "CREATE TEMP TABLE met AS SELECT b.rowid AS r, b._hash, f._row AS f, {} AS older FROM {} b JOIN "
          "(SELECT * FROM {} WHERE _row IN (SELECT r FROM temp.newest)) f ON f._hash = b._hash "
          "AND {}",
          NewerThan(shape, "f", "b"), base, delta, KeyEquals(shape, "f", "b")),
      "CREATE TEMP TABLE replaced AS SELECT r, _hash FROM temp.met WHERE older",
      "DELETE FROM temp.newest WHERE r IN (SELECT f FROM temp.met WHERE NOT older)", "DROP TABLE temp.met"};
}

std::string HasOrdinalsSql(const TableShape& shape) {
  return fmt::format("SELECT count(*) FROM (SELECT 1 FROM {} WHERE _ordinal > 0 LIMIT 1)", shape.recent);
}

std::string ForgetDeletesSql(const TableShape& shape) {
  return fmt::format("DELETE FROM temp.newest WHERE r IN (SELECT _row FROM {} WHERE _deleted)", shape.recent);
}

namespace {

/// What goes into the base: of upsert the newest rows, of aggregate the sums of delta and base.
std::string Incoming(const TableShape& shape, const std::string& range) {
  const std::string base = BaseName(shape, shape.base);
  const std::string& delta = shape.recent;
  std::string stored = StoredList(shape);
  if (shape.upsert())
    return fmt::format("SELECT {} FROM {} WHERE _row IN (SELECT r FROM temp.newest) AND {}", stored, delta,
                       range);
  return Combined(
      shape, fmt::format("SELECT {0} FROM {1} UNION ALL SELECT {0} FROM {2} WHERE rowid IN (SELECT r FROM "
                         "temp.replaced)",
                         stored, delta, base));
}

}  // namespace

std::vector<std::string> FoldInPlaceSql(const TableShape& shape) {
  std::string base = BaseName(shape, shape.base);
  return {
      fmt::format("INSERT INTO {} ({}) {} ORDER BY _hash", base, StoredList(shape), Incoming(shape, "true")),
      fmt::format("DELETE FROM {} WHERE rowid IN (SELECT r FROM temp.replaced)", base)};
}

std::vector<std::string> FoldRewriteSql(const TableShape& shape, int64_t new_base, uint32_t ranges) {
  const std::string base = BaseName(shape, shape.base);
  const std::string& delta = shape.recent;
  std::string stored = StoredList(shape);
  std::vector<std::string> statements = {CreateBaseSql(shape, new_base)};
  for (uint32_t i = 0; i < ranges; ++i) {
    std::string range = InRange("_hash", i, ranges);
    std::string rows =
        shape.aggregate()
            ? Combined(shape,
                       fmt::format("SELECT {0} FROM {1} WHERE {3} UNION ALL SELECT {0} FROM {2} WHERE {3}",
                                   stored, base, delta, range))
            : fmt::format(
                  "SELECT {0} FROM (SELECT {0}, rowid AS _row FROM {1} WHERE {2}) b ANTI JOIN (SELECT r FROM "
                  "temp.replaced WHERE {2}) x ON b._row = x.r UNION ALL {3}",
                  stored, base, range, Incoming(shape, range));
    statements.push_back(fmt::format("INSERT INTO {0} ({1}) SELECT {1} FROM ({2}) ORDER BY _hash",
                                     BaseName(shape, new_base), stored, rows));
  }
  return statements;
}

}  // namespace millstream
