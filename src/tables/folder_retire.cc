// Folder: what no view names any more is dropped once nobody reads it.
#include "tables/folder.h"

namespace millstream {

void Folder::Retire(const std::string& base, std::shared_ptr<Table> table) {
  std::lock_guard change(changing_);
  Retire(*table, table->recent->end());
  if (!base.empty()) retired_bases_.push_back(base);
}

/// A reader that has begun keeps its rows.
bool Folder::DropRetired() {
  std::lock_guard change(changing_);
  int64_t now = state_.clock.MonotonicNs();
  while (!retired_.empty() && now - retired_.front().since_ns >= kReaderNs) {
    Retired retired = std::move(retired_.front());
    retired_.pop_front();
    retired.table->recent->DropBefore(retired.end_row);
    std::lock_guard lock(state_.mutex);
    state_.CountBytes(*retired.table);
    state_.room.notify_all();
  }
  return retired_.empty();
}

}  // namespace millstream
