#include "tables/commit_loop.h"

#include <chrono>

#include "base/thread.h"

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
  thread_ = std::thread([this] {
    NameThread("commit");
    Loop();
  });
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

void CommitLoop::Loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return stop_ || !queue_.empty(); });
    if (queue_.empty()) return;
    if (!queue_.front()->delivery) {
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
    std::vector<Job*> group;
    uint64_t rows = 0;
    while (!queue_.empty() && queue_.front()->delivery && rows < kMaxGroupRows) {
      rows += queue_.front()->delivery->rows->rows();
      group.push_back(queue_.front());
      queue_.pop_front();
    }
    lock.unlock();
    CommitGroup(std::move(group));
    lock.lock();
  }
}

Status CommitLoop::RunTask(Job& job) {
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
  int tries = 0;
  while (!group.empty()) {
    Outcome outcome = TryGroup(group);
    if (outcome.status.ok()) {
      for (Job* job : group) Finish(*job, OkStatus());
      return;
    }
    Code code = outcome.status.code();
    state_.database.NoteDamage(outcome.status);
    if (code == Code::kIo || code == Code::kCorrupt) {
      failed_ = true;
      state_.NoteFailure(outcome.status);
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
      for (Job* job : group) CommitGroup({job});
      return;
    }
    for (Job* job : group) Finish(*job, outcome.status);
    BackOff(tries);
    return;
  }
}

void CommitLoop::BackOff(int tries) {
  std::this_thread::sleep_for(std::chrono::milliseconds(std::min(1 << std::min(tries, 9), 500)));
}

CommitLoop::Outcome CommitLoop::TryGroup(const std::vector<Job*>& group) {
  auto run = [&](std::unique_ptr<Statement>& statement, const char* sql) -> Status {
    if (!statement) {
      ASSIGN_OR_RETURN(statement, connection_->Prepare(sql));
    }
    Result<Rows> rows = statement->Execute();
    return rows ? OkStatus() : rows.error();
  };
  auto roll_back = [&](Outcome outcome) {
    (void)connection_->Run("ROLLBACK");  // "no transaction is active" is as good
    return outcome;
  };
  if (Status begun = run(begin_, "BEGIN TRANSACTION"); !begun.ok()) return roll_back({begun});
  Offsets offsets;
  for (size_t i = 0; i < group.size(); ++i) {
    Delivery& delivery = *group[i]->delivery;
    std::pair<Writer, uint32_t> key{*delivery.writer, delivery.rows->partition};
    uint64_t stored = 0;
    if (auto found = offsets.find(key); found != offsets.end()) {
      stored = found->second.next;
    } else {
      std::lock_guard lock(state_.mutex);
      stored = state_.StoredNext(key.first, key.second);
    }
    Outcome outcome = InsertRows(delivery, static_cast<int>(i), stored);
    if (!outcome.status.ok()) return roll_back(outcome);
    if (delivery.rows->next_offset > stored)
      offsets[key] = {delivery.rows->next_offset, delivery.rows->epoch};
  }
  if (Status committed = run(commit_, "COMMIT"); !committed.ok()) return roll_back({committed});
  Publish(group, offsets);
  return {};
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

void CommitLoop::Publish(const std::vector<Job*>& group, const Offsets& offsets) {
  int64_t now = state_.clock.MonotonicNs();
  std::lock_guard lock(state_.mutex);
  for (Job* job : group) {
    const Delivery& delivery = *job->delivery;
    Table& table = *delivery.table;
    table.delta_rows += delivery.inserted;
    table.last_delivery_ns = now;
    table.MarkUnsaved(now);
    state_.rows += delivery.inserted;
    auto offset = offsets.find({*delivery.writer, delivery.rows->partition});
    if (offset == offsets.end()) continue;
    WriterRecord& record = state_.writers[*delivery.writer];
    record.writer = *delivery.writer, record.table = table.name;
    record.offsets[delivery.rows->partition] = offset->second;
  }
  state_.deliveries += group.size();
  ++state_.commits;
}

}  // namespace millstream
