#include "log/reader.h"

#include <algorithm>

namespace millstream {

void DiskReader::Seek(uint64_t offset) {
  if (offset == next_) return;
  next_ = offset;
  cursor_ = nullptr;
}

Status DiskReader::Enter(const PartitionView::Place& place, uint64_t offset, int64_t time_us) {
  cursor_ = nullptr;
  segment_ = place.segment;
  segment_end_ = place.end_offset;
  uint64_t position = place.position, limit = place.limit;
  if (segment_->sealed) {
    // By the footer in this very file: a merge may have put it here a moment ago.
    ASSIGN_OR_RETURN(file_, context_.fs.Open(segment_->path, OpenMode::kRead));
    ASSIGN_OR_RETURN(SegmentFooter footer, ReadFooter(*file_, segment_->path, context_.uuid, true));
    limit = footer.body_position;
    auto entry = std::partition_point(footer.index.begin(), footer.index.end(), [&](const IndexEntry& at) {
      return offset == UINT64_MAX ? at.max_us <= time_us : at.offset <= offset;
    });
    position = footer.index.empty()            ? limit
               : entry == footer.index.begin() ? footer.index.front().position
                                               : std::prev(entry)->position;
  } else {
    file_ = segment_->file;
  }
  cursor_ = std::make_unique<SegmentCursor>(*file_, segment_->path, context_.uuid, position, limit);
  return OkStatus();
}

Result<std::optional<BatchHeader>> DiskReader::NextHeader() {
  while (true) {
    if (next_ >= durable_end_) {
      durable_end_ = view_.durable_end();
      if (next_ >= durable_end_) return std::optional<BatchHeader>();
    }
    if (cursor_ && next_ >= segment_end_) cursor_ = nullptr;
    if (!cursor_) {
      ASSIGN_OR_FAIL(PartitionView::Place place, view_.Find(next_));
      Status entered = Enter(place, next_, 0);
      // Retention may take the file away after the look-up; then Find says so the next time.
      if (entered.code() == Code::kNotFound && view_.bounds().start > place.segment->first_offset) continue;
      FAIL_IF_ERROR(entered);
    }
    ASSIGN_OR_FAIL(std::optional<BatchHeader> header, cursor_->Header());
    if (header) {
      if (header->end_offset() > next_) return header;
      cursor_->Skip(*header);
      continue;
    }
    // At the limit, though more is durable: the segment has grown, or was sealed.
    const uint64_t limit = cursor_->limit(), end = segment_end_;
    if (!segment_->sealed) {
      ASSIGN_OR_FAIL(PartitionView::Place place, view_.Refresh(segment_));
      segment_end_ = place.end_offset;
      uint64_t now = place.limit;
      if (place.segment->sealed) {
        ASSIGN_OR_FAIL(now, file_->Size());
      }
      cursor_->SetLimit(now);
    }
    // A repair may have lost the newest events: then the durable end lies beyond all that there is.
    if (cursor_->limit() == limit && segment_end_ == UINT64_MAX) return std::optional<BatchHeader>();
    if (cursor_->limit() == limit && segment_end_ == end) {
      return Fail(cursor_->Damaged(limit, Corrupt("no batch with offset {}", next_)));
    }
  }
}

Result<std::unique_ptr<EventBatch>> DiskReader::OpenBatch(const BatchHeader& header) {
  ASSIGN_OR_FAIL(std::string payload, cursor_->Payload(header));
  auto batch = EventBatch::Open({.stream = stream_,
                                 .partition = partition_,
                                 .epoch = header.epoch,
                                 .base_offset = header.base_offset,
                                 .count = header.count,
                                 .ingested_at_us = header.first_us},
                                header.codec, std::move(payload));
  if (!batch) return Fail(cursor_->Damaged(cursor_->position(), batch.error()));
  return batch;
}

Result<std::unique_ptr<EventBatch>> DiskReader::Next() {
  ASSIGN_OR_FAIL(std::optional<BatchHeader> header, NextHeader());
  if (!header) return nullptr;
  ASSIGN_OR_FAIL(std::unique_ptr<EventBatch> batch, OpenBatch(*header));
  next_ = header->end_offset();
  cursor_->Skip(*header);
  return batch;
}

Result<uint64_t> DiskReader::FindTime(int64_t time_us) {
  durable_end_ = view_.durable_end();
  ASSIGN_OR_FAIL(PartitionView::Place place, view_.FindTime(time_us));
  if (!place.segment) return durable_end_;
  FAIL_IF_ERROR(Enter(place, UINT64_MAX, time_us));
  while (true) {
    ASSIGN_OR_FAIL(std::optional<BatchHeader> header, cursor_->Header());
    if (!header) return segment_end_ == UINT64_MAX ? durable_end_ : segment_end_;
    if (header->count > 0 && header->max_us > time_us) {
      if (header->first_us > time_us) return header->base_offset;
      ASSIGN_OR_FAIL(std::unique_ptr<EventBatch> batch, OpenBatch(*header));
      for (uint32_t row = 0; row < header->count; ++row) {
        if (batch->IngestedAtUs(row) > time_us) return header->base_offset + row;
      }
      return Fail(
          cursor_->Damaged(cursor_->position(), Corrupt("no stamp of this batch is its header's last one")));
    }
    cursor_->Skip(*header);
  }
}

}  // namespace millstream
