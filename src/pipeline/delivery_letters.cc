// DeliveryLoop and dead letters: what it writes of them, what it delivers again, what it sets aside.
#include "pipeline/delivery_loop.h"
#include "pipeline/gatherer.h"

namespace millstream {

/// The next of the letters' events, which may lie far apart.
Status DeliveryLoop::GatherLetters(Piece& piece) {
  constexpr uint64_t kReadOnMax = 10'000;  // events between two letters that are read over
  auto wanted = context_.replay->letters.lower_bound(next_);
  auto end = context_.replay->letters.end();
  piece.first = piece.next = next_;
  done_ = wanted == end;
  if (done_) return OkStatus();
  held_.clear();
  auto gone = [&] {
    return NotFound("event {}/{}:{} is not in the log any more", context_.stream, context_.partition_index,
                    wanted->first);
  };
  ASSIGN_OR_RETURN(auto reader, context_.partition->Read(wanted->first));
  uint64_t bytes = 0;
  while (wanted != end && piece.events < context_.batch_events && bytes < context_.batch_bytes) {
    ASSIGN_OR_RETURN(std::unique_ptr<EventBatch> batch, reader->Next());
    if (!batch) return gone();
    uint64_t base = batch->place().base_offset;
    if (batch->end_offset() <= wanted->first) {
      if (piece.events > 0 && wanted->first - batch->end_offset() > kReadOnMax) break;
      continue;
    }
    if (base > wanted->first) return gone();
    if (piece.events > 0 && batch->place().epoch != piece.epoch) break;
    piece.epoch = batch->place().epoch;
    for (; wanted != end && wanted->first < batch->end_offset(); ++wanted) {
      auto row = static_cast<uint32_t>(wanted->first - base);
      bool follows =
          !piece.ranges.empty() && piece.ranges.back().batch == batch.get() && piece.ranges.back().end == row;
      if (follows)
        ++piece.ranges.back().end;
      else
        piece.ranges.push_back({batch.get(), row, row + 1});
      ++piece.events;
      if (piece.events == 1) piece.first = wanted->first;
      piece.next = wanted->first + 1;
    }
    bytes += batch->read_counts().bytes;
    held_.push_back(std::move(batch));
  }
  return OkStatus();
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
  if (context_.replay) {
    letter.replay = context_.replay->id;
    letter.replay_of = context_.replay->letters.at(static_cast<uint64_t>(letter.offset));
  }
  if (auto data = event.batch->Data()) letter.data = (*data)->String(event.begin);
  return letter;
}

/// After a crash, or a failure of the sink, letters may be durable whose rows are not.
Status DeliveryLoop::FindWrittenLetters() {
  if (written_letters_) return OkStatus();
  auto receipt =
      context_.dead_letters->FindReceipt(context_.stream, letter_origin_, fmt::format("{}", slot()));
  const bool has_none = !receipt || LeadingNumber(receipt->position) <= next_;
  if (has_none && context_.rebuilt.replay == 0) {
    written_letters_.emplace();
    return OkStatus();
  }
  DeadLetter like;
  like.pipeline = context_.pipeline, like.generation = context_.generation, like.sink = context_.sink->id();
  like.partition = context_.partition_index;
  like.replay = context_.replay ? context_.replay->id : 0;
  // A crash soon after the cutover takes the loop back to events that the rebuild has run.
  like.rebuild = context_.rebuilt.replay, like.number = context_.rebuilt.letters_before.value_or(0);
  ASSIGN_OR_RETURN(written_letters_, context_.dead_letters->OffsetsOf(context_.stream, like, next_));
  return OkStatus();
}

Status DeliveryLoop::WriteLetters(std::vector<DeadLetter> letters, uint64_t next) {
  RETURN_IF_ERROR(context_.sink->ExpectOlder());
  RETURN_IF_ERROR(FindWrittenLetters());
  std::erase_if(letters, [&](const DeadLetter& letter) {
    return written_letters_->contains(static_cast<uint64_t>(letter.offset));
  });
  if (letters.empty()) return OkStatus();
  std::string part = fmt::format("{}", slot());
  // A piece that is halved after its letters were written makes more: the newest receipt still covers them
  // all.
  if (auto receipt = context_.dead_letters->FindReceipt(context_.stream, letter_origin_, part))
    next = std::max(next, LeadingNumber(receipt->position));
  auto first = context_.dead_letters->AppendAndWait(
      context_.stream, letters, {{letter_origin_, part, fmt::format("{}", next), 0, UINT32_MAX, 0}});
  if (!first) return first.error();
  for (const DeadLetter& letter : letters) written_letters_->insert(static_cast<uint64_t>(letter.offset));
  new_letters_ += letters.size();
  std::lock_guard lock(mutex_);
  shown_.dead += letters.size();
  for (const DeadLetter& letter : letters)
    if (!letter.filter.empty()) ++shown_.filters[letter.filter].dead;
  return OkStatus();
}

void DeliveryLoop::SkipTo(uint64_t offset) {
  for (uint64_t now = skip_to_; now < offset && !skip_to_.compare_exchange_weak(now, offset);) {
  }
}

/// Somebody has decided that these events are not to be tried any more.
Status DeliveryLoop::SkipPiece(const Piece& piece, std::stop_token stop) {
  if (!context_.gate->Claim(context_.partition_index, version_->number, piece.first, piece.next, stop,
                            context_.rebuilt.version)) {
    overtaken_ = true;
    return OkStatus();
  }
  counted_ = runner_->counts();
  std::vector<DeadLetter> letters;
  for (const BatchRange& range : piece.ranges)
    for (uint32_t row = range.begin; row < range.end; ++row)
      letters.push_back(
          LetterOf({range.batch, row, row + 1}, {"", "sink", "skipped: millstream pipeline skip"}));
  RETURN_IF_ERROR(WriteLetters(std::move(letters), piece.next));
  RowBatch rows = NoRows();
  Fill(rows, piece);
  RETURN_IF_ERROR(context_.sink->Deliver(rows, version_->number));
  Delivered(piece, rows);
  return OkStatus();
}

}  // namespace millstream
