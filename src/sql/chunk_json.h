// MakeJsonWriter: a JsonWriter for a chunk that has left its statement behind, as sinks get it.
//
// Place: floor 2. Stateless. Failure: none.
#pragma once

#include "sql/database.h"

namespace millstream {

/// Writes values of chunks that have this chunk's column types.
JsonWriter MakeJsonWriter(const Chunk& chunk);

}  // namespace millstream
