#include "sql/duckdb_face.h"
#include "sql/scan.h"
#include "sql/vector_fill.h"

namespace millstream {
namespace {

constexpr uint32_t kVectorRows = 2048;

Type PlainType(Type::Kind kind) {
  Type type;
  type.kind = kind;
  return type;
}

// What a column of `_batch` is made from.
enum class Origin : uint8_t {
  kOffset,
  kField,
  kData,
  kId,
  kSource,
  kType,
  kSubject,
  kTime,
  kOp,
  kKey,
  kIngestedAt,
  kPartition,
  kOrdinal,
};

struct BatchColumn {
  Origin origin;
  const Field* field = nullptr;
  Type type;
};

constexpr struct {
  const char* name;
  Origin origin;
  Type::Kind kind;
} kReserved[] = {
    {"data", Origin::kData, Type::Kind::kJson},
    {"ce_id", Origin::kId, Type::Kind::kVarchar},
    {"ce_source", Origin::kSource, Type::Kind::kVarchar},
    {"ce_type", Origin::kType, Type::Kind::kVarchar},
    {"ce_subject", Origin::kSubject, Type::Kind::kVarchar},
    {"ce_time", Origin::kTime, Type::Kind::kTimestamptz},
    {"_op", Origin::kOp, Type::Kind::kVarchar},
    {"_key", Origin::kKey, Type::Kind::kVarchar},
    {"_ingested_at", Origin::kIngestedAt, Type::Kind::kTimestamptz},
    {"_partition", Origin::kPartition, Type::Kind::kInteger},
    {"_ordinal", Origin::kOrdinal, Type::Kind::kInteger},
};

}  // namespace

struct BatchScan::State : ScanSource, std::enable_shared_from_this<BatchScan::State> {
  State(std::string of, Contract shape, AttributeDefaults absent);

  std::shared_ptr<ScanRegistry> registry;
  uint64_t id = 0;
  std::string stream;
  Contract contract;
  AttributeDefaults defaults;
  std::vector<ScanColumn> columns;
  std::vector<BatchColumn> origins;
  std::vector<BatchRange> ranges;
  Status read_status;
  std::shared_ptr<State>
      given;  // of a reference in a statement, which reads for itself: what Set was called on

  // Of a StreamScan: where ranges come from. The batch before the last stays, for what DuckDB has not copied
  // yet.
  std::function<Result<StreamScan::Feed>()> make_feed;
  StreamScan::Feed feed;
  StreamScan::Piece current, previous;
  std::vector<std::unique_ptr<char[]>> previous_arenas;

  // Of the running execution.
  struct Loaded {
    const Column* column = nullptr;  // null: no Column stands behind it
    std::vector<duckdb_string_t> entries;
  };
  std::vector<Loaded> loaded;  // of the range at `range`, one an asked column
  size_t range = 0;
  uint32_t row = 0;
  bool range_open = false;
  std::vector<std::unique_ptr<char[]>> arenas;  // texts made here: default ids

  const std::vector<ScanColumn>& scan_columns() const override { return columns; }
  bool Begin(const std::vector<uint32_t>& asked, std::string* error) override;
  bool Fill(const std::vector<uint32_t>& asked, duckdb_data_chunk output, std::string* error) override;
  std::shared_ptr<ScanSource> Bind(const ScanBinding&) override {
    auto own = std::make_shared<State>(stream, contract, defaults);
    own->make_feed = make_feed;
    if (!make_feed) own->given = shared_from_this();
    return own;
  }

