// What the names in a query stand for: tables, streams, system tables, now or in the past.
//
// Place: floor 6, inside query/. Free functions over an Engine; no threads of their own. Failure: kInvalid
// names what is not there and the nearest name that is.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "query/as_of.h"
#include "query/query.h"
#include "sql/query_rewriter.h"
#include "sql/scan.h"

namespace millstream {

/// What a query's tables stand for.
struct Resolved {
  std::optional<AsOf> as_of;  // nothing: now
  std::map<std::string, std::string> replacements;
  using MakeScan = std::function<Result<std::unique_ptr<StreamScan>>(Database&)>;
  std::vector<std::pair<std::string, MakeScan>> make_scans;  // by what they replace
  std::vector<std::string> tables, streams;
  struct OneRow {
    std::string reference, table;
    std::vector<std::string> key;
  };
  std::vector<OneRow> rows;  // tables of which the query asks for one key
};

/// Adds what one reference stands for.
Status Resolve(Engine& engine, Connection& connection, const QueryRequest& request,
               const TableReference& reference, Resolved& resolved);

/// "; did you mean 'x'?" or nothing.
std::string Hint(const std::string& name, const std::vector<std::string>& names);

}  // namespace millstream
