// SqlRewriter: a checked filter's parse tree, changed so that reserved columns pass through unasked.
//
// Place: floor 2, inside sql/ (docs/decisions/0005-fused-filters.md). Every SELECT on the way from `input` to
// the result gives its visible columns first, then the reserved ones in the order of kReservedColumns; `data`
// only once where it is visible itself. Needs a tree that CheckFilterTree found sound. Failure: kInvalid with
// a position for names that clash.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "sql/filter_chain.h"
#include "sql/json_tree.h"

namespace millstream {

struct RewriteOptions {
  std::string source;         // the relation that stands for `input`
  bool data_visible = false;  // `*` of the source gives `data` (no contract)
  bool keep_deletes = false;
  /// Columns of a FROM item that is not `input`, lower case.
  std::function<std::vector<std::string>(const JsonNode& from_item)> columns_of;
};

struct RewrittenFilter {
  JsonNode node;
  bool data_visible = false;  // the result's visible columns hold `data`
  /// Reserved columns at the end of the result, in order.
  std::vector<std::string> reserved;
  /// Those of them that a SELECT names or computes itself.
  std::set<std::string> selected;
};

/// `fault` tells what is wrong with the filter's names.
Result<RewrittenFilter> RewriteFilter(const JsonNode& node, const RewriteOptions& options,
                                      SqlFilterFault* fault);

}  // namespace millstream
