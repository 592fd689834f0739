// Deliveries to append tables: rows go into the table's buffer with the offset behind them; a fold takes both
// into the file.
#include "tables/store_state.h"

namespace millstream {
namespace {

/// True if the buffer can take the rows as they are.
bool HasTypesOf(const TableShape& shape, const RowBatch& rows) {
  for (uint32_t i = 0; i < rows.visible; ++i)
    if (rows.columns[i].type != shape.columns[shape.Find(rows.columns[i].name)].type) return false;
  return true;
}

Result<std::vector<Chunk>> Widen(Database& database, Table& table, const TableShape& shape,
                                 const std::vector<ColumnInfo>& columns, std::span<const Chunk> chunks,
                                 std::vector<ColumnInfo>* widened) {
  std::unique_ptr<Widening>& widening = table.widening;
  if (!widening || widening->columns != columns || widening->table_columns != shape.columns) {
    auto made = std::make_unique<Widening>();
    made->columns = columns, made->table_columns = shape.columns;
    ASSIGN_OR_FAIL(made->connection, database.Connect());
    ASSIGN_OR_FAIL(made->scan, RowScan::Make(database, columns));
    ASSIGN_OR_FAIL(made->statement, made->connection->Prepare(WidenSql(shape, columns, made->scan->Sql())));
    widening = std::move(made);
  }
  widening->scan->Set(chunks);
  Result<Rows> rows = widening->statement->Execute();
  widening->scan->Set({});
  if (!rows) return Fail(rows.error());
  *widened = widening->statement->columns();
  std::vector<Chunk> out;
  while (true) {
    ASSIGN_OR_FAIL(std::optional<Chunk> chunk, rows->Next());
    if (!chunk) return out;
    out.push_back(std::move(*chunk));
  }
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

Status TableStore::State::TakeRows(const Writer& writer, Table& table, const RowBatch& batch) {
  std::lock_guard one(table.intake);
  TableShape shape = ShapeOf(table);
  uint64_t stored = 0;
  {
    std::lock_guard lock(mutex);
    stored = StoredNext(writer, batch.partition);
  }
  if (batch.next_offset <= stored) return OkStatus();
  for (uint32_t i = 0; i < batch.visible; ++i)
    if (shape.Find(batch.columns[i].name) < 0)
      return Conflict("table {}: there is no column {}", table.name, batch.columns[i].name);
  std::vector<Chunk> made;
  std::span<const Chunk> chunks = batch.chunks;
  std::vector<ColumnInfo> columns = batch.columns;
  if (batch.first_offset < stored) {
    made = SelectRows(batch, [&](uint64_t offset) { return offset >= stored; });
    chunks = made;
  }
  if (!HasTypesOf(shape, batch)) {
    auto widened = Widen(database, table, shape, batch.columns, chunks, &columns);
    if (!widened) return widened.error().Within("table " + table.name);
    made = std::move(*widened);
    chunks = made;
  }
  Arrival arrival{writer, batch.partition, 0, 0, false, {batch.next_offset, batch.epoch}};
  for (uint32_t i = 0; i < columns.size(); ++i)
    if (columns[i].name == "_offset") arrival.in_order = AreInOrder(chunks, i);

  std::lock_guard lock(mutex);
  if (table.dropped) return NotFound("table {}: the table was dropped", table.name);
  arrival.first_row = table.recent->end();
  table.recent->Append(columns, chunks, PipelineNumber(writer.pipeline));
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
  Arrival* last = table.arrivals.empty() ? nullptr : &table.arrivals.back();
  if (count == 0 && last != nullptr && last->writer == writer && last->partition == batch.partition &&
      last->end_row == arrival.end_row)
    last->next = arrival.next;
  else
    table.arrivals.push_back(std::move(arrival));
  rows += count;
  ++deliveries, ++commits;
  return OkStatus();
}

}  // namespace millstream
