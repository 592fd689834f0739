// Allowance: what one execution of users' SQL may take of memory, and its end when it is interrupted, told
// where DuckDB allocates.
//
// Place: floor 2, inside sql/. DuckDB looks at an interrupt only between vectors of 2,048 rows, and its
// memory limit does not count the strings and lists of a vector, so that one expression could take all of the
// machine and all of the time. Whatever grows has to allocate: this file replaces `operator new` and DuckDB's
// own allocator for the whole program, and refuses what the thread at work may not have. DuckDB makes an
// error of it. Threads: an Allowance belongs to the thread that executes, Interrupt excepted. Not in programs
// that a sanitizer watches, which need the allocator themselves: there nothing is refused.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "base/status.h"

namespace millstream {

class Allowance {
 public:
  /// `memory_bytes`: server.memory, of which one execution may take as much as there is.
  explicit Allowance(uint64_t memory_bytes);

  /// While it lives, what this thread allocates is the allowance's.
  class Scope {
   public:
    explicit Scope(Allowance* allowance);  // null: nothing is watched
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Allowance* before_;
  };

  /// Of a new execution: nothing is taken, and an interrupt that came before is forgotten.
  void Begin();
  /// From any thread: allocations of what runs are refused from now on, until the next execution.
  void Interrupt() { interrupted_.store(true, std::memory_order_relaxed); }

  /// While one lives, executions that give way may not grow by more than `bytes` together: DuckDB has
  /// memory that is meant for a writer (writer_reserve.h). Any thread; several add up.
  class WriterScope {
   public:
    explicit WriterScope(uint64_t bytes);
    ~WriterScope();
    WriterScope(const WriterScope&) = delete;
    WriterScope& operator=(const WriterScope&) = delete;
  };
  /// Before the first execution: this allowance's give way. Users' queries do.
  void GiveWayToWriters() { gives_way_ = true; }

  enum class Refusal : uint8_t { kNone, kInterrupted, kTooMuch, kFull, kWriter };
  /// Why an allocation was refused in this execution: kTooMuch, the execution by itself took more than it may
  /// have; kFull, it took much, and the process is beyond its memory; kWriter, a writer needs it.
  Refusal refusal() const { return refusal_; }
  /// In words, for users.
  std::string Reason() const;

  /// What the execution has taken and not given back.
  int64_t taken() const { return taken_; }
  // Called by the allocator.
  bool Take(size_t bytes) noexcept;
  void Give(size_t bytes) noexcept { taken_ -= static_cast<int64_t>(bytes); }
  // Of memory that DuckDB's limit counts, which writers may need.
  bool TakeCounted(size_t bytes) noexcept;
  void GiveCounted(size_t bytes) noexcept;

 private:
  const int64_t own_max_, process_max_;
  int64_t taken_ = 0;      // more is given than taken where it was taken before
  int64_t next_look_ = 0;  // at the process's memory, when so much is taken
  uint32_t passes_ = 0;    // allocations that are left for the handling of a refusal
  uint32_t small_ = 0;     // small allocations that passed since the interrupt
  Refusal refusal_ = Refusal::kNone;
  bool gives_way_ = false;
  std::atomic<bool> interrupted_{false};
};

}  // namespace millstream
