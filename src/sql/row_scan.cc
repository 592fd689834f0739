#include "sql/duckdb_face.h"
#include "sql/scan.h"

namespace millstream {

struct RowScan::State : ScanSource {
  std::shared_ptr<ScanRegistry> registry;
  uint64_t id = 0;
  std::vector<ScanColumn> columns;
  std::span<const Chunk> chunks;
  size_t next = 0;

  const std::vector<ScanColumn>& scan_columns() const override { return columns; }
  bool Begin(const std::vector<uint32_t>&, std::string*) override {
    next = 0;
    return true;
  }
  bool Fill(const std::vector<uint32_t>& asked, duckdb_data_chunk output, std::string*) override {
    while (next < chunks.size() && chunks[next].rows() == 0) ++next;
    if (next >= chunks.size()) {
      duckdb_data_chunk_set_size(output, 0);
      return true;
    }
    const Chunk& chunk = chunks[next++];
    for (size_t i = 0; i < asked.size(); ++i)
      duckdb_vector_reference_vector(duckdb_data_chunk_get_vector(output, i),
                                     duckdb_data_chunk_get_vector(chunk.get(), asked[i]));
    duckdb_data_chunk_set_size(output, chunk.rows());
    return true;
  }
};

RowScan::RowScan(std::shared_ptr<State> state) : state_(std::move(state)) {}
RowScan::~RowScan() { state_->registry->Remove(state_->id); }

Result<std::vector<ScanSource::ScanColumn>> MakeScanColumns(Database& database,
                                                            const std::vector<ColumnInfo>& columns) {
  // Types come by name: DuckDB itself reads them.
  std::string sql = "SELECT ";
  for (size_t i = 0; i < columns.size(); ++i)
    sql += fmt::format("{}CAST(NULL AS {}) AS {}", i == 0 ? "" : ", ", columns[i].type,
                       QuoteIdentifier(columns[i].name));
  ASSIGN_OR_FAIL(std::unique_ptr<Connection> connection, database.Connect());
  duckdb_prepared_statement prepared = nullptr;
  if (duckdb_prepare(connection->get(), sql.c_str(), &prepared) != DuckDBSuccess) {
    Status status = StatusOf(ReadSqlFault(DUCKDB_ERROR_INVALID, duckdb_prepare_error(prepared), sql));
    duckdb_destroy_prepare(&prepared);
    return Fail(status.Within("columns of rows"));
  }
  std::vector<ScanSource::ScanColumn> made;
  for (size_t i = 0; i < columns.size(); ++i)
    made.push_back(
        {columns[i].name, LogicalType(duckdb_prepared_statement_column_logical_type(prepared, i))});
  duckdb_destroy_prepare(&prepared);
  return made;
}

Result<std::unique_ptr<RowScan>> RowScan::Make(Database& database, std::vector<ColumnInfo> columns) {
  auto state = std::make_shared<State>();
  state->registry = database.state_->scans;
  ASSIGN_OR_FAIL(state->columns, MakeScanColumns(database, columns));
  state->id = state->registry->Add(state);
  return std::unique_ptr<RowScan>(new RowScan(std::move(state)));
}

std::string RowScan::Sql() const { return fmt::format("_rows({})", state_->id); }

void RowScan::Set(std::span<const Chunk> chunks) { state_->chunks = chunks; }

}  // namespace millstream
