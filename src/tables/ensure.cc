// TableStore::Ensure and CheckCompatible: a table's columns, and what may become of them.

#include <set>

#include "base/text.h"
#include "tables/folder.h"
#include "tables/table_store.h"

namespace millstream {
namespace {

struct TypeClass {
  char family = 0;  // 's'igned, 'u'nsigned, 'f'loat, 'd'ecimal
  int size = 0;
  int scale = 0;
};

TypeClass Classify(const std::string& type) {
  static const std::map<std::string, TypeClass> kTypes = {
      {"TINYINT", {'s', 1}},  {"SMALLINT", {'s', 2}},  {"INTEGER", {'s', 4}},   {"BIGINT", {'s', 8}},
      {"HUGEINT", {'s', 16}}, {"UTINYINT", {'u', 1}},  {"USMALLINT", {'u', 2}}, {"UINTEGER", {'u', 4}},
      {"UBIGINT", {'u', 8}},  {"UHUGEINT", {'u', 16}}, {"FLOAT", {'f', 4}},     {"DOUBLE", {'f', 8}}};
  if (auto found = kTypes.find(type); found != kTypes.end()) return found->second;
  TypeClass decimal{'d', 0, 0};
  if (std::sscanf(type.c_str(), "DECIMAL(%d,%d)", &decimal.size, &decimal.scale) == 2) return decimal;
  return {};
}

/// True if every value of `from` is a value of `to`, so that it may be written into such a column.
bool Fits(const std::string& from, const std::string& to) {
  if (from == to) return true;
  TypeClass a = Classify(from), b = Classify(to);
  if (a.family == 0 || b.family == 0) return false;
  if (a.family == 'd' && b.family == 'd') return b.scale >= a.scale && b.size - b.scale >= a.size - a.scale;
  if (a.family == b.family) return a.size <= b.size;
  return a.family == 'u' && b.family == 's' && a.size < b.size;
}

Status CheckNames(const std::string& table, const std::vector<ColumnInfo>& columns) {
  static const std::set<std::string> kOurs = {"_pipeline",    "_partition", "_offset",  "_ordinal",
                                              "_ingested_at", "_hash",      "_deleted", "_order",
                                              "_op",          "_row",       "rowid"};
  if (columns.empty()) return Invalid("table {}: the rows have no columns", table);
  for (size_t i = 0; i < columns.size(); ++i) {
    if (kOurs.contains(Lower(columns[i].name)))
      return Invalid("table {}: a column cannot have the name '{}'; give it another with AS", table,
                     columns[i].name);
    for (size_t k = 0; k < i; ++k)
      if (SameName(columns[k].name, columns[i].name))
        return Invalid("table {}: two columns have the name '{}'", table, columns[i].name);
  }
  return OkStatus();
}

std::string Words(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out.empty() ? "none" : out;
}

std::string WhatToDo(const TableSpec& spec) {
  return fmt::format("give the sink another table name, or make the table anew (--rebuild {})", spec.name);
}

Status CompareSpecs(const TableSpec& stored, const TableSpec& asked) {
  auto differs = [&](const char* what, const std::string& was, const std::string& is) {
    return Invalid("table {} has {} {}, not {}: {}", asked.name, what, was, is, WhatToDo(asked));
  };
  if (stored.key != asked.key) return differs("the key", Words(stored.key), Words(asked.key));
  auto texts = [](const TableSpec& spec) {
    std::vector<std::string> all;
    for (const auto& [name, expression] : spec.values) all.push_back(name + ": " + expression);
    return all;
  };
  if (stored.values != asked.values) return differs("the values", Words(texts(stored)), Words(texts(asked)));
  if (stored.order_by != asked.order_by)
    return differs("order_by", Words(stored.order_by), Words(asked.order_by));
  return OkStatus();
}

/// Once rows of a key came from several partitions or writers, offsets alone never decide again.
bool StaysInOnePartition(const TableSpec& stored, const TableSpec& asked) {
  return stored.key_in_one_partition && asked.key_in_one_partition && stored.writer == asked.writer;
}

/// Compares and answers the columns that must be added.
Result<std::vector<ColumnInfo>> Missing(const TableShape& shape, const TableSpec& spec,
                                        const std::vector<ColumnInfo>& columns) {
  FAIL_IF_ERROR(CompareSpecs(shape.spec, spec));
  std::vector<ColumnInfo> missing;
  for (const ColumnInfo& column : columns) {
    int index = shape.Find(column.name);
    if (index < 0)
      missing.push_back(column);
    else if (!Fits(column.type, shape.columns[index].type))
      return Fail(Invalid("table {}: column {} is {} in the table and {} in the rows: cast it, or {}",
                          spec.name, column.name, shape.columns[index].type, column.type, WhatToDo(spec)));
  }
  if (!shape.spec.key_in_one_partition || StaysInOnePartition(shape.spec, spec)) return missing;
  if (shape.has_last())
    return Fail(
        Invalid("table {} keeps last(…) by the offsets of one partition; events of a key now come from "
                "several partitions or pipelines: {}",
                spec.name, WhatToDo(spec)));
  if (shape.forgot_deletes)
    return Fail(
        Invalid("table {} does not remember which rows were deleted, and events of a key now come from "
                "several partitions or pipelines: an older one would bring a deleted row back; {}",
                spec.name, WhatToDo(spec)));
  return missing;
}

Status TryInTransaction(Connection& connection, const std::vector<std::string>& statements,
                        const TableShape& shape, bool is_new) {
  Status status = connection.Run("BEGIN TRANSACTION");
  for (const std::string& statement : statements)
    if (status.ok()) status = connection.Run(statement);
  if (status.ok()) status = StoreTable(connection, shape, is_new);
  if (status.ok()) status = connection.Run(CreateViewSql(shape));
  if (status.ok()) status = connection.Commit();
  if (!status.ok()) connection.Rollback();
  return status;
}

/// DuckDB may still see a transaction that has just ended, and answers a conflict.
Status InTransaction(Connection& connection, const std::vector<std::string>& statements,
                     const TableShape& shape, bool is_new) {
  constexpr int kMaxTries = 50;
  constexpr auto kPause = std::chrono::milliseconds(10);
  for (int tries = 1;; ++tries) {
    Status status = TryInTransaction(connection, statements, shape, is_new);
    if (status.code() != Code::kUnavailable || tries == kMaxTries) return status;
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace

LayoutLock::LayoutLock(TableStore::State& state, Table& table) : table_(table.shared_from_this()) {
  ++table.waiting;
  while (!table.layout.try_lock()) {
    state.folder->MakeRoom(table);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  --table.waiting;
}

Status TableStore::KeepDeletes(const std::string& table) {
  return ChangeShape(table, [](TableShape& shape) {
    bool changes = shape.upsert() && shape.spec.key_in_one_partition && !shape.keeps_deletes;
    shape.keeps_deletes |= changes;
    return changes;
  });
}

Status TableStore::AdmitOlder(const std::string& table) {
  return ChangeShape(table, [](TableShape& shape) {
    bool changes = shape.upsert() && shape.spec.key_in_one_partition;
    if (changes) shape.spec.key_in_one_partition = false;
    return changes;
  });
}

/// What folds, the view and deliveries go by, without a change of columns.
Status TableStore::ChangeShape(const std::string& name, const std::function<bool(TableShape&)>& change) {
  std::shared_ptr<Table> table = state_->FindTable(name);
  if (!table) return NotFound("no table '{}'", name);
  TableShape next = state_->ShapeOf(*table);
  if (!change(next)) return OkStatus();
  std::lock_guard one_at_a_time(state_->ensuring);
  LayoutLock layout(*state_, *table);
  next = state_->ShapeOf(*table);
  if (!change(next)) return OkStatus();
  RETURN_IF_ERROR(state_->ChangeLayout([&](Connection& writer) -> Status {
    return InTransaction(writer, {}, next, false).Within("table " + name);
  }));
  state_->SetShape(*table, std::move(next));
  return OkStatus();
}

Status TableStore::CheckCompatible(const TableSpec& spec, const std::vector<ColumnInfo>& columns) const {
  RETURN_IF_ERROR(CheckNames(spec.name, columns));
  ASSIGN_OR_RETURN(std::unique_ptr<Connection> connection, state_->database.Connect());
  std::vector<Aggregate> aggregates;
  ASSIGN_OR_RETURN(auto result, BindTable(*connection, spec, columns, &aggregates));
  std::shared_ptr<Table> table = state_->FindTable(spec.name);
  if (!table) return OkStatus();
  auto missing = Missing(state_->ShapeOf(*table), spec, result);
  return missing ? OkStatus() : missing.error();
}

Status TableStore::Ensure(const TableSpec& spec, const std::vector<ColumnInfo>& columns) {
  RETURN_IF_ERROR(CheckNames(spec.name, columns));
  ASSIGN_OR_RETURN(std::unique_ptr<Connection> connection, state_->database.Connect());
  TableShape made;
  made.spec = spec;
  ASSIGN_OR_RETURN(made.columns, BindTable(*connection, spec, columns, &made.aggregates));

  std::lock_guard one_at_a_time(state_->ensuring);
  std::shared_ptr<Table> table = state_->FindTable(spec.name);
  if (!table) {
    made.id = state_->TakePart(), made.base = state_->TakePart();
    auto fresh = std::make_shared<Table>(made);
    RETURN_IF_ERROR(state_->MakeRecent(*fresh, made));
    RETURN_IF_ERROR(state_->ChangeLayout([&](Connection& writer) -> Status {
      return InTransaction(writer, {CreateBaseSql(made, made.base)}, made, true).Within("table " + spec.name);
    }));
    fresh->shape = made;
    fresh->last_delivery_ns = state_->clock.MonotonicNs();
    std::lock_guard lock(state_->mutex);
    state_->tables.emplace(spec.name, std::move(fresh));
    return OkStatus();
  }
  TableShape shape = state_->ShapeOf(*table);
  ASSIGN_OR_RETURN(std::vector<ColumnInfo> missing, Missing(shape, spec, made.columns));
  bool one_partition = StaysInOnePartition(shape.spec, spec);
  if (missing.empty() && shape.spec.delete_when == spec.delete_when &&
      shape.spec.key_in_one_partition == one_partition)
    return OkStatus();
  LayoutLock layout(*state_, *table);
  TableShape next = state_->ShapeOf(*table);
  next.spec.delete_when = spec.delete_when, next.spec.key_in_one_partition = one_partition;
  next.columns.insert(next.columns.end(), missing.begin(), missing.end());
  std::vector<std::string> statements;
  for (const ColumnInfo& column : missing)
    statements.push_back(fmt::format("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}",
                                     BaseName(next, next.base), Quoted(column.name), column.type));
  // The delta first: a column that no view names harms nobody, should the file refuse.
  RETURN_IF_ERROR(table->recent->SetColumns(state_->database, RecentColumns(next)));
  RETURN_IF_ERROR(state_->ChangeLayout([&](Connection& writer) -> Status {
    return InTransaction(writer, statements, next, false).Within("table " + spec.name);
  }));
  state_->SetShape(*table, std::move(next));
  return OkStatus();
}

}  // namespace millstream
