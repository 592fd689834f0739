#include "sinks/counted_offsets.h"

namespace millstream {
namespace {

constexpr int64_t kStoreEveryNs = 1'000'000'000;

uint64_t Find(const std::map<uint32_t, uint64_t>& offsets, uint32_t partition) {
  auto found = offsets.find(partition);
  return found == offsets.end() ? 0 : found->second;
}

}  // namespace

CountedOffsets::CountedOffsets(const SinkContext& context)
    : fs_(*context.fs), clock_(*context.clock), path_(SinkStatePath(context)) {
  directory_ = DirectoryOf(path_);
  state_.generation = context.generation;
}

Result<std::map<uint32_t, uint64_t>> CountedOffsets::Open() {
  ASSIGN_OR_FAIL(std::optional<SinkState> stored, LoadSinkState(fs_, path_));
  if (stored) state_ = std::move(*stored);
  if (!stored) FAIL_IF_ERROR(fs_.CreateDirectories(directory_));
  durable_ = state_.offsets;
  stored_ns_ = clock_.MonotonicNs();
  return state_.offsets;
}

uint64_t CountedOffsets::Next(uint32_t partition) const { return Find(state_.offsets, partition); }
uint64_t CountedOffsets::Durable(uint32_t partition) const { return Find(durable_, partition); }

Status CountedOffsets::Advance(uint32_t partition, uint64_t next) {
  uint64_t& offset = state_.offsets[partition];
  offset = std::max(offset, next);
  if (clock_.MonotonicNs() - stored_ns_ < kStoreEveryNs) return OkStatus();
  return Store();
}

Status CountedOffsets::Close() { return state_.offsets == durable_ ? OkStatus() : Store(); }

Status CountedOffsets::Store() {
  RETURN_IF_ERROR(StoreSinkState(fs_, path_, state_));
  durable_ = state_.offsets;
  stored_ns_ = clock_.MonotonicNs();
  return OkStatus();
}

}  // namespace millstream
