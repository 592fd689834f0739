// DedupeWindow: which events of a stream were seen lately, by the values of `dedupe: by`.
//
// Place: floor 5; one a stream that has `dedupe`, owned by StreamIngest and guarded by its commit lock.
// Window: a time or `max_keys`, whichever comes first (SEMANTICS, "Idempotency"). Rebuilt from the log at
// start. Times are microseconds of a clock that does not leap.
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/status.h"
#include "event/batch.h"
#include "event/type.h"

namespace millstream {

class DedupeWindow {
 public:
  /// `by`: ce_id, ce_source, ce_type, ce_subject or fields of the contract.
  DedupeWindow(std::vector<std::string> by, int64_t window_us, size_t max_keys, std::string default_source);

  /// The 64-bit halves of each event's identity; {0, 0} where a part is missing: such an event is never a
  /// duplicate.
  using Identity = std::pair<uint64_t, uint64_t>;
  Result<std::vector<Identity>> Identify(EventBatch& batch, const Contract& contract) const;

  /// True if it was not seen within the window; then it is remembered.
  bool Insert(Identity identity, int64_t now_us);
  /// Forgets one that was inserted just now: its event could not be stored.
  void Erase(Identity identity);
  /// What the log's end holds, in any order. `is_cut`: the window holds more than was read.
  void Restore(std::vector<std::pair<int64_t, Identity>> seen, bool is_cut, int64_t now_us);
  /// The window that really holds: less than asked for while more keys come than can be remembered.
  int64_t effective_window_us() const { return shrunk_us_ > 0 ? shrunk_us_ : window_us_; }
  int64_t window_us() const { return window_us_; }
  size_t max_keys() const { return max_keys_; }
  size_t size() const { return seen_.size(); }

 private:
  struct Hash {
    size_t operator()(const Identity& identity) const { return identity.first; }
  };
  std::vector<std::string> by_;
  int64_t window_us_;
  size_t max_keys_;
  std::string default_source_;
  bool IsSeen(const std::pair<int64_t, Identity>& entry) const;
  std::unordered_map<Identity, int64_t, Hash> seen_;  // when
  std::deque<std::pair<int64_t, Identity>> order_;    // by time; those erased are in it still
  int64_t shrunk_us_ = 0;
};

}  // namespace millstream
