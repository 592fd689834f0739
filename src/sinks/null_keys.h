// RefuseNullKeys: events that give a NULL for a column of the target's key: such a row says of no row there
// what it is.
//
// Place: floor 4; for sinks with a key. Stateless.
#pragma once

#include <string>
#include <vector>

#include "stage/stage.h"

namespace millstream {

/// By ascending offsets. Columns that the rows do not have are left to the sink.
std::vector<RefusedEvent> RefuseNullKeys(const RowBatch& rows, const std::string& table,
                                         const std::vector<std::string>& key);

}  // namespace millstream
