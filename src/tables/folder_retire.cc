// Folder: what no view names any more is dropped once nobody reads it.
#include "tables/folder.h"

namespace millstream {

void Folder::Retire(const std::vector<std::string>& deltas, const std::string& base,
                    std::shared_ptr<Table> table) {
  std::lock_guard change(changing_);
  int64_t now = state_.clock.MonotonicNs();
  for (const std::string& delta : deltas) retired_.push_back({delta, nullptr, 0, now});
  if (table->recent) retired_.push_back({"", table, table->recent->end(), now});
  if (!base.empty()) retired_bases_.push_back(base);
}

/// A reader that has a part open keeps its rows.
bool Folder::DropRetired() {
  std::lock_guard change(changing_);
  int64_t now = state_.clock.MonotonicNs();
  while (!retired_.empty() && now - retired_.front().since_ns >= kReaderNs) {
    const Retired& retired = retired_.front();
    if (retired.table) {
      retired.table->recent->DropBefore(retired.end_row);
      std::lock_guard lock(state_.mutex);
      state_.CountBytes(*retired.table);
    } else if (!connection_->Run("DROP TABLE IF EXISTS " + retired.part).ok()) {
      return false;
    }
    state_.room.notify_all();
    retired_.pop_front();
  }
  return retired_.empty();
}

void Folder::MeasureMemory() {
  int64_t now = state_.clock.MonotonicNs();
  if (now - measured_ns_ < kMeasureNs) return;
  measured_ns_ = now;
  std::lock_guard change(changing_);
  auto bytes = CountOf("SELECT memory_usage_bytes FROM duckdb_memory() WHERE tag = 'IN_MEMORY_TABLE'");
  if (!bytes) return;
  state_.memory_used = *bytes;
  state_.room.notify_all();
}

}  // namespace millstream
