#include "tables/table_store.h"

#include <thread>

#include "tables/folder.h"

namespace millstream {
namespace {

Result<uint64_t> CountRows(Connection& connection, const std::string& part) {
  ASSIGN_OR_FAIL(auto rows, TextRows(connection, fmt::format("SELECT count(*) FROM {}", part)));
  return std::strtoull(rows[0][0].c_str(), nullptr, 10);
}

Status FillCounts(Connection& connection, Table& table) {
  const TableShape& shape = table.shape;
  ASSIGN_OR_RETURN(table.base_rows, CountRows(connection, BaseName(shape, shape.base)));
  if (!shape.keyed()) return OkStatus();
  // Row ids of deleted rows are gone until their row group is written anew.
  ASSIGN_OR_RETURN(auto last, TextRows(connection, fmt::format("SELECT coalesce(max(rowid) + 1, 0) FROM {}",
                                                               BaseName(shape, shape.base))));
  uint64_t places = std::strtoull(last[0][0].c_str(), nullptr, 10);
  table.dead_rows = places - std::min(places, table.base_rows);
  return OkStatus();
}

}  // namespace

TableStore::State::State(Database& db, Clock& clk, Folding how) : database(db), clock(clk), folding(how) {}
TableStore::State::~State() = default;

TableStore::TableStore(std::unique_ptr<State> state) : state_(std::move(state)) {}

TableStore::~TableStore() {
  // What does not get into the file comes again from the log.
  if (state_->folding == Folding::kSteady) (void)FoldAll();
  {
    std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->room.notify_all();
  state_->folder.reset();
}

namespace {

/// What was not folded before the last end is gone: each table gets an empty delta, and a view over it.
Status MakeDeltas(Connection& connection, TableStore::State& state) {
  std::string sql;
  for (auto& [name, table] : state.tables) {
    RETURN_IF_ERROR(state.MakeRecent(*table, table->shape));
    sql += CreateViewSql(table->shape) + ";";
  }
  if (sql.empty()) return OkStatus();
  Status status = connection.Run("BEGIN TRANSACTION;" + sql + "COMMIT");
  if (!status.ok()) connection.Rollback();
  return status;
}

}  // namespace

Result<std::unique_ptr<TableStore>> TableStore::Open(Database& database, Clock& clock,
                                                     std::function<void(Status)> on_fatal, Folding folding) {
  auto state = std::make_unique<State>(database, clock, folding);
  state->on_fatal = std::move(on_fatal);
  ASSIGN_OR_FAIL(std::unique_ptr<Connection> connection, database.Connect());
  ASSIGN_OR_FAIL(RegistryContent content, OpenRegistry(*connection));
  if (content.hash_changed) FAIL_IF_ERROR(RenewHashes(*connection, content.tables));
  ASSIGN_OR_FAIL(auto path,
                 TextRows(*connection,
                          "SELECT coalesce(path, '') FROM duckdb_databases() WHERE database_name = "
                          "current_database()"));
  if (!path.empty() && !path[0][0].empty()) state->wal_path = path[0][0] + ".wal";
  state->next_part = content.next_part;
  for (TableShape& shape : content.tables) {
    std::string name = shape.spec.name;
    auto table = std::make_shared<Table>(std::move(shape));
    FAIL_IF_ERROR(FillCounts(*connection, *table).Within("table " + name));
    table->last_delivery_ns = clock.MonotonicNs();
    state->tables.emplace(std::move(name), std::move(table));
  }
  for (WriterRecord& record : content.writers) {
    state->next_writer = std::max(state->next_writer, record.id + 1);
    state->checkpointed[record.writer] = record.offsets;
    state->writers.emplace(record.writer, std::move(record));
  }
  state->last_seq = content.last_seq, state->offset_rows = content.offset_rows;
  // What was replayed after a crash goes into the file now: what is told of it afterwards holds.
  FAIL_IF_ERROR(database.Checkpoint(*connection));
  FAIL_IF_ERROR(MakeDeltas(*connection, *state));
  ASSIGN_OR_FAIL(std::unique_ptr<Connection> for_folds, database.Connect());
  state->layout_connection = std::move(connection);
  state->folder = std::make_unique<Folder>(*state, std::move(for_folds));
  return std::unique_ptr<TableStore>(new TableStore(std::move(state)));
}

Status TableStore::Deliver(const Writer& writer, const std::string& table_name, const RowBatch& rows) {
  std::shared_ptr<Table> table = state_->FindTable(table_name);
  if (!table) return NotFound("there is no table {}", table_name);
  {
    std::unique_lock lock(state_->mutex);
    // Folds that cannot keep up slow deliveries down: deltas must not grow without limit.
    const bool is_bulk = state_->folding == Folding::kBulk;
    const uint64_t rows_max = is_bulk ? Folder::kMostUnfoldedBulk : Folder::kMostUnfolded;
    const uint64_t bytes_max = state_->database.memory_bytes() /
                               (is_bulk ? Folder::kMostRecentFractionBulk : Folder::kMostRecentFraction);
    // A loop that waits must be able to end: it tries again.
    bool is_there = state_->room.wait_for(lock, std::chrono::seconds(1), [&] {
      if (state_->stopping || !state_->fatal.ok() || table->dropped) return true;
      uint64_t waiting = table->delta_rows;
      return waiting == 0 || (waiting <= rows_max && state_->recent_bytes <= bytes_max);
    });
    if (!state_->fatal.ok()) return state_->fatal;
    if (!is_there) return Unavailable("table {}: what came before is still being written", table_name);
  }
  return state_->TakeRows(writer, *table, rows);
}

void TableStore::LimitRows(int64_t us) { state_->rows_us = us; }

std::map<uint32_t, StoredOffset> TableStore::Offsets(const Writer& writer) const {
  std::lock_guard lock(state_->mutex);
  auto found = state_->writers.find(writer);
  return found == state_->writers.end() ? std::map<uint32_t, StoredOffset>() : found->second.offsets;
}

std::map<uint32_t, StoredOffset> TableStore::CheckpointedOffsets(const Writer& writer) const {
  std::lock_guard lock(state_->mutex);
  auto found = state_->checkpointed.find(writer);
  return found == state_->checkpointed.end() ? std::map<uint32_t, StoredOffset>() : found->second;
}

void TableStore::ForgetWriter(const Writer& writer) {
  std::shared_ptr<Table> table;
  {
    std::lock_guard lock(state_->mutex);
    auto found = state_->writers.find(writer);
    auto named =
        found == state_->writers.end() ? state_->tables.end() : state_->tables.find(found->second.table);
    if (named != state_->tables.end()) table = named->second;
  }
  // Nobody would deliver its rows again.
  if (table) (void)FoldAll();
  std::optional<LayoutLock> layout;
  if (table) layout.emplace(*state_, *table);
  (void)state_->ChangeLayout([&](Connection& connection) -> Status {
    int64_t id = 0;
    {
      std::lock_guard lock(state_->mutex);
      auto found = state_->writers.find(writer);
      if (found == state_->writers.end()) return OkStatus();
      id = found->second.id;
    }
    if (id != 0) RETURN_IF_ERROR(RemoveWriter(connection, id));
    std::lock_guard lock(state_->mutex);
    state_->writers.erase(writer), state_->checkpointed.erase(writer);
    return OkStatus();
  });
}

std::vector<TableInfo> TableStore::List() const {
  std::vector<std::string> names;
  {
    std::lock_guard lock(state_->mutex);
    for (const auto& [name, table] : state_->tables) names.push_back(name);
  }
  std::vector<TableInfo> infos;
  std::erase_if(names, [](const std::string& name) { return name.find('@') != std::string::npos; });
  for (const std::string& name : names)
    if (std::optional<TableInfo> info = Find(name)) infos.push_back(std::move(*info));
  return infos;
}

std::optional<TableInfo> TableStore::Find(const std::string& name) const {
  std::lock_guard lock(state_->mutex);
  auto found = state_->tables.find(name);
  if (found == state_->tables.end()) return std::nullopt;
  const Table& table = *found->second;
  TableInfo info{table.shape.spec, table.shape.columns, 0, {}, 0};
  if (!table.shape.aggregate())
    info.columns.insert(info.columns.end(), {{"_partition", "INTEGER"}, {"_offset", "BIGINT"}});
  info.delta_rows = table.delta_rows;
  info.rows = table.base_rows + info.delta_rows;
  std::set<std::string> pipelines;
  for (const auto& [writer, record] : state_->writers)
    if (record.table == name) pipelines.insert(writer.pipeline);
  info.writers.assign(pipelines.begin(), pipelines.end());
  return info;
}

std::vector<Writer> TableStore::WritersOf(const std::string& table) const {
  std::lock_guard lock(state_->mutex);
  std::vector<Writer> writers;
  for (const auto& [writer, record] : state_->writers)
    if (record.table == table) writers.push_back(writer);
  return writers;
}

Status TableStore::Drop(const std::string& name) {
  std::shared_ptr<Table> table = state_->FindTable(name);
  if (!table) return NotFound("there is no table {}", name);
  LayoutLock layout(*state_, *table);
  TableShape shape = state_->ShapeOf(*table);
  auto mark = [&](bool dropped) -> Status {
    std::lock_guard lock(state_->mutex);
    if (dropped && table->dropped) return NotFound("there is no table {}", name);
    table->dropped = dropped;
    return OkStatus();
  };
  RETURN_IF_ERROR(mark(true));  // nothing is delivered to it from here on
  Status status = state_->ChangeLayout([&](Connection& connection) -> Status {
    std::vector<WriterRecord> gone;
    {
      std::lock_guard lock(state_->mutex);
      for (const auto& [writer, record] : state_->writers)
        if (record.table == name) gone.push_back(record);
    }
    RETURN_IF_ERROR(connection.Run("BEGIN TRANSACTION"));
    Status removed = RemoveTable(connection, shape);
    for (const WriterRecord& record : gone)
      if (removed.ok() && record.id != 0) removed = RemoveWriter(connection, record.id);
    if (removed.ok()) removed = connection.Commit();
    if (!removed.ok()) {
      connection.Rollback();
      return removed;
    }
    std::lock_guard lock(state_->mutex);
    state_->tables.erase(name);
    for (const WriterRecord& record : gone)
      state_->writers.erase(record.writer), state_->checkpointed.erase(record.writer);
    return OkStatus();
  });
  if (!status.ok()) {
    (void)mark(false);
    return status;
  }
  state_->folder->Retire("", table);
  return OkStatus();
}

Result<TableStore::KeyRows> TableStore::RowOfKey(const std::string& table_name,
                                                 const std::vector<std::string>& key) const {
  std::shared_ptr<Table> table = state_->FindTable(table_name);
  if (!table) return Fail(NotFound("there is no table {}", table_name));
  KeyRows row{"", table->switches};
  TableShape shape = state_->ShapeOf(*table);
  if (!shape.keyed()) return Fail(Invalid("table {} has no key to look up by", table_name));
  if (key.size() != shape.spec.key.size())
    return Fail(Invalid("table {} has a key of {} columns; {} values were given", table_name,
                        shape.spec.key.size(), key.size()));
  row.sql = LookupSql(shape, key);
  return row;
}

bool TableStore::IsStale(const std::string& name, uint64_t switches, const SqlFault& fault) const {
  if (fault.kind == "Catalog Error" || fault.message.find(RowBuffer::kGone) != std::string::npos) return true;
  std::shared_ptr<Table> table = state_->FindTable(name);
  // The newest row of an upsert table is the same with the fold and without it; a sum would count twice.
  if (!table || !state_->ShapeOf(*table).aggregate()) return !table;
  return switches % 2 != 0 || table->switches != switches;
}

Result<Rows> TableStore::Lookup(Connection& connection, const std::string& name,
                                const std::vector<std::string>& key) const {
  for (int tries = 0; tries < kStaleTries; ++tries) {
    ASSIGN_OR_FAIL(KeyRows row, RowOfKey(name, key));
    if (row.switches % 2 == 0) {
      Result<Rows> rows = connection.Query(row.sql);
      if (!IsStale(name, row.switches, rows ? SqlFault() : connection.fault())) return rows;
    } else if (Result<Rows> rows = LookupInSwitch(connection, name, key)) {
      return rows;
    }
    std::this_thread::sleep_for(kStalePause);
  }
  return Fail(Unavailable("table {}: a fold is being stored; ask again", name));
}

/// One transaction tells which of the two shapes its snapshot has, and then the row.
Result<Rows> TableStore::LookupInSwitch(Connection& connection, const std::string& name,
                                        const std::vector<std::string>& key) const {
  std::shared_ptr<Table> table = state_->FindTable(name);
  if (!table) return Fail(NotFound("there is no table {}", name));
  TableShape shape, next;
  {
    std::lock_guard lock(state_->mutex);
    shape = table->shape, next = table->next_shape.value_or(shape);
  }
  FAIL_IF_ERROR(connection.Run("BEGIN TRANSACTION"));
  auto view = TextRows(connection,
                       "SELECT sql FROM duckdb_views() WHERE database_name = current_database() AND "
                       "schema_name = 'main' AND view_name = $1",
                       {name});
  const std::string seen = view && !view->empty() ? (*view)[0][0] : "";
  auto has = [&](const TableShape& each) { return seen.find(each.recent) != std::string::npos; };
  const TableShape* fits = has(next) ? &next : has(shape) ? &shape : nullptr;
  Result<Rows> rows = fits != nullptr
                          ? connection.Query(millstream::LookupSql(*fits, key))
                          : Result<Rows>(Fail(Unavailable("table {}: it was folded again", name)));
  (void)connection.Run("COMMIT");
  return rows;
}

std::optional<TableStore::KeyRows> TableStore::RowsOfKeys(const std::string& name, const KeySet& keys,
                                                          const std::string& hashes) const {
  constexpr uint64_t kLargeRows = 250'000;
  std::shared_ptr<Table> table = state_->FindTable(name);
  if (!table) return std::nullopt;
  KeyRows rows{"", table->switches};
  TableShape shape;
  bool is_large = false;
  {
    std::lock_guard lock(state_->mutex);
    shape = table->shape;
    is_large = table->base_rows > kLargeRows;
  }
  if (!shape.keyed() || rows.switches % 2 != 0) return std::nullopt;
  rows.sql = RowsOfHashesSql(shape, keys.Among(shape.recent),
                             is_large ? fmt::format("_hash IN ({})", hashes) : keys.Sql("_hash"));
  return rows;
}

bool TableStore::IsSwitched(const std::string& name, uint64_t switches) const {
  std::shared_ptr<Table> table = state_->FindTable(name);
  return !table || table->switches != switches;
}

Status TableStore::FoldAll(std::stop_token stop) { return state_->folder->FoldAll(std::move(stop)); }

Status TableStore::Checkpoint() { return state_->folder->Checkpoint(); }

TableStore::Counters TableStore::counters() const {
  return {state_->deliveries, state_->rows, state_->folds, state_->folded_rows};
}

}  // namespace millstream
