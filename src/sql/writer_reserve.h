// WriterReserve: the part of DuckDB's memory that only commits, checkpoints and rollbacks may take.
//
// Place: floor 2, inside sql/; one for each Database, shared with its connections. DuckDB 1.5 has one limit
// for all, and what a commit does in memory cannot be undone halfway: where it runs out of memory while it
// appends, columns of a table are left uneven, and the next checkpoint ends the process. So everything has a
// limit that is lower by the reserve; it is raised for the time of a write, in which queries may not grow by
// more than half of the reserve together (allowance.h). Threads: thread-safe; one write at a time. Failure:
// kExhausted before the write began, where others hold so much that the limit cannot be lowered again.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>

#include "base/status.h"

namespace millstream {

class Connection;

class WriterReserve {
 public:
  /// Of `memory_bytes`, DuckDB's in all.
  static uint64_t BytesOf(uint64_t memory_bytes);
  /// The setting that stays open when DuckDB's configuration is locked.
  static constexpr const char* kSetting = "memory_limit";

  /// `connection`: its own, for a setting that fails would end a writer's transaction. `limit_bytes`: what
  /// everything else may have; the database has it already.
  WriterReserve(std::unique_ptr<Connection> connection, uint64_t limit_bytes, uint64_t reserve_bytes);
  ~WriterReserve();

  /// Runs `write` with the reserve.
  Status Write(const std::function<Status()>& write);
  /// The same for what must run, whatever others hold: a rollback.
  Status Undo(const std::function<Status()>& undo);

 private:
  Status Limit(uint64_t bytes);
  Status WithReserve(const std::function<Status()>& write);

  std::unique_ptr<Connection> connection_;
  const uint64_t limit_bytes_, reserve_bytes_;
  std::mutex mutex_;
  bool is_low_ = true;  // whether the limit is `limit_bytes_`
};

}  // namespace millstream
