// TableOptions: the settings of a `table` sink.
//
// Place: floor 3, below both who use them: sinks/ makes the sink, catalog/ checks tables against each other
// and against the rows that pipelines give. Values.
#pragma once

#include <string>
#include <vector>

#include "stage/spec.h"

namespace millstream {

struct TableOptions {
  std::string name;
  std::vector<std::string> key;  // empty: append
  NamedTexts values;             // not empty: aggregate
  SqlText delete_when;           // empty: _op = 'd'
  std::vector<std::string> order_by;
};

Spec<TableOptions> TableOptionsSpec();

}  // namespace millstream
