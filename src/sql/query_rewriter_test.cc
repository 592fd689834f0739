#include "sql/query_rewriter.h"

#include <gtest/gtest.h>

namespace millstream {
namespace {

class QueryRewriterTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { database_ = std::move(*Database::Open("", {})); }
  static void TearDownTestSuite() { database_.reset(); }
  void SetUp() override { connection_ = std::move(*database_->Connect()); }

  std::string Rewrite(const std::string& sql) {
    auto out =
        RewriteTables(*connection_, sql,
                      {{"_streams.orders", "(SELECT 7 AS a)"}, {"_pipelines", "(SELECT 8 AS b)"}}, &fault_);
    return out ? out->sql : out.error().ToString();
  }

  std::string Bounds(const std::string& where, const std::string& from = "_streams.orders") {
    auto bounds = FindStreamBounds(*connection_, "SELECT * FROM " + from + " WHERE " + where,
                                   "_streams.orders", {{"from", int64_t{40}}, {"1", int64_t{3}}}, &fault_);
    if (!bounds) return bounds.error().ToString();
    std::string out;
    auto add = [&out](const char* name, const ColumnBounds& of) {
      if (!of.first && !of.last) return;
      out += fmt::format("{}{}[{},{}]", out.empty() ? "" : " ", name,
                         of.first ? std::to_string(*of.first) : "", of.last ? std::to_string(*of.last) : "");
    };
    add("p", bounds->partition);
    add("o", bounds->offset);
    add("t", bounds->ingested_at_us);
    return out;
  }

