#include "sql/row_buffer.h"

#include <algorithm>
#include <bit>
#include <mutex>
#include <numeric>

#include "base/text.h"
#include "sql/duckdb_face.h"

namespace millstream {
namespace {

constexpr uint32_t kChunkRows = 2048;
// Smaller chunks are put together once there are so many of them: a chunk takes the memory of a full one.
constexpr uint32_t kSmallRows = 512;
constexpr size_t kSmallRun = 32;

class OwnedVector {
 public:
  /// With room for `rows` values of the type that `like` has.
  OwnedVector(duckdb_vector like, idx_t rows) {
    LogicalType type(duckdb_vector_get_column_type(like));
    vector_ = duckdb_create_vector(type.get(), rows);
  }
  ~OwnedVector() {
    if (vector_ != nullptr) duckdb_destroy_vector(&vector_);
  }
  OwnedVector(OwnedVector&& other) noexcept : vector_(std::exchange(other.vector_, nullptr)) {}
  OwnedVector& operator=(OwnedVector&&) = delete;
  duckdb_vector get() const { return vector_; }

 private:
  duckdb_vector vector_;
};

/// Vectors that share what the chunk's hold: a chunk of them would have memory of its own beside.
std::vector<OwnedVector> Share(const Chunk& chunk) {
  std::vector<OwnedVector> shared;
  for (uint32_t i = 0; i < chunk.columns(); ++i) {
    duckdb_vector vector = duckdb_data_chunk_get_vector(chunk.get(), i);
    shared.emplace_back(vector, 1);
    duckdb_vector_reference_vector(shared.back().get(), vector);
  }
  return shared;
}

void CopyRows(duckdb_vector from, duckdb_vector to, const std::vector<uint32_t>& rows) {
  duckdb_selection_vector chosen = duckdb_create_selection_vector(rows.size());
  std::copy(rows.begin(), rows.end(), duckdb_selection_vector_get_data_ptr(chosen));
  duckdb_vector_copy_sel(from, to, chosen, rows.size(), 0, 0);
  duckdb_destroy_selection_vector(chosen);
}

void CopyRange(duckdb_vector from, duckdb_vector to, uint32_t begin, uint32_t count, uint32_t at) {
  duckdb_selection_vector all = duckdb_create_selection_vector(begin + count);
  auto* rows = duckdb_selection_vector_get_data_ptr(all);
  for (uint32_t i = 0; i < begin + count; ++i) rows[i] = i;
  duckdb_vector_copy_sel(from, to, all, begin + count, begin, at);
  duckdb_destroy_selection_vector(all);
}

/// Memory of a vector with `rows` values, about: a vector has room for a whole chunk.
uint64_t BytesOf(duckdb_vector vector, uint64_t rows) {
  LogicalType type(duckdb_vector_get_column_type(vector));
  constexpr uint64_t kInline = 12, kWidest = 16;
  uint64_t bytes = kChunkRows * kWidest;
  switch (duckdb_get_type_id(type.get())) {
    case DUCKDB_TYPE_VARCHAR:
    case DUCKDB_TYPE_BLOB: {
      auto* texts = static_cast<duckdb_string_t*>(duckdb_vector_get_data(vector));
      uint64_t* validity = duckdb_vector_get_validity(vector);
      for (uint64_t i = 0; i < rows; ++i) {
        if (!duckdb_validity_row_is_valid(validity, i)) continue;  // what lies there is no text
        uint64_t length = duckdb_string_t_length(texts[i]);
        if (length > kInline) bytes += length;
      }
      return bytes;
    }
    case DUCKDB_TYPE_LIST:
    case DUCKDB_TYPE_MAP:
      return bytes + BytesOf(duckdb_list_vector_get_child(vector), duckdb_list_vector_get_size(vector));
    case DUCKDB_TYPE_STRUCT:
      for (idx_t i = 0; i < duckdb_struct_type_child_count(type.get()); ++i)
        bytes += BytesOf(duckdb_struct_vector_get_child(vector, i), rows);
      return bytes;
    default:
      return std::max(rows, uint64_t{kChunkRows}) * kWidest / 2;
  }
}

template <typename T>
T* Values(duckdb_vector vector) {
  return static_cast<T*>(duckdb_vector_get_data(vector));
}

void SetNull(duckdb_vector vector, uint32_t rows) {
  duckdb_vector_ensure_validity_writable(vector);
  std::fill_n(duckdb_vector_get_validity(vector), (rows + 63) / 64, 0);
  LogicalType type(duckdb_vector_get_column_type(vector));
  duckdb_type id = duckdb_get_type_id(type.get());
  if (id == DUCKDB_TYPE_STRUCT)
    for (idx_t i = 0; i < duckdb_struct_type_child_count(type.get()); ++i)
      SetNull(duckdb_struct_vector_get_child(vector, i), rows);
}

}  // namespace

struct RowBuffer::Piece {
  std::vector<OwnedVector> vectors;
  std::shared_ptr<const std::vector<std::string>> names;
  uint32_t pipeline = 0;
  uint64_t first = 0, end = 0;  // numbers of its rows
  uint64_t bytes = 0;
  // Rows by `_hash`: those of a place, chained; a row's number in the piece and 1, 0 = none.
  std::vector<uint16_t> places, chained;
  const uint64_t* hashes = nullptr;  // by row

