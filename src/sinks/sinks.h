// The sinks that Millstream has: one line each, one file each.
//
// Place: floor 4. main.cc puts them into the Registry. docs/adding-a-stage.md says how another is added.
#pragma once

#include "stage/stage.h"

#define MILLSTREAM_SINKS(SINK)                                        \
  SINK(DropSink)     /* drop.cc: counts rows and lets them go */      \
  SINK(FileSink)     /* file.cc: NDJSON or CSV, exactly once */       \
  SINK(PostgresSink) /* postgres.cc: rows of a table in PostgreSQL */ \
  SINK(StdoutSink)   /* stdout.cc: rows as lines */                   \
  SINK(StreamSink)   /* stream.cc: rows as events of a stream */      \
  SINK(TableSink)    /* table.cc: rows of a table for queries */

namespace millstream {

#define MILLSTREAM_DECLARE(NAME) SinkKind NAME();
MILLSTREAM_SINKS(MILLSTREAM_DECLARE)
#undef MILLSTREAM_DECLARE

inline void AddSinks(Registry& registry) {
#define MILLSTREAM_ADD(NAME) registry.Add(NAME());
  MILLSTREAM_SINKS(MILLSTREAM_ADD)
#undef MILLSTREAM_ADD
}

}  // namespace millstream
