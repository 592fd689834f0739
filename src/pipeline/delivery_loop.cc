#include "pipeline/delivery_loop.h"

#include "base/planted.h"
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
      letter_origin_(LetterOrigin(context_.pipeline, context_.generation, context_.sink->id())) {
  next_ = context_.start;
  shown_.state = "starting";
  shown_.next = next_;
}

DeliveryLoop::Snapshot DeliveryLoop::snapshot() const {
  std::lock_guard lock(mutex_);
  return shown_;
}

void DeliveryLoop::SetState(const std::string& state, const std::string& reason) {
  std::lock_guard lock(mutex_);
  shown_.state = state;
  shown_.reason = reason;
  context_.sink->TellState(slot(), state, reason);
}

void DeliveryLoop::ShowGoing(uint64_t next) {
  SetState(context_.partition->bounds().durable_end > next + context_.batch_events ? "catching_up" : "live",
           "");
}

void DeliveryLoop::Reset() {
  failed_ = false;
  backoff_.Reset();
  Forget();
  runner_.reset();
  version_.reset();
}

void DeliveryLoop::Run(std::stop_token stop) {
  while (!stop.stop_requested()) {
    Next next = Step(stop);
    if (next.kind == Next::kEnd) return;
    if (next.kind == Next::kAwaitEvents) context_.partition->WaitBeyond(next_, kIdleWaitUs, stop);
    if (next.kind == Next::kWait) Wait(next.wait_us, stop);
  }
}

DeliveryLoop::Next DeliveryLoop::Step(std::stop_token stop) {
  if (!is_open()) return OpenSink(stop);
  if (is_paused()) {
    SetState("paused", paused_ ? "" : context_.allowance->reason());
    return {Next::kWait, kIdleWaitUs};
  }
  Piece piece;
  int64_t began_ns = context_.clock->MonotonicNs();
  Status status = Gather(piece);
  if (status.ok() && piece.events == 0) return Idle();
  if (status.ok()) {
    if (backoff_.failures() == 0) ShowGoing(piece.next);
    status = Work(piece, stop);
  }
  if (!status.ok()) {
    Forget();
    return stop.stop_requested() ? Next{Next::kEnd} : Retry(status);
  }
  backoff_.Reset();
  int64_t busy_ns = context_.clock->MonotonicNs() - began_ns;
  {
    std::lock_guard lock(mutex_);
    shown_.busy_ns += busy_ns;
  }
  if (context_.pace) context_.pace(busy_ns, stop);
  return {};
}

/// What was gathered is gathered anew by the next step.
void DeliveryLoop::Forget() {
  reader_.reset();
  held_.clear();
  held_row_ = 0;
}

DeliveryLoop::Next DeliveryLoop::Retry(const Status& status) {
  if (status.code() == Code::kCancelled) return {Next::kEnd};
  if (!IsRetried(status.code())) return End(status);
  if (context_.runner.database != nullptr) context_.runner.database->NoteWant(status);
  int64_t wait_us = backoff_.NextUs(*context_.random);
  return ShowRetry(status, backoff_.failures(), wait_us);
}

/// Nothing is left for now, or for good.
DeliveryLoop::Next DeliveryLoop::Idle() {
  SetState(done() ? "done" : "live", "");
  {
    std::lock_guard lock(mutex_);
    shown_.oldest_undelivered_us = 0;
  }
  if (!done()) return {Next::kAwaitEvents};
  if (context_.progress != nullptr) context_.progress->Notify();
  return {Next::kEnd};
}

/// One attempt, or how long until the next one.
DeliveryLoop::Next DeliveryLoop::OpenSink(std::stop_token stop) {
  SharedSink::Opening opening = context_.sink->EnsureOpen();
  Status status = opening.status;
  if (status.ok() && context_.replay) status = context_.sink->AdmitOlder();
  if (status.ok()) status = TakeStored();
  if (status.ok()) return {};
  if (stop.stop_requested()) return {Next::kEnd};
  if (!opening.status.ok() && IsRetriedAtOpen(status.code()))
    return ShowRetry(status, opening.attempts, opening.wait_us);
  if (opening.status.ok() && IsRetried(status.code())) return ShowRetry(status, 1, kIdleWaitUs);
  return End(Status(status.code(), fmt::format("{}; once that is put right: millstream pipeline resume {}",
                                               status.message(), context_.pipeline)));
}

