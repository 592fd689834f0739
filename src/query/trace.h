// Trace: which events, filters and versions a row comes from, through chains of pipelines.
//
// Place: floor 6. A row that one pipeline wrote names its event itself. Where several events or pipelines are
// behind a row (aggregate tables, several writers) history is run again, and all rows that went to the key
// are found. From an event of a stream that a pipeline feeds the attribute `causationid` leads on.
// Thread-safe. Bounds: `events` that are told, chains of kDepthMax. Failure: kNotFound (table, row),
// kDeadline, as PastTables else.
#pragma once

#include <cstdint>
#include <stop_token>
#include <string>

#include "pipeline/engine.h"

namespace millstream {

struct TraceRequest {
  std::string table;
  std::string key;  // the key's value; of several columns a JSON list; of an append table PARTITION:OFFSET
  uint64_t events = 20;    // the newest so many are told
  int64_t timeout_us = 0;  // 0: the server's deadline for queries
  std::stop_token stop{};
};

/// {"table":…,"row":{…},"total":1,"events":[{"position":…,"time":…,"pipeline":…,"version":…,"filters":[…],
/// "event":{…},"cause":{…}}],"not_reproducible":[…]}; the newest event first.
Result<std::string> Trace(Engine& engine, const TraceRequest& request);

}  // namespace millstream
