// The sinks that Millstream has: one line each, one file each.
//
// Place: floor 4. main.cc puts them into the Registry. docs/adding-a-stage.md says how another is added.
#pragma once

#include "stage/stage.h"

namespace millstream {

SinkKind DropSink();    // drop.cc: counts rows and lets them go
SinkKind FileSink();    // file.cc: NDJSON or CSV files, rotated and compressed
SinkKind StdoutSink();  // stdout.cc: rows as lines on standard output
SinkKind StreamSink();  // stream.cc: rows as events of another stream
SinkKind TableSink();   // table.cc: rows of a table that queries read

}  // namespace millstream
