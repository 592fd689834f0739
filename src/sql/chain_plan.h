// ChainPlan: a list of filters, checked, bound one over the other, and ready to be fused into one statement.
//
// Place: floor 2, inside sql/. Made by DescribeChain (which keeps the description) and FilterChain::Make
// (which prepares Fused()). Threads: that of the call. A plan owns the scan that its texts read.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "sql/filter_chain.h"

namespace millstream {

struct ChainPlan {
  std::unique_ptr<BatchScan> batches;  // one of the two
  std::unique_ptr<RowScan> rows;
  std::string source;                // SELECT that gives the input: visible columns, then reserved ones
  bool source_data_visible = false;  // `data` stands once, among the visible ones
  std::vector<ColumnInfo> source_columns;
  std::set<std::string> selected;    // reserved columns that a filter, of this chain or before it, names
  std::vector<std::string> filters;  // rewritten SELECTs; filter i reads `_f{i}` and is `_f{i+1}`
  ChainDescription description;

  /// The one statement: after filter i (the last one excepted) rows are counted by `_tally(tally_ids[i], …)`.
  /// `reserved`: beside the coordinates and those that are selected.
  std::string Fused(const std::vector<uint64_t>& tally_ids, const std::vector<std::string>& reserved) const;
};

/// For Database::ConnectBounded.
std::vector<std::string_view> TextsOf(const std::vector<SqlFilter>& filters);

/// Faults are in the description; an error means that no plan could be made at all (e.g. out of memory).
/// `step` is called with each filter's index before it is looked at.
Result<ChainPlan> MakeChainPlan(Database& database, const ChainInput& input,
                                const std::vector<SqlFilter>& filters, bool keep_deletes,
                                const std::function<void(size_t)>& step = {});

}  // namespace millstream
