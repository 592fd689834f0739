#include "tables/commit_loop.h"

#include <chrono>

namespace millstream {
namespace {

bool IsPassing(Code code) {
  return code == Code::kUnavailable || code == Code::kExhausted || code == Code::kDeadline;
}

// What a failed INSERT says to the person whose event it was.
Status InWordsOfTheTable(const Status& status, const std::string& table) {
  constexpr std::string_view kNotNull = "NOT NULL constraint failed: ";
  size_t at = status.message().find(kNotNull);
  if (at == std::string::npos) return status.Within("table " + table);
  std::string column = status.message().substr(at + kNotNull.size());
  if (size_t dot = column.find('.'); dot != std::string::npos) column = column.substr(dot + 1);
  return Invalid("table {}: the key column {} is NULL", table, column);
}

}  // namespace

CommitLoop::CommitLoop(TableStore::State& state, std::unique_ptr<Connection> connection, Target target)
    : state_(state), target_(target), connection_(std::move(connection)) {
  thread_ = std::thread([this] { Loop(); });
}

CommitLoop::~CommitLoop() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

Status CommitLoop::Wait(Job& job) {
  std::unique_lock lock(mutex_);
  uint64_t bytes = job.delivery ? job.delivery->bytes : 0;
  // One delivery larger than the bound passes when nothing else is queued.
  room_.wait(lock, [&] { return stop_ || queued_bytes_ == 0 || queued_bytes_ + bytes <= kMaxQueuedBytes; });
  if (stop_) return Cancelled("the table store stops");
  queued_bytes_ += bytes;
  queue_.push_back(&job);
  wake_.notify_one();
  done_.wait(lock, [&] { return job.done; });
  return job.status;
}

Status CommitLoop::Deliver(const Writer& writer, std::shared_ptr<Table> table, const RowBatch& rows) {
  Job job;
  job.delivery = std::make_unique<Delivery>();
  job.delivery->writer = &writer;
  job.delivery->table = std::move(table);
  job.delivery->rows = &rows;
  job.delivery->bytes = rows.rows() * rows.columns.size() * 16;
  return Wait(job);
}

Status CommitLoop::Run(const Table* table, std::function<Status(Connection&)> task) {
  Job job;
  job.table = table;
  job.task = std::move(task);
  return Wait(job);
}

Status CommitLoop::Flush() {
  Job job;
  return Wait(job);
}

void CommitLoop::TakeOffset(const Writer& writer, const std::string& table, uint32_t partition,
                            StoredOffset offset) {
  std::lock_guard lock(mutex_);
  bool first = pending_.empty();
  PendingOffset& pending = pending_[{writer, partition}];
  if (offset.next >= pending.offset.next) pending = {table, offset};
  if (first) wake_.notify_one();
}

std::map<uint32_t, StoredOffset> CommitLoop::Pending(const Writer& writer) {
  std::lock_guard lock(mutex_);
  std::map<uint32_t, StoredOffset> offsets;
  for (const PendingOffsets* pending : {&committing_, &pending_})
    for (const auto& [key, value] : *pending)
      if (key.first == writer) offsets[key.second] = value.offset;
  return offsets;
}

void CommitLoop::ForgetPending(const Writer& writer) {
  std::lock_guard lock(mutex_);
  std::erase_if(pending_, [&](const auto& entry) { return entry.first.first == writer; });
}

void CommitLoop::Loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    if (queue_.empty() && !stop_) {
      if (pending_.empty()) {
        wake_.wait(lock, [&] { return stop_ || !queue_.empty() || !pending_.empty(); });
        continue;
      }
      wake_.wait_for(lock, std::chrono::milliseconds(kOffsetDelayMs),
                     [&] { return stop_ || !queue_.empty(); });
    }
    std::vector<Job*> group;
    uint64_t rows = 0;
    while (!queue_.empty() && queue_.front()->delivery && rows < kMaxGroupRows) {
      rows += queue_.front()->delivery->rows->rows();
      group.push_back(queue_.front());
      queue_.pop_front();
    }
    if (group.empty() && !queue_.empty()) {
      Job* job = queue_.front();
      queue_.pop_front();
      lock.unlock();
      Status status = RunTask(*job);
      if (job->table != nullptr) inserts_.erase(job->table);
      lock.lock();
      job->status = std::move(status), job->done = true;
      done_.notify_all();
      continue;
    }
    if (group.empty() && pending_.empty()) {
      if (stop_) return;
      continue;
    }
    lock.unlock();
    CommitGroup(std::move(group));
    lock.lock();
    if (stop_ && queue_.empty() && !pending_.empty() && failed_) return;
  }
}

