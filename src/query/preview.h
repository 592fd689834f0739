// Preview: what other filters would make of the same history: rows that come, go and change, new dead
// letters, and the cost of both.
//
// Place: floor 6. Runs the pipeline as it is and as it would be over the same events, into tables of a DuckDB
// instance of its own, one after the other, and compares them. Tables that filters join are made first, as of
// now. Nothing of it reaches a live table, stream or sink. Thread-safe. Failure: kNotFound (pipeline,
// filter), kInvalid: the new filters do not bind; kDeadline, kCancelled.
#pragma once

#include <cstdint>
#include <map>
#include <stop_token>
#include <string>

#include "pipeline/engine.h"

namespace millstream {

struct PreviewRequest {
  std::string pipeline;
  std::map<std::string, std::string> set;  // filter, its new SQL
  uint64_t last = 10'000;                  // events, as many of each partition
  std::string since;                       // a time, a duration ago or a position, in place of `last`
  uint64_t rows = 20;                      // that are shown of each kind
  int64_t timeout_us = 0;                  // 0: the server's deadline for queries
  std::stop_token stop{};
};

/// {"pipeline":…,"from":…,"to":…,"events":n,"same":false,"tables":[{"table":…,"key":[…],"added":{"count":n,
/// "rows":[…]},"removed":{…},"changed":{"count":n,"columns":{"gross":n},"rows":[{"key":{…},"columns":{"gross":
/// {"old":1,"new":2}}}]},"columns_added":[…],"columns_removed":[…]}],"dead_letters":{"old":n,"new":n,"rows":[…]},
/// "cost":{"old_ns":n,"new_ns":n},"not_reproducible":[…]}; costs are per event and sink.
Result<std::string> Preview(Engine& engine, const PreviewRequest& request);

}  // namespace millstream
