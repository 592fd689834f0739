// KeySet: hashes that SQL asks for row by row: `_among(ID, hash)` is true for those of the set.
//
// Place: floor 2. Finds the rows of a few keys without a join, which costs DuckDB more than to look at some
// 100,000 hashes. Threads: belongs to the thread that executes the statements over it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "sql/database.h"

namespace millstream {

class KeySet {
 public:
  static std::unique_ptr<KeySet> Make(Database& database);
  ~KeySet();
  /// A condition on the column `hash`, of type UBIGINT.
  std::string Sql(const std::string& hash) const;
  /// Rows of a RowBuffer whose hash is in the set; `recent` as RowBuffer::Sql gives it.
  std::string Among(const std::string& recent) const;
  void Set(std::span<const uint64_t> hashes);

  struct State;  // of this room only

 private:
  explicit KeySet(std::shared_ptr<State> state) : state_(std::move(state)) {}
  const std::shared_ptr<State> state_;
};

}  // namespace millstream
