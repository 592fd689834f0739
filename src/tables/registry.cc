#include "tables/registry.h"

#include <cstdlib>
#include <set>

#include "sql/json_tree.h"

namespace millstream {
namespace {

constexpr const char* kSchema =
    "CREATE SCHEMA IF NOT EXISTS _millstream;"
    "CREATE TABLE IF NOT EXISTS _millstream.meta (name VARCHAR, value VARCHAR);"
    "CREATE TABLE IF NOT EXISTS _millstream.tables (id BIGINT, name VARCHAR, spec VARCHAR, base "
    "BIGINT);"
    "CREATE TABLE IF NOT EXISTS _millstream.writers (id BIGINT, pipeline VARCHAR, generation VARCHAR, sink "
    "VARCHAR, name VARCHAR);"
    "CREATE TABLE IF NOT EXISTS _millstream.offsets (writer BIGINT, part BIGINT, next BIGINT, epoch BIGINT, "
    "seq BIGINT);";

// What hash() makes of one key of each common type: it is not promised to stay the same between versions.
constexpr const char* kHashProbe =
    "SELECT CAST(hash('millstream') AS VARCHAR) || ' ' || CAST(hash(42, 'a') AS VARCHAR) || ' ' || "
    "CAST(hash(1.50::DECIMAL(12,2), DATE '2026-01-01') AS VARCHAR)";

uint64_t Unsigned(const std::string& text) { return std::strtoull(text.c_str(), nullptr, 10); }
int64_t Signed(const std::string& text) { return std::strtoll(text.c_str(), nullptr, 10); }

JsonNode TextArray(const std::vector<std::string>& texts) {
  JsonNode array = JsonNode::Array();
  for (const std::string& text : texts) array.items().push_back(JsonNode::String(text));
  return array;
}

std::string SpecToJson(const TableShape& shape) {
  const TableSpec& spec = shape.spec;
  JsonNode node = JsonNode::Object();
  node.At("key") = TextArray(spec.key);
  JsonNode values = JsonNode::Array();
  for (const auto& [name, expression] : spec.values) values.items().push_back(TextArray({name, expression}));
  node.At("values") = std::move(values);
  node.At("delete_when") = JsonNode::String(spec.delete_when);
  node.At("order_by") = TextArray(spec.order_by);
  node.At("key_in_one_partition") = JsonNode::Boolean(spec.key_in_one_partition);
  node.At("writer") = JsonNode::String(spec.writer);
  if (shape.keeps_deletes) node.At("keeps_deletes") = JsonNode::Boolean(true);
  node.At("forgot_deletes") = JsonNode::Boolean(shape.forgot_deletes);
  return node.ToString();
}

Status ReadSpec(const std::string& json, TableShape& shape) {
  ASSIGN_OR_RETURN(JsonNode node, ParseJsonTree(json));
  TableSpec& spec = shape.spec;
  for (const JsonNode& item : node["key"].items()) spec.key.push_back(item.text());
  for (const JsonNode& item : node["values"].items()) {
    if (item.items().size() != 2) return Corrupt("a table's stored values are not pairs");
    spec.values.emplace_back(item.items()[0].text(), item.items()[1].text());
  }
  spec.delete_when = node.Text("delete_when");
  for (const JsonNode& item : node["order_by"].items()) spec.order_by.push_back(item.text());
  spec.key_in_one_partition = node["key_in_one_partition"].IsTrue();
  spec.writer = node.Text("writer");
  shape.keeps_deletes = node["keeps_deletes"].IsTrue();
  shape.forgot_deletes = node["forgot_deletes"].IsTrue();
  return OkStatus();
}

// Columns of a base that readers see, in the table's order.
Result<std::vector<ColumnInfo>> VisibleColumns(Connection& connection, const TableShape& shape) {
  std::string part = BaseName(shape, shape.base);
  ASSIGN_OR_FAIL(
      auto rows,
      TextRows(connection,
               "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database() "
               "AND schema_name = '_millstream' AND table_name = $1 ORDER BY column_index",
               {part.substr(part.find('.') + 1)}));
  static const std::set<std::string> kHidden = {"_pipeline",    "_partition", "_offset",  "_ordinal",
                                                "_ingested_at", "_hash",      "_deleted", "_order"};
  std::vector<ColumnInfo> columns;
  for (auto& row : rows)
    if (!kHidden.contains(row[0])) columns.push_back({row[0], row[1]});
  return columns;
}

Result<TableShape> ReadTable(Connection& connection, const std::vector<std::string>& row) {
  TableShape shape;
  shape.id = Signed(row[0]);
  FAIL_IF_ERROR(ReadSpec(row[2], shape).Within("table " + row[1]));
  shape.spec.name = row[1];
  shape.base = Signed(row[3]);
  ASSIGN_OR_FAIL(shape.columns, VisibleColumns(connection, shape));
  if (shape.columns.empty() && !shape.keyed()) return shape;
  for (const auto& [name, expression] : shape.spec.values) {
    ASSIGN_OR_FAIL(Aggregate aggregate, ParseAggregate(name, expression));
    int index = shape.Find(name);
    if (index < 0) return Fail(Corrupt("table {}: column {} is missing in the file", row[1], name));
    aggregate.type = shape.columns[index].type;
    shape.aggregates.push_back(std::move(aggregate));
  }
  return shape;
}

Status DropForeignParts(Connection& connection, const std::vector<TableShape>& tables, int64_t* next_part) {
  std::set<std::string> known;
  for (const TableShape& shape : tables)
    known.insert(BaseName(shape, shape.base)), *next_part = std::max(*next_part, shape.base + 1);
  ASSIGN_OR_RETURN(auto rows, TextRows(connection,
                                       "SELECT '_millstream.' || table_name FROM duckdb_tables() WHERE "
                                       "database_name = current_database() AND schema_name = '_millstream' "
                                       "AND regexp_full_match(table_name, 't[0-9]+_[0-9]+')"));
  for (auto& row : rows)
    if (!known.contains(row[0])) RETURN_IF_ERROR(connection.Run("DROP TABLE " + row[0]));
  return OkStatus();
}

}  // namespace

Result<std::vector<std::vector<std::string>>> TextRows(Connection& connection, const std::string& sql,
                                                       const std::vector<SqlValue>& values) {
  ASSIGN_OR_FAIL(Rows rows, connection.Query(sql, values));
  std::vector<std::vector<std::string>> out;
  JsonWriter writer = rows.MakeJsonWriter();
  while (true) {
    ASSIGN_OR_FAIL(std::optional<Chunk> chunk, rows.Next());
    if (!chunk) return out;
    for (uint32_t row = 0; row < chunk->rows(); ++row) {
      out.emplace_back(chunk->columns());
      for (uint32_t column = 0; column < chunk->columns(); ++column)
        writer.AppendText(out.back()[column], *chunk, column, row);
    }
  }
}

Result<RegistryContent> OpenRegistry(Connection& connection) {
  RegistryContent content;
  FAIL_IF_ERROR(connection.Run(kSchema));
  ASSIGN_OR_FAIL(auto old,
                 TextRows(connection,
                          "SELECT 1 FROM duckdb_columns() WHERE database_name = current_database() AND "
                          "schema_name = '_millstream' AND table_name = 'tables' AND column_name = 'delta'"));
  if (!old.empty())
    return Fail(
        Corrupt("the tables' file is of a version before 0.1.0: remove it, and the tables are made anew from "
                "the log"));
  ASSIGN_OR_FAIL(auto probe, TextRows(connection, kHashProbe));
  ASSIGN_OR_FAIL(auto stored,
                 TextRows(connection, "SELECT value FROM _millstream.meta WHERE name = 'hash_probe'"));
  content.hash_changed = !stored.empty() && stored[0][0] != probe[0][0];
  if (stored.empty()) {
    FAIL_IF_ERROR(
        connection.Run(fmt::format("INSERT INTO _millstream.meta VALUES ('hash_probe', '{}')", probe[0][0])));
  }
  ASSIGN_OR_FAIL(auto tables, TextRows(connection, "SELECT id, name, spec, base FROM _millstream.tables"));
  for (auto& row : tables) {
    ASSIGN_OR_FAIL(TableShape shape, ReadTable(connection, row));
    content.tables.push_back(std::move(shape));
  }
  FAIL_IF_ERROR(DropForeignParts(connection, content.tables, &content.next_part));
  for (const TableShape& shape : content.tables)
    content.next_part = std::max(content.next_part, shape.id + 1);
  ASSIGN_OR_FAIL(
      auto writers,
      TextRows(connection, "SELECT id, pipeline, generation, sink, name FROM _millstream.writers"));
  std::map<int64_t, size_t> by_id;
  for (auto& row : writers) {
    by_id[Signed(row[0])] = content.writers.size();
    content.writers.push_back({Signed(row[0]), {row[1], Unsigned(row[2]), row[3]}, row[4], {}, {}});
  }
  ASSIGN_OR_FAIL(
      auto offsets,
      TextRows(connection, "SELECT writer, part, next, epoch, seq FROM _millstream.offsets ORDER BY seq"));
  for (auto& row : offsets) {
    content.last_seq = std::max(content.last_seq, Signed(row[4]));
    auto found = by_id.find(Signed(row[0]));
    if (found == by_id.end()) continue;
    content.writers[found->second].offsets[static_cast<uint32_t>(Unsigned(row[1]))] = {
        static_cast<uint64_t>(Signed(row[2])), static_cast<uint32_t>(Unsigned(row[3]))};
  }
  for (WriterRecord& record : content.writers) record.stored = record.offsets;
  content.offset_rows = offsets.size();
  return content;
}

Status RenewHashes(Connection& connection, const std::vector<TableShape>& tables) {
  std::string sql = "BEGIN;";
  for (const TableShape& shape : tables) {
    if (!shape.keyed()) continue;
    std::string key;
    for (const std::string& name : shape.spec.key) key += (key.empty() ? "" : ", ") + Quoted(name);
    sql += fmt::format("UPDATE {} SET _hash = hash({});", BaseName(shape, shape.base), key);
  }
  ASSIGN_OR_RETURN(auto probe, TextRows(connection, kHashProbe));
  sql +=
      fmt::format("UPDATE _millstream.meta SET value = '{}' WHERE name = 'hash_probe'; COMMIT", probe[0][0]);
  Status status = connection.Run(sql);
  if (!status.ok()) (void)connection.Run("ROLLBACK");
  return status.Within("writing the keys' hashes anew for this version of DuckDB");
}

Status StoreTable(Connection& connection, const TableShape& shape, bool is_new) {
  std::string spec = QuotedText(SpecToJson(shape));
  if (is_new)
    return connection.Run(fmt::format("INSERT INTO _millstream.tables VALUES ({}, '{}', '{}', {})", shape.id,
                                      QuotedText(shape.spec.name), spec, shape.base));
  return connection.Run(fmt::format("UPDATE _millstream.tables SET spec = '{}', base = {} WHERE id = {}",
                                    spec, shape.base, shape.id));
}

Status RemoveTable(Connection& connection, const TableShape& shape) {
  return connection.Run(
      fmt::format("DROP VIEW main.{}; DROP TABLE {}; DELETE FROM _millstream.tables WHERE id = {}",
                  Quoted(shape.spec.name), BaseName(shape, shape.base), shape.id));
}

Status ForgetTable(Connection& connection, int64_t id) {
  return connection.Run(fmt::format("DELETE FROM _millstream.tables WHERE id = {}", id));
}

Status RenameTable(Connection& connection, int64_t id, const std::string& name) {
  return connection.Run(
      fmt::format("UPDATE _millstream.tables SET name = '{}' WHERE id = {}", QuotedText(name), id));
}

Status RenameWriter(Connection& connection, int64_t id, const Writer& writer, const std::string& table) {
  return connection.Run(fmt::format(
      "UPDATE _millstream.writers SET pipeline = '{}', generation = '{}', sink = '{}', name = '{}' WHERE id "
      "= {}",
      QuotedText(writer.pipeline), writer.generation, QuotedText(writer.sink), QuotedText(table), id));
}

Status StoreWriter(Connection& connection, const WriterRecord& record) {
  return connection.Run(fmt::format("INSERT INTO _millstream.writers VALUES ({}, '{}', '{}', '{}', '{}')",
                                    record.id, QuotedText(record.writer.pipeline), record.writer.generation,
                                    QuotedText(record.writer.sink), QuotedText(record.table)));
}

Status RemoveWriter(Connection& connection, int64_t id) {
  return connection.Run(fmt::format(
      "DELETE FROM _millstream.writers WHERE id = {0}; DELETE FROM _millstream.offsets WHERE writer = {0}",
      id));
}

Result<std::vector<ColumnInfo>> BindTable(Connection& connection, const TableSpec& spec,
                                          const std::vector<ColumnInfo>& columns,
                                          std::vector<Aggregate>* aggregates) {
  auto find = [&](const std::string& name) -> const ColumnInfo* {
    for (const ColumnInfo& column : columns)
      if (SameName(column.name, name)) return &column;
    return nullptr;
  };
  std::string input =
      "SELECT NULL::VARCHAR AS _op, NULL::TIMESTAMPTZ AS _ingested_at, 0::INTEGER AS _partition, "
      "0::BIGINT AS _offset, 0::INTEGER AS _ordinal";
  for (const ColumnInfo& column : columns)
    input += fmt::format(", CAST(NULL AS {}) AS {}", column.type, Quoted(column.name));
  for (const std::string& name : spec.order_by)
    if (find(name) == nullptr)
      return Fail(Invalid("table {}: order_by names '{}', which the rows do not have", spec.name, name));
  std::vector<ColumnInfo> result;
  for (const std::string& name : spec.key) {
    const ColumnInfo* column = find(name);
    if (column == nullptr)
      return Fail(Invalid("table {}: the key names '{}', which the rows do not have", spec.name, name));
    result.push_back(*column);
  }
  auto bind = [&](const std::string& setting, const std::string& expression) -> Result<std::string> {
    auto statement = connection.Prepare(fmt::format("SELECT {} FROM ({}) WHERE false", expression, input));
    if (!statement) return Fail(Invalid("table {}: {}: {}", spec.name, setting, connection.fault().message));
    return (*statement)->columns()[0].type;
  };
  if (!spec.delete_when.empty()) {
    if (spec.key.empty() || !spec.values.empty())
      return Fail(Invalid("table {}: delete_when is for tables with a key and no values", spec.name));
    auto type = bind("delete_when", fmt::format("CAST(({}) AS BOOLEAN)", spec.delete_when));
    if (!type) return Fail(type.error());
  }
  if (spec.values.empty()) return columns;
  if (spec.key.empty())
    return Fail(Invalid("table {}: values need a key: one row is kept for each", spec.name));
  for (const auto& [name, expression] : spec.values) {
    ASSIGN_OR_FAIL(Aggregate aggregate, ParseAggregate(name, expression));
    for (const ColumnInfo& column : result)
      if (SameName(column.name, name))
        return Fail(Invalid("table {}: two columns have the name '{}'", spec.name, name));
    auto type = bind("values." + name, PartialSql(aggregate, "_offset"));
    if (!type) return Fail(type.error());
    aggregate.type = *type == "INTEGER" && aggregate.kind == Aggregate::Kind::kCountRows ? "BIGINT" : *type;
    result.push_back({name, aggregate.type});
    aggregates->push_back(std::move(aggregate));
  }
  return result;
}

}  // namespace millstream
