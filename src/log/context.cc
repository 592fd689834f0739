#include "log/context.h"

namespace millstream {
namespace {
constexpr int64_t kAskEveryNs = 200'000'000;
constexpr uint64_t kChunkBytes = 1 << 20;
}  // namespace

DiskWatch::DiskWatch(FileSystem& fs, Clock& clock, std::string directory, double floor,
                     uint64_t reserve_bytes)
    : fs_(fs),
      clock_(clock),
      directory_(std::move(directory)),
      reserve_path_(directory_ + "/space.reserve"),
      floor_(floor),
      reserve_bytes_(reserve_bytes) {}

bool DiskWatch::Low() {
  int64_t now_ns = clock_.MonotonicNs();
  if (now_ns - asked_ns_.load() < kAskEveryNs) return low_;
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return low_;
  asked_ns_ = now_ns;
  Result<DiskSpace> space = fs_.Space(directory_);
  // A file system that cannot say how full it is will still say ENOSPC.
  low_ = space && static_cast<double>(space->free_bytes) < floor_ * static_cast<double>(space->total_bytes);
  return low_;
}

Status DiskWatch::MakeReserve() {
  std::lock_guard lock(mutex_);
  Result<FileInfo> info = fs_.Stat(reserve_path_);
  if (reserve_bytes_ == 0 || (info && info->size >= reserve_bytes_)) return OkStatus();
  ASSIGN_OR_RETURN(DiskSpace space, fs_.Space(directory_));
  if (static_cast<double>(space.free_bytes) <
      floor_ * static_cast<double>(space.total_bytes) + reserve_bytes_) {
    return OkStatus();
  }
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs_.Open(reserve_path_, OpenMode::kCreate));
  // Written, not only reserved: not every file system knows fallocate.
  const std::string zeros(kChunkBytes, '\0');
  for (uint64_t at = 0; at < reserve_bytes_; at += kChunkBytes) {
    std::string_view part = std::string_view(zeros).substr(0, std::min(kChunkBytes, reserve_bytes_ - at));
    RETURN_IF_ERROR(file->WriteAt(at, part));
  }
  return OkStatus();
}

bool DiskWatch::ReleaseReserve() {
  std::lock_guard lock(mutex_);
  return fs_.Remove(reserve_path_).ok();
}

}  // namespace millstream
