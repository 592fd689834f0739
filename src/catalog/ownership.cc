#include "catalog/ownership.h"

#include <algorithm>

namespace millstream {

void Ownership::Activate(uint64_t version, Boundary from) {
  // What lies below was claimed, if by sinks of which a later process knows nothing.
  for (const auto& [partition, first] : from) Delivered(partition, first);
  versions_.push_back({version, std::move(from)});
}

Ownership::Owner Ownership::OwnerOf(uint32_t partition, uint64_t offset, uint64_t since) const {
  size_t first_version = 0;  // that owns anything, from the start on
  while (first_version + 1 < versions_.size() && versions_[first_version + 1].number <= since)
    ++first_version;
  Owner owner;
  for (size_t i = versions_.size(); i-- > first_version;) {
    auto from = versions_[i].from.find(partition);
    uint64_t first = i == first_version || from == versions_[i].from.end() ? 0 : from->second;
    if (first <= offset) {
      owner.version = versions_[i].number;
      break;
    }
    owner.end = std::min(owner.end, first);
  }
  return owner;
}

Ownership::Answer Ownership::Claim(uint32_t partition, uint64_t version, uint64_t first, uint64_t next,
                                   uint64_t since) {
  Owner owner = OwnerOf(partition, first, since);
  if (owner.version != version || owner.end < next) return Answer::kOther;
  uint64_t& claimed = claimed_[partition];
  if (held_ && next > claimed) return Answer::kWait;
  claimed = std::max(claimed, next);
  return Answer::kGo;
}

void Ownership::Delivered(uint32_t partition, uint64_t next) {
  uint64_t& claimed = claimed_[partition];
  claimed = std::max(claimed, next);
}

Boundary Ownership::Hold() {
  held_ = true;
  return claimed_;
}

}  // namespace millstream