Status CommitLoop::RunTask(Job& job) {
  if (!job.task) {
    CommitGroup({});
    return OkStatus();
  }
  if (target_ == Target::kMemory) return job.task(*connection_);
  std::shared_lock file(state_.file);
  return job.task(*connection_);
}

void CommitLoop::Finish(Job& job, Status status) {
  std::lock_guard lock(mutex_);
  queued_bytes_ -= job.delivery->bytes;
  job.status = std::move(status), job.done = true;
  done_.notify_all(), room_.notify_all();
}

void CommitLoop::CommitGroup(std::vector<Job*> group) {
  {
    std::lock_guard lock(mutex_);
    committing_ = std::move(pending_), pending_.clear();
  }
  int tries = 0;
  Outcome outcome;
  while (!group.empty() || !committing_.empty()) {
    outcome = TryGroup(group, committing_);
    if (outcome.status.ok()) {
      for (Job* job : group) Finish(*job, OkStatus());
      break;
    }
    Code code = outcome.status.code();
    state_.database.NoteDamage(outcome.status);
    if (code == Code::kIo || code == Code::kCorrupt) {
      failed_ = true;
      std::lock_guard lock(state_.mutex);
      state_.fatal = outcome.status;
    }
    if (outcome.index >= 0 && !IsPassing(code) && !failed_) {
      Finish(*group[outcome.index], outcome.status);
      group.erase(group.begin() + outcome.index);
      continue;
    }
    bool alone = group.size() <= 1;
    if (IsPassing(code) && ++tries <= (alone ? kMaxTries : kMaxTries / 4)) {
      ++state_.retries;
      BackOff(tries);
      continue;
    }
    if (!alone && !failed_) {  // together it does not go: who is at fault?
      RestorePending();
      for (Job* job : group) CommitGroup({job});
      return;
    }
    for (Job* job : group) Finish(*job, outcome.status);
    RestorePending();
    BackOff(tries);
    return;
  }
  std::lock_guard lock(mutex_);
  committing_.clear();
}

void CommitLoop::RestorePending() {
  std::lock_guard lock(mutex_);
  for (auto& [key, value] : committing_) pending_.emplace(key, value);
  committing_.clear();
}

void CommitLoop::BackOff(int tries) {
  std::this_thread::sleep_for(std::chrono::milliseconds(std::min(1 << std::min(tries, 9), 500)));
}

void CommitLoop::Rollback() {
  (void)connection_->Run("ROLLBACK");  // "no transaction is active" is as good
  new_writers_.clear();
}

