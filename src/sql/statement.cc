#include <charconv>

#include "sql/duckdb_face.h"
#include "sql/executions.h"

namespace millstream {

// ---- Chunk

Chunk::~Chunk() {
  if (chunk_ != nullptr) duckdb_destroy_data_chunk(&chunk_);
}

Chunk& Chunk::operator=(Chunk&& other) noexcept {
  std::swap(chunk_, other.chunk_);
  return *this;
}

uint32_t Chunk::rows() const {
  return chunk_ == nullptr ? 0 : static_cast<uint32_t>(duckdb_data_chunk_get_size(chunk_));
}

uint32_t Chunk::columns() const {
  return chunk_ == nullptr ? 0 : static_cast<uint32_t>(duckdb_data_chunk_get_column_count(chunk_));
}

bool Chunk::IsNull(uint32_t column, uint32_t row) const {
  const uint64_t* mask = duckdb_vector_get_validity(duckdb_data_chunk_get_vector(chunk_, column));
  return mask != nullptr && (mask[row >> 6] >> (row & 63) & 1) == 0;
}

bool Chunk::AllValid(uint32_t column) const {
  return duckdb_vector_get_validity(duckdb_data_chunk_get_vector(chunk_, column)) == nullptr;
}

void* Chunk::data(uint32_t column) const {
  return duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk_, column));
}

int64_t Chunk::Int64(uint32_t column, uint32_t row) const {
  return static_cast<const int64_t*>(data(column))[row];
}

std::string_view Chunk::String(uint32_t column, uint32_t row) const {
  auto* text = static_cast<duckdb_string_t*>(data(column)) + row;
  return {duckdb_string_t_data(text), duckdb_string_t_length(*text)};
}

// ---- Rows

struct Rows::State {
  duckdb_result result;
  std::string sql;
  std::shared_ptr<Executions> executions;
  uint64_t handed_bytes = 0;  // of the chunk that was taken last, which others free

  State() { std::memset(&result, 0, sizeof result); }
  ~State() { duckdb_destroy_result(&result); }
};

Rows::Rows(std::unique_ptr<State> state) : state_(std::move(state)) {
  idx_t count = duckdb_column_count(&state_->result);
  columns_.reserve(count);
  for (idx_t i = 0; i < count; ++i)
    columns_.push_back({duckdb_column_name(&state_->result, i),
                        TypeName(LogicalType(duckdb_column_logical_type(&state_->result, i)).get())});
}
Rows::~Rows() = default;
Rows::Rows(Rows&&) noexcept = default;

JsonWriter Rows::MakeJsonWriter() const {
  std::vector<LogicalType> owned;
  std::vector<duckdb_logical_type> types;
  for (idx_t i = 0; i < columns_.size(); ++i) {
    owned.emplace_back(duckdb_column_logical_type(&state_->result, i));
    types.push_back(owned.back().get());
  }
  return JsonWriter(types);
}

Result<std::optional<Chunk>> Rows::Next() {
  // A chunk of a vector's rows; what grows by more at once stays the execution's.
  constexpr int64_t kHandedBytesMax = 64 << 20;
  Allowance* allowance = state_->executions->allowance();
  if (allowance != nullptr) allowance->Give(std::exchange(state_->handed_bytes, 0));
  const int64_t before = allowance == nullptr ? 0 : allowance->taken();
  duckdb_data_chunk fetched = nullptr;
  state_->executions->Call([&] { return fetched = duckdb_fetch_chunk(state_->result), DuckDBSuccess; });
  if (allowance != nullptr)
    state_->handed_bytes =
        static_cast<uint64_t>(std::clamp<int64_t>(allowance->taken() - before, 0, kHandedBytesMax));
  Chunk chunk(fetched);
  if (chunk.get() != nullptr && chunk.rows() > 0) return std::optional<Chunk>(std::move(chunk));
  const char* error = duckdb_result_error(&state_->result);
  if ((error == nullptr || *error == 0) && !state_->executions->WasCut()) return std::optional<Chunk>();
  return Fail(
      StatusOf(state_->executions->FaultOf(duckdb_result_error_type(&state_->result), error, state_->sql)));
}

uint64_t Rows::changed_rows() const { return duckdb_rows_changed(&state_->result); }

// ---- Statement

struct Statement::State {
  duckdb_prepared_statement statement = nullptr;
  std::string sql;

  ~State() {
    if (statement != nullptr) duckdb_destroy_prepare(&statement);
  }
};

Statement::Statement() : state_(std::make_unique<State>()) {}
Statement::~Statement() = default;

Result<std::unique_ptr<Statement>> Connection::Prepare(const std::string& sql) {
  fault_ = {};
  std::unique_ptr<Statement> statement(new Statement());
  statement->state_->sql = sql;
  statement->executions_ = executions_;
  duckdb_prepared_statement& prepared = statement->state_->statement;
  executions_->Begin();
  if (executions_->Call([&] { return duckdb_prepare(connection_, sql.c_str(), &prepared); }) !=
      DuckDBSuccess) {
    fault_ = executions_->FaultOf(DUCKDB_ERROR_INVALID, duckdb_prepare_error(prepared), sql);
    return Fail(StatusOf(fault_));
  }
  if (statement->returns_rows()) {
    idx_t count = duckdb_prepared_statement_column_count(prepared);
    for (idx_t i = 0; i < count; ++i) {
      const char* name = duckdb_prepared_statement_column_name(prepared, i);
      LogicalType type(duckdb_prepared_statement_column_logical_type(prepared, i));
      statement->columns_.push_back({name == nullptr ? "" : name, TypeName(type.get())});
      duckdb_free(const_cast<char*>(name));
    }
  }
  return statement;
}

