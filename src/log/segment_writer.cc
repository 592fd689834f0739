#include "log/segment_writer.h"

#include <algorithm>

#include "base/planted.h"

namespace millstream {
namespace {
constexpr uint64_t kReserveStepBytes = 8 << 20;
}  // namespace

SegmentTally::SegmentTally(const LogOptions& options, uint64_t first_offset, int64_t max_us)
    : index_every_bytes_(options.index_every_bytes), merge_below_events_(options.merge_below_events) {
  footer_.end_offset = first_offset;
  footer_.first_us = footer_.max_us = max_us;
}

void SegmentTally::Add(const BatchHeader& header, uint64_t position) {
  if (footer_.index.empty() || position >= footer_.index.back().position + index_every_bytes_) {
    footer_.index.push_back({header.base_offset, position, footer_.max_us});
  }
  if (footer_.events == 0 && header.count > 0) footer_.first_us = header.first_us;
  footer_.end_offset = header.end_offset();
  footer_.batches += 1;
  footer_.events += header.count;
  footer_.data_bytes += header.data_bytes;
  footer_.max_us = header.max_us;
  footer_.last_epoch = header.epoch;
  footer_.body_position = position + header.total_bytes();
  const bool small = header.count < merge_below_events_;
  if (small && last_was_small_) footer_.flags |= SegmentFooter::kMergePending;
  last_was_small_ = small;
}

SegmentWriter::SegmentWriter(std::shared_ptr<File> file, std::string path, const Uuid& log,
                             SegmentTally tally, uint64_t position)
    : file_(std::move(file)),
      path_(std::move(path)),
      log_(log),
      tally_(std::move(tally)),
      position_(position),
      synced_(position),
      reserved_(position) {}

Result<std::unique_ptr<SegmentWriter>> SegmentWriter::Create(FileSystem& fs, const std::string& path,
                                                             const SegmentHeader& header, const Uuid& log,
                                                             const LogOptions& options) {
  std::string bytes = EncodeSegmentHeader(header, log);
  FAIL_IF_ERROR(WriteFileDurably(fs, path, bytes));
  ASSIGN_OR_FAIL(std::shared_ptr<File> file, fs.Open(path, OpenMode::kReadWrite));
  return std::make_unique<SegmentWriter>(
      std::move(file), path, log, SegmentTally(options, header.first_offset, header.max_us), bytes.size());
}

Status SegmentWriter::WriteParts(std::span<const std::string_view> parts, uint64_t bytes) {
  if (position_ + bytes > reserved_) {
    uint64_t ahead = position_ + std::max(bytes, kReserveStepBytes);
    // A disk with room for this write but not for the step ahead is still good for this write.
    Status reserved = file_->Reserve(ahead);
    if (!reserved.ok()) reserved = file_->Reserve(ahead = position_ + bytes);
    RETURN_IF_ERROR(reserved);
    reserved_ = ahead;
  }
  Status status = file_->WriteAt(position_, parts);
  if (status.ok()) return status;
  // What was written of it must not be taken for batches after a crash: their callers are told that they
  // failed.
  Status cut = file_->Truncate(position_);
  reserved_ = position_;
  return cut.ok() ? status : Status(Code::kIo, cut.message());
}

Status SegmentWriter::Write(std::span<StampedBatch> batches) {
  headers_.resize(batches.size() * kBatchHeaderBytes);
  parts_.clear();
  uint64_t bytes = 0;
  for (size_t i = 0; i < batches.size(); ++i) {
    batches[i].header.synced_bytes = synced_;
    char* at = headers_.data() + i * kBatchHeaderBytes;
    EncodeBatchHeader(batches[i].header, log_, at);
    parts_.emplace_back(at, kBatchHeaderBytes);
    parts_.push_back(batches[i].payload);
    bytes += batches[i].header.total_bytes();
  }
  RETURN_IF_ERROR(WriteParts(parts_, bytes));
  for (const StampedBatch& batch : batches) {
    tally_.Add(batch.header, position_);
    position_ += batch.header.total_bytes();
  }
  return OkStatus();
}

Status SegmentWriter::Sync() {
  if (!IsPlanted(Planted::skip_fsync)) RETURN_IF_ERROR(file_->Sync());
  synced_ = position_;
  return OkStatus();
}

Result<SegmentFooter> SegmentWriter::Seal(std::vector<PlacedReceipt> receipts, const Uuid& log) {
  SegmentFooter footer = tally_.footer();
  footer.body_position = position_;
  footer.receipts = std::move(receipts);
  const std::string bytes = EncodeFooter(footer, log);
  std::string_view part = bytes;
  FAIL_IF_ERROR(WriteParts({&part, 1}, bytes.size()));
  // Also gives back what was reserved ahead.
  FAIL_IF_ERROR(file_->Truncate(position_ + bytes.size()));
  FAIL_IF_ERROR(file_->Sync());
  position_ += bytes.size();
  return footer;
}

}  // namespace millstream
