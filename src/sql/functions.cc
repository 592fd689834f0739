// `_batch(ID)`, `_rows(ID)` and `_tally(ID, _offset)`: what DuckDB calls back.
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

uint64_t TallyRegistry::Add(std::shared_ptr<std::atomic<uint64_t>> counter) {
  std::lock_guard lock(mutex_);
  counters_.emplace(next_id_, std::move(counter));
  return next_id_++;
}

void TallyRegistry::Remove(uint64_t id) {
  std::lock_guard lock(mutex_);
  counters_.erase(id);
}

void TallyRegistry::Raise(uint64_t id, uint64_t rows) const {
  std::lock_guard lock(mutex_);
  auto found = counters_.find(id);
  if (found != counters_.end()) found->second->fetch_add(rows, std::memory_order_relaxed);
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

void BindScan(duckdb_bind_info info) {
  auto& registry = *static_cast<std::shared_ptr<ScanRegistry>*>(duckdb_bind_get_extra_info(info));
  duckdb_value id = duckdb_bind_get_parameter(info, 0);
  std::shared_ptr<ScanSource> source = registry->Find(static_cast<uint64_t>(duckdb_get_int64(id)));
  duckdb_destroy_value(&id);
  if (source == nullptr) {
    duckdb_bind_set_error(info, "there is no such scan");
    return;
  }
  if (auto own = source->Bind()) source = std::move(own);
  for (const ScanSource::ScanColumn& column : source->scan_columns())
    duckdb_bind_add_result_column(info, column.name.c_str(), column.type.get());
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
  registry->Raise(static_cast<uint64_t>(ids[0]), rows);
  std::memcpy(duckdb_vector_get_data(output), duckdb_vector_get_data(duckdb_data_chunk_get_vector(input, 1)),
              rows * sizeof(int64_t));
}

Status RegisterScan(duckdb_connection connection, const char* name,
                    const std::shared_ptr<ScanRegistry>& scans) {
  duckdb_table_function function = duckdb_create_table_function();
  duckdb_table_function_set_name(function, name);
  duckdb_table_function_add_parameter(function,
                                      LogicalType(duckdb_create_logical_type(DUCKDB_TYPE_BIGINT)).get());
  duckdb_table_function_set_extra_info(function, new std::shared_ptr<ScanRegistry>(scans),
                                       Delete<std::shared_ptr<ScanRegistry>>);
  duckdb_table_function_set_bind(function, BindScan);
  duckdb_table_function_set_init(function, InitScan);
  duckdb_table_function_set_function(function, RunScan);
  duckdb_table_function_supports_projection_pushdown(function, true);
  duckdb_state state = duckdb_register_table_function(connection, function);
  duckdb_destroy_table_function(&function);
  return state == DuckDBSuccess ? OkStatus() : Internal("DuckDB does not take the table function {}", name);
}

Status RegisterTally(duckdb_connection connection, const std::shared_ptr<TallyRegistry>& tallies) {
  duckdb_scalar_function function = duckdb_create_scalar_function();
  LogicalType bigint(duckdb_create_logical_type(DUCKDB_TYPE_BIGINT));
  duckdb_scalar_function_set_name(function, "_tally");
  duckdb_scalar_function_add_parameter(function, bigint.get());
  duckdb_scalar_function_add_parameter(function, bigint.get());
  duckdb_scalar_function_set_return_type(function, bigint.get());
  duckdb_scalar_function_set_volatile(function);
  duckdb_scalar_function_set_extra_info(function, new std::shared_ptr<TallyRegistry>(tallies),
                                        Delete<std::shared_ptr<TallyRegistry>>);
  duckdb_scalar_function_set_function(function, RunTally);
  duckdb_state state = duckdb_register_scalar_function(connection, function);
  duckdb_destroy_scalar_function(&function);
  return state == DuckDBSuccess ? OkStatus() : Internal("DuckDB does not take the function _tally");
}

}  // namespace

Status RegisterFunctions(duckdb_connection connection, const std::shared_ptr<ScanRegistry>& scans,
                         const std::shared_ptr<TallyRegistry>& tallies) {
  RETURN_IF_ERROR(RegisterScan(connection, "_batch", scans));
  RETURN_IF_ERROR(RegisterScan(connection, "_rows", scans));
  return RegisterTally(connection, tallies);
}

}  // namespace millstream