  duckdb_vector vector(size_t i) const { return vectors[i].get(); }
  uint32_t rows() const { return static_cast<uint32_t>(end - first); }
  int Find(std::string_view name) const {
    for (size_t i = 0; i < names->size(); ++i)
      if (SameName((*names)[i], name)) return static_cast<int>(i);
    return -1;
  }
  void Measure() {
    bytes = 0;
    for (const OwnedVector& each : vectors) bytes += BytesOf(each.get(), rows());
    const int at = Find("_hash");
    if (at < 0) return;
    hashes = Values<uint64_t>(vector(at));
    places.assign(std::bit_ceil(2 * rows()), 0), chained.assign(rows(), 0);
    for (uint32_t row = 0; row < rows(); ++row) {
      uint16_t& place = places[hashes[row] & (places.size() - 1)];
      chained[row] = std::exchange(place, static_cast<uint16_t>(row + 1));
    }
    bytes += (places.size() + chained.size()) * sizeof(uint16_t);
  }
  /// Adds its rows with the hash.
  void FindRows(uint64_t hash, std::vector<uint32_t>& rows) const {
    for (uint32_t row = places[hash & (places.size() - 1)]; row != 0; row = chained[row - 1])
      if (hashes[row - 1] == hash) rows.push_back(row - 1);
  }
};

struct RowBuffer::State : ScanSource, std::enable_shared_from_this<RowBuffer::State> {
  using Pieces = std::vector<std::shared_ptr<const Piece>>;
  struct Captured {
    Pieces pieces;
    uint64_t dropped = 0;
  };

  std::shared_ptr<ScanRegistry> registry;
  uint64_t id = 0;

  mutable std::mutex mutex;
  std::shared_ptr<const std::vector<ScanColumn>> columns;
  Pieces pieces;
  std::shared_ptr<const std::vector<std::string>> names;  // of the last piece
  uint64_t dropped = 0;                                   // rows below are gone
  uint64_t end = 0;
  uint64_t bytes = 0;

  const std::vector<ScanColumn>& scan_columns() const override { return *columns; }
  bool Begin(const std::vector<uint32_t>&, std::string*) override { return false; }  // only what Bind gives
  bool Fill(const std::vector<uint32_t>&, duckdb_data_chunk, std::string*) override { return false; }
  std::shared_ptr<ScanSource> Bind(const ScanBinding& binding) override;
  std::shared_ptr<const void> Capture() const override {
    std::lock_guard lock(mutex);
    return std::make_shared<Captured>(Captured{pieces, dropped});
  }
  void MergeSmall();
};

struct RowBuffer::Scan : ScanSource {
  std::shared_ptr<State> buffer;
  std::shared_ptr<const std::vector<ScanColumn>> columns;
  ScanBinding binding;
  uint64_t expected = 0;
  // Of the running execution:
  std::shared_ptr<const State::Captured> captured;
  size_t next = 0;
  std::vector<uint32_t> found;  // rows of a piece

  const std::vector<ScanColumn>& scan_columns() const override { return *columns; }
  uint64_t rows_expected() const override { return expected; }

  bool Begin(const std::vector<uint32_t>&, std::string* error) override {
    std::shared_ptr<const void> seen = buffer->registry->Held(binding.connection, buffer->id);
    captured = std::static_pointer_cast<const State::Captured>(seen ? seen : buffer->Capture());
    next = 0;
    if (binding.first >= captured->dropped) return true;
    *error = kGone;
    return false;
  }

