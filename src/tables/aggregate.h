// Aggregate: one value of an `aggregate` table: how a delivery's rows become a partial aggregate, and how
// partial ones become one.
//
// Place: floor 3, inside tables/. Values; stateless functions. Failure: kInvalid says what is not understood
// and what to write instead.
#pragma once

#include <string>

#include "base/status.h"

namespace millstream {

struct Aggregate {
  enum class Kind : unsigned char { kCountRows, kCount, kSum, kMin, kMax, kLast };
  Kind kind = Kind::kCountRows;
  std::string name;      // of the result's column
  std::string argument;  // SQL over a row; empty for count(*)
  std::string type;      // of the stored partial and of the result; known once bound

  bool operator==(const Aggregate&) const = default;
};

/// Parses "sum(gross)", "count(*)", "last(status)", …
Result<Aggregate> ParseAggregate(const std::string& name, const std::string& expression);

/// The partial aggregate over a group of rows. `order` is an expression that tells which row is newer.
std::string PartialSql(const Aggregate& aggregate, const std::string& order);
/// Partial aggregates of one key as one; `order` is the column that tells which is newer.
std::string CombineSql(const Aggregate& aggregate, const std::string& order);

}  // namespace millstream
