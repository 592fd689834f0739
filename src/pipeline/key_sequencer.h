// KeySequencer: which commands of one partition may be decided now, so that each sees every earlier event of
// its key.
//
// Place: floor 5; the state machine of StreamSequencer, one a partition. Pure: no threads, clock or log
// (SEMANTICS, "Commands are atomic by key"). What goes into the partition is told here: an event of a key is
// *queued* (handed to the log, its offset not known yet), then *landed* at its offset, or failed. A command
// may be decided when nothing of its key is queued, no other command of it is being decided, and the tables
// that it reads have passed the key's last offset. While it is decided, no event of its key is queued. Keys
// are 64-bit hashes: two keys of one hash wait for each other and share a version, which harms neither's
// exactness. Bound: beyond kMostKeys those that stand still are forgotten, and the floor rises above them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>

namespace millstream {

class KeySequencer {
 public:
  using Key = uint64_t;
  static constexpr size_t kMostKeys = 4'000'000;

  /// Every event at or above `floor` is told here; of a key that is not known the last event lies below it.
  explicit KeySequencer(uint64_t floor = 0, size_t most_keys = kMostKeys)
      : floor_(floor), most_keys_(most_keys) {}

  // Events
  /// False while one of the keys is being decided on.
  bool MayQueue(std::span<const Key> keys) const;
  void Queue(std::span<const Key> keys);
  /// The queued events have the offsets from `first` on.
  void Land(std::span<const Key> keys, uint64_t first);
  /// The queued events did not get into the log.
  void Fail(std::span<const Key> keys);

  // Commands
  enum class Look : uint8_t {
    kReady,   // Begin may be called
    kBusy,    // an event of the key is queued, or a command of it is being decided
    kBehind,  // the tables have not passed Needs(key)
  };
  /// `next`: up to which offset the tables that the command reads hold the partition's events.
  Look At(Key key, uint64_t next) const;
  /// The `next` that tables must have reached.
  uint64_t Needs(Key key) const;
  void Begin(Key key);
  /// It is decided; what it gives was queued before, so that nothing comes between.
  void End(Key key);

  /// Offset of the key's last event; nothing if all of its events lie below floor().
  std::optional<uint64_t> Last(Key key) const;
  uint64_t floor() const { return floor_; }
  /// Tells of older events: `key` had one at `offset` (newest first, or in any order), then LowerFloor once
  /// all from `floor` on were told.
  void Learn(Key key, uint64_t offset);
  void LowerFloor(uint64_t floor);
  size_t keys() const { return keys_.size(); }

 private:
  struct State {
    std::optional<uint64_t> last;
    uint32_t queued = 0;
    bool deciding = false;
  };
  void Leave(Key key);
  void Forget();

  uint64_t floor_;
  size_t most_keys_;
  std::unordered_map<Key, State> keys_;
};

}  // namespace millstream
