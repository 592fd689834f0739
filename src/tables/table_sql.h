// TableShape and its SQL: the statements by which a table is made, written, read and folded.
//
// Place: floor 3, inside tables/. A table N has a base `_millstream.tN_G` in the file and a delta: the rows
// of a RowBuffer that the base does not have yet. Readers see the view `main.NAME` over both. Pure functions
// of a shape: no database, no threads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/text.h"
#include "tables/aggregate.h"
#include "tables/table_store.h"

namespace millstream {

/// "name" as an identifier.
std::string Quoted(std::string_view name);
/// Text for inside a literal: quotes doubled.
std::string QuotedText(std::string_view text);

/// What a table looks like now.
struct TableShape {
  TableSpec spec;
  std::vector<ColumnInfo> columns;    // stored and visible; aggregate: key, then values
  std::vector<Aggregate> aggregates;  // of spec.values, bound
  int64_t id = 0;
  int64_t base = 0;             // its number
  std::string recent;           // the delta: what stands after FROM for rows that only memory has
  bool keeps_deletes = false;   // folds keep tombstones although offsets alone decide
  bool forgot_deletes = false;  // a fold has dropped tombstones: older rows must not come any more

  bool keyed() const { return !spec.key.empty(); }
  bool aggregate() const { return !spec.values.empty(); }
  bool upsert() const { return keyed() && !aggregate(); }
  bool has_last() const;
  /// Index of a visible column by name (case does not count, as in SQL), or -1.
  int Find(std::string_view name) const;
};

bool IsKeyColumn(const TableShape& shape, std::string_view name);

/// "_millstream.t5_3".
std::string BaseName(const TableShape& shape, int64_t base);
std::string CreateBaseSql(const TableShape& shape, int64_t base);
std::string CreateViewSql(const TableShape& shape);
/// What `recent` gives.
std::vector<ColumnInfo> RecentColumns(const TableShape& shape);
/// Writes rows of an append table into its base.
std::string SaveRowsSql(const TableShape& shape, const std::string& from);
/// Rows as the delta has them, out of those that `from` gives: of an aggregate table sums of the batch.
/// `row_columns`: what the rows have. Reserved ones may be missing, `_partition`, `_offset`, `_ordinal`
/// excepted; $1, if it is there, is the pipeline's number.
std::string DeltaRowsSql(const TableShape& shape, const std::vector<ColumnInfo>& row_columns,
                         const std::string& from);
/// The row of one key, given as texts in the key's order: reads each part by its hash column.
std::string LookupSql(const TableShape& shape, const std::vector<std::string>& key);
/// "(SELECT …)" of the rows, as readers see them, of some hashes: what stands after FROM for the delta's
/// rows, and a condition on the base's `_hash`.
std::string RowsOfHashesSql(const TableShape& shape, const std::string& of_delta, const std::string& of_base);
/// The pipeline's number in rows and ties: 32 bits of its name, the same on every machine.
uint32_t PipelineNumber(std::string_view pipeline);

/// The fold of `recent`, which names its last row too, into the base, as statements for one transaction.
/// First the temporary tables `replaced` (row ids and hashes of base rows that go) and, of upsert, `newest`
/// (numbers of the delta's rows that stay). `one_row_an_event`: no event gave the delta two rows, so that the
/// offset alone is their order.
std::vector<std::string> FoldPrepareSql(const TableShape& shape, bool one_row_an_event);
/// Upsert: SELECT of 1 if an event gave the delta several rows, else of 0.
std::string HasOrdinalsSql(const TableShape& shape);
/// Upsert: drops tombstones from `newest`: where nothing older can come they have nothing to hide any more.
std::string ForgetDeletesSql(const TableShape& shape);
/// Then either in place, first the rows that come, then those that go …
std::vector<std::string> FoldInPlaceSql(const TableShape& shape);
/// … or as a new base, one statement a range of hashes, so that a base larger than memory is sorted too.
std::vector<std::string> FoldRewriteSql(const TableShape& shape, int64_t new_base, uint32_t ranges);
/// Drops the temporary tables; also before a fold, for one that failed.
inline constexpr const char* kFoldCleanSql =
    "DROP TABLE IF EXISTS temp.newest; DROP TABLE IF EXISTS temp.met; DROP TABLE IF EXISTS temp.replaced";

}  // namespace millstream
