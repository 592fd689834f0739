#include "tables/table_sql.h"

#include <gtest/gtest.h>

#include "tables/test_rows.h"

namespace millstream {
namespace {

TEST(AggregateTest, UnderstandsItsFormsAndSaysWhatToWriteElse) {
  auto sum = ParseAggregate("total", " SUM( gross * (1 + tax) ) ");
  ASSERT_TRUE(sum);
  EXPECT_EQ(sum->kind, Aggregate::Kind::kSum);
  EXPECT_EQ(sum->argument, "gross * (1 + tax)");
  EXPECT_EQ(ParseAggregate("n", "count( * )")->kind, Aggregate::Kind::kCountRows);
  EXPECT_EQ(ParseAggregate("n", "last(a || ')')")->argument, "a || ')'");
  for (const char* wrong : {"gross", "sum(a) + sum(b)", "sum()", "median(x)", "sum(*)", "sum(a"}) {
    auto refused = ParseAggregate("n", wrong);
    ASSERT_FALSE(refused) << wrong;
    EXPECT_NE(refused.error().message().find("write count(*)"), std::string::npos) << wrong;
  }
}

TEST(PipelineNumberTest, StaysTheSame) { EXPECT_EQ(PipelineNumber("shop"), 2823282857u); }

// A base larger than one range is written anew range by range: the ranges must cover every hash once.
class RewriteTest : public testing::TestWithParam<uint32_t> {};

TEST_P(RewriteTest, RangesCoverEveryRowOnceInHashOrder) {
  TestStore test;
  Connection& connection = test.connection();
  for (bool aggregate : {false, true}) {
    TableShape shape;
    shape.spec.name = "t", shape.spec.key = {"id"};
    shape.columns = {{"id", "BIGINT"}, {"n", "BIGINT"}};
    shape.id = aggregate ? 901 : 900, shape.base = 1;
    shape.recent = "(SELECT *, rowid AS _row FROM " + BaseName(shape, 2) + ")";
    if (aggregate) {
      shape.spec.values = {{"n", "count(*)"}};
      shape.aggregates = {*ParseAggregate("n", "count(*)")};
      shape.aggregates[0].type = "BIGINT";
    }
    std::string hidden = aggregate ? "" : ", 0, 0, i AS _offset, 0, NULL";
    std::string last = aggregate ? "" : ", false";
    auto run = [&](const std::string& sql) {
      Status status = connection.Run(sql);
      ASSERT_TRUE(status.ok()) << status.ToString() << "\n" << sql;
    };
    for (int64_t base : {1, 2}) run(CreateBaseSql(shape, base));
    run(fmt::format("INSERT INTO {} SELECT i, 1{}, hash(i::BIGINT){} FROM range(5000) r(i)",
                    BaseName(shape, 1), hidden, last));
    run(fmt::format("INSERT INTO {} SELECT i, 10{}, hash(i::BIGINT){} FROM range(4000, 7000) r(i)",
                    BaseName(shape, 2), hidden, last));
    run("UPDATE " + BaseName(shape, 2) + (aggregate ? " SET n = 10" : " SET _offset = _offset + 10000"));
    for (const std::string& sql : FoldPrepareSql(shape, true)) run(sql);
    for (const std::string& sql : FoldRewriteSql(shape, 4, GetParam())) run(sql);
    run(kFoldCleanSql);
    EXPECT_EQ(test.One("SELECT count(*), count(DISTINCT id), sum(n) FROM " + BaseName(shape, 4)),
              aggregate ? "7000|7000|35000" : "7000|7000|34000");
    EXPECT_EQ(
        test.One("SELECT bool_and(_hash >= before) FROM (SELECT _hash, lag(_hash) OVER (ORDER BY rowid) AS "
                 "before FROM " +
                 BaseName(shape, 4) + ")"),
        "true");
  }
}

INSTANTIATE_TEST_SUITE_P(Ranges, RewriteTest, testing::Values(1u, 2u, 3u, 7u, 64u));

}  // namespace
}  // namespace millstream
