#include "pipeline/version_gate.h"

#include <algorithm>

namespace millstream {

VersionGate::VersionGate(std::vector<std::shared_ptr<const PipelineVersion>> versions)
    : versions_(std::move(versions)) {
  for (const auto& version : versions_) ownership_.Activate(version->number, version->from);
}

std::shared_ptr<const PipelineVersion> VersionGate::latest() const {
  std::lock_guard lock(mutex_);
  return versions_.back();
}

std::vector<std::shared_ptr<const PipelineVersion>> VersionGate::versions() const {
  std::lock_guard lock(mutex_);
  return versions_;
}

VersionGate::Owner VersionGate::OwnerOf(uint32_t partition, uint64_t offset, uint64_t since) const {
  std::lock_guard lock(mutex_);
  Ownership::Owner owner = ownership_.OwnerOf(partition, offset, since);
  auto found =
      std::lower_bound(versions_.begin(), versions_.end(), owner.version,
                       [](const auto& version, uint64_t number) { return version->number < number; });
  return {*found, owner.end};
}

bool VersionGate::Claim(uint32_t partition, uint64_t version, uint64_t first, uint64_t next,
                        std::stop_token stop, uint64_t since) {
  std::unique_lock lock(mutex_);
  Ownership::Answer answer = Ownership::Answer::kWait;
  released_.wait(lock, stop, [&] {
    answer = ownership_.Claim(partition, version, first, next, since);
    return answer != Ownership::Answer::kWait;
  });
  return answer == Ownership::Answer::kGo;
}

void VersionGate::Delivered(uint32_t partition, uint64_t next) {
  std::lock_guard lock(mutex_);
  ownership_.Delivered(partition, next);
}

Boundary VersionGate::Hold() {
  std::lock_guard lock(mutex_);
  return ownership_.Hold();
}

void VersionGate::Release() {
  {
    std::lock_guard lock(mutex_);
    ownership_.Release();
  }
  released_.notify_all();
}

void VersionGate::Activate(std::shared_ptr<const PipelineVersion> version) {
  {
    std::lock_guard lock(mutex_);
    ownership_.Activate(version->number, version->from);
    versions_.push_back(std::move(version));
    ownership_.Release();
  }
  released_.notify_all();
}

}  // namespace millstream
