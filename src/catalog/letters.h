// LetterBook: what became of dead letters: which were dropped, which were sent again, and what a start must
// still do, as the events of `_control` tell it.
//
// Place: floor 4, a part of the Catalog. Pure: pipeline/ appends the events, has an effect, and appends that
// it is done; a crash in between leaves a pending replay, whose effect is redone. Redoing doubles nothing,
// because the book gives each replay places that no other has:
//   sequences  for letters that ingest refused: they grow over all replays of the stream, so one receipt a
//              partition (origin "replay/STREAM") tells which of them are appended;
//   slots      for those of a pipeline: numbers beside the partitions, under which the sink stores how far
//              the replay has come (SEMANTICS, "Dead letters": an offset of its own).
// A letter is taken by at most one replay or drop; what a replay cannot send for good may be dropped still.
// Threads: a LetterBook belongs to one thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace millstream {

/// Numbers of letters, kept as ranges: "41,50-60".
class LetterSet {
 public:
  /// kInvalid for what is no such list.
  static Result<LetterSet> Parse(std::string_view text);
  void Insert(uint64_t number) { Insert(number, number); }
  void Insert(uint64_t first, uint64_t last);
  void Insert(const LetterSet& other);
  LetterSet Without(const LetterSet& other) const;
  LetterSet Common(const LetterSet& other) const { return Without(Without(other)); }
  bool Contains(uint64_t number) const;
  uint64_t count() const;
  bool empty() const { return ranges_.empty(); }
  uint64_t first() const { return ranges_.begin()->first; }
  uint64_t last() const { return ranges_.rbegin()->second; }
  std::string ToText() const;
  bool operator==(const LetterSet&) const = default;

 private:
  std::map<uint64_t, uint64_t> ranges_;  // first, last; neither touch nor overlap
};

/// One sink to which letters go again, and by which version of the filters.
struct ReplayPart {
  std::string pipeline, sink;
  uint64_t generation = 0, version = 0;
  uint32_t slot = 0;  // of partition 0; that of partition P is slot + P
  bool operator==(const ReplayPart&) const = default;
};

struct LetterReplay {
  uint64_t id = 0;
  std::string stream;
  LetterSet letters;
  uint64_t appended = 0;  // letters of ingest among them
  uint64_t sequence = 0;  // of the letter before the first of those
  std::vector<ReplayPart> parts;
  bool finished = false;
};

enum class LetterState : uint8_t { kOpen, kReplaying, kReplayed, kDropped };
std::string_view NameOf(LetterState state);

class LetterBook {
 public:
  static constexpr uint32_t kFirstSlot = 1u << 30;  // above every partition

  LetterState StateOf(const std::string& stream, uint64_t number) const;
  /// Letters that are neither replayed nor dropped, of `kept` in all.
  uint64_t OpenOf(const std::string& stream, uint64_t kept) const;
  /// Gives the replay its number, its sequences, and slots for `partitions` of each part.
  void Place(LetterReplay& replay, uint32_t partitions) const;

  /// kCorrupt if a letter of it is not open, or its places are taken.
  Status Begin(LetterReplay replay, uint32_t partitions);
  Status Finish(uint64_t id);
  /// Letters that are open, or of a replay under way, to which they then belong no more.
  Status Drop(const std::string& stream, const LetterSet& letters);
  /// Those of them that are open.
  void DropOpen(const std::string& stream, const LetterSet& letters);

  /// The stream's letters are gone with it.
  void Forget(const std::string& stream);

  /// By number. Finished ones stay: a table that was made anew takes their rows again.
  const std::map<uint64_t, LetterReplay>& replays() const { return replays_; }
  std::vector<uint64_t> Pending() const;

 private:
  struct Taken {
    LetterSet replayed, dropped;
    uint64_t sequence = 0;
  };
  Status CheckOpen(const std::string& stream, const LetterSet& letters) const;

  std::map<std::string, Taken> streams_;
  std::map<uint64_t, LetterReplay> replays_;
  uint64_t last_id_ = 0;
  uint32_t next_slot_ = kFirstSlot;
};

}  // namespace millstream