CommitLoop::Outcome CommitLoop::TryGroup(const std::vector<Job*>& group, const PendingOffsets& pending) {
  auto run = [&](std::unique_ptr<Statement>& statement, const char* sql) -> Status {
    if (!statement) {
      ASSIGN_OR_RETURN(statement, connection_->Prepare(sql));
    }
    Result<Rows> rows = statement->Execute();
    return rows ? OkStatus() : rows.error();
  };
  std::shared_lock file(state_.file, std::defer_lock);
  if (target_ == Target::kFile) file.lock();
  Status status = run(begin_, "BEGIN TRANSACTION");
  PendingOffsets offsets = pending;
  std::erase_if(offsets, [&](const auto& entry) {
    return entry.second.offset.next <= StoredNext(entry.first.first, entry.first.second);
  });
  for (size_t i = 0; status.ok() && i < group.size(); ++i) {
    Delivery& delivery = *group[i]->delivery;
    uint64_t stored = StoredNext(*delivery.writer, delivery.rows->partition);
    if (auto found = offsets.find({*delivery.writer, delivery.rows->partition}); found != offsets.end())
      stored = std::max(stored, found->second.offset.next);
    Outcome outcome = InsertRows(delivery, static_cast<int>(i), stored);
    if (!outcome.status.ok()) {
      Rollback();
      return outcome;
    }
    if (delivery.rows->next_offset > stored)
      offsets[{*delivery.writer, delivery.rows->partition}] = {
          delivery.table->name, {delivery.rows->next_offset, delivery.rows->epoch}};
  }
  if (status.ok() && target_ == Target::kFile) status = StoreOffsets(offsets);
  if (status.ok()) status = run(commit_, "COMMIT");
  if (!status.ok()) {
    Rollback();
    return {status};
  }
  Publish(group, offsets);
  return {};
}

uint64_t CommitLoop::StoredNext(const Writer& writer, uint32_t partition) const {
  std::lock_guard lock(state_.mutex);
  auto record = state_.writers.find(writer);
  if (record == state_.writers.end()) return 0;
  auto found = record->second.offsets.find(partition);
  return found == record->second.offsets.end() ? 0 : found->second.next;
}

CommitLoop::Outcome CommitLoop::InsertRows(Delivery& delivery, int index, uint64_t stored) {
  delivery.inserted = 0;
  if (delivery.rows->next_offset <= stored) return {};
  std::vector<Chunk> beyond;  // what is not stored already, if that is not all
  bool overlaps = delivery.rows->first_offset < stored;
  if (overlaps) beyond = SelectRows(*delivery.rows, [&](uint64_t offset) { return offset >= stored; });
  const std::string& name = delivery.table->name;
  Result<Insert*> insert = FindInsert(delivery);
  if (!insert) return {insert.error().Within("table " + name), index};
  (*insert)->scan->Set(overlaps ? beyond : delivery.rows->chunks);
  Statement& statement = *(*insert)->statement;
  Status status;
  if ((*insert)->takes_pipeline)
    status = statement.Bind(1, static_cast<int64_t>(PipelineNumber(delivery.writer->pipeline)));
  if (status.ok()) {
    Result<Rows> rows = statement.Execute();
    if (rows)
      delivery.inserted = rows->changed_rows();
    else
      status = rows.error();
  }
  (*insert)->scan->Set({});
  if (status.ok()) return {};
  if (statement.fault().data_error) return {InWordsOfTheTable(status, name), index};
  // What does not bind is no fault of an event: it must not become a dead letter.
  if (status.code() == Code::kInvalid) status = Conflict("{}", status.message());
  return {status.Within("table " + name), index};
}

Result<CommitLoop::Insert*> CommitLoop::FindInsert(const Delivery& delivery) {
  auto& prepared = inserts_[delivery.table.get()];
  for (auto& insert : prepared)
    if (insert->columns == delivery.rows->columns) return insert.get();
  TableShape shape;
  {
    std::lock_guard lock(state_.mutex);
    if (delivery.table->dropped) return Fail(NotFound("the table was dropped"));
    shape = delivery.table->shape;
  }
  for (uint32_t i = 0; i < delivery.rows->visible && !shape.aggregate(); ++i)
    if (shape.Find(delivery.rows->columns[i].name) < 0)
      return Fail(Conflict("there is no column {}", delivery.rows->columns[i].name));
  auto insert = std::make_unique<Insert>();
  insert->columns = delivery.rows->columns;
  ASSIGN_OR_FAIL(insert->scan, RowScan::Make(state_.database, insert->columns));
  auto statement = connection_->Prepare(InsertSql(shape, insert->columns, insert->scan->Sql()));
  if (!statement) return Fail(Conflict("{}", statement.error().message()));
  insert->statement = std::move(*statement);
  insert->takes_pipeline = !insert->statement->parameters().empty();
  constexpr size_t kMaxVersions = 16;  // of the rows' columns: old ones are those of pipelines' old versions
  if (prepared.size() >= kMaxVersions) prepared.erase(prepared.begin());
  prepared.push_back(std::move(insert));
  return prepared.back().get();
}

