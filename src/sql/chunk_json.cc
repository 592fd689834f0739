#include "sql/chunk_json.h"

#include <duckdb.h>

namespace millstream {

JsonWriter MakeJsonWriter(const Chunk& chunk) {
  std::vector<duckdb_logical_type> types;
  for (uint32_t i = 0; i < chunk.columns(); ++i)
    types.push_back(duckdb_vector_get_column_type(duckdb_data_chunk_get_vector(chunk.get(), i)));
  JsonWriter writer(types);
  for (duckdb_logical_type& type : types) duckdb_destroy_logical_type(&type);
  return writer;
}

}  // namespace millstream
