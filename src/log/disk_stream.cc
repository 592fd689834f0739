#include <algorithm>

#include "log/disk_log.h"
#include "log/merge.h"

namespace millstream {
namespace {

constexpr int64_t kAgeWaitsNs =
    600ll * 1'000'000'000;  // nothing is removed by age so soon after a start or a leap of the clock
constexpr uint64_t kSegmentsOfLimit = 4;  // a size limit is kept in steps of a quarter
constexpr uint64_t kSegmentBytesMin = 1 << 20;
constexpr int64_t kSegmentsOfAge = 4;

}  // namespace

void DiskStream::SetLayout(Contract contract, Codec codec, Retention retention) {
  auto layout = std::make_shared<Layout>(Layout{std::move(contract), codec, retention});
  uint64_t segment_bytes = context_.options.segment_bytes;
  if (retention.bytes > 0) {
    uint64_t share = retention.bytes / partitions_.size() / kSegmentsOfLimit;
    segment_bytes = std::min(segment_bytes, std::max(share, kSegmentBytesMin));
  }
  for (const auto& partition : partitions_) partition->SetSegmentBytes(segment_bytes);
  std::lock_guard lock(mutex_);
  layout_ = std::move(layout);
}

std::shared_ptr<const DiskStream::Layout> DiskStream::layout() const {
  std::lock_guard lock(mutex_);
  return layout_;
}

SegmentPtr DiskStream::Removable(DiskPartition& partition) {
  std::vector<SegmentPtr> segments = partition.view().segments();
  if (segments.size() < 2) return nullptr;
  const SegmentPtr& first = segments.front();
  return first->sealed && first->footer.end_offset <= partition.low_water() ? first : nullptr;
}

Status DiskStream::RemoveFirst(DiskPartition& partition) {
  std::string path = partition.view().segments().front()->path;
  // First out of sight, then off the disk; each removal is synced, so that a crash never leaves a hole.
  partition.view().RemoveFirst();
  RETURN_IF_ERROR(context_.fs.Remove(path));
  return context_.fs.SyncDirectory(partition.directory());
}

Status DiskStream::RetainByAge(DiskPartition& partition, int64_t age_us) {
  if (context_.clock.MonotonicNs() - context_.stamper.last_leap_ns() < kAgeWaitsNs) return OkStatus();
  const int64_t now_us = context_.stamper.StampUs();
  // A slow stream's last segment is sealed in time, or nothing of it would ever be old enough.
  SegmentInfo last = partition.segments().back();
  if (last.end_offset > last.first_offset && last.first_us < now_us - age_us / kSegmentsOfAge) {
    RETURN_IF_ERROR(partition.Roll());
  }
  std::unique_lock lock(partition.maintenance_mutex(), std::try_to_lock);
  if (!lock) return OkStatus();
  for (SegmentPtr first = Removable(partition); first && first->footer.max_us < now_us - age_us;
       first = Removable(partition)) {
    RETURN_IF_ERROR(RemoveFirst(partition));
  }
  return OkStatus();
}

Status DiskStream::RetainByBytes(uint64_t bytes) {
  while (true) {
    uint64_t total = 0;
    DiskPartition* oldest = nullptr;
    int64_t oldest_us = INT64_MAX;
    for (const auto& partition : partitions_) {
      total += partition->bounds().bytes;
      SegmentPtr first = Removable(*partition);
      if (first && first->footer.max_us < oldest_us)
        oldest = partition.get(), oldest_us = first->footer.max_us;
    }
    if (total <= bytes || oldest == nullptr) return OkStatus();
    std::unique_lock lock(oldest->maintenance_mutex(), std::try_to_lock);
    if (!lock) return OkStatus();
    RETURN_IF_ERROR(RemoveFirst(*oldest));
  }
}

Status DiskStream::Retain() {
  std::shared_ptr<const Layout> now = layout();
  if (!now) return OkStatus();
  if (now->retention.age_us > 0) {
    for (const auto& partition : partitions_) RETURN_IF_ERROR(RetainByAge(*partition, now->retention.age_us));
  }
  return now->retention.bytes > 0 ? RetainByBytes(now->retention.bytes) : OkStatus();
}

Status DiskStream::Merge(const std::stop_token& stop) {
  std::lock_guard merging(merge_mutex_);
  std::shared_ptr<const Layout> now = layout();
  if (!now) return OkStatus();
  Status first;
  for (const auto& partition : partitions_) {
    std::lock_guard lock(partition->maintenance_mutex());
    for (const SegmentPtr& segment : partition->view().segments()) {
      if (!segment->sealed || !(segment->footer.flags & SegmentFooter::kMergePending)) continue;
      if (unmergeable_.contains(segment->path)) continue;
      Result<SegmentPtr> merged =
          MergeSegment(context_, segment, name_, partition->index(), now->contract, now->codec, stop);
      if (merged && !*merged) return OkStatus();
      if (merged) {
        partition->view().Replace(std::move(*merged));
      } else {
        unmergeable_.insert(segment->path);
        if (first.ok()) first = merged.error();
      }
    }
  }
  return first;
}

}  // namespace millstream
