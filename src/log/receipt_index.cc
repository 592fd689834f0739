#include "log/receipt_index.h"

#include <algorithm>

namespace millstream {
namespace {

void SortByName(std::vector<PlacedReceipt>& receipts) {
  std::sort(receipts.begin(), receipts.end(), [](const PlacedReceipt& a, const PlacedReceipt& b) {
    return std::tie(a.receipt.origin, a.receipt.part) < std::tie(b.receipt.origin, b.receipt.part);
  });
}

}  // namespace

ReceiptIndex::~ReceiptIndex() { budget_.receipts -= keys_.size(); }

void ReceiptIndex::Add(PlacedReceipt placed) {
  std::lock_guard lock(mutex_);
  placed.receipt.first_event = 0;
  placed.receipt.first_offset = placed.offset;
  const Receipt& receipt = placed.receipt;
  PlacedReceipt& kept = by_origin_[receipt.origin][receipt.part];
  if (!kept.receipt.origin.empty() && kept.offset > placed.offset) return;
  const int64_t now_us = placed.ingested_at_us;
  const bool is_key = IsKey(receipt.origin);
  if (is_key) {
    keys_.push_back({receipt.origin, receipt.part, placed.offset, now_us});
    ++budget_.receipts;
  }
  kept = std::move(placed);
  if (is_key) EvictKeys(now_us);
}

void ReceiptIndex::EvictKeys(int64_t now_us) {
  while (!keys_.empty()) {
    const Key& oldest = keys_.front();
    const bool too_old = oldest.us < now_us - budget_.window_us;
    if (!too_old && budget_.receipts <= budget_.receipts_max) return;
    if (!too_old) keys_since_us_ = oldest.us + 1;
    auto origin = by_origin_.find(oldest.origin);
    if (origin != by_origin_.end()) {
      auto part = origin->second.find(oldest.part);
      // A later receipt of the same key has an entry of its own in keys_.
      if (part != origin->second.end() && part->second.offset == oldest.offset) origin->second.erase(part);
      if (origin->second.empty()) by_origin_.erase(origin);
    }
    keys_.pop_front();
    --budget_.receipts;
  }
}

void ReceiptIndex::AddBatch(const Receipts& receipts, uint64_t base_offset, uint32_t epoch,
                            int64_t ingested_at_us) {
  for (const Receipt& receipt : receipts) {
    Add({.receipt = receipt,
         .offset = base_offset + receipt.first_event,
         .epoch = epoch,
         .ingested_at_us = ingested_at_us});
  }
}

std::optional<PlacedReceipt> ReceiptIndex::Find(const std::string& origin, const std::string& part) const {
  std::lock_guard lock(mutex_);
  auto parts = by_origin_.find(origin);
  if (parts == by_origin_.end()) return std::nullopt;
  auto found = parts->second.find(part);
  if (found == parts->second.end()) return std::nullopt;
  return found->second;
}

std::vector<Receipt> ReceiptIndex::FindAll(const std::string& origin) const {
  std::lock_guard lock(mutex_);
  std::vector<Receipt> all;
  auto parts = by_origin_.find(origin);
  if (parts == by_origin_.end()) return all;
  for (const auto& [part, placed] : parts->second) all.push_back(placed.receipt);
  std::sort(all.begin(), all.end(), [](const Receipt& a, const Receipt& b) { return a.part < b.part; });
  return all;
}

std::vector<PlacedReceipt> ReceiptIndex::Lasting() const {
  std::lock_guard lock(mutex_);
  std::vector<PlacedReceipt> all;
  for (const auto& [origin, parts] : by_origin_) {
    if (IsKey(origin)) continue;
    for (const auto& [part, placed] : parts) all.push_back(placed);
  }
  SortByName(all);
  return all;
}

std::vector<PlacedReceipt> ReceiptIndex::Since(uint64_t offset) const {
  std::lock_guard lock(mutex_);
  std::vector<PlacedReceipt> all;
  for (const auto& [origin, parts] : by_origin_) {
    for (const auto& [part, placed] : parts) {
      if (placed.offset >= offset) all.push_back(placed);
    }
  }
  SortByName(all);
  return all;
}

int64_t ReceiptIndex::key_receipts_since_us() const {
  std::lock_guard lock(mutex_);
  return keys_since_us_;
}

}  // namespace millstream