bool Statement::returns_rows() const {
  duckdb_statement_type type = duckdb_prepared_statement_type(state_->statement);
  return type == DUCKDB_STATEMENT_TYPE_SELECT || type == DUCKDB_STATEMENT_TYPE_EXPLAIN;
}

namespace {

constexpr size_t kDecimalDigitsMax = 38;

/// The digits of "-12.50" as an integer and how many of them stand behind the point; nothing for a number
/// that is none of DECIMAL's.
std::optional<duckdb_decimal> ReadDecimal(std::string_view text) {
  bool is_negative = text.starts_with('-');
  if (is_negative) text.remove_prefix(1);
  size_t point = std::min(text.find('.'), text.size());
  std::string digits(text.substr(0, point));
  size_t scale = point < text.size() ? text.size() - point - 1 : 0;
  if (scale > 0) digits += text.substr(point + 1);
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size()));
  if (digits.find_first_not_of("0123456789") != digits.npos) return std::nullopt;
  size_t width = std::max({digits.size(), scale, size_t{1}});
  if (width > kDecimalDigitsMax) return std::nullopt;
  __int128 value = 0;
  for (char c : digits) value = value * 10 + (c - '0');
  if (is_negative) value = -value;
  return duckdb_decimal{static_cast<uint8_t>(width),
                        static_cast<uint8_t>(scale),
                        {static_cast<uint64_t>(value), static_cast<int64_t>(value >> 64)}};
}

duckdb_state BindNumber(duckdb_prepared_statement statement, uint32_t index, const std::string& text) {
  int64_t integer = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), integer);
  if (error == std::errc() && end == text.data() + text.size())
    return duckdb_bind_int64(statement, index, integer);
  if (std::optional<duckdb_decimal> decimal = ReadDecimal(text))
    return decimal->scale == 0 ? duckdb_bind_hugeint(statement, index, decimal->value)
                               : duckdb_bind_decimal(statement, index, *decimal);
  return duckdb_bind_double(statement, index, std::strtod(text.c_str(), nullptr));
}

}  // namespace

Status Statement::Bind(uint32_t index, const SqlValue& value) {
  duckdb_prepared_statement statement = state_->statement;
  duckdb_state state = DuckDBSuccess;
  if (std::holds_alternative<std::monostate>(value)) state = duckdb_bind_null(statement, index);
  if (const bool* boolean = std::get_if<bool>(&value))
    state = duckdb_bind_boolean(statement, index, *boolean);
  if (const int64_t* number = std::get_if<int64_t>(&value))
    state = duckdb_bind_int64(statement, index, *number);
  if (const double* number = std::get_if<double>(&value))
    state = duckdb_bind_double(statement, index, *number);
  if (const std::string* text = std::get_if<std::string>(&value))
    state = duckdb_bind_varchar_length(statement, index, text->data(), text->size());
  if (const SqlNumber* number = std::get_if<SqlNumber>(&value))
    state = BindNumber(statement, index, number->text);
  if (state == DuckDBSuccess) return OkStatus();
  const char* error = duckdb_prepare_error(statement);
  if (error == nullptr || *error == 0) return NotFound("the statement has no parameter {}", index);
  fault_ = ReadSqlFault(DUCKDB_ERROR_INVALID_INPUT, error, state_->sql);
  return Invalid("parameter {}: {}", index, fault_.message);
}

Status Statement::Bind(const std::string& name, const SqlValue& value) {
  idx_t index = 0;
  if (duckdb_bind_parameter_index(state_->statement, &index, name.c_str()) != DuckDBSuccess)
    return NotFound("the statement has no parameter ${}", name);
  return Bind(static_cast<uint32_t>(index), value);
}

std::vector<std::string> Statement::parameters() const {
  std::vector<std::string> names;
  for (idx_t i = 1; i <= duckdb_nparams(state_->statement); ++i) {
    const char* name = duckdb_parameter_name(state_->statement, i);
    names.emplace_back(name == nullptr ? "" : name);
    duckdb_free(const_cast<char*>(name));
  }
  return names;
}

Result<Rows> Statement::Execute() {
  fault_ = {};
  auto rows = std::make_unique<Rows::State>();
  rows->executions = executions_;
  executions_->Begin();
  if (executions_->Call([&] { return duckdb_execute_prepared(state_->statement, &rows->result); }) !=
          DuckDBSuccess ||
      executions_->WasCut()) {
    fault_ = executions_->FaultOf(duckdb_result_error_type(&rows->result), duckdb_result_error(&rows->result),
                                  state_->sql);
    return Fail(StatusOf(fault_));
  }
  return Rows(std::move(rows));
}

Result<Rows> Statement::Stream() {
  fault_ = {};
  auto rows = std::make_unique<Rows::State>();
  rows->sql = state_->sql;
  rows->executions = executions_;
  duckdb_pending_result pending = nullptr;
  executions_->Begin();
  if (executions_->Call([&] { return duckdb_pending_prepared_streaming(state_->statement, &pending); }) !=
      DuckDBSuccess) {
    fault_ = executions_->FaultOf(DUCKDB_ERROR_INVALID, duckdb_pending_error(pending), state_->sql);
    duckdb_destroy_pending(&pending);
    return Fail(StatusOf(fault_));
  }
  duckdb_state state = executions_->Call([&] { return duckdb_execute_pending(pending, &rows->result); });
  duckdb_destroy_pending(&pending);
  if (state != DuckDBSuccess) {
    fault_ = executions_->FaultOf(duckdb_result_error_type(&rows->result), duckdb_result_error(&rows->result),
                                  state_->sql);
    return Fail(StatusOf(fault_));
  }
  return Rows(std::move(rows));
}

}  // namespace millstream
