// StreamSequencer: the one way into a stream's partitions, so that commands and plain events of a key meet in
// an order.
//
// Place: floor 5; one a stream, shared by its StreamIngest (plain events) and its CommandRunner. Until a
// command emits into the stream it only hands batches on. From then on the keys of each batch are read, and a
// batch waits while a command of one of its keys is being decided, which is one SQL run long.
// Threads: thread-safe. `done` of an append may be called on the caller's thread (log.h).
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "log/log.h"
#include "pipeline/key_sequencer.h"

namespace millstream {

class StreamSequencer : public std::enable_shared_from_this<StreamSequencer> {
 public:
  using Key = KeySequencer::Key;
  using Keys = std::vector<Key>;

  explicit StreamSequencer(Stream& stream) : stream_(stream), partitions_(stream.partitions()) {}

  /// Plain events. Blocks while one of their keys is being decided.
  void Append(uint32_t partition, EncodedBatch batch, AckMode mode, Partition::Done done);

  /// From now on keys are followed. `quiet`: nothing is on its way into the stream; else waits until what is
  /// has got there.
  Status TurnOn(bool quiet);

  /// What the machine of a partition says or is told, under the lock.
  template <typename Call>
  auto With(uint32_t partition, Call call) {
    std::lock_guard lock(mutex_);
    return call(partitions_[partition]);
  }
  /// Events whose keys are queued already.
  void AppendQueued(uint32_t partition, EncodedBatch batch, AckMode mode, Keys keys, Partition::Done done);
  /// After commands were decided: plain events may go on.
  void Release() { released_.notify_all(); }

  /// The keys' last events below the floor, back to `from`; then all from `from` on is known. Reads the log;
  /// kCancelled after a stop.
  Status LearnFrom(uint32_t partition, uint64_t from, const std::stop_token& stop);

 private:
  Stream& stream_;
  std::mutex mutex_;
  std::condition_variable released_;
  bool is_on_ = false;
  std::vector<KeySequencer> partitions_;
};

KeySequencer::Key KeyOf(std::string_view key);
/// Keys of a batch's events, in their order.
Result<StreamSequencer::Keys> KeysOf(EventBatch& batch);
Result<StreamSequencer::Keys> KeysOf(const EncodedBatch& batch);

}  // namespace millstream