Status DeliveryLoop::TakeStored() {
  auto stored = context_.sink->stored().find(slot());
  if (stored != context_.sink->stored().end()) {
    uint64_t durable_end = context_.partition->bounds().durable_end;
    if (stored->second > durable_end)
      return IoError(
          "it has delivered {}/{} up to offset {}, but the log ends at {}: events that it delivered are gone",
          context_.stream, context_.partition_index, stored->second, durable_end);
    next_ = stored->second;
  }
  // What was delivered is the version's that made it, and so are events whose dead letters are durable
  // already.
  context_.gate->Delivered(context_.partition_index, next_);
  auto letters =
      context_.dead_letters->FindReceipt(context_.stream, letter_origin_, fmt::format("{}", slot()));
  if (letters) context_.gate->Delivered(context_.partition_index, LeadingNumber(letters->position));
  {
    std::lock_guard lock(mutex_);
    shown_.next = next_;
  }
  is_open_.store(true, std::memory_order_release);
  if (context_.progress != nullptr) context_.progress->Notify();
  return OkStatus();
}

/// Nothing goes on until someone resumes the pipeline.
DeliveryLoop::Next DeliveryLoop::End(const Status& status) {
  failed_ = true;
  SetState("failed", status.message());
  if (status.code() == Code::kIo && context_.on_fatal) context_.on_fatal(status);
  return {Next::kEnd};
}

void DeliveryLoop::Wait(int64_t wait_us, std::stop_token stop) {
  int64_t until_ns = context_.clock->MonotonicNs() + wait_us * 1000;
  uint64_t skip_to = skip_to_;
  while (!stop.stop_requested() && skip_to == skip_to_ && context_.clock->MonotonicNs() < until_ns)
    context_.partition->WaitBeyond(UINT64_MAX, std::min(wait_us, kIdleWaitUs), stop);
}

DeliveryLoop::Next DeliveryLoop::ShowRetry(const Status& status, uint32_t failures, int64_t wait_us) {
  SetState("degraded", fmt::format("{}, try {} in {:.1f} s", status.message(), failures + 1,
                                   static_cast<double>(wait_us) / 1e6));
  std::lock_guard lock(mutex_);
  ++shown_.retries;
  return {Next::kWait, wait_us};
}

Status DeliveryLoop::Gather(Piece& piece) {
  if (context_.replay) return GatherLetters(piece);
  piece.first = piece.next = next_;
  if (next_ >= context_.end) done_ = true;
  if (done_) return OkStatus();
  if (!reader_) {
    ASSIGN_OR_RETURN(reader_, context_.partition->Read(next_));
  }
  // The batch that the last piece ended in may have more.
  std::unique_ptr<EventBatch> rest;
  if (!held_.empty() && held_row_ < held_.back()->count()) rest = std::move(held_.back());
  held_.clear();
  uint64_t bytes = 0;
  while (piece.events < context_.batch_events && bytes < context_.batch_bytes) {
    uint32_t begin = 0;
    std::unique_ptr<EventBatch> batch;
    if (rest) {
      batch = std::move(rest);
      begin = held_row_ + (IsPlanted(Planted::batch_cut_matters) && held_row_ + 1 < batch->count() ? 1 : 0);
    } else {
      ASSIGN_OR_RETURN(batch, reader_->Next());
      if (!batch) break;
      uint64_t first = batch->place().base_offset;
      if (batch->end_offset() <= next_ && batch->count() > 0) continue;
      begin = first < next_ ? static_cast<uint32_t>(next_ - first) : 0;
    }
    if (batch->count() == 0) continue;
    uint64_t base = batch->place().base_offset;
    if (base + begin >= context_.end) {
      done_ = piece.events == 0;  // the end lies in a gap
      break;
    }
    if (piece.events > 0 && batch->place().epoch != piece.epoch) {
      // Rows are named by their epoch, however batches are cut.
      held_row_ = begin;
      held_.push_back(std::move(batch));
      break;
    }
    uint64_t owned = std::min<uint64_t>(batch->count(), context_.end - base);
    uint32_t end = std::min<uint64_t>(owned, begin + (context_.batch_events - piece.events));
    piece.ranges.push_back({batch.get(), begin, end});
    piece.events += end - begin;
    piece.epoch = batch->place().epoch;
    piece.next = base + end;
    bytes += batch->read_counts().bytes + size_t{64} * (end - begin);
    held_row_ = end;
    held_.push_back(std::move(batch));
  }
  if (piece.events > 0) piece.first = piece.ranges[0].batch->place().base_offset + piece.ranges[0].begin;
  return OkStatus();
}

void DeliveryLoop::Prepare(std::shared_ptr<const PipelineVersion> version,
                           std::unique_ptr<PipelineRunner> runner) {
  Prepared given{std::move(version), std::move(runner)};
  std::lock_guard lock(mutex_);
  std::swap(prepared_, given);
}

void DeliveryLoop::Reconsider() {
  std::lock_guard lock(mutex_);
  if (!running_.stop.stop_possible()) return;
  auto owner = context_.gate->OwnerOf(context_.partition_index, running_.first, context_.rebuilt.version);
  if (owner.version->number != running_.version || owner.end < running_.next) running_.stop.request_stop();
}

