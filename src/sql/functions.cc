// `_batch(ID)`, `_rows(ID)`, `_recent(ID, FIRST, END)` and its like, `_tally(ID, _offset)` and
// `_among(ID, hash)`: what DuckDB calls back.
#include "sql/duckdb_face.h"

namespace millstream {

uint64_t ScanRegistry::Add(std::shared_ptr<ScanSource> source) {
  std::lock_guard lock(mutex_);
  sources_.emplace(next_id_, std::move(source));
  return next_id_++;
}

void ScanRegistry::Remove(uint64_t id) {
  std::lock_guard lock(mutex_);
  sources_.erase(id);
}

std::shared_ptr<ScanSource> ScanRegistry::Find(uint64_t id) const {
  std::lock_guard lock(mutex_);
  auto found = sources_.find(id);
  return found == sources_.end() ? nullptr : found->second;
}

void ScanRegistry::Hold(uint64_t connection) {
  std::lock_guard lock(mutex_);
  auto& held = held_[connection];
  for (const auto& [id, source] : sources_)
    if (auto captured = source->Capture()) held[id] = std::move(captured);
}

void ScanRegistry::Release(uint64_t connection) {
  std::map<uint64_t, std::shared_ptr<const void>> gone;  // freed outside of the lock
  std::lock_guard lock(mutex_);
  auto found = held_.find(connection);
  if (found == held_.end()) return;
  gone = std::move(found->second);
  held_.erase(found);
}

std::shared_ptr<const void> ScanRegistry::Held(uint64_t connection, uint64_t id) const {
  std::lock_guard lock(mutex_);
  auto holds = held_.find(connection);
  if (holds == held_.end()) return nullptr;
  auto found = holds->second.find(id);
  return found == holds->second.end() ? nullptr : found->second;
}

namespace {

template <typename T>
void Delete(void* object) {
  delete static_cast<T*>(object);
}

// Bound by a statement; each execution begins anew.
struct BoundScan {
  std::shared_ptr<ScanSource> source;
};

struct RunningScan {
  ScanSource* source;
  std::vector<uint32_t> columns;
};

/// BIGINT or UBIGINT; the latter's bits.
uint64_t ParameterOf(duckdb_bind_info info, idx_t index, bool* is_hash = nullptr) {
  duckdb_value value = duckdb_bind_get_parameter(info, index);
  const bool is_unsigned = duckdb_get_type_id(duckdb_get_value_type(value)) == DUCKDB_TYPE_UBIGINT;
  const uint64_t number =
      is_unsigned ? duckdb_get_uint64(value) : static_cast<uint64_t>(duckdb_get_int64(value));
  duckdb_destroy_value(&value);
  if (is_hash != nullptr) *is_hash = is_unsigned;
  return number;
}

ScanBinding BindingOf(duckdb_bind_info info, const HashSets& sets) {
  constexpr idx_t kAmong = 3;
  ScanBinding binding;
  const idx_t parameters = duckdb_bind_get_parameter_count(info);
  if (parameters == 1) return binding;
  binding.first = ParameterOf(info, 1), binding.end = ParameterOf(info, 2);
  if (parameters > kAmong) {
    bool is_hash = false;
    const uint64_t number = ParameterOf(info, kAmong, &is_hash);
    if (is_hash)
      binding.among = std::make_shared<HashSet>(HashSet{{number}, number == 0});
    else
      binding.among = sets.Find(number);
  }
  duckdb_client_context context = nullptr;
  duckdb_table_function_get_client_context(info, &context);
  binding.connection = duckdb_client_context_get_connection_id(context);
  duckdb_destroy_client_context(&context);
  return binding;
}

void BindScan(duckdb_bind_info info) {
  auto& functions = *static_cast<Functions*>(duckdb_bind_get_extra_info(info));
  std::shared_ptr<ScanSource> source = functions.scans->Find(ParameterOf(info, 0));
  if (source == nullptr) {
    duckdb_bind_set_error(info, "there is no such scan");
    return;
  }
  if (auto own = source->Bind(BindingOf(info, *functions.hash_sets))) source = std::move(own);
  for (const ScanSource::ScanColumn& column : source->scan_columns())
    duckdb_bind_add_result_column(info, column.name.c_str(), column.type.get());
  if (uint64_t rows = source->rows_expected(); rows > 0) duckdb_bind_set_cardinality(info, rows, false);
  duckdb_bind_set_bind_data(info, new BoundScan{std::move(source)}, Delete<BoundScan>);
}

void InitScan(duckdb_init_info info) {
  auto* bound = static_cast<BoundScan*>(duckdb_init_get_bind_data(info));
  auto running = std::make_unique<RunningScan>();
  running->source = bound->source.get();
  for (idx_t i = 0; i < duckdb_init_get_column_count(info); ++i)
    running->columns.push_back(static_cast<uint32_t>(duckdb_init_get_column_index(info, i)));
  std::string error;
  if (!running->source->Begin(running->columns, &error)) duckdb_init_set_error(info, error.c_str());
  duckdb_init_set_max_threads(info, 1);
  duckdb_init_set_init_data(info, running.release(), Delete<RunningScan>);
}

void RunScan(duckdb_function_info info, duckdb_data_chunk output) {
  auto* running = static_cast<RunningScan*>(duckdb_function_get_init_data(info));
  std::string error;
  if (!running->source->Fill(running->columns, output, &error))
    duckdb_function_set_error(info, error.c_str());
}

// Passes its second argument through and raises the counter that the first names.
void RunTally(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output) {
  auto& registry = *static_cast<std::shared_ptr<TallyRegistry>*>(duckdb_scalar_function_get_extra_info(info));
  idx_t rows = duckdb_data_chunk_get_size(input);
  if (rows == 0) return;
  auto* ids = static_cast<const int64_t*>(duckdb_vector_get_data(duckdb_data_chunk_get_vector(input, 0)));
  if (auto counter = registry->Find(static_cast<uint64_t>(ids[0])))
    counter->fetch_add(rows, std::memory_order_relaxed);
  std::memcpy(duckdb_vector_get_data(output), duckdb_vector_get_data(duckdb_data_chunk_get_vector(input, 1)),
              rows * sizeof(int64_t));
}

/// True for rows whose hash is in the set.
void RunAmong(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output) {
  auto& sets = *static_cast<std::shared_ptr<HashSets>*>(duckdb_scalar_function_get_extra_info(info));
  idx_t rows = duckdb_data_chunk_get_size(input);
  if (rows == 0) return;
  duckdb_vector of_hashes = duckdb_data_chunk_get_vector(input, 1);
  auto* ids = static_cast<const int64_t*>(duckdb_vector_get_data(duckdb_data_chunk_get_vector(input, 0)));
  auto* hashes = static_cast<const uint64_t*>(duckdb_vector_get_data(of_hashes));
  uint64_t* validity = duckdb_vector_get_validity(of_hashes);
  std::shared_ptr<const HashSet> set = sets->Find(static_cast<uint64_t>(ids[0]));
  auto* found = static_cast<bool*>(duckdb_vector_get_data(output));
  if (set && set->places.empty()) set = nullptr;
  for (idx_t row = 0; row < rows; ++row)
    found[row] =
        set && set->Has(hashes[row]) && (validity == nullptr || duckdb_validity_row_is_valid(validity, row));
}

Status RegisterScan(duckdb_connection connection, const char* name,
                    std::initializer_list<duckdb_type> parameters, const Functions& functions) {
  duckdb_table_function function = duckdb_create_table_function();
  duckdb_table_function_set_name(function, name);
  for (duckdb_type parameter : parameters)
    duckdb_table_function_add_parameter(function, LogicalType(duckdb_create_logical_type(parameter)).get());
  duckdb_table_function_set_extra_info(function, new Functions(functions), Delete<Functions>);
  duckdb_table_function_set_bind(function, BindScan);
  duckdb_table_function_set_init(function, InitScan);
  duckdb_table_function_set_function(function, RunScan);
  duckdb_table_function_supports_projection_pushdown(function, true);
  duckdb_state state = duckdb_register_table_function(connection, function);
  duckdb_destroy_table_function(&function);
  return state == DuckDBSuccess ? OkStatus() : Internal("DuckDB does not take the table function {}", name);
}

/// A function of a number of ours, a BIGINT, and of a value.
template <typename Registry>
Status RegisterScalar(duckdb_connection connection, const char* name, duckdb_type value, duckdb_type result,
                      duckdb_scalar_function_t run, const std::shared_ptr<Registry>& registry) {
  duckdb_scalar_function function = duckdb_create_scalar_function();
  duckdb_scalar_function_set_name(function, name);
  LogicalType id_type(duckdb_create_logical_type(DUCKDB_TYPE_BIGINT)),
      value_type(duckdb_create_logical_type(value)), result_type(duckdb_create_logical_type(result));
  duckdb_scalar_function_add_parameter(function, id_type.get());
  duckdb_scalar_function_add_parameter(function, value_type.get());
  duckdb_scalar_function_set_return_type(function, result_type.get());
  duckdb_scalar_function_set_volatile(function);
  duckdb_scalar_function_set_extra_info(function, new std::shared_ptr<Registry>(registry),
                                        Delete<std::shared_ptr<Registry>>);
  duckdb_scalar_function_set_function(function, run);
  duckdb_state state = duckdb_register_scalar_function(connection, function);
  duckdb_destroy_scalar_function(&function);
  return state == DuckDBSuccess ? OkStatus() : Internal("DuckDB does not take the function {}", name);
}

}  // namespace

Status RegisterFunctions(duckdb_connection connection, const Functions& functions) {
  constexpr duckdb_type kNumber = DUCKDB_TYPE_BIGINT, kHash = DUCKDB_TYPE_UBIGINT;
  RETURN_IF_ERROR(RegisterScan(connection, "_batch", {kNumber}, functions));
  RETURN_IF_ERROR(RegisterScan(connection, "_rows", {kNumber}, functions));
  RETURN_IF_ERROR(RegisterScan(connection, "_recent", {kNumber, kNumber, kNumber}, functions));
  RETURN_IF_ERROR(RegisterScan(connection, "_recent_of", {kNumber, kNumber, kNumber, kHash}, functions));
  RETURN_IF_ERROR(RegisterScan(connection, "_recent_among", {kNumber, kNumber, kNumber, kNumber}, functions));
  RETURN_IF_ERROR(RegisterScalar(connection, "_tally", DUCKDB_TYPE_BIGINT, DUCKDB_TYPE_BIGINT, RunTally,
                                 functions.tallies));
  return RegisterScalar(connection, "_among", DUCKDB_TYPE_UBIGINT, DUCKDB_TYPE_BOOLEAN, RunAmong,
                        functions.hash_sets);
}

}  // namespace millstream
