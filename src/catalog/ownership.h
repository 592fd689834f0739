// Ownership: which version of a pipeline owns which offsets, and how the next one takes over while events
// flow (SEMANTICS, "Hot change").
//
// Place: floor 4. Pure: no threads, no files; pipeline/version_gate.h puts a lock around it. Protocol. A loop
// claims a batch before anything of it becomes durable (its dead letters, its rows). A change holds further
// claims; the boundary of each partition is then the end of what was ever claimed there, delivered or still
// under way, so nobody is waited for: what is under way ends below the boundary and is the old version's. The
// change makes the boundary durable (`activated`) and lets the claims go on; a batch that waited is cut at
// the boundary and run again by its owner. A crash before `activated`: the old version owns all. A crash
// after it: the boundary is known, and what had not been committed below it is delivered again by the old
// version.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace millstream {

/// By partition: the first offset that a version owns.
using Boundary = std::map<uint32_t, uint64_t>;

class Ownership {
 public:
  /// Versions in the order of their activation. The first holds from the start, whatever its boundary.
  void Activate(uint64_t version, Boundary from);

  struct Owner {
    uint64_t version = 0;
    uint64_t end = UINT64_MAX;  // the first offset that a later version owns
  };
  /// `since`: of a sink that was made anew with that version; those before it own nothing of what it gets.
  Owner OwnerOf(uint32_t partition, uint64_t offset, uint64_t since = 0) const;

  enum class Answer : uint8_t {
    kGo,     // deliver it
    kWait,   // a change is under way, and the batch may become the new version's
    kOther,  // not the version's, or not all of it: cut it and run it again
  };
  /// Asks to deliver [first, next) as `version` made it.
  Answer Claim(uint32_t partition, uint64_t version, uint64_t first, uint64_t next, uint64_t since = 0);
  /// Offsets below `next` were delivered, or may have been: before this process, or by a sink of which
  /// nothing more is known.
  void Delivered(uint32_t partition, uint64_t next);

  /// Claims of what nobody has claimed yet wait from now on. Answers where the next version would begin.
  Boundary Hold();
  /// Ends the hold: after Activate, or without it (nothing has changed).
  void Release() { held_ = false; }
  bool held() const { return held_; }

 private:
  struct Version {
    uint64_t number = 0;
    Boundary from;
  };
  std::vector<Version> versions_;
  Boundary claimed_;
  bool held_ = false;
};

}  // namespace millstream
