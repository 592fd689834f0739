// Chunks that no statement has made, for tests of what takes rows.
#pragma once

#include <duckdb.h>

#include <cstdint>
#include <vector>

#include "sql/database.h"

namespace millstream {

/// A chunk of `columns` BIGINT columns; each row has a value for every one. At most 2,048 rows.
inline Chunk BigintChunk(size_t columns, const std::vector<std::vector<int64_t>>& rows) {
  duckdb_logical_type bigint = duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);
  std::vector<duckdb_logical_type> types(columns, bigint);
  duckdb_data_chunk chunk = duckdb_create_data_chunk(types.data(), types.size());
  duckdb_destroy_logical_type(&bigint);
  for (size_t column = 0; column < columns; ++column) {
    auto* values = static_cast<int64_t*>(duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, column)));
    for (size_t row = 0; row < rows.size(); ++row) values[row] = rows[row][column];
  }
  duckdb_data_chunk_set_size(chunk, rows.size());
  return Chunk(chunk);
}

}  // namespace millstream
