// The sources that Millstream has: one line each, one file each.
//
// Place: floor 4. main.cc puts them into the Registry. docs/adding-a-stage.md says how another is added.
#pragma once

#include "stage/stage.h"

namespace millstream {

SourceKind FileSource();  // file.cc: files of NDJSON, JSON or CSV, followed as they grow and rotate

}  // namespace millstream
