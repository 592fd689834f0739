// PostgresSession: one connection to a PostgreSQL server, over libpq, with a deadline for every wait.
//
// Place: floor 4; owned by the `postgres` sink. Non-blocking throughout, save that libpq looks up host names
// while it connects. Threads: one; `interrupted` is set from another, and what runs then ends within 0.1 s.
// Failure, by SQLSTATE: 22 (data), 23 (constraint), 44 (check option), 54 (a limit, such as an index row's
// size) and P0001 (RAISE of a trigger) → kInvalid; 42 (names, rights, types) → kConflict; 53 (out of disk,
// memory) → kExhausted; any other, a lost connection and a passed deadline → kUnavailable. After a failure
// that is not kInvalid or kConflict the session is of no more use, and what it was doing may have come
// through.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"

struct pg_conn;
struct pg_result;

namespace millstream {

/// kInvalid if it is no connection string, without a word of what it holds.
Status CheckPostgresUrl(const std::string& url);
/// An identifier as it stands in SQL: "na""me".
std::string PostgresName(std::string_view name);

class PostgresSession {
 public:
  static constexpr int64_t kConnectUs = 10'000'000;
  static constexpr int64_t kStatementUs = 60'000'000;

  /// `url` as libpq takes it: postgresql://user:password@host/database, or key=value pairs. It never stands
  /// in a message.
  static Result<std::unique_ptr<PostgresSession>> Connect(const std::string& url, Clock& clock,
                                                          const std::atomic<bool>& interrupted);
  ~PostgresSession();

  struct Answer {
    std::vector<std::string> tags;                              // of each statement: "UPDATE 1", "COMMIT"
    std::vector<std::vector<std::optional<std::string>>> rows;  // of all statements that give rows
  };
  /// One or more statements in one message.
  Result<Answer> Run(const std::string& sql);
  /// `COPY … FROM STDIN` of these lines in the text format. Answers how many rows it took.
  Result<uint64_t> Copy(const std::string& sql, std::string_view lines);
  /// A text as it stands in SQL: 'it''s'.
  std::string Literal(const std::string& text) const;

 private:
  PostgresSession(pg_conn* connection, Clock& clock, const std::atomic<bool>& interrupted,
                  std::string password);
  Status Login();
  Status Await(short events);
  Status Flush();
  Result<bool> Put(std::string_view piece);
  Result<Answer> Finish(bool stop_at_copy);
  Status Broken(const std::string& what) const;
  Status StatusOf(const pg_result* result) const;
  std::string Redacted(std::string text) const;

  pg_conn* const connection_;
  Clock& clock_;
  const std::atomic<bool>& interrupted_;
  const std::string password_;
  int64_t deadline_ns_ = 0;
};

}  // namespace millstream
