#include "sql/chunk_builder.h"

#include "event/column_builder.h"
#include "event/decode.h"
#include "event/json_scan.h"
#include "sql/duckdb_face.h"
#include "sql/vector_fill.h"

namespace millstream {
namespace {

/// Rows of a source chunk to be copied, in order.
class Selection {
 public:
  explicit Selection(const std::vector<uint32_t>& rows)
      : vector_(duckdb_create_selection_vector(rows.size())) {
    sel_t* data = duckdb_selection_vector_get_data_ptr(vector_);
    std::copy(rows.begin(), rows.end(), data);
  }
  ~Selection() { duckdb_destroy_selection_vector(vector_); }
  duckdb_selection_vector get() const { return vector_; }

 private:
  duckdb_selection_vector vector_;
};

Chunk MakeChunk(const std::vector<LogicalType>& types) {
  std::vector<duckdb_logical_type> raw;
  for (const LogicalType& type : types) raw.push_back(type.get());
  return Chunk(duckdb_create_data_chunk(raw.data(), raw.size()));
}

duckdb_vector VectorOf(const Chunk& chunk, uint64_t column) {
  return duckdb_data_chunk_get_vector(chunk.get(), column);
}

}  // namespace

JsonWriter MakeJsonWriter(const Chunk& chunk) {
  std::vector<duckdb_logical_type> types;
  for (uint32_t i = 0; i < chunk.columns(); ++i)
    types.push_back(duckdb_vector_get_column_type(VectorOf(chunk, i)));
  JsonWriter writer(types);
  for (duckdb_logical_type& type : types) duckdb_destroy_logical_type(&type);
  return writer;
}

std::string ColumnTypeName(const Type& type) { return TypeName(MakeLogicalType(type).get()); }

struct ChunkBuilder::State {
  struct Origin {
    const Chunk* chunk;
    uint32_t row;
    int32_t ordinal;
  };
  std::vector<Decoder> decoders;
  std::vector<ColumnBuilder> columns;
  std::vector<std::string> pointers;
  JsonFinder finder;
  std::vector<JsonValue> values;
  std::vector<Origin> origins;
  uint32_t first_passed = 0;

  explicit State(std::vector<std::string> found) : finder(std::move(found)) {}

  std::vector<LogicalType> Types(const Chunk& source) const {
    std::vector<LogicalType> types;
    for (const Decoder& decoder : decoders) types.push_back(MakeLogicalType(decoder.type()));
    for (uint32_t i = first_passed; i < source.columns(); ++i)
      types.emplace_back(duckdb_vector_get_column_type(VectorOf(source, i)));
    return types;
  }

  // FillVector's strings point into the columns, which die here; duckdb_vector_copy_sel makes them the
  // chunk's own.
  void CopyDecoded(const std::vector<Column>& decoded, const std::vector<LogicalType>& types, uint32_t begin,
                   uint32_t count, const Chunk& to) const {
    if (decoded.empty()) return;
    std::vector<duckdb_logical_type> raw;
    for (size_t i = 0; i < decoded.size(); ++i) raw.push_back(types[i].get());
    Chunk borrowed(duckdb_create_data_chunk(raw.data(), raw.size()));
    std::vector<uint32_t> all(count);
    for (uint32_t i = 0; i < count; ++i) all[i] = i;
    Selection selection(all);
    for (size_t i = 0; i < decoded.size(); ++i) {
      FillVector(VectorOf(borrowed, i), 0, decoded[i], begin, count, MakeEntries(decoded[i]));
      duckdb_vector_copy_sel(VectorOf(borrowed, i), VectorOf(to, i), selection.get(), count, 0, 0);
    }
  }

  void CopyPassed(uint32_t begin, uint32_t count, const Chunk& to) const {
    for (uint32_t at = begin; at < begin + count;) {
      const Chunk* source = origins[at].chunk;
      std::vector<uint32_t> rows;
      uint32_t first = at;
      for (; at < begin + count && origins[at].chunk == source; ++at) rows.push_back(origins[at].row);
      Selection selection(rows);
      for (uint32_t i = first_passed; i < source->columns(); ++i)
        duckdb_vector_copy_sel(VectorOf(*source, i), VectorOf(to, decoders.size() + i - first_passed),
                               selection.get(), rows.size(), 0, first - begin);
    }
    auto* ordinals = static_cast<int32_t*>(to.data(to.columns() - 1));
    for (uint32_t i = 0; i < count; ++i) ordinals[i] = origins[begin + i].ordinal;
  }
};

ChunkBuilder::ChunkBuilder(const std::vector<Field>& fields, uint32_t first_passed) {
  std::vector<std::string> pointers;
  for (const Field& field : fields)
    if (!field.pointer.empty()) pointers.push_back(field.pointer);
  state_ = std::make_unique<State>(std::move(pointers));
  state_->first_passed = first_passed;
  for (const Field& field : fields) {
    state_->pointers.push_back(field.pointer);
    state_->decoders.emplace_back(field.type);
    state_->columns.emplace_back(field.type);
  }
}

ChunkBuilder::~ChunkBuilder() = default;

uint32_t ChunkBuilder::rows() const { return static_cast<uint32_t>(state_->origins.size()); }

Status ChunkBuilder::Add(std::string_view value, const Chunk& source, uint32_t source_row, int32_t ordinal) {
  if (auto error = state_->finder.Find(value, state_->values)) return Invalid("{}", error->message);
  size_t found = 0;
  for (size_t i = 0; i < state_->decoders.size(); ++i) {
    bool whole = state_->pointers[i].empty();
    JsonValue part = whole ? MakeJsonValue(value) : state_->values[found++];
    auto error = state_->decoders[i].Append(part, state_->columns[i]);
    if (!error) continue;
    for (size_t k = 0; k <= i; ++k) state_->columns[k].Truncate(rows());
    return Invalid("{}{}: {}", state_->pointers[i], error->path, error->message);
  }
  state_->origins.push_back({&source, source_row, ordinal});
  return OkStatus();
}

std::vector<Chunk> ChunkBuilder::Finish() {
  std::vector<Chunk> chunks;
  std::vector<Column> decoded;
  for (ColumnBuilder& builder : state_->columns) decoded.push_back(builder.Take());
  const auto chunk_rows = static_cast<uint32_t>(duckdb_vector_size());
  for (uint32_t begin = 0; begin < rows(); begin += chunk_rows) {
    uint32_t count = std::min(chunk_rows, rows() - begin);
    std::vector<LogicalType> types = state_->Types(*state_->origins[begin].chunk);
    Chunk chunk = MakeChunk(types);
    state_->CopyDecoded(decoded, types, begin, count, chunk);
    state_->CopyPassed(begin, count, chunk);
    duckdb_data_chunk_set_size(chunk.get(), count);
    chunks.push_back(std::move(chunk));
  }
  state_->origins.clear();
  return chunks;
}

}  // namespace millstream
