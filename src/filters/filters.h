// The kinds of filters beside `sql`: one line each, one file each.
//
// Place: floor 4. main.cc puts them into the Registry. docs/adding-a-stage.md says how another is added.
#pragma once

#include "stage/stage.h"

namespace millstream {

FilterKind ExecFilter();  // exec.cc: any program, one JSON line in, one JSON line out

}  // namespace millstream