Result<int64_t> CommitLoop::WriterId(const Writer& writer, const std::string& table) {
  WriterRecord record;
  {
    std::lock_guard lock(state_.mutex);
    auto found = state_.writers.find(writer);
    if (found != state_.writers.end() && found->second.id != 0) return found->second.id;
    auto made = new_writers_.find(writer);
    if (made != new_writers_.end()) return made->second.id;
    record = {state_.next_writer++, writer, table, {}, {}};
  }
  FAIL_IF_ERROR(StoreWriter(*connection_, record));
  return new_writers_.emplace(writer, record).first->second.id;
}

Status CommitLoop::StoreOffsets(const PendingOffsets& offsets) {
  constexpr size_t kMostAtOnce = 32;
  int64_t seq = 0;
  {
    std::lock_guard lock(state_.mutex);
    seq = ++state_.last_seq;
  }
  for (auto next = offsets.begin(); next != offsets.end();) {
    size_t count = std::min<size_t>(kMostAtOnce, std::distance(next, offsets.end()));
    std::unique_ptr<Statement>& statement = offset_statements_[count];
    if (!statement) {
      std::string sql = "INSERT INTO _millstream.offsets VALUES ";
      for (size_t i = 0; i < count; ++i)
        sql += fmt::format("{}(${}, ${}, ${}, ${}, ${})", i == 0 ? "" : ", ", i * 5 + 1, i * 5 + 2, i * 5 + 3,
                           i * 5 + 4, i * 5 + 5);
      ASSIGN_OR_RETURN(statement, connection_->Prepare(sql));
    }
    for (uint32_t i = 0; i < count; ++i, ++next) {
      ASSIGN_OR_RETURN(int64_t id, WriterId(next->first.first, next->second.table));
      int64_t values[] = {id, next->first.second, static_cast<int64_t>(next->second.offset.next),
                          next->second.offset.epoch, seq};
      for (uint32_t k = 0; k < 5; ++k) RETURN_IF_ERROR(statement->Bind(i * 5 + k + 1, values[k]));
    }
    Result<Rows> rows = statement->Execute();
    if (!rows) return rows.error();
  }
  return OkStatus();
}

void CommitLoop::Publish(const std::vector<Job*>& group, const PendingOffsets& offsets) {
  int64_t now = state_.clock.MonotonicNs();
  bool in_file = target_ == Target::kFile;
  std::lock_guard lock(state_.mutex);
  for (auto& [writer, record] : new_writers_) state_.writers.emplace(writer, std::move(record));
  new_writers_.clear();
  for (const auto& [key, value] : offsets) {
    WriterRecord& record = state_.writers[key.first];
    record.writer = key.first, record.table = value.table;
    record.offsets[key.second] = value.offset;
    if (in_file) record.stored[key.second] = value.offset;
  }
  for (Job* job : group) {
    Table& table = *job->delivery->table;
    (in_file ? table.base_rows : table.delta_rows) += job->delivery->inserted;
    table.last_delivery_ns = now;
    if (!in_file) table.MarkUnsaved(now);
    state_.rows += job->delivery->inserted;
  }
  state_.deliveries += group.size();
  ++state_.commits;
  if (in_file) state_.offset_rows += offsets.size();
}

}  // namespace millstream
