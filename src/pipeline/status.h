// EngineStatus: what `top`, `/v1/status`, readiness and the system tables show. A snapshot; plain values.
//
// Place: floor 5.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "log/log.h"

namespace millstream {

struct StreamStatus {
  std::string name;
  std::vector<Bounds> partitions;
  uint64_t events = 0, bytes = 0, dead = 0;  // kept now; dead letters of the stream
  uint64_t dead_open = 0;                    // of those neither sent again nor dropped
  uint64_t bytes_in = 0;                     // of data, taken in since the start
  int64_t dedupe_window_us = 0;              // the window that really holds; 0 = no dedupe
  bool dedupe_shrunk = false;                // more keys came than it can remember
  double in_per_s = 0, bytes_per_s = 0;
};

struct FilterStatus {
  std::string name;
  uint64_t in = 0, out = 0, dead = 0;
  double in_per_s = 0, out_per_s = 0;
};

struct SinkStatus {
  std::string id;
  std::string state;   // starting catching_up live paused degraded failed; without a server: stopped
  std::string reason;  // of degraded or failed: "http: 503 from …, try 9 in 12 s"
  uint64_t rows = 0, retries = 0, lag_events = 0;
  double lag_seconds = 0, rows_per_s = 0;
  std::vector<std::pair<uint32_t, uint64_t>> next;  // partition, next offset
};

struct PipelineStatus {
  std::string name, stream, state, reason;
  uint64_t generation = 0, version = 0;
  uint64_t lag_events = 0, in = 0, out = 0, dead = 0;
  double lag_seconds = 0, in_per_s = 0, out_per_s = 0;
  int64_t p99_us = -1;  // appended to delivered, over the last minute; -1 = nothing yet
  std::vector<FilterStatus> filters;
  std::vector<SinkStatus> sinks;
};

struct SourceStatus {
  std::string name, kind, stream, state, reason;
  uint64_t events = 0;
  double events_per_s = 0;
};

struct EngineStatus {
  std::string version;
  int64_t up_us = 0;
  std::string url;
  uint64_t data_bytes = 0, free_bytes = 0, rss_bytes = 0;
  uint64_t catalog_version = 0;
  int64_t idempotency_window_us = 0;  // how far back every Idempotency-Key is known
  std::vector<StreamStatus> streams;
  std::vector<SourceStatus> sources;
  std::vector<PipelineStatus> pipelines;

  /// The body of GET /v1/status.
  std::string ToJson() const;
};

}  // namespace millstream