  Status Pull();
  bool Fails(std::string* error) {
    if (read_status.ok()) return false;
    *error = read_status.message();
    if (given) given->read_status = read_status;
    return true;
  }
  Status OpenRange(const std::vector<uint32_t>& asked);
  Status CheckReadable(const BatchRange& of, const std::vector<const Field*>& fields);
  void FillColumn(uint32_t asked, Loaded& from, duckdb_vector vector, idx_t at, uint32_t count);
  void FillDefaults(Origin origin, duckdb_vector vector, idx_t at, const Column& column, uint32_t count);
};

bool BatchScan::State::Begin(const std::vector<uint32_t>&, std::string* error) {
  if (make_feed) {
    ranges.clear();
    auto made = make_feed();
    if (!made) {
      *error = made.error().message();
      return false;
    }
    feed = std::move(*made);
  }
  if (given) ranges = given->ranges, given->read_status = OkStatus();
  range = 0;
  row = ranges.empty() ? 0 : ranges[0].begin;
  range_open = false;
  arenas.clear();
  read_status = OkStatus();
  return true;
}

/// The next events of a StreamScan become the only range; no range at the end.
Status BatchScan::State::Pull() {
  ranges.clear();
  range = 0;
  range_open = false;
  previous = std::move(current);
  previous_arenas = std::exchange(arenas, {});
  do {
    ASSIGN_OR_RETURN(current, feed());
  } while (current.batch != nullptr && current.begin >= current.end);
  if (current.batch == nullptr) return OkStatus();
  ranges.push_back({current.batch.get(), current.begin, current.end});
  row = current.begin;
  return OkStatus();
}

Status BatchScan::State::CheckReadable(const BatchRange& of, const std::vector<const Field*>& fields) {
  for (const EventBatch::Unconvertible& bad : of.batch->unconvertible()) {
    if (bad.row < of.begin || bad.row >= of.end) continue;
    for (const Field* field : fields)
      if (field->name == bad.field)
        return Invalid("{}/{}:{} {}: {}", stream, of.batch->place().partition,
                       of.batch->place().base_offset + bad.row, bad.field, bad.reason);
  }
  return OkStatus();
}

Status BatchScan::State::OpenRange(const std::vector<uint32_t>& asked) {
  const BatchRange& open = ranges[range];
  std::vector<const Field*> fields;
  for (uint32_t column : asked)
    if (origins[column].origin == Origin::kField) fields.push_back(origins[column].field);
  if (!fields.empty()) {
    RETURN_IF_ERROR(open.batch->LoadFields(fields));
    if (!make_feed) RETURN_IF_ERROR(CheckReadable(open, fields));
  }
  loaded.resize(asked.size());
  for (size_t i = 0; i < asked.size(); ++i) {
    const BatchColumn& origin = origins[asked[i]];
    Loaded& target = loaded[i];
    target.column = nullptr;
    auto attribute = [&](Attribute which) -> Status {
      ASSIGN_OR_RETURN(target.column, open.batch->AttributeColumn(which));
      return OkStatus();
    };
    switch (origin.origin) {
      case Origin::kField: {
        ASSIGN_OR_RETURN(target.column, open.batch->FieldColumn(*origin.field));
        break;
      }
      case Origin::kData: {
        ASSIGN_OR_RETURN(target.column, open.batch->Data());
        break;
      }
      case Origin::kId:
        RETURN_IF_ERROR(attribute(Attribute::kId));
        break;
      case Origin::kSource:
        RETURN_IF_ERROR(attribute(Attribute::kSource));
        break;
      case Origin::kType:
        RETURN_IF_ERROR(attribute(Attribute::kType));
        break;
      case Origin::kSubject:
        RETURN_IF_ERROR(attribute(Attribute::kSubject));
        break;
      case Origin::kTime:
        RETURN_IF_ERROR(attribute(Attribute::kTime));
        break;
      case Origin::kOp:
        RETURN_IF_ERROR(attribute(Attribute::kOp));
        break;
      case Origin::kKey:
        RETURN_IF_ERROR(attribute(Attribute::kKey));
        break;
      default:
        break;
    }
    if (target.column != nullptr && target.column->form == Column::Form::kDictionary)
      target.entries = MakeEntries(*target.column);
  }
  range_open = true;
  return OkStatus();
}

bool BatchScan::State::Fill(const std::vector<uint32_t>& asked, duckdb_data_chunk output,
                            std::string* error) {
  std::vector<duckdb_vector> vectors;
  for (size_t i = 0; i < asked.size(); ++i) vectors.push_back(duckdb_data_chunk_get_vector(output, i));
  uint32_t filled = 0;
  if (make_feed && range >= ranges.size()) {
    read_status = Pull();
    if (Fails(error)) return false;
  }
  while (filled < kVectorRows && range < ranges.size()) {
    uint32_t count = std::min(kVectorRows - filled, ranges[range].end - row);
    if (count > 0 && !range_open) {
      read_status = OpenRange(asked);
      if (Fails(error)) return false;
    }
    if (count > 0)
      for (size_t i = 0; i < asked.size(); ++i) FillColumn(asked[i], loaded[i], vectors[i], filled, count);
    filled += count;
    row += count;
    if (row >= ranges[range].end && ++range < ranges.size()) {
      row = ranges[range].begin;
      range_open = range_open && ranges[range].batch == ranges[range - 1].batch;
    }
  }
  duckdb_data_chunk_set_size(output, filled);
  return true;
}

void BatchScan::State::FillColumn(uint32_t asked, Loaded& from, duckdb_vector vector, idx_t at,
                                  uint32_t count) {
  const BatchColumn& origin = origins[asked];
  const EventBatch& batch = *ranges[range].batch;
  void* data = duckdb_vector_get_data(vector);
  switch (origin.origin) {
    case Origin::kOffset: {
      auto* out = static_cast<int64_t*>(data) + at;
      auto first = static_cast<int64_t>(batch.place().base_offset + row);
      for (uint32_t i = 0; i < count; ++i) out[i] = first + i;
      return;
    }
    case Origin::kPartition:
      std::fill_n(static_cast<int32_t*>(data) + at, count, static_cast<int32_t>(batch.place().partition));
      return;
    case Origin::kOrdinal:
      std::fill_n(static_cast<int32_t*>(data) + at, count, 0);
      return;
    case Origin::kIngestedAt: {
      auto* out = static_cast<int64_t*>(data) + at;
      if (batch.stamps().empty()) {
        std::fill_n(out, count, batch.place().ingested_at_us);
      } else {
        for (uint32_t i = 0; i < count; ++i) out[i] = batch.IngestedAtUs(row + i);
      }
      return;
    }
    case Origin::kId:
    case Origin::kSource:
    case Origin::kType:
    case Origin::kTime: {
      const Column& column = *from.column;
      if (column.form != Column::Form::kAbsent) FillVector(vector, at, column, row, count, from.entries);
      if (column.form == Column::Form::kAbsent || !column.validity.empty())
        FillDefaults(origin.origin, vector, at, column, count);
      return;
    }
    default:
      FillVector(vector, at, *from.column, row, count, from.entries);
      return;
  }
}

// Attributes that an event lacks (SURFACE, "Sources").
void BatchScan::State::FillDefaults(Origin origin, duckdb_vector vector, idx_t at, const Column& column,
                                    uint32_t count) {
  const EventBatch& batch = *ranges[range].batch;
  uint64_t* mask = duckdb_vector_get_validity(vector);
  auto* times = static_cast<int64_t*>(duckdb_vector_get_data(vector)) + at;
  auto* texts = static_cast<duckdb_string_t*>(duckdb_vector_get_data(vector)) + at;
  duckdb_string_t same = MakeDuckString(origin == Origin::kSource ? defaults.source : defaults.type);
  std::string prefix;
  char* arena = nullptr;
  if (origin == Origin::kId) {
    prefix = fmt::format("{}/{}:", stream, batch.place().partition);
    arenas.push_back(std::make_unique<char[]>(count * (prefix.size() + 20)));
    arena = arenas.back().get();
  }
  for (uint32_t i = 0; i < count; ++i) {
    if (!column.IsNull(row + i)) continue;
    if (mask != nullptr) mask[(at + i) >> 6] |= 1ull << ((at + i) & 63);
    if (origin == Origin::kTime) {
      times[i] = batch.IngestedAtUs(row + i);
    } else if (origin == Origin::kId) {
      std::memcpy(arena, prefix.data(), prefix.size());
      char* end = fmt::format_to(arena + prefix.size(), "{}", batch.place().base_offset + row + i);
      texts[i] = MakeDuckString({arena, static_cast<size_t>(end - arena)});
      arena = end;
    } else {
      texts[i] = same;
    }
  }
}

BatchScan::BatchScan(std::shared_ptr<State> state) : state_(std::move(state)) {}
BatchScan::~BatchScan() { state_->registry->Remove(state_->id); }

BatchScan::State::State(std::string of, Contract shape, AttributeDefaults absent)
    : stream(std::move(of)), contract(std::move(shape)), defaults(std::move(absent)) {
  auto add = [this](std::string name, Origin origin, Type type, const Field* field) {
    columns.push_back({std::move(name), MakeLogicalType(type)});
    origins.push_back({origin, field, std::move(type)});
  };
  // `_offset` is cheap to make: column 0 is what count(*) asks for.
  add("_offset", Origin::kOffset, PlainType(Type::Kind::kBigint), nullptr);
  for (const Field& field : contract.fields) add(field.name, Origin::kField, field.type, &field);
  for (const auto& reserved : kReserved)
    add(reserved.name, reserved.origin, PlainType(reserved.kind), nullptr);
}

Result<std::unique_ptr<BatchScan>> BatchScan::Make(Database& database, std::string stream, Contract contract,
                                                   AttributeDefaults defaults) {
  auto state = std::make_shared<State>(std::move(stream), std::move(contract), std::move(defaults));
  state->registry = database.state_->scans;
  state->id = state->registry->Add(state);
  return std::unique_ptr<BatchScan>(new BatchScan(std::move(state)));
}

std::string BatchScan::Sql() const {
  std::string sql = "(SELECT ";
  for (const Field& field : state_->contract.fields) sql += QuoteIdentifier(field.name) + ", ";
  std::string_view separator = "";
  for (const char* name : kReservedColumns) {
    sql += separator;
    sql += name;
    separator = ", ";
  }
  return sql + fmt::format(" FROM _batch({}))", state_->id);
}

void BatchScan::Set(std::span<const BatchRange> ranges) {
  state_->ranges.assign(ranges.begin(), ranges.end());
}

Status BatchScan::read_status() const { return state_->read_status; }

// ---- StreamScan

StreamScan::StreamScan(std::unique_ptr<BatchScan> scan) : scan_(std::move(scan)) {}
StreamScan::~StreamScan() = default;

Result<std::unique_ptr<StreamScan>> StreamScan::Make(Database& database, std::string stream,
                                                     Contract contract, AttributeDefaults defaults,
                                                     std::function<Result<Feed>()> make_feed) {
  ASSIGN_OR_FAIL(std::unique_ptr<BatchScan> scan,
                 BatchScan::Make(database, std::move(stream), std::move(contract), std::move(defaults)));
  scan->state_->make_feed = std::move(make_feed);
  return std::unique_ptr<StreamScan>(new StreamScan(std::move(scan)));
}

std::string StreamScan::Sql() const { return scan_->Sql(); }

}  // namespace millstream
