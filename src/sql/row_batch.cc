#include "sql/row_batch.h"

#include "sql/duckdb_face.h"

namespace millstream {
namespace {

/// The rows of a chunk that `selection` names.
Chunk CopyRows(const Chunk& chunk, const std::vector<uint32_t>& selection) {
  std::vector<LogicalType> owned;
  std::vector<duckdb_logical_type> types;
  for (uint32_t i = 0; i < chunk.columns(); ++i) {
    owned.emplace_back(duckdb_vector_get_column_type(duckdb_data_chunk_get_vector(chunk.get(), i)));
    types.push_back(owned.back().get());
  }
  Chunk copy(duckdb_create_data_chunk(types.data(), types.size()));
  duckdb_selection_vector selected = duckdb_create_selection_vector(selection.size());
  std::copy(selection.begin(), selection.end(), duckdb_selection_vector_get_data_ptr(selected));
  for (uint32_t i = 0; i < chunk.columns(); ++i)
    duckdb_vector_copy_sel(duckdb_data_chunk_get_vector(chunk.get(), i),
                           duckdb_data_chunk_get_vector(copy.get(), i), selected, selection.size(), 0, 0);
  duckdb_destroy_selection_vector(selected);
  duckdb_data_chunk_set_size(copy.get(), selection.size());
  return copy;
}

}  // namespace

std::vector<Chunk> SelectRows(const RowBatch& rows, const std::function<bool(uint64_t offset)>& keep) {
  int offset_column = rows.Find("_offset");
  CHECK(offset_column >= 0);
  std::vector<Chunk> kept;
  std::vector<uint32_t> selection;
  for (const Chunk& chunk : rows.chunks) {
    selection.clear();
    auto* offsets = static_cast<const int64_t*>(chunk.data(static_cast<uint32_t>(offset_column)));
    for (uint32_t row = 0, count = chunk.rows(); row < count; ++row)
      if (keep(static_cast<uint64_t>(offsets[row]))) selection.push_back(row);
    if (!selection.empty()) kept.push_back(CopyRows(chunk, selection));
  }
  return kept;
}

}  // namespace millstream
