#include "log/partition_view.h"

#include <algorithm>
#include <chrono>

namespace millstream {

Status PartitionView::BelowStart(uint64_t offset) const {
  return NotFound("{}: offset {} is no longer kept; the earliest is {}", name_, offset,
                  segments_.front()->first_offset);
}

PartitionView::Place PartitionView::PlaceIn(size_t index) const {
  Place place{.segment = segments_[index]};
  place.end_offset = place.segment->sealed ? place.segment->footer.end_offset : UINT64_MAX;
  if (!place.segment->sealed) place.position = tail_header_bytes_, place.limit = durable_position_;
  return place;
}

Result<PartitionView::Place> PartitionView::Find(uint64_t offset) const {
  std::lock_guard lock(mutex_);
  if (offset < segments_.front()->first_offset) return Fail(BelowStart(offset));
  auto after = std::upper_bound(
      segments_.begin(), segments_.end(), offset,
      [](uint64_t value, const SegmentPtr& segment) { return value < segment->first_offset; });
  size_t index = static_cast<size_t>(after - segments_.begin()) - 1;
  // In a gap between two segments.
  while (segments_[index]->sealed && segments_[index]->footer.end_offset <= offset) ++index;
  Place place = PlaceIn(index);
  if (!place.segment->sealed) {
    auto entry = std::upper_bound(tail_.index.begin(), tail_.index.end(), offset,
                                  [](uint64_t value, const IndexEntry& at) { return value < at.offset; });
    if (entry != tail_.index.begin()) place.position = std::prev(entry)->position;
  }
  return place;
}

Result<PartitionView::Place> PartitionView::FindTime(int64_t time_us) const {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < segments_.size(); ++i) {
    if (segments_[i]->sealed && (segments_[i]->footer.events == 0 || segments_[i]->footer.max_us <= time_us))
      continue;
    Place place = PlaceIn(i);
    if (place.segment->sealed) return place;
    if (tail_.events == 0 || tail_.max_us <= time_us) break;
    auto entry = std::partition_point(tail_.index.begin(), tail_.index.end(),
                                      [&](const IndexEntry& at) { return at.max_us <= time_us; });
    if (entry != tail_.index.begin()) place.position = std::prev(entry)->position;
    return place;
  }
  return Place{};
}

Result<PartitionView::Place> PartitionView::Refresh(const SegmentPtr& segment) const {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < segments_.size(); ++i) {
    if (segments_[i]->first_offset == segment->first_offset) return PlaceIn(i);
  }
  return Fail(BelowStart(segment->first_offset));
}

uint64_t PartitionView::durable_end() const {
  std::lock_guard lock(mutex_);
  return durable_end_;
}

Bounds PartitionView::bounds() const {
  std::lock_guard lock(mutex_);
  return {.start = segments_.front()->first_offset,
          .durable_end = durable_end_,
          .end = end_,
          .epoch = epoch_,
          .bytes = sealed_bytes_ + written_position_,
          .segments = segments_.size()};
}

std::vector<SegmentPtr> PartitionView::segments() const {
  std::lock_guard lock(mutex_);
  return segments_;
}

std::vector<SegmentInfo> PartitionView::Describe() const {
  std::lock_guard lock(mutex_);
  return DescribeLocked();
}

std::vector<std::vector<SegmentInfo>> PartitionView::DescribeAll(
    const std::vector<const PartitionView*>& views) {
  std::vector<std::unique_lock<std::mutex>> locks;
  for (const PartitionView* view : views) locks.emplace_back(view->mutex_);
  std::vector<std::vector<SegmentInfo>> all;
  for (const PartitionView* view : views) all.push_back(view->DescribeLocked());
  return all;
}

std::vector<SegmentInfo> PartitionView::DescribeLocked() const {
  std::vector<SegmentInfo> all;
  for (const SegmentPtr& segment : segments_) {
    const SegmentFooter& footer = segment->sealed ? segment->footer : tail_;
    all.push_back({.file = segment->name,
                   .first_offset = segment->first_offset,
                   .end_offset = segment->sealed ? footer.end_offset : durable_end_,
                   .bytes = segment->sealed ? segment->file_bytes : durable_position_,
                   .batches = footer.batches,
                   .first_us = footer.first_us,
                   .last_us = footer.max_us,
                   .sealed = segment->sealed});
  }
  return all;
}

bool PartitionView::Wait(uint64_t offset, int64_t timeout_us, std::stop_token stop) const {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, stop, std::chrono::microseconds(timeout_us),
                    [&] { return closed_ || last_end_ > offset; });
  return last_end_ > offset;
}

void PartitionView::Start(std::vector<SegmentPtr> segments, const SegmentFooter& tail, uint64_t position,
                          uint64_t next_offset, uint32_t epoch) {
  std::lock_guard lock(mutex_);
  segments_ = std::move(segments);
  tail_ = tail;
  tail_header_bytes_ = tail.index.empty() ? position : tail.index.front().position;
  durable_position_ = written_position_ = position;
  durable_end_ = end_ = next_offset;
  epoch_ = epoch;
  last_end_ = tail.events > 0        ? tail.end_offset
              : segments_.size() > 1 ? segments_[segments_.size() - 2]->footer.end_offset
                                     : segments_.front()->first_offset;
  for (const SegmentPtr& segment : segments_) sealed_bytes_ += segment->sealed ? segment->file_bytes : 0;
}

void PartitionView::PublishWritten(uint64_t end, uint64_t position) {
  std::lock_guard lock(mutex_);
  end_ = end;
  written_position_ = position;
}

void PartitionView::PublishDurable(const SegmentFooter& tail, uint64_t position, uint64_t end) {
  {
    std::lock_guard lock(mutex_);
    // The index only grows: take its new entries, not all of it.
    std::vector<IndexEntry> index = std::move(tail_.index);
    index.insert(index.end(), tail.index.begin() + static_cast<ptrdiff_t>(index.size()), tail.index.end());
    tail_.events = tail.events;
    tail_.batches = tail.batches;
    tail_.first_us = tail.first_us;
    tail_.max_us = tail.max_us;
    tail_.index = std::move(index);
    durable_position_ = written_position_ = position;
    durable_end_ = end_ = end;
    if (tail.events > 0) last_end_ = tail.end_offset;
  }
  changed_.notify_all();
}

void PartitionView::Roll(SegmentPtr sealed, SegmentPtr next, uint64_t position) {
  std::lock_guard lock(mutex_);
  sealed_bytes_ += sealed->file_bytes;
  const int64_t max_us = sealed->footer.max_us;
  segments_.back() = std::move(sealed);
  segments_.push_back(std::move(next));
  tail_ = {};
  tail_.first_us = tail_.max_us = max_us;
  tail_header_bytes_ = durable_position_ = written_position_ = position;
}

bool PartitionView::Replace(SegmentPtr merged) {
  std::lock_guard lock(mutex_);
  for (SegmentPtr& segment : segments_) {
    if (segment->first_offset != merged->first_offset || !segment->sealed) continue;
    sealed_bytes_ = sealed_bytes_ - segment->file_bytes + merged->file_bytes;
    segment = std::move(merged);
    return true;
  }
  return false;
}

void PartitionView::RemoveFirst() {
  std::lock_guard lock(mutex_);
  CHECK(segments_.size() > 1 && segments_.front()->sealed);
  sealed_bytes_ -= segments_.front()->file_bytes;
  segments_.erase(segments_.begin());
}

void PartitionView::Close() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
}

}  // namespace millstream
