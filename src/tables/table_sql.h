// TableShape and its SQL: the statements by which a table is made, written, read and folded.
//
// Place: floor 3, inside tables/. A table N has parts: a base `_millstream.tN_G` in the file; of a keyed
// table in memory the delta `_recent.main.tN_G` that deliveries append to, and while a fold runs the finished
// delta that it folds; of an append table the rows of a RowBuffer that are not in the file yet. Readers see
// the view `main.NAME` over them. Pure functions of a shape: no database, no threads.
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
  int64_t base = 0;             // part numbers; 0 = none
  int64_t delta = 0;            // keyed tables: deliveries append here; in memory
  int64_t folding = 0;          // keyed tables: finished, to be folded; in memory
  std::string recent;           // append tables: what stands after FROM for rows that only memory has
  bool keeps_deletes = false;   // folds keep tombstones although offsets alone decide
  bool forgot_deletes = false;  // a fold has dropped tombstones: older rows must not come any more

  bool keyed() const { return !spec.key.empty(); }
  bool aggregate() const { return !spec.values.empty(); }
  bool upsert() const { return keyed() && !aggregate(); }
  bool has_last() const;
  /// Index of a visible column by name (case does not count, as in SQL), or -1.
  int Find(std::string_view name) const;
};

/// The database in memory that holds the deltas.
inline constexpr const char* kAttachRecentSql = "ATTACH IF NOT EXISTS ':memory:' AS _recent";

/// "_millstream.t5_3", or "_recent.main.t5_3" for a delta.
std::string PartName(const TableShape& shape, int64_t part);
std::string CreatePartSql(const TableShape& shape, int64_t part);
std::string CreateViewSql(const TableShape& shape);
/// What `recent` gives.
std::vector<ColumnInfo> RecentColumns(const TableShape& shape);
/// Writes rows of an append table into its base.
std::string SaveRowsSql(const TableShape& shape, const std::string& from);
/// Rows as the table has them, out of such as have narrower types.
std::string WidenSql(const TableShape& shape, const std::vector<ColumnInfo>& row_columns,
                     const std::string& from);
/// Appends rows that `from` gives to a keyed table's delta; $1 is the pipeline's number. `row_columns`: what
/// the rows have. Reserved ones may be missing, `_partition`, `_offset`, `_ordinal` excepted.
std::string InsertSql(const TableShape& shape, const std::vector<ColumnInfo>& row_columns,
                      const std::string& from);
/// The row of one key, given as texts in the key's order: reads each part by its hash column.
std::string LookupSql(const TableShape& shape, const std::vector<std::string>& key);
/// "(SELECT …)" of the rows, as readers see them, for which conditions on `_hash` hold: those of deltas, and
/// the base's.
std::string RowsOfHashesSql(const TableShape& shape, const std::string& of_deltas,
                            const std::string& of_base);
/// The pipeline's number in rows and ties: 32 bits of its name, the same on every machine.
uint32_t PipelineNumber(std::string_view pipeline);

/// The fold of part `folding` into the base, as statements for one transaction. First the temporary tables
/// `replaced` (row ids and hashes of base rows that go) and, of upsert, `newest` (row ids of the delta's rows
/// that stay). `one_row_an_event`: no event gave the delta two rows, so that the offset alone is their order.
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
