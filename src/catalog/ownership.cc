#include "catalog/ownership.h"

#include <algorithm>

namespace millstream {

void Ownership::Activate(uint64_t version, Boundary from) { versions_.push_back({version, std::move(from)}); }

Ownership::Owner Ownership::OwnerOf(uint32_t partition, uint64_t offset) const {
  Owner owner;
  for (size_t i = versions_.size(); i-- > 0;) {
    auto from = versions_[i].from.find(partition);
    uint64_t first = i == 0 || from == versions_[i].from.end() ? 0 : from->second;
    if (first <= offset) {
      owner.version = versions_[i].number;
      break;
    }
    owner.end = std::min(owner.end, first);
  }
  return owner;
}

Ownership::Answer Ownership::Claim(uint32_t partition, uint64_t version, uint64_t first, uint64_t next) {
  Owner owner = OwnerOf(partition, first);
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
