#include "pipeline/dedupe.h"

#include <xxhash.h>

#include <algorithm>

#include "base/planted.h"

namespace millstream {
namespace {

std::optional<Attribute> AttributeNamed(std::string_view name) {
  if (name == "ce_id") return Attribute::kId;
  if (name == "ce_source") return Attribute::kSource;
  if (name == "ce_type") return Attribute::kType;
  if (name == "ce_subject") return Attribute::kSubject;
  return std::nullopt;
}

/// Appends length and bytes of a value, so that ("a", "bc") and ("ab", "c") differ.
void AppendPart(std::string& bytes, std::string_view value) {
  auto size = static_cast<uint32_t>(value.size());
  bytes.append(reinterpret_cast<const char*>(&size), sizeof size);
  bytes.append(value);
}

}  // namespace

DedupeWindow::DedupeWindow(std::vector<std::string> by, int64_t window_us, size_t max_keys,
                           std::string default_source)
    : by_(std::move(by)),
      window_us_(window_us),
      max_keys_(max_keys),
      default_source_(std::move(default_source)) {}

Result<std::vector<DedupeWindow::Identity>> DedupeWindow::Identify(EventBatch& batch,
                                                                   const Contract& contract) const {
  std::vector<std::string> bytes(batch.count());
  std::vector<bool> missing(batch.count());
  for (const std::string& name : by_) {
    const Column* column = nullptr;
    std::optional<Attribute> attribute = AttributeNamed(name);
    if (attribute) {
      ASSIGN_OR_FAIL(column, batch.AttributeColumn(*attribute));
    } else {
      int index = contract.Find(name);
      if (index < 0) return Fail(Invalid("dedupe: no field '{}' in the contract", name));
      ASSIGN_OR_FAIL(column, batch.FieldColumn(contract.fields[static_cast<size_t>(index)]));
    }
    bool is_string = attribute.has_value() || column->type.IsString();
    uint32_t width = is_string ? 0 : column->type.FixedBytes();
    for (uint32_t row = 0; row < batch.count(); ++row) {
      if (column->IsNull(row)) {
        if (attribute == Attribute::kSource) {
          AppendPart(bytes[row], default_source_);
        } else {
          missing[row] = true;
        }
      } else if (is_string) {
        AppendPart(bytes[row], column->String(row));
      } else {
        AppendPart(bytes[row], column->fixed.substr(
                                   column->form == Column::Form::kConstant ? 0 : size_t{row} * width, width));
      }
    }
  }
  std::vector<Identity> identities(batch.count());
  for (uint32_t row = 0; row < batch.count(); ++row) {
    if (missing[row]) continue;
    XXH128_hash_t hash = XXH3_128bits(bytes[row].data(), bytes[row].size());
    identities[row] = {hash.low64 | 1, hash.high64};
  }
  return identities;
}

bool DedupeWindow::IsSeen(const std::pair<int64_t, Identity>& entry) const {
  auto it = seen_.find(entry.second);
  return it != seen_.end() && it->second == entry.first;
}

bool DedupeWindow::Insert(Identity identity, int64_t now_us) {
  auto [it, is_new] = seen_.try_emplace(identity, now_us);
  if (!is_new && now_us - it->second <= window_us_) return false;
  it->second = now_us;
  order_.emplace_back(now_us, identity);
  while (now_us - order_.front().first > window_us_ || order_.size() > max_keys_) {
    if (IsSeen(order_.front())) {
      int64_t age_us = now_us - order_.front().first;
      shrunk_us_ = age_us <= window_us_ ? std::max<int64_t>(age_us, 1) : 0;
      seen_.erase(order_.front().second);
    }
    order_.pop_front();
  }
  return true;
}

void DedupeWindow::Erase(Identity identity) {
  seen_.erase(identity);
  while (!order_.empty() && !IsSeen(order_.back())) order_.pop_back();
}

void DedupeWindow::Restore(std::vector<std::pair<int64_t, Identity>> seen, bool is_cut, int64_t now_us) {
  if (IsPlanted(Planted::dedupe_forgets)) return;
  std::sort(seen.begin(), seen.end());
  for (const auto& [time_us, identity] : seen) Insert(identity, time_us);
  if (is_cut && !order_.empty()) shrunk_us_ = std::max<int64_t>(now_us - order_.front().first, 1);
}

}  // namespace millstream
