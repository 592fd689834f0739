// TriedQueries: a query's text is bound in a worker before it is bound here, once.
//
// Place: floor 6, inside query/. Remembers by their digests the last texts that survived, as long as what is
// live does not change. Thread-safe.
#pragma once

#include <map>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "pipeline/engine.h"
#include "sql/query_rewriter.h"

namespace millstream {

class TriedQueries {
 public:
  struct Query {
    const std::string& sql;
    const std::vector<TableReference>& references;
    const std::map<std::string, std::string>& replacements;  // of some of them: what they stand for
  };
  /// OK: it may be bound by `connection`. kInvalid: it does not survive, and why; kDeadline, kCancelled.
  Status Try(Engine& engine, Connection& connection, const Query& query, int64_t timeout_us,
             const std::stop_token& stop);

 private:
  bool IsKnown(const std::string& digest);

  std::mutex mutex_;
  std::set<std::string> known_;
};

}  // namespace millstream
