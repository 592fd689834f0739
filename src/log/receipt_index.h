// ReceiptIndex: the newest receipt of each origin and part of one partition.
//
// Place: floor 2. Sources' and pipelines' receipts last; they are snapshot at the start of each segment.
// Receipts of idempotency keys (origin "key/…") are kept for a window of time and up to a number over all
// partitions, and lie in the footers of the segments of that window. Threads: thread-safe. Bounds: key
// receipts by KeyReceiptBudget; the others by how many sources, files and pipelines there are.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "log/log.h"

namespace millstream {

/// Shared by all partitions of a log.
struct KeyReceiptBudget {
  int64_t window_us = 0;
  uint64_t receipts_max = 0;
  std::atomic<uint64_t> receipts = 0;
};

class ReceiptIndex {
 public:
  explicit ReceiptIndex(KeyReceiptBudget& budget) : budget_(budget) {}
  ~ReceiptIndex();
  ReceiptIndex(const ReceiptIndex&) = delete;
  ReceiptIndex& operator=(const ReceiptIndex&) = delete;

  static bool IsKey(const std::string& origin) { return origin.starts_with("key/"); }

  /// Takes a receipt unless a newer one (by offset) of its origin and part is there.
  void Add(PlacedReceipt receipt);
  /// Takes all receipts of a batch that begins at `base_offset`.
  void AddBatch(const Receipts& receipts, uint64_t base_offset, uint32_t epoch, int64_t ingested_at_us);
  std::optional<PlacedReceipt> Find(const std::string& origin, const std::string& part) const;
  std::vector<Receipt> FindAll(const std::string& origin) const;
  /// All that are no key receipts, ordered by origin and part: for a segment's header.
  std::vector<PlacedReceipt> Lasting() const;
  /// All at or above an offset, ordered by origin and part: for a segment's footer.
  std::vector<PlacedReceipt> Since(uint64_t offset) const;
  /// 0, or the stamp from which on all key receipts are kept, where number rather than time limits the
  /// window.
  int64_t key_receipts_since_us() const;

 private:
  struct Key {
    std::string origin, part;
    uint64_t offset;
    int64_t us;
  };
  void EvictKeys(int64_t now_us);

  KeyReceiptBudget& budget_;
  mutable std::mutex mutex_;
  std::map<std::string, std::unordered_map<std::string, PlacedReceipt>> by_origin_;
  std::deque<Key> keys_;  // in the order of adding
  int64_t keys_since_us_ = 0;
};

}  // namespace millstream