Status DeliveryLoop::TakeRunner(const std::shared_ptr<const PipelineVersion>& owner) {
  if (runner_ && version_ == owner) return OkStatus();
  if (runner_ && IsPlanted(Planted::stale_plan)) {
    version_ = owner;
    return OkStatus();
  }
  runner_.reset();
  {
    std::lock_guard lock(mutex_);
    if (prepared_.version && prepared_.version->number == owner->number)
      runner_ = std::move(prepared_.runner);
    if (runner_) prepared_ = {};
  }
  if (!runner_) {
    ASSIGN_OR_RETURN(runner_, PipelineRunner::Make(context_.runner, owner->config, owner->stream));
  }
  RETURN_IF_ERROR(context_.sink->Prepare({owner->number, runner_->columns(), runner_->visible()}));
  version_ = owner;
  return OkStatus();
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
  while (true) {
    auto owner = context_.gate->OwnerOf(context_.partition_index, piece.first, context_.rebuilt.version);
    RETURN_IF_ERROR(TakeRunner(owner.version));
    if (uint64_t skip_to = skip_to_;
        owner.end < piece.next || (piece.first < skip_to && skip_to < piece.next && piece.events > 1)) {
      // Cut where another version begins: by halves, which needs no second way of cutting.
      if (piece.events == 1) return Internal("one event belongs to two versions");
      auto [left, right] = Halve(piece);
      RETURN_IF_ERROR(Work(left, stop));
      return Work(right, stop);
    }
    overtaken_ = false;
    Status status = piece.first < skip_to_ ? SkipPiece(piece, stop) : DeliverPiece(piece, stop);
    if (!overtaken_) return status;
    if (stop.stop_requested()) return Cancelled("stopped while a version takes over");
  }
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
      letters.push_back(
          LetterOf(piece.ranges[0], {runner_->failed_filter(), "resource", rows.error().message()}));
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

/// Runs the filters so that a version that takes over meanwhile can interrupt them.
Result<RowBatch> DeliveryLoop::RunFilters(const Piece& piece, std::vector<DeadLetter>& letters,
                                          std::stop_token stop) {
  Running run{std::stop_source(), version_->number, piece.first, piece.next};
  std::stop_callback at_stop(stop, [&] { run.stop.request_stop(); });
  {
    std::lock_guard lock(mutex_);
    running_ = run;
  }
  auto rows = Filtered(piece, letters, run.stop.get_token());
  std::lock_guard lock(mutex_);
  running_ = {};
  overtaken_ = !rows && run.stop.stop_requested() && !stop.stop_requested();
  return rows;
}

void DeliveryLoop::Fill(RowBatch& rows, const Piece& piece) const {
  rows.stream = context_.stream;
  rows.partition = slot();
  rows.epoch = piece.epoch;
  rows.first_offset = piece.first;
  rows.next_offset = piece.next;
  rows.events = piece.events;
}

void DeliveryLoop::Delivered(const Piece& piece, const RowBatch& rows) {
  Count(piece, rows);             // before waiters are told, who may look at the counts
  if (backoff_.failures() > 0) {  // the rest of what was gathered is not what it was stuck at
    backoff_.Reset();
    ShowGoing(piece.next);
  }
  next_.store(piece.next, std::memory_order_release);
  if (context_.progress != nullptr) context_.progress->Notify();
  if (written_letters_)
    written_letters_->erase(written_letters_->begin(), written_letters_->lower_bound(piece.next));
  if (context_.allowance != nullptr)
    context_.allowance->Add(context_.sink->id(), piece.events, std::exchange(new_letters_, 0),
                            context_.clock->MonotonicNs());
}

Status DeliveryLoop::DeliverPiece(const Piece& piece, std::stop_token stop) {
  counted_ = runner_->counts();  // a run whose rows were not delivered does not count
  std::vector<DeadLetter> letters;
  auto rows = RunFilters(piece, letters, stop);
  if (!rows) return rows.error();
  if (!context_.gate->Claim(context_.partition_index, version_->number, piece.first, piece.next, stop,
                            context_.rebuilt.version)) {
    overtaken_ = !IsPlanted(Planted::lost_on_swap);
    if (!overtaken_) shown_.next = next_ = piece.next;
    return OkStatus();
  }
  TakeRefused(piece, *rows, letters);
  Fill(*rows, piece);
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
  Delivered(piece, *rows);
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
  uint64_t in = piece.events;
  for (size_t i = 0; i < counted_.size(); ++i) {
    FilterCounts& filter = shown_.filters[version_->config.filters[i].name];
    uint64_t out = runner_->counts()[i] - counted_[i];
    filter.in += in;
    filter.out += out;
    in = out;
  }
}

}  // namespace millstream
