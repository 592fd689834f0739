#include "log/partition.h"

#include <algorithm>
#include <chrono>
#include <future>

#include "base/planted.h"
#include "base/thread.h"
#include "log/reader.h"

namespace millstream {
namespace {

constexpr uint64_t kWriteBytes = 8 << 20;  // most of a group that goes into one call
constexpr size_t kWriteBatches = 4096;
constexpr size_t kReceiptNameMax = UINT16_MAX;

Status CheckBatch(const EncodedBatch& batch) {
  if (batch.payload.size() > kPayloadBytesMax || batch.data_bytes > UINT32_MAX) {
    return Invalid("a batch of {} bytes is more than {}", batch.payload.size(), kPayloadBytesMax);
  }
  for (const Receipt& receipt : batch.receipts) {
    if (receipt.origin.size() > kReceiptNameMax || receipt.part.size() > kReceiptNameMax) {
      return Invalid("a receipt's origin or part is longer than {} bytes", kReceiptNameMax);
    }
  }
  return OkStatus();
}

void Answer(Partition::Done& done, Result<Appended> result) {
  if (done) done(std::move(result));
  done = nullptr;
}

}  // namespace

Result<Appended> Partition::AppendAndWait(EncodedBatch batch, AckMode mode) {
  std::promise<Result<Appended>> answer;
  Append(std::move(batch), mode, [&](Result<Appended> result) { answer.set_value(std::move(result)); });
  return answer.get_future().get();
}

DiskPartition::DiskPartition(LogContext& context, std::string directory, std::string stream, uint32_t index,
                             std::unique_ptr<ReceiptIndex> receipts, RecoveredPartition recovered)
    : context_(context),
      directory_(std::move(directory)),
      stream_(std::move(stream)),
      index_(index),
      receipts_(std::move(receipts)),
      view_(fmt::format("{}/{}", stream_, index)),
      state_(std::move(recovered.state)),
      segment_bytes_(context.options.segment_bytes),
      writer_(std::move(recovered.writer)),
      next_offset_(recovered.next_offset),
      max_us_(recovered.max_us) {
  std::vector<SegmentPtr> all = std::move(recovered.sealed);
  all.push_back(Growing());
  if (context_.options.metrics != nullptr)
    fsync_seconds_ =
        context_.options.metrics->GetHistogram("millstream_fsync_seconds", "Time of a sync of the log.",
                                               {{"stream", stream_}}, Metrics::DurationBounds());
  view_.Start(std::move(all), writer_->tally().footer(), writer_->position(), next_offset_,
              state_.epochs.back().epoch);
  if (context_.on_queued) return;
  thread_ = std::thread([this] {
    NameThread("log");
    Run();
  });
}

DiskPartition::~DiskPartition() { (void)Close(false); }

void DiskPartition::Append(EncodedBatch batch, AckMode mode, Done done) {
  Status refusal = CheckBatch(batch);
  const bool ours = stream_.starts_with('_');
  if (refusal.ok() && !ours && context_.disk.Low()) {
    refusal = Exhausted("the disk is nearly full: less than {:.0f}% is free",
                        context_.options.free_space_floor * 100);
  }
  if (refusal.ok()) {
    std::lock_guard lock(queue_mutex_);
    const uint64_t bytes = batch.payload.size();
    if (!failure_.ok()) {
      refusal = failure_;
    } else if (!refusing_.ok()) {
      refusal = refusing_;
    } else if (closing_) {
      refusal = Cancelled("the log is closed");
    } else if (!queue_.empty() && queued_bytes_ + bytes > context_.options.max_queued_bytes) {
      refusal = Exhausted("{}/{}: {} bytes wait to be written", stream_, index_, queued_bytes_.load());
    } else {
      queued_bytes_ += bytes;
      queue_.push_back({.batch = std::move(batch), .mode = mode, .done = std::move(done)});
      if (queue_.size() == 1) queue_changed_.notify_one();
    }
  }
  if (refusal.ok()) return TellQueued();
  Answer(done, millstream::Fail(std::move(refusal)));
}

void DiskPartition::TellQueued() {
  if (context_.on_queued) context_.on_queued(*this);
}

void DiskPartition::Run() {
  std::vector<Entry> group;
  while (WaitForGroup(group)) CommitGroup(group);
  End();
}

bool DiskPartition::WaitForGroup(std::vector<Entry>& group) {
  std::unique_lock lock(queue_mutex_);
  auto ready = [this] { return closing_ || !queue_.empty(); };
  if (unsynced_.empty()) {
    queue_changed_.wait(lock, ready);
  } else {
    queue_changed_.wait_for(lock, std::chrono::microseconds(context_.options.sync_interval_us), ready);
  }
  if (abandoned_ || (closing_ && queue_.empty())) return false;
  group.swap(queue_);
  return true;
}

void DiskPartition::CommitGroup(std::vector<Entry>& group) {
  uint64_t bytes = 0;
  for (const Entry& entry : group) bytes += entry.batch.payload.size();
  Commit(group);
  queued_bytes_ -= bytes;
  group.clear();
}

void DiskPartition::WriteQueued() {
  std::vector<Entry> group;
  {
    std::lock_guard lock(queue_mutex_);
    group.swap(queue_);
  }
  CommitGroup(group);
}

void DiskPartition::End() {
  std::vector<Entry> group;
  std::unique_lock lock(queue_mutex_);
  group.swap(queue_);
  const bool abandoned = abandoned_;
  lock.unlock();
  for (Entry& entry : group) Answer(entry.done, millstream::Fail(Cancelled("the log is closed")));
  if (!abandoned) Sync();
  for (Unsynced& entry : unsynced_) Answer(entry.done, millstream::Fail(Cancelled("the log is closed")));
}

void DiskPartition::Commit(std::vector<Entry>& group) {
  for (size_t from = 0; from < group.size();) {
    if (group[from].roll) {
      Sync();
      Status status = RollNow();
      if (status.code() == Code::kIo) Fail(status);
      Answer(group[from++].done, status.ok() ? Result<Appended>(Appended{}) : millstream::Fail(status));
      continue;
    }
    if (writer_ && writer_->position() >= segment_bytes_) {
      Sync();
      Status status = RollNow();
      // Without room for a footer the segment goes on growing as far as it can; everything else is fatal and
      // seen by Write.
      if (status.code() == Code::kIo) Fail(status);
    }
    size_t to = from;
    uint64_t bytes = 0;
    while (to < group.size() && !group[to].roll && to - from < kWriteBatches &&
           (to == from || bytes < kWriteBytes)) {
      bytes += group[to++].batch.payload.size() + kBatchHeaderBytes;
      if (writer_ && writer_->position() + bytes >= segment_bytes_) break;
    }
    Status written = Write(std::span(group).subspan(from, to - from));
    if (!written.ok()) {
      Refuse(std::span(group).subspan(from), written);
      break;
    }
    from = to;
  }
  const bool late = !unsynced_.empty() && context_.clock.MonotonicNs() - unsynced_since_ns_ >=
                                              context_.options.sync_interval_us * 1000;
  if (unsynced_waiting_ > 0 || late || group.empty()) Sync();
}

// Whoever appends in order relies on it that nothing is appended behind what failed: all that is queued
// fails, and so does what comes before everybody was told.
void DiskPartition::Refuse(std::span<Entry> entries, const Status& status) {
  std::vector<Entry> behind;
  {
    std::lock_guard lock(queue_mutex_);
    refusing_ = status;
    behind.swap(queue_);
  }
  for (Entry& entry : entries) Answer(entry.done, millstream::Fail(status));
  for (Entry& entry : behind) {
    queued_bytes_ -= entry.batch.payload.size();
    Answer(entry.done, millstream::Fail(status));
  }
  std::lock_guard lock(queue_mutex_);
  refusing_ = OkStatus();
}

Status DiskPartition::Write(std::span<Entry> entries) {
  const int64_t now_us = context_.stamper.StampUs();
  const uint32_t epoch = state_.epochs.back().epoch;
  std::vector<StampedBatch> batches;
  batches.reserve(entries.size());
  uint64_t next = next_offset_;
  int64_t max_us = max_us_;
  for (const Entry& entry : entries) {
    const EncodedBatch& batch = entry.batch;
    // A batch of receipts alone holds no event, so its stamp is no part of the running maximum.
    if (batch.count > 0) max_us = std::max(max_us, now_us);
    batches.push_back({{.payload_crc = batch.payload_crc,
                        .payload_bytes = static_cast<uint32_t>(batch.payload.size()),
                        .base_offset = next,
                        .count = batch.count,
                        .epoch = epoch,
                        .first_us = now_us,
                        .max_us = max_us,
                        .data_bytes = static_cast<uint32_t>(batch.data_bytes),
                        .codec = batch.codec,
                        .flags = batch.receipts.empty() ? uint8_t{0} : BatchHeader::kHasReceipts},
                       batch.payload});
    next += batch.count;
  }
  Status status = WriteOnce(batches);
  if (status.code() == Code::kIo) Fail(status);
  RETURN_IF_ERROR(status);
  max_us_ = max_us;
  next_offset_ = next;
  view_.PublishWritten(next_offset_, writer_->position());
  if (unsynced_.empty()) unsynced_since_ns_ = context_.clock.MonotonicNs();
  for (size_t i = 0; i < entries.size(); ++i) {
    Entry& entry = entries[i];
    const BatchHeader& header = batches[i].header;
    Unsynced& written = unsynced_.emplace_back(Unsynced{{header.base_offset, header.count, epoch, now_us},
                                                        std::move(entry.batch.receipts),
                                                        std::move(entry.done)});
    if (entry.mode == AckMode::kDurable && !IsPlanted(Planted::ack_early)) {
      ++unsynced_waiting_;
      continue;
    }
    receipts_->AddBatch(written.receipts, header.base_offset, epoch, now_us);
    written.receipts.clear();
    Answer(written.done, written.place);
  }
  return OkStatus();
}

Status DiskPartition::WriteOnce(std::span<StampedBatch> batches) {
  {
    std::lock_guard lock(queue_mutex_);
    RETURN_IF_ERROR(failure_);
  }
  if (!writer_) RETURN_IF_ERROR(StartSegment());
  Status status = writer_->Write(batches);
  if (status.code() == Code::kExhausted && stream_.starts_with('_') && context_.disk.ReleaseReserve()) {
    status = writer_->Write(batches);
  }
  return status;
}

void DiskPartition::Sync() {
  if (unsynced_.empty() || !writer_) return;
  const int64_t began_ns = context_.clock.MonotonicNs();
  Status status = writer_->Sync();
  fsync_seconds_.Observe(static_cast<double>(context_.clock.MonotonicNs() - began_ns) / 1e9);
  if (!status.ok()) {
    Fail(status);
    return;
  }
  for (const Unsynced& entry : unsynced_) {
    receipts_->AddBatch(entry.receipts, entry.place.first_offset, entry.place.epoch,
                        entry.place.ingested_at_us);
  }
  view_.PublishDurable(writer_->tally().footer(), writer_->position(), next_offset_);
  for (Unsynced& entry : unsynced_) Answer(entry.done, entry.place);
  unsynced_.clear();
  unsynced_waiting_ = 0;
}

// After a failed sync nobody knows what is on disk: no waiter is told that it succeeded, and nothing more is
// written.
void DiskPartition::Fail(const Status& status) {
  Status failure(Code::kIo, status.message());
  {
    std::lock_guard lock(queue_mutex_);
    if (!failure_.ok()) return;
    failure_ = failure;
  }
  for (Unsynced& entry : unsynced_) Answer(entry.done, millstream::Fail(failure));
  unsynced_.clear();
  unsynced_waiting_ = 0;
  view_.Close();
  context_.Fatal(failure);
}

SegmentPtr DiskPartition::Growing() const {
  auto segment = std::make_shared<Segment>();
  segment->path = writer_->path();
  segment->name = NameOf(segment->path);
  segment->first_offset = *ParseSegmentName(segment->path.substr(directory_.size() + 1));
  segment->file = writer_->file();
  return segment;
}

Status DiskPartition::RollNow() {
  {
    std::lock_guard lock(queue_mutex_);
    RETURN_IF_ERROR(failure_);
  }
  // A segment without events has the name that its successor would have.
  if (!writer_ || writer_->tally().footer().events == 0) return OkStatus();
  SegmentPtr growing = Growing();
  Result<SegmentFooter> footer = writer_->Seal(receipts_->Since(growing->first_offset), context_.uuid);
  if (!footer) return footer.error();
  auto sealed = std::make_shared<Segment>(*growing);
  sealed->sealed = true;
  sealed->file = nullptr;
  sealed->footer = std::move(*footer);
  sealed->footer.receipts.clear();
  sealed->footer.index.clear();
  sealed->file_bytes = writer_->position();
  writer_ = nullptr;
  sealed_waiting_ = sealed;
  return StartSegment();
}

Status DiskPartition::StartSegment() {
  SegmentHeader header{.first_offset = next_offset_,
                       .epoch = state_.epochs.back().epoch,
                       .partition = index_,
                       .max_us = max_us_,
                       .stream = stream_,
                       .receipts = receipts_->Lasting()};
  ASSIGN_OR_RETURN(writer_, SegmentWriter::Create(context_.fs, directory_ + "/" + SegmentName(next_offset_),
                                                  header, context_.uuid, context_.options));
  const bool merge = (sealed_waiting_->footer.flags & SegmentFooter::kMergePending) != 0;
  view_.Roll(std::move(sealed_waiting_), Growing(), writer_->position());
  if (merge && on_sealed_) on_sealed_();
  return OkStatus();
}

Status DiskPartition::Roll() {
  std::promise<Result<Appended>> answer;
  {
    std::lock_guard lock(queue_mutex_);
    if (closing_) return Cancelled("the log is closed");
    queue_.push_back(
        {.done = [&](Result<Appended> result) { answer.set_value(std::move(result)); }, .roll = true});
    queue_changed_.notify_one();
  }
  TellQueued();
  Result<Appended> result = answer.get_future().get();
  return result ? OkStatus() : result.error();
}

Status DiskPartition::Close(bool clean) {
  {
    std::lock_guard lock(queue_mutex_);
    if (closing_) return OkStatus();
    closing_ = true;
    abandoned_ = !clean;
    queue_changed_.notify_one();
  }
  if (thread_.joinable()) {
    thread_.join();
  } else {
    if (clean) WriteQueued();
    End();
  }
  view_.Close();
  if (!clean) return OkStatus();
  RETURN_IF_ERROR(failure_);
  if (!writer_) RETURN_IF_ERROR(StartSegment());
  state_.clean = true;
  state_.next_offset = next_offset_;
  state_.max_us = max_us_;
  state_.tail_bytes = writer_->position();
  // What was reserved ahead is given back.
  RETURN_IF_ERROR(writer_->file()->Truncate(writer_->position()));
  return WriteFileDurably(context_.fs, directory_ + "/state", EncodeState(state_, context_.uuid));
}

Bounds DiskPartition::bounds() const {
  Bounds bounds = view_.bounds();
  bounds.key_receipts_since_us = receipts_->key_receipts_since_us();
  return bounds;
}

Result<std::unique_ptr<PartitionReader>> DiskPartition::Read(uint64_t from) {
  if (from < view_.bounds().start) return millstream::Fail(view_.Find(from).error());
  return std::make_unique<DiskReader>(context_, view_, stream_, index_, from);
}

Result<uint64_t> DiskPartition::OffsetForTime(int64_t time_us) {
  return DiskReader(context_, view_, stream_, index_, 0).FindTime(time_us);
}

std::optional<Receipt> DiskPartition::FindReceipt(const std::string& origin, const std::string& part) const {
  std::optional<PlacedReceipt> placed = receipts_->Find(origin, part);
  if (!placed) return std::nullopt;
  return std::move(placed->receipt);
}

std::optional<PlacedReceipt> DiskPartition::FindPlacedReceipt(const std::string& origin,
                                                              const std::string& part) const {
  return receipts_->Find(origin, part);
}

std::vector<Receipt> DiskPartition::FindReceipts(const std::string& origin) const {
  return receipts_->FindAll(origin);
}

bool DiskPartition::WaitBeyond(uint64_t offset, int64_t timeout_us, std::stop_token stop) {
  return view_.Wait(offset, timeout_us, std::move(stop));
}

std::vector<SegmentInfo> DiskPartition::segments() const { return view_.Describe(); }

}  // namespace millstream