  bool Fill(const std::vector<uint32_t>& asked, duckdb_data_chunk output, std::string*) override {
    const State::Pieces& pieces = captured->pieces;
    duckdb_data_chunk_set_size(output, 0);
    for (; next < pieces.size() && pieces[next]->first < binding.end; ++next) {
      const Piece& piece = *pieces[next];
      if (piece.end <= binding.first || (binding.among && !FindRows(piece))) continue;
      auto begin = static_cast<uint32_t>(std::max(binding.first, piece.first) - piece.first);
      auto count = static_cast<uint32_t>(std::min(binding.end, piece.end) - piece.first) - begin;
      for (size_t i = 0; i < asked.size(); ++i) {
        duckdb_vector vector = duckdb_data_chunk_get_vector(output, i);
        if (binding.among)
          TakeFound(piece, (*columns)[asked[i]].name, vector);
        else
          TakeRange(piece, (*columns)[asked[i]].name, begin, count, vector);
      }
      duckdb_data_chunk_set_size(output, binding.among ? found.size() : count);
      ++next;
      return true;
    }
    return true;
  }

  /// False: none of its rows has one of the hashes.
  bool FindRows(const Piece& piece) {
    found.clear();
    if (piece.places.empty()) return false;
    binding.among->ForEach([&](uint64_t hash) { piece.FindRows(hash, found); });
    std::erase_if(found, [&](uint32_t row) {
      return piece.first + row < binding.first || piece.first + row >= binding.end;
    });
    return !found.empty();
  }

  static void TakeRange(const Piece& piece, const std::string& name, uint32_t begin, uint32_t count,
                        duckdb_vector vector) {
    int at = piece.Find(name);
    if (at >= 0 && count == piece.rows())
      duckdb_vector_reference_vector(vector, piece.vector(at));
    else if (at >= 0)
      CopyRange(piece.vector(at), vector, begin, count, 0);
    else if (name == "_pipeline")
      std::fill_n(Values<uint32_t>(vector), count, piece.pipeline);
    else if (name == kRow)
      std::iota(Values<int64_t>(vector), Values<int64_t>(vector) + count,
                static_cast<int64_t>(piece.first + begin));
    else
      SetNull(vector, count);
  }

