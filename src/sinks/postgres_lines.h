// PostgresLines: rows of a batch as lines of COPY's text format.
//
// Place: floor 4; for the `postgres` sink. Threads: one. Failure: none; a value that the server cannot read
// (a text with a NUL, a year that it does not know) is refused there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sql/row_batch.h"

namespace millstream {

struct PostgresLines {
  std::string text;
  uint64_t rows = 0;
  uint64_t deletions = 0;
};

/// The visible columns of all rows whose event lies at or above `from_offset`. `deleted` (one entry for each
/// row of the batch, or null): two columns follow: the row's number in the order of (offset, ordinal), and
/// whether it deletes its key.
PostgresLines WritePostgresLines(const RowBatch& rows, uint64_t from_offset,
                                 const std::vector<bool>* deleted);

}  // namespace millstream
