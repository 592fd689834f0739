// The sources that Millstream has: one line each, one file each.
//
// Place: floor 4. main.cc puts them into the Registry. docs/adding-a-stage.md says how another is added.
#pragma once

#include "stage/stage.h"

#define MILLSTREAM_SOURCES(SOURCE) \
  SOURCE(FileSource) /* file.cc: NDJSON, JSON or CSV, followed as they grow and rotate */

namespace millstream {

#define MILLSTREAM_DECLARE(NAME) SourceKind NAME();
MILLSTREAM_SOURCES(MILLSTREAM_DECLARE)
#undef MILLSTREAM_DECLARE

inline void AddSources(Registry& registry) {
#define MILLSTREAM_ADD(NAME) registry.Add(NAME());
  MILLSTREAM_SOURCES(MILLSTREAM_ADD)
#undef MILLSTREAM_ADD
}

}  // namespace millstream
