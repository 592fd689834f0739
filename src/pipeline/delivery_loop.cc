#include "pipeline/delivery_loop.h"

#include "pipeline/gatherer.h"

namespace millstream {
namespace {

constexpr int64_t kIdleWaitUs = 200'000;        // how long a loop sleeps at most before it looks around
constexpr int64_t kRunDeadlineUs = 30'000'000;  // of one run of the filters
constexpr uint32_t kDeadlineAttempts =
    3;  // an event alone that hits its deadline so often is a dead letter `resource`

}  // namespace

DeliveryLoop::DeliveryLoop(LoopContext context)
    : context_(std::move(context)),
      letter_origin_(
          fmt::format("dead/{}.{}/{}", context_.pipeline, context_.generation, context_.sink->id())) {
  next_ = context_.start;
  shown_.state = "starting";
  shown_.next = next_;
  size_t filters = context_.versions.back()->config.filters.size();
  shown_.filter_out.resize(filters);
  shown_.filter_dead.resize(filters);
}

DeliveryLoop::Snapshot DeliveryLoop::snapshot() const {
  std::lock_guard lock(mutex_);
  return shown_;
}

void DeliveryLoop::SetState(const std::string& state, const std::string& reason) {
  std::lock_guard lock(mutex_);
  shown_.state = state;
  shown_.reason = reason;
  context_.sink->TellState(context_.partition_index, state, reason);
}

void DeliveryLoop::Reset() {
  failed_ = false;
  reader_.reset();
  held_.clear();
  held_row_ = 0;
  runner_.reset();
  version_.reset();
}

void DeliveryLoop::Run(std::stop_token stop) {
  Backoff backoff;
  while (!stop.stop_requested()) {
    if (!is_open() && !OpenSink(stop)) {
      if (failed_) return;
      continue;
    }
    if (paused_) {
      SetState("paused", "");
      Wait(kIdleWaitUs, stop);
      continue;
    }
    Piece piece;
    Status status = Gather(piece);
    if (status.ok() && piece.events == 0) {
      SetState("live", "");
      {
        std::lock_guard lock(mutex_);
        shown_.oldest_undelivered_us = 0;
      }
      context_.partition->WaitBeyond(next_, kIdleWaitUs, stop);
      continue;
    }
    if (status.ok()) {
      if (backoff.failures() == 0)
        SetState(context_.partition->bounds().durable_end > piece.next + context_.batch_events ? "catching_up"
                                                                                               : "live",
                 "");
      status = Work(piece, stop);
    }
    if (status.ok()) {
      backoff.Reset();
      continue;
    }
    if (stop.stop_requested() || status.code() == Code::kCancelled) return;
    if (!IsRetried(status.code())) return End(status);
    reader_.reset();
    held_.clear();
    held_row_ = 0;
    int64_t wait_us = backoff.NextUs(*context_.random);
    ShowRetry(status, backoff.failures(), wait_us);
    Wait(wait_us, stop);
  }
}

/// One attempt, or the wait for the next one.
bool DeliveryLoop::OpenSink(std::stop_token stop) {
  SharedSink::Opening opening = context_.sink->EnsureOpen();
  Status status = opening.status.ok() ? TakeStored() : opening.status;
  if (status.ok()) return true;
  if (stop.stop_requested()) return false;
  if (!opening.status.ok() && IsRetriedAtOpen(status.code())) {
    ShowRetry(status, opening.attempts, opening.wait_us);
    Wait(opening.wait_us, stop);
  } else {
    End(Status(status.code(), fmt::format("{}; once that is put right: millstream pipeline resume {}",
                                          status.message(), context_.pipeline)));
  }
  return false;
}

Status DeliveryLoop::TakeStored() {
  auto stored = context_.sink->stored().find(context_.partition_index);
  if (stored != context_.sink->stored().end()) {
    uint64_t durable_end = context_.partition->bounds().durable_end;
    if (stored->second > durable_end)
      return IoError(
          "it has delivered {}/{} up to offset {}, but the log ends at {}: events that it delivered are gone",
          context_.stream, context_.partition_index, stored->second, durable_end);
    next_ = stored->second;
  }
  {
    std::lock_guard lock(mutex_);
    shown_.next = next_;
  }
  is_open_.store(true, std::memory_order_release);
  if (context_.progress != nullptr) context_.progress->Notify();
  return OkStatus();
}

/// Nothing goes on until someone resumes the pipeline.
void DeliveryLoop::End(const Status& status) {
  failed_ = true;
  SetState("failed", status.message());
  if (status.code() == Code::kIo && context_.on_fatal) context_.on_fatal(status);
}

void DeliveryLoop::Wait(int64_t wait_us, std::stop_token stop) {
  int64_t until_ns = context_.clock->MonotonicNs() + wait_us * 1000;
  while (!stop.stop_requested() && context_.clock->MonotonicNs() < until_ns)
    context_.partition->WaitBeyond(UINT64_MAX, std::min(wait_us, kIdleWaitUs), stop);
}

void DeliveryLoop::ShowRetry(const Status& status, uint32_t failures, int64_t wait_us) {
  SetState("degraded", fmt::format("{}, try {} in {:.1f} s", status.message(), failures + 1,
                                   static_cast<double>(wait_us) / 1e6));
  std::lock_guard lock(mutex_);
  ++shown_.retries;
}

Status DeliveryLoop::Gather(Piece& piece) {
  if (!reader_) {
    ASSIGN_OR_RETURN(reader_, context_.partition->Read(next_));
  }
  // The batch that the last piece ended in may have more.
  std::unique_ptr<EventBatch> rest;
  if (!held_.empty() && held_row_ < held_.back()->count()) rest = std::move(held_.back());
  held_.clear();
  uint64_t bytes = 0;
  piece.first = piece.next = next_;
  while (piece.events < context_.batch_events && bytes < context_.batch_bytes) {
    uint32_t begin = 0;
    std::unique_ptr<EventBatch> batch;
    if (rest) {
      batch = std::move(rest);
      begin = held_row_;
    } else {
      ASSIGN_OR_RETURN(batch, reader_->Next());
      if (!batch) break;
      uint64_t base = batch->place().base_offset;
      if (batch->end_offset() <= next_ && batch->count() > 0) continue;
      begin = base < next_ ? static_cast<uint32_t>(next_ - base) : 0;
    }
    if (batch->count() == 0) continue;
    if (piece.events > 0 && batch->place().epoch != piece.epoch) {
      // Rows are named by their epoch, however batches are cut.
      held_row_ = begin;
      held_.push_back(std::move(batch));
      break;
    }
    uint32_t end = std::min<uint64_t>(batch->count(), begin + (context_.batch_events - piece.events));
    piece.ranges.push_back({batch.get(), begin, end});
    piece.events += end - begin;
    piece.epoch = batch->place().epoch;
    piece.next = batch->place().base_offset + end;
    bytes += batch->read_counts().bytes + size_t{64} * (end - begin);
    held_row_ = end;
    held_.push_back(std::move(batch));
  }
  if (piece.events > 0) piece.first = piece.ranges[0].batch->place().base_offset + piece.ranges[0].begin;
  return OkStatus();
}

Result<PipelineRunner*> DeliveryLoop::RunnerFor(uint64_t offset, uint64_t& boundary) {
  std::shared_ptr<const PipelineVersion> owner = context_.versions.front();
  boundary = UINT64_MAX;
  for (const auto& version : context_.versions) {
    auto from = version->from.find(context_.partition_index);
    uint64_t first = from == version->from.end() ? 0 : from->second;
    if (first <= offset) {
      owner = version;
      boundary = UINT64_MAX;
    } else {
      boundary = std::min(boundary, first);
    }
  }
  if (runner_ && version_ == owner) return runner_.get();
  runner_.reset();
  ASSIGN_OR_FAIL(runner_, PipelineRunner::Make(context_.runner, owner->config, owner->stream));
  FAIL_IF_ERROR(context_.sink->Prepare({owner->number, runner_->columns(), runner_->visible()}));
  version_ = owner;
  return runner_.get();
}

std::pair<DeliveryLoop::Piece, DeliveryLoop::Piece> DeliveryLoop::Halve(const Piece& piece) {
  Piece left, right;
  uint64_t half = piece.events / 2;
  for (const BatchRange& range : piece.ranges) {
    uint64_t room = half - left.events;
    uint32_t cut = range.begin + static_cast<uint32_t>(std::min<uint64_t>(room, range.end - range.begin));
    if (cut > range.begin) {
      left.ranges.push_back({range.batch, range.begin, cut});
      left.events += cut - range.begin;
    }
    if (cut < range.end) {
      right.ranges.push_back({range.batch, cut, range.end});
      right.events += range.end - cut;
    }
  }
  right.first = right.ranges[0].batch->place().base_offset + right.ranges[0].begin;
  left.first = piece.first;
  left.next = right.first;
  right.next = piece.next;
  left.epoch = right.epoch = piece.epoch;
  return {std::move(left), std::move(right)};
}

Status DeliveryLoop::Work(const Piece& piece, std::stop_token stop) {
  uint64_t boundary = 0;
  ASSIGN_OR_RETURN(PipelineRunner * runner, RunnerFor(piece.first, boundary));
  (void)runner;
  if (boundary < piece.next) {
    // Cut where another version begins: by halves, which needs no second way of cutting.
    if (piece.events == 1) return Internal("one event belongs to two versions");
    auto [left, right] = Halve(piece);
    RETURN_IF_ERROR(Work(left, stop));
    return Work(right, stop);
  }
  return DeliverPiece(piece, stop);
}

/// Runs filters under the deadline of a run; a stop interrupts them.
template <typename Call>
auto DeliveryLoop::Watched(std::stop_token stop, Call call) {
  Watchdog::Guard guard(*context_.watchdog, kRunDeadlineUs, [this] { runner_->Interrupt(); });
  std::stop_callback at_stop(stop, [&] { guard.Expire(); });
  return call();
}

RowBatch DeliveryLoop::NoRows() const {
  RowBatch none;
  none.columns = runner_->columns();
  none.visible = runner_->visible();
  return none;
}

Result<RowBatch> DeliveryLoop::Filtered(const Piece& piece, std::vector<DeadLetter>& letters,
                                        std::stop_token stop) {
  auto run = [&] { return Watched(stop, [&] { return runner_->Run(piece.ranges, stop); }); };
  bool alone = piece.events == 1;
  Result<RowBatch> rows = run();
  for (uint32_t attempt = 1; alone && !rows && rows.error().code() == Code::kDeadline; ++attempt) {
    if (stop.stop_requested()) break;
    if (attempt == kDeadlineAttempts) {
      letters.push_back(LetterOf(piece.ranges[0], {"", "resource", rows.error().message()}));
      return NoRows();
    }
    rows = run();
  }
  if (rows) return rows;
  if (stop.stop_requested()) return Fail(Cancelled("the filters were interrupted by a stop"));
  Code code = rows.error().code();
  if (code != Code::kInvalid && code != Code::kDeadline) return rows;
  if (alone) {
    auto blame = Watched(stop, [&] { return runner_->FindBlame(piece.ranges[0], stop); });
    if (stop.stop_requested()) return Fail(Cancelled("the filters were interrupted by a stop"));
    letters.push_back(LetterOf(piece.ranges[0], blame));
    return NoRows();
  }
  auto [left, right] = Halve(piece);
  rows = Filtered(left, letters, stop);
  if (!rows) return rows;
  auto more = Filtered(right, letters, stop);
  if (!more) return more;
  for (Chunk& chunk : more->chunks) rows->chunks.push_back(std::move(chunk));
  return rows;
}

/// What the sink refuses at sight becomes dead letters here; all rows of such an event go.
void DeliveryLoop::TakeRefused(const Piece& piece, RowBatch& rows, std::vector<DeadLetter>& letters) const {
  std::set<uint64_t> offsets;
  auto range = piece.ranges.begin();
  for (const RefusedEvent& refused : context_.sink->Refuse(rows)) {
    if (!offsets.insert(refused.offset).second) continue;
    while (refused.offset >= range->batch->place().base_offset + range->end) ++range;
    auto row = static_cast<uint32_t>(refused.offset - range->batch->place().base_offset);
    letters.push_back(LetterOf({range->batch, row, row + 1}, {"", "sink", refused.reason}));
  }
  if (offsets.empty()) return;
  rows.chunks = SelectRows(rows, [&](uint64_t offset) { return !offsets.contains(offset); });
  std::stable_sort(letters.begin(), letters.end(), [](auto& a, auto& b) { return a.offset < b.offset; });
}

DeadLetter DeliveryLoop::LetterOf(const BatchRange& event, const PipelineRunner::Blame& blame) const {
  DeadLetter letter;
  letter.pipeline = context_.pipeline;
  letter.filter = blame.filter;
  letter.sink = context_.sink->id();
  letter.at =
      fmt::format("{}.{}", context_.pipeline, blame.filter.empty() ? context_.sink->id() : blame.filter);
  if (blame.code == "contract") letter.at = context_.pipeline;
  letter.code = blame.code;
  letter.reason = blame.reason;
  letter.generation = context_.generation;
  letter.version = version_->number;
  letter.partition = context_.partition_index;
  letter.offset = static_cast<int64_t>(event.batch->place().base_offset + event.begin);
  letter.event = fmt::format("{}/{}:{}", context_.stream, letter.partition, letter.offset);
  if (auto data = event.batch->Data()) letter.data = (*data)->String(event.begin);
  return letter;
}

/// After a crash, or a failure of the sink, letters may be durable whose rows are not.
Status DeliveryLoop::FindWrittenLetters() {
  if (written_letters_) return OkStatus();
  auto receipt = context_.dead_letters->FindReceipt(context_.stream, letter_origin_,
                                                    fmt::format("{}", context_.partition_index));
  if (!receipt || LeadingNumber(receipt->position) <= next_) {
    written_letters_.emplace();
    return OkStatus();
  }
  DeadLetter like;
  like.pipeline = context_.pipeline, like.generation = context_.generation, like.sink = context_.sink->id();
  like.partition = context_.partition_index;
  ASSIGN_OR_RETURN(written_letters_, context_.dead_letters->OffsetsOf(context_.stream, like, next_));
  return OkStatus();
}

Status DeliveryLoop::WriteLetters(std::vector<DeadLetter> letters, uint64_t next) {
  RETURN_IF_ERROR(FindWrittenLetters());
  std::erase_if(letters, [&](const DeadLetter& letter) {
    return written_letters_->contains(static_cast<uint64_t>(letter.offset));
  });
  if (letters.empty()) return OkStatus();
  std::string part = fmt::format("{}", context_.partition_index);
  auto first = context_.dead_letters->AppendAndWait(
      context_.stream, letters, {{letter_origin_, part, fmt::format("{}", next), 0, UINT32_MAX, 0}});
  if (!first) return first.error();
  for (const DeadLetter& letter : letters) written_letters_->insert(static_cast<uint64_t>(letter.offset));
  std::lock_guard lock(mutex_);
  shown_.dead += letters.size();
  for (const DeadLetter& letter : letters)
    for (size_t i = 0; i < version_->config.filters.size() && i < shown_.filter_dead.size(); ++i)
      if (version_->config.filters[i].name == letter.filter) ++shown_.filter_dead[i];
  return OkStatus();
}

Status DeliveryLoop::DeliverPiece(const Piece& piece, std::stop_token stop) {
  counted_ = runner_->counts();  // a run whose rows were not delivered does not count
  std::vector<DeadLetter> letters;
  auto rows = Filtered(piece, letters, stop);
  if (!rows) return rows.error();
  TakeRefused(piece, *rows, letters);
  rows->stream = context_.stream;
  rows->partition = context_.partition_index;
  rows->epoch = piece.epoch;
  rows->first_offset = piece.first;
  rows->next_offset = piece.next;
  rows->events = piece.events;
  if (!letters.empty()) RETURN_IF_ERROR(WriteLetters(std::move(letters), piece.next));
  Status status = context_.sink->Deliver(*rows, version_->number);
  if (status.code() == Code::kInvalid) {
    if (piece.events > 1) {
      auto [left, right] = Halve(piece);
      RETURN_IF_ERROR(DeliverPiece(left, stop));
      return DeliverPiece(right, stop);
    }
    RETURN_IF_ERROR(WriteLetters({LetterOf(piece.ranges[0], {"", "sink", status.message()})}, piece.next));
    rows->chunks.clear();
    status = context_.sink->Deliver(*rows, version_->number);
  }
  RETURN_IF_ERROR(status);
  Count(piece, *rows);  // before waiters are told, who may look at the counts
  next_.store(piece.next, std::memory_order_release);
  if (context_.progress != nullptr) context_.progress->Notify();
  if (written_letters_)
    written_letters_->erase(written_letters_->begin(), written_letters_->lower_bound(piece.next));
  return OkStatus();
}

void DeliveryLoop::Count(const Piece& piece, const RowBatch& rows) {
  const BatchRange& last = piece.ranges.back();
  int64_t ingested_us = last.batch->IngestedAtUs(last.end - 1);
  if (context_.latency != nullptr)
    context_.latency->Record(context_.clock->WallUs() - ingested_us, context_.clock->MonotonicNs());
  std::lock_guard lock(mutex_);
  shown_.next = piece.next;
  shown_.rows += rows.rows();
  shown_.events += piece.events;
  shown_.oldest_undelivered_us = ingested_us;
  for (size_t i = 0; i < counted_.size() && i < shown_.filter_out.size(); ++i)
    shown_.filter_out[i] += runner_->counts()[i] - counted_[i];
}

}  // namespace millstream
