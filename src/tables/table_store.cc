#include "tables/table_store.h"

#include "tables/commit_loop.h"
#include "tables/folder.h"

namespace millstream {
namespace {

Result<uint64_t> CountRows(Connection& connection, const std::string& part) {
  ASSIGN_OR_FAIL(auto rows, TextRows(connection, fmt::format("SELECT count(*) FROM {}", part)));
  return std::strtoull(rows[0][0].c_str(), nullptr, 10);
}

Status FillCounts(Connection& connection, Table& table) {
  const TableShape& shape = table.shape;
  ASSIGN_OR_RETURN(table.base_rows, CountRows(connection, PartName(shape, shape.base)));
  if (!shape.keyed()) return OkStatus();
  // Row ids of deleted rows are gone until their row group is written anew.
  ASSIGN_OR_RETURN(auto last, TextRows(connection, fmt::format("SELECT coalesce(max(rowid) + 1, 0) FROM {}",
                                                               PartName(shape, shape.base))));
  uint64_t places = std::strtoull(last[0][0].c_str(), nullptr, 10);
  table.dead_rows = places - std::min(places, table.base_rows);
  return OkStatus();
}

}  // namespace

TableStore::State::State(Database& db, Clock& clk) : database(db), clock(clk) {}
TableStore::State::~State() = default;

TableStore::TableStore(std::unique_ptr<State> state) : state_(std::move(state)) {}

TableStore::~TableStore() {
  (void)FoldAll();  // what does not get into the file comes again from the log
  {
    std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->room.notify_all();
  state_->folder.reset();  // uses the loops
  state_->memory_loop.reset();
  state_->file_loop.reset();
}

namespace {

/// What was not folded before the last end is gone: each keyed table gets a new delta, and a view over it.
Status MakeDeltas(Connection& connection, TableStore::State& state) {
  std::string sql;
  for (auto& [name, table] : state.tables) {
    if (!table->shape.keyed()) continue;
    table->shape.delta = state.next_part++;
    RETURN_IF_ERROR(connection.Run(CreatePartSql(table->shape, table->shape.delta)));
    sql += CreateViewSql(table->shape) + ";";
  }
  if (sql.empty()) return OkStatus();
  Status status = connection.Run("BEGIN TRANSACTION;" + sql + "COMMIT");
  if (!status.ok()) (void)connection.Run("ROLLBACK");
  return status;
}

}  // namespace

Result<std::unique_ptr<TableStore>> TableStore::Open(Database& database, Clock& clock) {
  auto state = std::make_unique<State>(database, clock);
  ASSIGN_OR_FAIL(std::unique_ptr<Connection> connection, database.Connect());
  FAIL_IF_ERROR(connection->Run(kAttachRecentSql));
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
  ASSIGN_OR_FAIL(std::unique_ptr<Connection> for_memory, database.Connect());
  ASSIGN_OR_FAIL(std::unique_ptr<Connection> for_folds, database.Connect());
  using Target = CommitLoop::Target;
  state->file_loop = std::make_unique<CommitLoop>(*state, std::move(connection), Target::kFile);
  state->memory_loop = std::make_unique<CommitLoop>(*state, std::move(for_memory), Target::kMemory);
  state->folder = std::make_unique<Folder>(*state, std::move(for_folds));
  return std::unique_ptr<TableStore>(new TableStore(std::move(state)));
}

Status TableStore::Deliver(const Writer& writer, const std::string& table_name, const RowBatch& rows) {
  std::shared_ptr<Table> table = state_->FindTable(table_name);
  if (!table) return NotFound("there is no table {}", table_name);
  StoredOffset offset{rows.next_offset, rows.epoch};
  bool is_keyed = false;
  {
    std::unique_lock lock(state_->mutex);
    is_keyed = table->shape.keyed();
    // Folds that cannot keep up slow deliveries down: deltas must not grow without limit.
    state_->room.wait(lock, [&] {
      if (!is_keyed || state_->stopping || !state_->fatal.ok() || table->dropped) return true;
      uint64_t waiting = table->delta_rows + table->folding_rows;
      return waiting == 0 ||
             (waiting <= Folder::kMostUnfolded &&
              state_->memory_used <= state_->database.memory_bytes() / Folder::kMostMemoryFraction);
    });
    if (!state_->fatal.ok()) return state_->fatal;
    if (is_keyed && rows.rows() == 0) {
      WriterRecord& record = state_->writers[writer];
      record.writer = writer, record.table = table_name;
      StoredOffset& seen = record.offsets[rows.partition];
      if (offset.next > seen.next) seen = offset, table->MarkUnsaved(state_->clock.MonotonicNs());
      return OkStatus();
    }
  }
  if (rows.rows() > 0)
    return (is_keyed ? state_->memory_loop : state_->file_loop)->Deliver(writer, std::move(table), rows);
  state_->file_loop->TakeOffset(writer, table_name, rows.partition, offset);
  return OkStatus();
}

std::map<uint32_t, StoredOffset> TableStore::Offsets(const Writer& writer) const {
  // First what waits: what is committed in between is then found in one of the two.
  std::map<uint32_t, StoredOffset> offsets = state_->file_loop->Pending(writer);
  std::lock_guard lock(state_->mutex);
  auto found = state_->writers.find(writer);
  if (found == state_->writers.end()) return offsets;
  for (const auto& [partition, offset] : found->second.offsets)
    if (offset.next >= offsets[partition].next) offsets[partition] = offset;
  return offsets;
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
  if (table && table->shape.keyed()) (void)FoldAll();
  std::optional<LayoutLock> layout;
  if (table) layout.emplace(*state_, *table);
  (void)state_->file_loop->Run(nullptr, [&](Connection& connection) -> Status {
    state_->file_loop->ForgetPending(writer);
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
  info.delta_rows = table.delta_rows + table.folding_rows;
  info.rows = table.base_rows + info.delta_rows;
  std::set<std::string> pipelines;
  for (const auto& [writer, record] : state_->writers)
    if (record.table == name) pipelines.insert(writer.pipeline);
  info.writers.assign(pipelines.begin(), pipelines.end());
  return info;
}

Status TableStore::Drop(const std::string& name) {
  std::shared_ptr<Table> table = state_->FindTable(name);
  if (!table) return NotFound("there is no table {}", name);
  LayoutLock layout(*state_, *table);
  TableShape shape = state_->ShapeOf(*table);
  auto mark = [&](bool dropped) {
    return state_->memory_loop->Run(table.get(), [&, dropped](Connection&) -> Status {
      std::lock_guard lock(state_->mutex);
      if (dropped && table->dropped) return NotFound("there is no table {}", name);
      table->dropped = dropped;
      return OkStatus();
    });
  };
  RETURN_IF_ERROR(mark(true));  // between two groups: none that runs delivers to it
  Status status = state_->file_loop->Run(table.get(), [&](Connection& connection) -> Status {
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
    if (removed.ok()) removed = connection.Run("COMMIT");
    if (!removed.ok()) {
      (void)connection.Run("ROLLBACK");
      return removed;
    }
    std::lock_guard lock(state_->mutex);
    state_->tables.erase(name);
    for (const WriterRecord& record : gone) {
      state_->file_loop->ForgetPending(record.writer);
      state_->writers.erase(record.writer), state_->checkpointed.erase(record.writer);
    }
    return OkStatus();
  });
  if (!status.ok()) {
    (void)mark(false);
    return status;
  }
  return state_->memory_loop->Run(table.get(), [&](Connection& connection) -> Status {
    for (int64_t part : {shape.delta, shape.folding})
      if (part != 0) RETURN_IF_ERROR(connection.Run("DROP TABLE " + PartName(shape, part)));
    return OkStatus();
  });
}

namespace {

/// The hash is a constant of the look-up's statement, so that DuckDB reads only the row groups that may have
/// it: hence a statement before. It is the same for every look-up of a table and kept prepared.
Result<uint64_t> HashOfKey(TableStore::State& state, Table& table, const TableShape& shape,
                           const std::vector<SqlValue>& values) {
  constexpr size_t kMostIdle = 16;
  std::unique_ptr<KeyHasher> hasher;
  {
    std::lock_guard lock(state.mutex);
    if (!table.hashers.empty()) hasher = std::move(table.hashers.back()), table.hashers.pop_back();
  }
  if (!hasher) {
    hasher = std::make_unique<KeyHasher>();
    ASSIGN_OR_FAIL(hasher->connection, state.database.Connect());
    ASSIGN_OR_FAIL(hasher->statement, hasher->connection->Prepare(KeyHashSql(shape)));
  }
  for (size_t i = 0; i < values.size(); ++i)
    FAIL_IF_ERROR(hasher->statement->Bind(static_cast<uint32_t>(i + 1), values[i]));
  ASSIGN_OR_FAIL(Rows rows, hasher->statement->Execute());
  ASSIGN_OR_FAIL(std::optional<Chunk> chunk, rows.Next());
  auto hash = static_cast<uint64_t>(chunk->Int64(0, 0));
  std::lock_guard lock(state.mutex);
  if (table.hashers.size() < kMostIdle) table.hashers.push_back(std::move(hasher));
  return hash;
}

}  // namespace

Result<Rows> TableStore::Lookup(Connection& connection, const std::string& table_name,
                                const std::vector<SqlValue>& values) {
  constexpr int kTries = 20;  // a fold may drop the part that the statement was made for
  for (int i = 0;; ++i) {
    std::shared_ptr<Table> table = state_->FindTable(table_name);
    if (!table) return Fail(NotFound("there is no table {}", table_name));
    TableShape shape = state_->ShapeOf(*table);
    if (!shape.keyed()) return Fail(Invalid("table {} has no key to look up by", table_name));
    if (values.size() != shape.spec.key.size())
      return Fail(Invalid("table {} has a key of {} columns; {} values were given", table_name,
                          shape.spec.key.size(), values.size()));
    ASSIGN_OR_FAIL(uint64_t hash, HashOfKey(*state_, *table, shape, values));
    Result<Rows> rows = connection.Query(LookupSql(shape, hash), values);
    if (rows || connection.fault().kind != "Catalog Error" || i >= kTries) return rows;
  }
}

Status TableStore::FoldAll() { return state_->folder->FoldAll(); }

Status TableStore::Checkpoint() { return state_->folder->Checkpoint(); }

TableStore::Counters TableStore::counters() const {
  return {state_->commits, state_->deliveries,  state_->rows,
          state_->folds,   state_->folded_rows, state_->retries};
}

}  // namespace millstream