  inline static std::unique_ptr<Database> database_;
  std::unique_ptr<Connection> connection_;
  SqlFault fault_;
};

TEST_F(QueryRewriterTest, ReferencesAreReplacedInTheUsersText) {
  EXPECT_EQ(Rewrite("SELECT a FROM _streams.orders"), "SELECT a FROM (SELECT 7 AS a) AS \"orders\"");
  EXPECT_EQ(Rewrite("SELECT o.a /* _streams.orders */ FROM \"_streams\" . orders AS o, _pipelines p WHERE "
                    "'_pipelines' <> ''"),
            "SELECT o.a /* _streams.orders */ FROM (SELECT 7 AS a) AS o, (SELECT 8 AS b) p WHERE "
            "'_pipelines' <> ''");
  EXPECT_EQ(Rewrite("WITH _pipelines AS (SELECT 1) SELECT * FROM _pipelines"),
            "WITH _pipelines AS (SELECT 1) SELECT * FROM _pipelines");
  EXPECT_EQ(Rewrite("SELECT (SELECT max(b) FROM _pipelines), * FROM other JOIN _streams.ORDERS USING (a)"),
            "SELECT (SELECT max(b) FROM (SELECT 8 AS b) AS \"_pipelines\"), * FROM other JOIN (SELECT 7 AS "
            "a) AS \"ORDERS\" USING (a)");
  for (const char* sql :
       {"SELECT orders.a FROM _streams.orders", "SELECT * FROM _streams.orders o(x) WHERE x = 7",
        "FROM _pipelines SELECT b", "SELECT * FROM _streams.orders UNION ALL FROM _pipelines"}) {
    EXPECT_TRUE(connection_->Query(Rewrite(sql))) << sql << " → " << Rewrite(sql);
  }
}

TEST_F(QueryRewriterTest, PlacesOfErrorsAreThoseOfTheUsersText) {
  std::string sql = "SELECT nope FROM _pipelines, _streams.orders WHERE nix = 1";
  auto out =
      RewriteTables(*connection_, sql,
                    {{"_streams.orders", "(SELECT 7 AS a)"}, {"_pipelines", "(SELECT 8 AS b)"}}, &fault_);
  ASSERT_TRUE(out);
  EXPECT_EQ(out->OriginalPosition(static_cast<int>(out->sql.find("nope"))), 7);
  EXPECT_EQ(out->OriginalPosition(static_cast<int>(out->sql.find("8 AS"))), 17);
  EXPECT_EQ(out->OriginalPosition(static_cast<int>(out->sql.find("nix"))), static_cast<int>(sql.find("nix")));
}

TEST_F(QueryRewriterTest, TablesAreFoundOnce) {
  auto tables = FindTables(
      *connection_, "WITH a AS (SELECT * FROM t) SELECT * FROM a, t, _streams.s WHERE x IN (SELECT y FROM u)",
      &fault_);
  ASSERT_TRUE(tables);
  std::vector<TableReference> expected = {{"", "t"}, {"_streams", "s"}, {"", "u"}};
  EXPECT_EQ(*tables, expected);
  EXPECT_FALSE(FindTables(*connection_, "SELEC 1", &fault_));
  EXPECT_EQ(fault_.position, 0);
}

TEST_F(QueryRewriterTest, BoundsOfComparisons) {
  EXPECT_EQ(Bounds("_offset > 5 AND 9 >= _offset AND _partition = 1"), "p[1,1] o[6,9]");
  EXPECT_EQ(Bounds("_offset BETWEEN 3 AND 5 AND (_partition IN (4, 2, 3) AND x = 1)"), "p[2,4] o[3,5]");
  EXPECT_EQ(Bounds("_offset > 5 OR _partition = 1"), "");
  EXPECT_EQ(Bounds("_offset + 1 > 5 AND _offset <> 3 AND _offset > x"), "");
  EXPECT_EQ(Bounds("_offset >= 2 + 3 AND NOT _offset > 7"), "o[5,7]");
  EXPECT_EQ(Bounds("_offset >= 5.5"), "");
  EXPECT_EQ(Bounds("_offset > $from"), "o[41,]");
  EXPECT_EQ(Bounds("_offset > $unknown"), "");
  EXPECT_EQ(
      Bounds(
          "_ingested_at >= TIMESTAMPTZ '1970-01-01 00:00:01+00' AND _ingested_at < '1970-01-01 01:00:02+01'"),
      "t[1000000,1999999]");
  EXPECT_NE(Bounds("_ingested_at > now() - INTERVAL 1 HOUR"), "");
  EXPECT_EQ(Bounds("_ingested_at < now() - INTERVAL 1 HOUR"), "");
  EXPECT_EQ(Bounds("_ingested_at > TIMESTAMP '1970-01-01 00:00:00.000001'"), "t[2,]");
}

TEST_F(QueryRewriterTest, BoundsHoldForEveryReference) {
  EXPECT_EQ(Bounds("o._offset > 5 AND t._offset > 7", "_streams.orders o, t"), "o[6,]");
  EXPECT_EQ(
      Bounds("a._offset > 5 AND b._offset > 7 AND b._partition = 0", "_streams.orders a, _streams.orders b"),
      "o[6,]");
  EXPECT_EQ(Bounds("_offset > 5", "(SELECT * FROM _streams.orders) o"), "");
  EXPECT_EQ(Bounds("_offset > 5", "t ANTI JOIN _streams.orders USING (x)"), "");
  EXPECT_EQ(Bounds("_offset > 5", "(SELECT * FROM _streams.orders WHERE _offset < 3) o"), "o[,2]");
}

TEST_F(QueryRewriterTest, AKeyIsFoundOnlyWhereItIsToldExactly) {
  auto key = [&](const std::string& sql, std::vector<ColumnInfo> columns) -> std::string {
    auto found = FindKey(*connection_, sql, "t", columns,
                         {{"who", std::string("o'neil")}, {"n", int64_t{7}}, {"1", std::string("first")}});
    if (!found) return found.error().message();
    std::string text;
    for (const std::string& value : *found) text += (text.empty() ? "" : "|") + value;
    return text;
  };
  std::vector<ColumnInfo> text = {{"id", "VARCHAR"}}, number = {{"id", "BIGINT"}};
  EXPECT_EQ(key("SELECT * FROM t WHERE id = 'a'", text), "a");
  EXPECT_EQ(key("SELECT * FROM t WHERE 'a' || 'b' = ID AND other > 3", text), "ab");
  EXPECT_EQ(key("SELECT * FROM t WHERE id = $who", text), "o'neil");
  EXPECT_EQ(key("SELECT * FROM t WHERE id = $1", text), "first");
  EXPECT_EQ(key("SELECT * FROM t x, u WHERE x.id = 'a' AND u.y = 1", text), "a");
  EXPECT_EQ(key("SELECT * FROM u LEFT JOIN t USING (k) WHERE t.id = 'a'", text), "a");
  EXPECT_EQ(key("SELECT * FROM t WHERE id = 'a' UNION ALL SELECT * FROM t WHERE id = 'a'", text), "a");
  EXPECT_EQ(key("SELECT (SELECT max(x) FROM t WHERE id = 'a') AS m", text), "a");
  EXPECT_EQ(key("SELECT * FROM t WHERE id = 5", number), "5");
  EXPECT_EQ(key("SELECT * FROM t WHERE id = $n", number), "7");
  EXPECT_EQ(key("SELECT * FROM t WHERE b = 2 AND a = 'x'", {{"a", "VARCHAR"}, {"b", "INTEGER"}}), "x|2");
  EXPECT_EQ(key("SELECT * FROM t WHERE a = 'u'", {{"a", "ENUM('u', 'v')"}}), "u");
  for (const char* where :
       {"id = 'a' OR x = 1", "id <> 'a'", "id = other", "NOT id = 'a'", "id = NULL", "u.id = 'a'",
        "id = (SELECT 'a')", "id LIKE 'a'", "id = 5", "id IS NOT DISTINCT FROM 'a'",
        "id = CASE WHEN random() > 2 THEN 'a' ELSE 'b' END", "id = $missing"})
    EXPECT_EQ(key(fmt::format("SELECT * FROM t WHERE {}", where), text), "") << where;
  for (const char* where : {"id = 5.0", "id = '5'", "id = 5e0", "id = 99999999999999999999"})
    EXPECT_EQ(key(fmt::format("SELECT * FROM t WHERE {}", where), number), "") << where;
  EXPECT_EQ(key("SELECT * FROM t WHERE x = 0.0", {{"x", "DOUBLE"}}), "");
  EXPECT_EQ(key("SELECT * FROM t WHERE a = 'x'", {{"a", "VARCHAR"}, {"b", "INTEGER"}}), "");
  for (const char* sql :
       {"SELECT * FROM t", "SELECT * FROM t, t AS x WHERE t.id = 'a'",
        "SELECT * FROM t WHERE id = 'a' UNION ALL SELECT * FROM t WHERE id = 'b'",
        "SELECT * FROM u ANTI JOIN t USING (id) WHERE id = 'a'",
        "SELECT * FROM (SELECT * FROM t) WHERE id = 'a'", "SELECT * FROM t AS x(id, b) WHERE id = 'a'",
        "SELECT * FROM t AS x WHERE t.id = 'a'"})
    EXPECT_EQ(key(sql, text), "") << sql;
}

}  // namespace
}  // namespace millstream
