#include "tables/folder.h"

#include <sys/stat.h>

#include <chrono>

#include "base/thread.h"

namespace millstream {

Folder::Folder(TableStore::State& state, std::unique_ptr<Connection> connection)
    : state_(state), connection_(std::move(connection)), checkpointed_ns_(state.clock.MonotonicNs()) {
  thread_ = std::thread([this] { Loop(); });
}

Folder::~Folder() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    if (current_ != nullptr) connection_->Interrupt();
  }
  wake_.notify_all(), done_.notify_all();
  thread_.join();
}

Status Folder::FoldAll(std::stop_token stop) {
  std::unique_lock lock(mutex_);
  uint64_t mine = ++asked_;
  wake_.notify_all();
  while (
      !done_.wait_for(lock, std::chrono::milliseconds(kTickMs), [&] { return stop_ || answered_ >= mine; }))
    if (stop.stop_requested() && current_ != nullptr) connection_->Interrupt();
  return answered_ >= mine ? answer_ : Cancelled("the table store stops");
}

void Folder::MakeRoom(const Table& table) {
  std::lock_guard lock(mutex_);
  if (current_ == &table) connection_->Interrupt();
}

Status Folder::Checkpoint() {
  {
    std::lock_guard lock(mutex_);
    ++checkpoints_waiting_;
  }
  while (!changing_.try_lock()) {
    {
      std::lock_guard lock(mutex_);
      if (current_ != nullptr) connection_->Interrupt();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  std::lock_guard change(changing_, std::adopt_lock);
  {
    std::lock_guard lock(mutex_);
    --checkpoints_waiting_;
  }
  return CheckpointNow();
}

void Folder::Loop() {
  NameThread("fold");
  LetOthersFirst();  // a look-up beside a fold took twice as long without this
  std::unique_lock lock(mutex_);
  while (!stop_) {
    wake_.wait_for(lock, std::chrono::milliseconds(kTickMs), [&] { return stop_ || asked_ > answered_; });
    if (stop_) return;
    uint64_t asked = asked_;
    if (asked > answered_) {
      lock.unlock();
      Status status = FoldEverything();
      lock.lock();
      answered_ = asked, answer_ = std::move(status);
      done_.notify_all();
      continue;
    }
    lock.unlock();
    const bool has_room_to_come = !DropRetired();
    if (std::shared_ptr<Table> due = NextDue(has_room_to_come)) {
      Status status = Fold(*due, false);
      failures_ = status.ok() ? 0 : failures_ + 1;
      if (!status.ok()) not_before_ns_ = state_.clock.MonotonicNs() + RetryNs(status);
    }
    CheckpointIfDue();
    lock.lock();
  }
}

int64_t Folder::RetryNs(const Status& status) const {
  // Without memory soon: queries make room meanwhile (Database::NoteWant).
  constexpr int64_t kSoonTries = 20;
  const bool is_soon = status.code() == Code::kExhausted && failures_ <= kSoonTries;
  return is_soon ? kRetryNs / 10 : std::min<int64_t>(failures_, 30) * kRetryNs;
}

bool Folder::IsDue(const Table& table, int64_t now, bool has_room_to_come) const {
  if (!table.unsaved || table.dropped || table.waiting > 0) return false;
  const uint64_t rows = table.delta_rows;
  const bool is_bulk = state_.folding == Folding::kBulk;
  const uint64_t most = state_.database.memory_bytes() / (is_bulk ? kRecentFractionBulk : kRecentFraction);
  const bool is_full = state_.recent_bytes > most;
  if (rows > 0 && is_full && !has_room_to_come) return true;
  const bool pauses = now - table.last_delivery_ns >= kPauseNs;
  if (!table.shape.keyed()) {
    if (rows >= kAppendRows || (pauses && rows > 0)) return true;
  } else {
    if (is_bulk) return rows >= std::clamp(table.base_rows * kBulkShare, kMinRowsBulk, kMaxRowsBulk);
    if (rows >= std::clamp(table.base_rows / kBaseShare, kMinRows, kMaxRows)) return true;
    if (pauses && rows >= table.base_rows / 500) return true;
  }
  return now - table.unsaved_since_ns >= std::max(kMaxAgeNs, kAgeFolds * table.last_fold_ns);
}

std::shared_ptr<Table> Folder::NextDue(bool has_room_to_come) {
  int64_t now = state_.clock.MonotonicNs();
  if (now < not_before_ns_) return nullptr;
  std::lock_guard lock(state_.mutex);
  std::shared_ptr<Table> best;
  for (const auto& [name, table] : state_.tables) {
    if (!IsDue(*table, now, has_room_to_come)) continue;
    if (!best || table->delta_rows > best->delta_rows) best = table;
  }
  return best;
}

Status Folder::FoldEverything() {
  DropRetired();
  std::vector<std::shared_ptr<Table>> tables;
  {
    std::lock_guard lock(state_.mutex);
    for (const auto& [name, table] : state_.tables) tables.push_back(table);
  }
  for (const auto& table : tables) {
    // Twice: what an undone fold left, then what came since.
    for (int i = 0; i < 2; ++i) RETURN_IF_ERROR(Fold(*table, true));
  }
  return OkStatus();
}

Status Folder::Fold(Table& table, bool everything) {
  std::lock_guard layout(table.layout);
  std::lock_guard change(changing_);
  int64_t begin = state_.clock.MonotonicNs();
  uint64_t rows = 0;
  {
    std::lock_guard lock(state_.mutex);
    if (table.dropped || !table.unsaved) return OkStatus();
    rows = table.delta_rows;
  }
  TableShape shape = state_.ShapeOf(table);
  {
    std::lock_guard lock(mutex_);
    if (stop_) return Cancelled("the table store stops");
    current_ = &table;
  }
  Status status = rows == 0       ? SaveOffsets(table)
                  : shape.keyed() ? RunFold(table, shape)
                                  : SaveRows(table, shape, everything);
  {
    // From here on nobody interrupts: a rollback that is cut off would leave its locks behind.
    std::lock_guard lock(mutex_);
    current_ = nullptr;
  }
  state_.database.NoteDamage(status);
  if (!status.ok()) {
    connection_->Rollback();
    state_.NoteFailure(status);
    state_.database.NoteWant(status);
  }
  (void)connection_->Run(kFoldCleanSql);
  {
    std::lock_guard lock(state_.mutex);
    table.last_fold_ns = state_.clock.MonotonicNs() - begin;
  }
  state_.room.notify_all();
  return status.Within("fold of table " + table.name);
}

void Folder::Retire(Table& table, uint64_t end_row) {
  retired_.push_back({table.shared_from_this(), end_row, state_.clock.MonotonicNs()});
}

namespace {

using Offsets = std::map<uint32_t, StoredOffset>;

/// How far the writers of a table are: `offsets` as readers see it, or `stored` in the file. Under the
/// store's mutex.
std::map<Writer, Offsets> OffsetsOf(const TableStore::State& state, const std::string& table,
                                    Offsets WriterRecord::*which) {
  std::map<Writer, Offsets> offsets;
  for (const auto& [writer, record] : state.writers)
    if (record.table == table) offsets.emplace(writer, record.*which);
  return offsets;
}

}  // namespace

/// Which rows of an append table go into the file, up to where, and how far its writers are there. Full row
/// groups are written once; what is less would be written again by checkpoints. Under the store's mutex.
uint64_t Folder::ChooseRows(Table& table, bool everything) const {
  uint64_t rows = table.delta_rows, end = table.saved_rows + rows;
  if (!everything && rows >= kRowGroupRows) end -= rows % kRowGroupRows;
  table.folding_offsets = OffsetsOf(state_, table.name, &WriterRecord::stored);
  for (const Arrival& arrival : table.arrivals) {
    StoredOffset& offset = table.folding_offsets[arrival.writer][arrival.partition];
    if (arrival.end_row <= end) {
      offset = arrival.next;
      continue;
    }
    // The cut lies between two events of this delivery, or before it.
    while (end > std::max(arrival.first_row, table.saved_rows) &&
           (!arrival.in_order || table.recent->OffsetOf(end - 1) == table.recent->OffsetOf(end)))
      end = arrival.in_order ? end - 1 : std::max(arrival.first_row, table.saved_rows);
    if (end == table.saved_rows) return ChooseRows(table, true);
    if (end > arrival.first_row) offset = {table.recent->OffsetOf(end), arrival.next.epoch};
    break;
  }
  return end;
}

/// Writes rows of an append table into its base, with the offsets, and lets the view begin behind them.
Status Folder::SaveRows(Table& table, const TableShape& shape, bool everything) {
  uint64_t end = 0, first = 0;
  {
    std::lock_guard lock(state_.mutex);
    end = ChooseRows(table, everything), first = table.saved_rows;
  }
  TableShape next = shape;
  next.recent = table.recent->Sql(end);
  RETURN_IF_ERROR(connection_->Run("BEGIN TRANSACTION"));
  ASSIGN_OR_RETURN(uint64_t inserted,
                   RunAll(table, {SaveRowsSql(shape, table.recent->Sql(first, end)), CreateViewSql(next)}));
  CHECK(inserted == end - first);
  std::map<Writer, int64_t> new_ids;
  RETURN_IF_ERROR(StoreOffsets(table, &new_ids));
  RETURN_IF_ERROR(Commit());
  Retire(table, end);
  {
    std::lock_guard lock(state_.mutex);
    table.shape = next;
    table.base_rows += inserted, table.saved_rows = end;
    table.delta_rows -= inserted;
    while (!table.arrivals.empty() && table.arrivals.front().end_row <= end) table.arrivals.pop_front();
    ++state_.folds, state_.folded_rows += inserted;
  }
  PublishOffsets(table, new_ids);
  return OkStatus();
}

/// Offsets that no row belongs to.
Status Folder::SaveOffsets(Table& table) {
  {
    std::lock_guard lock(state_.mutex);
    if (table.delta_rows > 0) return OkStatus();  // they go with a fold
    table.folding_offsets = OffsetsOf(state_, table.name, &WriterRecord::offsets);
    table.arrivals.clear();
  }
  std::map<Writer, int64_t> new_ids;
  RETURN_IF_ERROR(connection_->Run("BEGIN TRANSACTION"));
  RETURN_IF_ERROR(StoreOffsets(table, &new_ids));
  RETURN_IF_ERROR(Commit());
  PublishOffsets(table, new_ids);
  return OkStatus();
}

Status Folder::StoreOffsets(const Table& table, std::map<Writer, int64_t>* new_ids) {
  std::string rows;
  std::vector<WriterRecord> fresh;
  {
    std::lock_guard lock(state_.mutex);
    ++state_.last_seq;
    for (const auto& [writer, offsets] : table.folding_offsets) {
      auto found = state_.writers.find(writer);
      if (found == state_.writers.end()) continue;  // forgotten
      int64_t id = found->second.id;
      if (id == 0) {
        id = (*new_ids)[writer] = state_.next_writer++;
        fresh.push_back({id, writer, table.name, {}, {}});
      }
      for (const auto& [partition, offset] : offsets)
        rows += fmt::format("{}({}, {}, {}, {}, {})", rows.empty() ? "" : ", ", id, partition, offset.next,
                            offset.epoch, state_.last_seq);
    }
  }
  for (const WriterRecord& record : fresh) RETURN_IF_ERROR(StoreWriter(*connection_, record));
  return rows.empty() ? OkStatus() : connection_->Run("INSERT INTO _millstream.offsets VALUES " + rows);
}

void Folder::PublishOffsets(Table& table, const std::map<Writer, int64_t>& new_ids) {
  std::lock_guard lock(state_.mutex);
  for (auto& [writer, offsets] : table.folding_offsets) {
    auto found = state_.writers.find(writer);
    if (found == state_.writers.end()) continue;
    if (auto id = new_ids.find(writer); id != new_ids.end()) found->second.id = id->second;
    state_.offset_rows += offsets.size();
    found->second.stored = std::move(offsets);
  }
  table.folding_offsets.clear();
  table.unsaved = table.delta_rows > 0;
  for (const auto& [writer, record] : state_.writers)
    if (record.table == table.name && record.offsets != record.stored) table.unsaved = true;
  table.unsaved_since_ns = state_.clock.MonotonicNs();
}

/// An interrupted COMMIT may have committed and say that it has not: from here on nobody interrupts.
Status Folder::Commit() {
  {
    std::lock_guard lock(mutex_);
    if (stop_) return Cancelled("the table store stops");
    current_ = nullptr;
  }
  return connection_->Commit();
}

bool Folder::Interrupted(const Table& table) {
  std::lock_guard lock(mutex_);
  return stop_ || checkpoints_waiting_ > 0 || table.waiting > 0;
}

/// Answers how many rows the statements insert.
Result<uint64_t> Folder::RunAll(const Table& table, const std::vector<std::string>& statements) {
  uint64_t inserted = 0;
  for (const std::string& statement : statements) {
    if (Interrupted(table)) return Fail(Cancelled("room was asked for"));
    ASSIGN_OR_FAIL(Rows rows, connection_->Query(statement));
    if (statement.starts_with("INSERT")) inserted += rows.changed_rows();
  }
  return inserted;
}

Result<uint64_t> Folder::CountOf(const std::string& sql) {
  ASSIGN_OR_FAIL(auto rows, TextRows(*connection_, sql));
  return rows.empty() ? 0 : std::strtoull(rows[0][0].c_str(), nullptr, 10);
}

Status Folder::RunFold(Table& table, const TableShape& before) {
  RETURN_IF_ERROR(connection_->Run(kFoldCleanSql));
  RETURN_IF_ERROR(connection_->Run("BEGIN TRANSACTION"));
  uint64_t base_rows = 0, dead_rows = 0, scattered_rows = 0, delta_rows = 0, end = 0, replaced = 0;
  TableShape shape = before, next = before;
  {
    std::lock_guard lock(state_.mutex);
    base_rows = table.base_rows, dead_rows = table.dead_rows, scattered_rows = table.scattered_rows;
    delta_rows = table.delta_rows, end = table.saved_rows + delta_rows;
    shape.recent = table.recent->Sql(table.saved_rows, end), next.recent = table.recent->Sql(end);
    table.folding_offsets = OffsetsOf(state_, table.name, &WriterRecord::offsets);
  }
  // A look-up passes the rows that are not in order; and where most sums change, all are made anew.
  bool rewrite = scattered_rows > std::max(base_rows / 8, kScatteredRows) ||
                 (shape.aggregate() && delta_rows > base_rows / 4);
  if (shape.upsert() || !rewrite) {
    uint64_t ordinals = 0;
    if (shape.upsert()) {
      ASSIGN_OR_RETURN(ordinals, CountOf(HasOrdinalsSql(shape)));
    }
    if (auto prepared = RunAll(table, FoldPrepareSql(shape, ordinals == 0)); !prepared)
      return prepared.error();
    ASSIGN_OR_RETURN(replaced, CountOf("SELECT count(*) FROM temp.replaced"));
  }
  if (shape.upsert() && shape.spec.key_in_one_partition && !shape.keeps_deletes) {
    ASSIGN_OR_RETURN(Rows forgotten, connection_->Query(ForgetDeletesSql(shape)));
    next.forgot_deletes |= forgotten.changed_rows() > 0;
  }
  // Dead rows would be read for ever.
  rewrite |= dead_rows + replaced > base_rows;
  std::vector<std::string> statements;
  if (rewrite) {
    next.base = state_.TakePart();
    uint64_t rows_per_range =
        std::clamp(state_.database.memory_bytes() / kMemoryPerRow, kMinRowsPerRange, kMaxRowsPerRange);
    auto ranges = static_cast<uint32_t>(std::max(base_rows, delta_rows) / rows_per_range + 1);
    statements = FoldRewriteSql(shape, next.base, ranges);
    statements.push_back(fmt::format("DROP TABLE {}", BaseName(shape, shape.base)));
  } else {
    statements = FoldInPlaceSql(shape);
  }
  statements.push_back(CreateViewSql(next));
  ASSIGN_OR_RETURN(uint64_t inserted, RunAll(table, statements));
  RETURN_IF_ERROR(StoreTable(*connection_, next, false));
  std::map<Writer, int64_t> new_ids;
  RETURN_IF_ERROR(StoreOffsets(table, &new_ids));
  {
    std::lock_guard lock(state_.mutex);
    table.next_shape = next;
    ++table.switches;
  }
  if (Status committed = Commit(); !committed.ok()) {
    ++table.switches;
    return committed;
  }
  if (rewrite) rewritten_rows_ += base_rows;
  Retire(table, end);
  {
    std::lock_guard lock(state_.mutex);
    table.shape = next;
    table.base_rows = rewrite ? inserted : base_rows - std::min(base_rows, replaced) + inserted;
    table.dead_rows = rewrite ? 0 : dead_rows + replaced;
    table.scattered_rows = rewrite ? 0 : scattered_rows + std::min(inserted, kRowGroupRows);
    table.saved_rows = end, table.delta_rows -= delta_rows;
    ++state_.folds, state_.folded_rows += delta_rows;
    ++table.switches;
  }
  PublishOffsets(table, new_ids);
  return OkStatus();
}

/// Of each writer's partition only the newest offset counts.
Status Folder::TrimOffsets() {
  constexpr uint64_t kFewRows = 1000;
  {
    std::lock_guard lock(state_.mutex);
    if (state_.offset_rows < kFewRows) return OkStatus();
  }
  RETURN_IF_ERROR(
      connection_->Run("DELETE FROM _millstream.offsets WHERE rowid NOT IN (SELECT arg_max(rowid, seq) FROM "
                       "_millstream.offsets GROUP BY writer, part)"));
  std::lock_guard lock(state_.mutex);
  state_.offset_rows = 0;
  return OkStatus();
}

/// `changing_` is held, so no fold writes.
Status Folder::CheckpointNow() {
  std::unique_lock file(state_.file);
  RETURN_IF_ERROR(TrimOffsets());
  RETURN_IF_ERROR(state_.database.Checkpoint(*connection_));
  rewritten_rows_ = 0;
  checkpointed_ns_ = state_.clock.MonotonicNs();
  {
    std::lock_guard lock(state_.mutex);
    state_.checkpointed.clear();
    for (const auto& [writer, record] : state_.writers)
      if (record.id != 0) state_.checkpointed[writer] = record.stored;
  }
  while (!retired_bases_.empty()) {
    RETURN_IF_ERROR(connection_->Run("DROP TABLE IF EXISTS " + retired_bases_.back()));
    retired_bases_.pop_back();
  }
  return OkStatus();
}

void Folder::CheckpointIfDue() {
  if (state_.wal_path.empty()) return;
  // stat only: to open the file would drop DuckDB's lock on it.
  struct stat wal;
  uint64_t bytes = stat(state_.wal_path.c_str(), &wal) == 0 ? static_cast<uint64_t>(wal.st_size) : 0;
  int64_t now = state_.clock.MonotonicNs(), last = 0;
  {
    std::lock_guard lock(state_.mutex);
    // Deliveries that wait for a fold are no pause.
    for (const auto& [name, table] : state_.tables)
      last = std::max(last, table->unsaved ? now : table->last_delivery_ns);
  }
  int64_t pause = now - last;
  bool due = bytes >= kCheckpointWalBytes || rewritten_rows_ >= kMaxRows ||
             (pause >= 2 * kPauseNs && bytes >= kPauseWalBytes) || (pause >= 3 * kMaxAgeNs && bytes > 0) ||
             (now - checkpointed_ns_ >= kCheckpointAgeNs && bytes > 0);
  if (due && state_.clock.MonotonicNs() >= not_before_ns_) {
    std::lock_guard change(changing_);
    Status status = CheckpointNow();
    state_.database.NoteDamage(status);
    state_.NoteFailure(status);
    if (!status.ok()) not_before_ns_ = state_.clock.MonotonicNs() + kPauseNs;
  }
}

}  // namespace millstream