  void TakeFound(const Piece& piece, const std::string& name, duckdb_vector vector) const {
    int at = piece.Find(name);
    if (at >= 0)
      CopyRows(piece.vector(at), vector, found);
    else if (name == kRow)
      std::transform(found.begin(), found.end(), Values<int64_t>(vector),
                     [&](uint32_t row) { return static_cast<int64_t>(piece.first + row); });
    else
      TakeRange(piece, name, 0, static_cast<uint32_t>(found.size()), vector);
  }
};

std::shared_ptr<ScanSource> RowBuffer::State::Bind(const ScanBinding& binding) {
  auto scan = std::make_shared<Scan>();
  scan->buffer = shared_from_this();
  scan->binding = binding;
  std::lock_guard lock(mutex);
  scan->columns = columns;
  const uint64_t last = std::min(binding.end, end);
  scan->expected = last > binding.first ? last - binding.first : 1;
  return scan;
}

/// Small pieces at the end become one, as long as it fits into a chunk.
void RowBuffer::State::MergeSmall() {
  size_t begin = pieces.size();
  uint64_t rows = 0;
  while (begin > 0) {
    const Piece& piece = *pieces[begin - 1];
    uint64_t count = piece.end - piece.first;
    const Piece& last = *pieces.back();
    if (count >= kSmallRows || rows + count > kChunkRows || piece.names != last.names ||
        piece.pipeline != last.pipeline)
      break;
    rows += count, --begin;
  }
  if (pieces.size() - begin < kSmallRun) return;
  const Piece& first = *pieces[begin];
  auto merged = std::make_shared<Piece>();
  merged->names = first.names, merged->pipeline = first.pipeline;
  merged->first = first.first, merged->end = pieces.back()->end;
  for (uint32_t column = 0; column < first.vectors.size(); ++column) {
    merged->vectors.emplace_back(first.vector(column), kChunkRows);
    uint32_t at = 0;
    for (size_t i = begin; i < pieces.size(); ++i) {
      CopyRange(pieces[i]->vector(column), merged->vector(column), 0, pieces[i]->rows(), at);
      at += pieces[i]->rows();
    }
  }
  merged->Measure();
  for (size_t i = begin; i < pieces.size(); ++i) bytes -= pieces[i]->bytes;
  bytes += merged->bytes;
  pieces.resize(begin);
  pieces.push_back(std::move(merged));
}

RowBuffer::RowBuffer(std::shared_ptr<State> state) : state_(std::move(state)) {}
RowBuffer::~RowBuffer() { state_->registry->Remove(state_->id); }

Result<std::unique_ptr<RowBuffer>> RowBuffer::Make(Database& database, std::vector<ColumnInfo> columns) {
  auto state = std::make_shared<State>();
  state->registry = database.state_->scans;
  std::unique_ptr<RowBuffer> buffer(new RowBuffer(state));
  FAIL_IF_ERROR(buffer->SetColumns(database, std::move(columns)));
  state->id = state->registry->Add(state);
  return buffer;
}

Status RowBuffer::SetColumns(Database& database, std::vector<ColumnInfo> columns) {
  ASSIGN_OR_RETURN(std::vector<ScanSource::ScanColumn> made, MakeScanColumns(database, columns));
  std::lock_guard lock(state_->mutex);
  state_->columns = std::make_shared<const std::vector<ScanSource::ScanColumn>>(std::move(made));
  return OkStatus();
}

void RowBuffer::Append(const std::vector<ColumnInfo>& columns, std::span<const Chunk> chunks,
                       uint32_t pipeline) {
  if (chunks.empty()) return;
  bool same = state_->names &&
              std::equal(columns.begin(), columns.end(), state_->names->begin(), state_->names->end(),
                         [](const ColumnInfo& column, auto& name) { return column.name == name; });
  if (!same) {
    std::vector<std::string> names;
    for (const ColumnInfo& column : columns) names.push_back(column.name);
    state_->names = std::make_shared<const std::vector<std::string>>(std::move(names));
  }
  std::lock_guard lock(state_->mutex);
  for (const Chunk& chunk : chunks) {
    if (chunk.rows() == 0) continue;
    auto piece = std::make_shared<Piece>();
    piece->vectors = Share(chunk);
    piece->names = state_->names;
    piece->pipeline = pipeline;
    piece->first = state_->end, piece->end = state_->end += chunk.rows();
    piece->Measure();
    state_->bytes += piece->bytes;
    state_->pieces.push_back(std::move(piece));
    state_->MergeSmall();
  }
}

void RowBuffer::DropBefore(uint64_t row) {
  State::Pieces gone;
  std::lock_guard lock(state_->mutex);
  state_->dropped = std::max(state_->dropped, row);
  auto kept = std::find_if(state_->pieces.begin(), state_->pieces.end(),
                           [&](const auto& piece) { return piece->end > row; });
  for (auto piece = state_->pieces.begin(); piece != kept; ++piece) state_->bytes -= (*piece)->bytes;
  gone.assign(state_->pieces.begin(), kept);
  state_->pieces.erase(state_->pieces.begin(), kept);
}

uint64_t RowBuffer::end() const {
  std::lock_guard lock(state_->mutex);
  return state_->end;
}

uint64_t RowBuffer::bytes() const {
  std::lock_guard lock(state_->mutex);
  return state_->bytes;
}

uint64_t RowBuffer::OffsetOf(uint64_t row) const {
  std::lock_guard lock(state_->mutex);
  auto found = std::partition_point(state_->pieces.begin(), state_->pieces.end(),
                                    [&](const auto& piece) { return piece->end <= row; });
  CHECK(found != state_->pieces.end() && (*found)->first <= row);
  const Piece& piece = **found;
  return Values<uint64_t>(piece.vector(static_cast<size_t>(piece.Find("_offset"))))[row - piece.first];
}

std::string RowBuffer::Sql(uint64_t first, uint64_t end) const {
  return fmt::format("_recent({}, {}, {})", state_->id, first, end);
}

/// "_recent(7, 0, 9)" → "_recent_of(7, 0, 9, ARGUMENT)".
std::string RowBuffer::Narrow(const std::string& sql, std::string_view how, const std::string& argument) {
  const size_t begin = sql.find('('), end = sql.rfind(')');
  CHECK(begin != std::string::npos && end != std::string::npos);
  return fmt::format("{}_{}{}, {})", sql.substr(0, begin), how, sql.substr(begin, end - begin), argument);
}

// ---- ScanHold

ScanHold::ScanHold(Database& database, Connection& connection) : database_(database) {
  duckdb_client_context context = nullptr;
  duckdb_connection_get_client_context(connection.get(), &context);
  connection_ = duckdb_client_context_get_connection_id(context);
  duckdb_destroy_client_context(&context);
  database_.state_->scans->Hold(connection_);
}

ScanHold::~ScanHold() { database_.state_->scans->Release(connection_); }

}  // namespace millstream
