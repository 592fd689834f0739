// ChunkBuilder: chunks from JSON values, for filters and sinks that make rows outside DuckDB.
//
// Place: floor 2. Used by `exec` (and what else answers in JSON); sinks take MakeJsonWriter.
// A row is made of one JSON value, whose members become the declared columns, and of one row of the batch
// before, whose reserved columns pass. Values are decoded as a contract's are (event/decode.h), without loss.
// Threads: one. Failure: kInvalid with the place of a value that does not convert.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "event/type.h"
#include "sql/row_batch.h"

namespace millstream {

/// Writes values of chunks that have this chunk's column types.
JsonWriter MakeJsonWriter(const Chunk& chunk);

/// A type as ColumnInfo names it, e.g. "TIMESTAMP WITH TIME ZONE".
std::string ColumnTypeName(const Type& type);

class ChunkBuilder {
 public:
  /// `fields`: the declared columns; a field with an empty pointer takes the value as a whole. Rows pass the
  /// columns of their source from `first_passed` on; the last of these is `_ordinal` and is given anew.
  ChunkBuilder(const std::vector<Field>& fields, uint32_t first_passed);
  ~ChunkBuilder();

  /// Adds one row. `value` is valid JSON. `source` must live until Finish. On failure nothing is added.
  Status Add(std::string_view value, const Chunk& source, uint32_t source_row, int32_t ordinal);
  uint32_t rows() const;
  /// All rows that were added, in chunks of at most 2,048.
  std::vector<Chunk> Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace millstream
