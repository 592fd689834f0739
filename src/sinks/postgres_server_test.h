// PostgresServer: a PostgreSQL server of its own for a test: Debian's, in a temporary folder, on a socket
// there.
//
// Place: floor 4, tests only. Started once a program, stopped at its end. PostgreSQL does not run as root:
// then its user is Debian's `postgres`.
#pragma once

#include <memory>
#include <string>

#include "sinks/postgres_session.h"

namespace millstream {

class PostgresServer {
 public:
  /// The program's server; null if this machine has no PostgreSQL.
  static PostgresServer* Get();
  ~PostgresServer();

  std::string url() const;
  /// Whether it was done.
  bool Start();
  bool Stop(const std::string& mode);
  /// A session beside those of the sinks.
  std::unique_ptr<PostgresSession> Connect();

 private:
  PostgresServer(std::string binaries, std::string folder);
  bool Run(const std::string& command) const;

  const std::string binaries_, folder_;
  SystemClock clock_;
  std::atomic<bool> never_{false};
};

}  // namespace millstream
