// Deliveries: rows go into a table's delta with the offset behind them; a fold takes both into the file.
#include "base/text.h"
#include "tables/store_state.h"

namespace millstream {
namespace {

/// True if the buffer can take the rows as they are.
bool HasTypesOf(const TableShape& shape, const RowBatch& rows) {
  for (uint32_t i = 0; i < rows.visible; ++i)
    if (rows.columns[i].type != shape.columns[shape.Find(rows.columns[i].name)].type) return false;
  return true;
}

/// Rows of an event stand together, and those of earlier events before them.
bool AreInOrder(std::span<const Chunk> chunks, uint32_t offset_column) {
  int64_t before = INT64_MIN;
  for (const Chunk& chunk : chunks) {
    auto* offsets = static_cast<const int64_t*>(chunk.data(offset_column));
    for (uint32_t row = 0, count = chunk.rows(); row < count; ++row) {
      if (offsets[row] < before) return false;
      before = offsets[row];
    }
  }
  return true;
}

Status CheckKeys(const TableShape& shape, const std::vector<ColumnInfo>& columns,
                 std::span<const Chunk> chunks) {
  for (uint32_t i = 0; i < columns.size(); ++i) {
    if (!IsKeyColumn(shape, columns[i].name)) continue;
    for (const Chunk& chunk : chunks)
      for (uint32_t row = 0, count = chunk.AllValid(i) ? 0 : chunk.rows(); row < count; ++row)
        if (chunk.IsNull(i, row))
          return Invalid("table {}: the key column {} is NULL", shape.spec.name, columns[i].name);
  }
  return OkStatus();
}

}  // namespace

uint64_t TableStore::State::StoredNext(const Writer& writer, uint32_t partition) const {
  auto record = writers.find(writer);
  if (record == writers.end()) return 0;
  auto found = record->second.offsets.find(partition);
  return found == record->second.offsets.end() ? 0 : found->second.next;
}

void TableStore::State::NoteFailure(const Status& status) {
  // After its own FATAL error DuckDB answers nothing any more, whatever caused it; else a full disk passes.
  bool is_dead = status.message().find("FATAL Error") != std::string::npos;
  bool is_full = status.message().find("No space left") != std::string::npos;
  if ((status.code() != Code::kIo && status.code() != Code::kCorrupt) || (is_full && !is_dead)) return;
  {
    std::lock_guard lock(mutex);
    if (!fatal.ok()) return;
    fatal = status;
  }
  room.notify_all();
  if (on_fatal) on_fatal(status);
}

Status TableStore::State::MakeRecent(Table& table, TableShape& shape) {
  ASSIGN_OR_RETURN(table.recent, RowBuffer::Make(database, RecentColumns(shape)));
  shape.recent = table.recent->Sql(0);
  return OkStatus();
}

void TableStore::State::CountBytes(Table& table) {
  uint64_t bytes = table.recent->bytes();
  recent_bytes += bytes - table.recent_bytes;  // modulo 2^64
  table.recent_bytes = bytes;
}

Status TableStore::State::ChangeLayout(const std::function<Status(Connection&)>& change) {
  std::lock_guard one(layouts);
  std::shared_lock beside_folds(file);
  return change(*layout_connection);
}

void TableStore::State::SetShape(Table& table, TableShape shape) {
  std::lock_guard no_delivery(table.intake);
  table.delta_statements.clear();
  std::lock_guard lock(mutex);
  table.shape = std::move(shape);
}

Result<DeltaStatement*> TableStore::State::FindDeltaStatement(Table& table, const TableShape& shape,
                                                              const std::vector<ColumnInfo>& columns) {
  for (const auto& each : table.delta_statements)
    if (each->columns == columns) return each.get();
  constexpr size_t kMaxStatements = 16;  // old ones are those of pipelines' old versions
  auto made = std::make_unique<DeltaStatement>();
  made->columns = columns;
  std::vector<std::string_view> texts = {shape.spec.delete_when};
  for (const auto& [name, expression] : shape.spec.values) texts.push_back(expression);
  made->is_of_user = !shape.spec.delete_when.empty() || !shape.spec.values.empty();
  if (made->is_of_user) std::call_once(watchdog_wanted, [&] { watchdog = std::make_unique<Watchdog>(); });
  ASSIGN_OR_FAIL(made->connection, database.ConnectBounded(texts));
  ASSIGN_OR_FAIL(made->scan, RowScan::Make(database, columns));
  ASSIGN_OR_FAIL(made->statement, made->connection->Prepare(DeltaRowsSql(shape, columns, made->scan->Sql())));
  if (table.delta_statements.size() >= kMaxStatements)
    table.delta_statements.erase(table.delta_statements.begin());
  table.delta_statements.push_back(std::move(made));
  return table.delta_statements.back().get();
}

/// Rows as the table's delta has them; kInvalid: an event is at fault.
Result<std::vector<Chunk>> TableStore::State::MakeRows(Table& table, const TableShape& shape,
                                                       const RowBatch& batch, std::span<const Chunk> chunks,
                                                       std::vector<ColumnInfo>* columns, uint32_t pipeline) {
  // What does not bind is no fault of an event: it must not become a dead letter.
  auto not_of_event = [](Status status) {
    return status.code() == Code::kInvalid ? Conflict("{}", status.message()) : status;
  };
  Result<DeltaStatement*> made = FindDeltaStatement(table, shape, batch.columns);
  if (!made) return Fail(not_of_event(made.error()));
  Statement& statement = *(*made)->statement;
  if (!statement.parameters().empty()) FAIL_IF_ERROR(statement.Bind(1, static_cast<int64_t>(pipeline)));
  (*made)->scan->Set(chunks);
  std::optional<Watchdog::Guard> guard;
  if ((*made)->is_of_user)
    guard.emplace(*watchdog, rows_us, [connection = (*made)->connection.get()] { connection->Interrupt(); });
  // Of an expression that needs so much by itself the event is at fault, as in a filter.
  auto said = [&](const Status& status) {
    if (guard && guard->fired())
      return Invalid("`values` or `delete_when` took more than {}", FormatDuration(rows_us));
    return (*made)->connection->NeededTooMuch() ? Invalid("{}", status.message()) : status;
  };
  Result<Rows> result = statement.Stream();
  if (!result)
    return Fail(statement.fault().data_error ? result.error() : said(not_of_event(result.error())));
  *columns = statement.columns();
  std::vector<Chunk> out;
  while (true) {
    auto chunk = result->Next();
    if (!chunk) return Fail(said(chunk.error()));
    if (!*chunk) return out;
    out.push_back(std::move(**chunk));
  }
}

Status TableStore::State::TakeRows(const Writer& writer, Table& table, const RowBatch& batch) {
  std::lock_guard one(table.intake);
  TableShape shape = ShapeOf(table);
  uint64_t stored = 0;
  {
    std::lock_guard lock(mutex);
    stored = StoredNext(writer, batch.partition);
  }
  if (batch.next_offset <= stored) return OkStatus();
  for (uint32_t i = 0; i < batch.visible && !shape.aggregate(); ++i)
    if (shape.Find(batch.columns[i].name) < 0)
      return Conflict("table {}: there is no column {}", table.name, batch.columns[i].name);
  const uint32_t pipeline = PipelineNumber(writer.pipeline);
  std::vector<Chunk> made;
  std::span<const Chunk> chunks = batch.chunks;
  std::vector<ColumnInfo> columns = batch.columns;
  if (batch.first_offset < stored) {
    made = SelectRows(batch, [&](uint64_t offset) { return offset >= stored; });
    chunks = made;
  }
  if (!chunks.empty() && (shape.keyed() || !HasTypesOf(shape, batch))) {
    auto rows_made = MakeRows(table, shape, batch, chunks, &columns, pipeline);
    if (!rows_made) return rows_made.error().Within("table " + table.name);
    made = std::move(*rows_made);
    chunks = made;
  }
  if (shape.upsert()) RETURN_IF_ERROR(CheckKeys(shape, columns, chunks));
  Arrival arrival{writer, batch.partition, 0, 0, false, {batch.next_offset, batch.epoch}};
  for (uint32_t i = 0; i < columns.size() && !shape.keyed(); ++i)
    if (columns[i].name == "_offset") arrival.in_order = AreInOrder(chunks, i);

  std::lock_guard lock(mutex);
  if (table.dropped) return NotFound("table {}: the table was dropped", table.name);
  arrival.first_row = table.recent->end();
  table.recent->Append(columns, chunks, pipeline);
  arrival.end_row = table.recent->end();
  table.delta_rows = arrival.end_row - table.saved_rows;
  CountBytes(table);
  WriterRecord& record = writers[writer];
  record.writer = writer, record.table = table.name;
  record.offsets[batch.partition] = arrival.next;
  int64_t now = clock.MonotonicNs();
  uint64_t count = arrival.end_row - arrival.first_row;
  if (count > 0) table.last_delivery_ns = now;
  table.MarkUnsaved(now);
  rows += count;
  ++deliveries;
  if (shape.keyed()) return OkStatus();  // a fold takes all that came before it
  Arrival* last = table.arrivals.empty() ? nullptr : &table.arrivals.back();
  if (count == 0 && last != nullptr && last->writer == writer && last->partition == batch.partition &&
      last->end_row == arrival.end_row)
    last->next = arrival.next;
  else
    table.arrivals.push_back(std::move(arrival));
  return OkStatus();
}

}  // namespace millstream
