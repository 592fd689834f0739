#include "pipeline/idempotency.h"

#include <xxhash.h>

namespace millstream {
namespace {

constexpr int64_t kWindowNs = 24ll * 3600 * 1'000'000'000;

}  // namespace

std::string Hash128(std::string_view bytes) {
  XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

IdempotencyTable::Begin IdempotencyTable::Enter(const std::string& key, const std::string& body,
                                                IngestDone done) {
  IngestAnswer answer;
  {
    std::lock_guard lock(mutex_);
    Expire();
    auto [it, inserted] = entries_.try_emplace(key);
    Entry& entry = it->second;
    if (inserted) {
      entry.body = body;
      return Begin::kFirst;
    }
    if (entry.body != body) return Begin::kMismatch;
    if (!entry.finished) {
      if (entry.waiters.size() >= kWaitersMax) return Begin::kBusy;
      entry.waiters.push_back(std::move(done));
      return Begin::kReplay;
    }
    answer = entry.answer;
  }
  answer.replayed = true;
  done(std::move(answer));
  return Begin::kReplay;
}

void IdempotencyTable::Finish(const std::string& key, const IngestAnswer& answer) {
  std::vector<IngestDone> waiters;
  {
    std::lock_guard lock(mutex_);
    auto it = entries_.find(key);
    if (it == entries_.end()) return;
    it->second.finished = true;
    it->second.answer = answer;
    waiters.swap(it->second.waiters);
    order_.emplace_back(clock_.MonotonicNs(), key);
  }
  for (IngestDone& waiter : waiters) {
    IngestAnswer copy = answer;
    copy.replayed = true;
    waiter(std::move(copy));
  }
}

void IdempotencyTable::Abandon(const std::string& key, const IngestRefusal& refusal) {
  std::vector<IngestDone> waiters;
  {
    std::lock_guard lock(mutex_);
    auto it = entries_.find(key);
    if (it == entries_.end()) return;
    waiters.swap(it->second.waiters);
    entries_.erase(it);
  }
  for (IngestDone& waiter : waiters) waiter(tl::unexpected(refusal));
}

void IdempotencyTable::Expire() {
  int64_t now = clock_.MonotonicNs();
  while (!order_.empty() && (now - order_.front().first > kWindowNs || order_.size() > max_keys_)) {
    entries_.erase(order_.front().second);
    order_.pop_front();
  }
}

size_t IdempotencyTable::size() const {
  std::lock_guard lock(mutex_);
  return entries_.size();
}

}  // namespace millstream
