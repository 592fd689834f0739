#include "sql/key_set.h"

#include <gtest/gtest.h>

#include <numeric>

namespace millstream {
namespace {

TEST(KeySetTest, ItsHashesAreFoundAmongOthers) {
  auto database = std::move(*Database::Open("", {}));
  auto connection = std::move(*database->Connect());
  ASSERT_TRUE(
      connection
          ->Run("CREATE TABLE t AS SELECT r::UBIGINT AS h FROM range(5000) q(r); INSERT INTO t VALUES "
                "(18446744073709551615), (NULL)")
          .ok());
  auto some = KeySet::Make(*database), others = KeySet::Make(*database);
  auto statement = std::move(*connection->Prepare(
      fmt::format("SELECT coalesce(sum(h), 0)::BIGINT, count(*) FROM t WHERE {} AND NOT {}", some->Sql("h"),
                  others->Sql("h"))));
  auto ask = [&] {
    auto rows = statement->Execute();
    auto chunk = std::move(*rows->Next());
    return std::pair(chunk->Int64(0, 0), chunk->Int64(1, 0));
  };
  EXPECT_EQ(ask(), std::pair(int64_t{0}, int64_t{0}));  // nothing was set
  some->Set(std::vector<uint64_t>{0, 7, 7, 4999, 6000});
  EXPECT_EQ(ask(), std::pair(int64_t{5006}, int64_t{3}));
  others->Set(std::vector<uint64_t>{7});
  EXPECT_EQ(ask(), std::pair(int64_t{4999}, int64_t{2}));
  std::vector<uint64_t> all(3000);
  std::iota(all.begin(), all.end(), 1000);
  some->Set(all);
  EXPECT_EQ(ask().second, 3000);
  some->Set({});
  EXPECT_EQ(ask().second, 0);
}

}  // namespace
}  // namespace millstream
