// Registry: what the DuckDB file itself says of its tables, their writers and the writers' offsets.
//
// Place: floor 3, inside tables/. Everything lies in the hidden schema `_millstream`: `tables` (spec as JSON,
// number of the base), `writers`, `offsets` (append-only: the row with the greatest `seq` of a writer's
// partition holds; trimmed before a checkpoint), `meta`. Threads: free functions over the caller's
// connection; those that change something belong into the caller's transaction.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sql/database.h"
#include "tables/table_sql.h"

namespace millstream {

struct WriterRecord {
  int64_t id = 0;  // 0: not in the file yet
  Writer writer;
  std::string table;
  std::map<uint32_t, StoredOffset> offsets;  // of what readers see
  std::map<uint32_t, StoredOffset> stored;   // of what lies in the file
};

struct RegistryContent {
  std::vector<TableShape> tables;
  std::vector<WriterRecord> writers;
  int64_t next_part = 1;
  int64_t last_seq = 0;       // greatest `seq` of an offset
  uint64_t offset_rows = 0;   // how many rows `offsets` has
  bool hash_changed = false;  // this DuckDB hashes otherwise than the one that wrote the file
};

/// Makes the schema if it is missing, reads everything, and drops bases that no table names (of a stop in the
/// middle of something).
Result<RegistryContent> OpenRegistry(Connection& connection);
/// Writes all stored hashes anew with this DuckDB's hash().
Status RenewHashes(Connection& connection, const std::vector<TableShape>& tables);

Status StoreTable(Connection& connection, const TableShape& shape, bool is_new);
Status RemoveTable(Connection& connection, const TableShape& shape);
/// The table's row goes; its parts stay, for who still reads them (OpenRegistry drops what is left of them).
Status ForgetTable(Connection& connection, int64_t id);
Status RenameTable(Connection& connection, int64_t id, const std::string& name);
Status RenameWriter(Connection& connection, int64_t id, const Writer& writer, const std::string& table);
Status StoreWriter(Connection& connection, const WriterRecord& record);
Status RemoveWriter(Connection& connection, int64_t id);

/// Binds the aggregates of `spec` over rows of `columns` and answers the table's visible columns. kInvalid
/// says which setting is at fault.
Result<std::vector<ColumnInfo>> BindTable(Connection& connection, const TableSpec& spec,
                                          const std::vector<ColumnInfo>& columns,
                                          std::vector<Aggregate>* aggregates);

/// All rows of a query as text (NULL as "").
Result<std::vector<std::vector<std::string>>> TextRows(Connection& connection, const std::string& sql,
                                                       const std::vector<SqlValue>& values = {});

}  // namespace millstream
