// IdempotencyTable: answers that were given for an Idempotency-Key, so that a retry gets the same one
// (SEMANTICS, "Idempotency").
//
// Place: floor 5; one for the process, used by StreamIngest. What is durable lies as receipts in the log;
// this is the memory of the last 24 h or `max_keys`, so that most answers need no look there. Threads:
// thread-safe; waiters are called by the thread that finishes the first request.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "pipeline/ingest.h"

namespace millstream {

class IdempotencyTable {
 public:
  explicit IdempotencyTable(Clock& clock, size_t max_keys = 1'000'000) : clock_(clock), max_keys_(max_keys) {}

  static constexpr size_t kKeyBytesMax = 1024;  // of an Idempotency-Key
  static constexpr size_t kWaitersMax = 16;     // of one key

  enum class Begin : uint8_t {
    kFirst,     // go on; call Finish or Abandon
    kReplay,    // `done` was or will be called with the first's answer
    kMismatch,  // the key was used with another body
    kBusy,      // the first is still running, and kWaitersMax wait for it already
  };
  /// `key`: stream and key hash; `body`: hash of the body.
  Begin Enter(const std::string& key, const std::string& body, IngestDone done);
  /// The first request is durable.
  void Finish(const std::string& key, const IngestAnswer& answer);
  /// The first request was refused or failed: the key is free again, waiters get the refusal.
  void Abandon(const std::string& key, const IngestRefusal& refusal);

  size_t size() const;

 private:
  struct Entry {
    std::string body;
    bool finished = false;
    IngestAnswer answer;
    std::vector<IngestDone> waiters;
  };
  void Expire();

  Clock& clock_;
  const size_t max_keys_;
  mutable std::mutex mutex_;
  std::unordered_map<std::string, Entry> entries_;
  std::deque<std::pair<int64_t, std::string>> order_;  // by monotone time of Finish
};

/// 32 hex digits of XXH3-128 (seed 0).
std::string Hash128(std::string_view bytes);

}  // namespace millstream
