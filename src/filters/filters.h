// The kinds of filters beside `sql`: one line each, one file each.
//
// Place: floor 4. main.cc puts them into the Registry. docs/adding-a-stage.md says how another is added.
#pragma once

#include "stage/stage.h"

#define MILLSTREAM_FILTERS(FILTER) FILTER(ExecFilter) /* exec.cc: any program, one JSON line in, one out */

namespace millstream {

#define MILLSTREAM_DECLARE(NAME) FilterKind NAME();
MILLSTREAM_FILTERS(MILLSTREAM_DECLARE)
#undef MILLSTREAM_DECLARE

inline void AddFilters(Registry& registry) {
#define MILLSTREAM_ADD(NAME) registry.Add(NAME());
  MILLSTREAM_FILTERS(MILLSTREAM_ADD)
#undef MILLSTREAM_ADD
}

}  // namespace millstream
