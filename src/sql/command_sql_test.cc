#include "sql/command_sql.h"

#include <gtest/gtest.h>

namespace millstream {
namespace {

const std::map<std::string, KeyedRows> kRows = {
    {"t", {"(SELECT * FROM t)", {"k", "v", "s"}, {{"k", "a"}}}},
    {"u", {"(SELECT * FROM t WHERE v > 1)", {"k", "v", "s"}, {{"k", "b"}}}},
};

struct Fixture {
  std::unique_ptr<Database> database = std::move(*Database::Open("", {}));
  std::unique_ptr<Connection> connection = std::move(*database->Connect());

  Fixture() {
    EXPECT_TRUE(
        connection
            ->Run("CREATE TABLE t AS SELECT * FROM (VALUES ('x', 1, 'p'), ('y', 2, NULL), ('z', NULL, '3')) "
                  "r(k, v, s); CREATE VIEW u AS FROM t WHERE v > 1; CREATE TABLE c AS SELECT "
                  "row_number() OVER () AS _offset, a, b, n FROM (VALUES ('x'), ('y'), ('z'), "
                  "('none'), (NULL)) q(a), (VALUES ('x'), ('y'), (NULL)) w(b), (VALUES (0), (1), (2), "
                  "(NULL)) m(n)")
            .ok());
  }
  std::string Answers(const std::string& sql) {
    auto rows = connection->Query("SELECT string_agg(coalesce(rule, -1), ' ' ORDER BY command) FROM (" + sql +
                                  ") r(command, rule)");
    if (!rows) return rows.error().message();
    auto chunk = std::move(*rows->Next());
    return std::string(chunk->String(0, 0));
  }
};

TEST(CommandSqlTest, JoinedRowsAnswerAsSubqueriesDo) {
  Fixture f;
  for (const char* rule :
       {"SELECT 1 WHERE coalesce((SELECT v FROM t WHERE k = $input.a), 0) < $input.n",
        "SELECT 1 WHERE (SELECT v FROM t AS o WHERE o.k = $input.a AND v < 2) IS NULL",
        "SELECT 1 WHERE NOT EXISTS (SELECT * FROM t WHERE k = $input.a AND s IS NULL)",
        "SELECT v, s FROM t WHERE k = $input.a AND v = $input.n",
        "SELECT 1 WHERE (SELECT upper(s) FROM t WHERE k = $input.a) = 'P' OR EXISTS (FROM u WHERE $input.b = "
        "u.k)",
        "SELECT 1 WHERE (SELECT v FROM t WHERE k = $input.a) > (SELECT v - 1 FROM u WHERE k = $input.b)",
        // A row is looked at only where there is one: 'p'::INTEGER fails.
        "SELECT 1 WHERE (SELECT s::INTEGER FROM t WHERE k = $input.a AND k = 'z') = 3",
        "SELECT 1 WHERE $input.n = 1"}) {
    auto bound = BindInput(*f.connection, rule, nullptr);
    ASSERT_TRUE(bound) << rule;
    RowJoins joins;
    auto condition = joins.ConditionSql(*f.connection, *bound, kRows);
    ASSERT_TRUE(condition) << rule;
    EXPECT_EQ(condition->find("SELECT"), std::string::npos) << *condition;
    EXPECT_EQ(f.Answers(RequireSql("c", {*condition}, joins.sql())),
              f.Answers(RequireSql("c", {ExistsSql(*bound)})))
        << rule;
  }
}

TEST(CommandSqlTest, RulesOfOtherShapesAreNotJoined) {
  Fixture f;
  for (const char* rule :
       {"SELECT 1 WHERE (SELECT count(*) FROM t WHERE k = $input.a) > 0",
        "SELECT 1 WHERE (SELECT 1 FROM t WHERE k = $input.a) = 1",
        "SELECT 1 WHERE (SELECT v FROM t WHERE k = $input.a LIMIT 0) = 1",
        "SELECT 1 WHERE $input.n IN (SELECT v FROM t WHERE k = $input.a)",
        "SELECT 1 WHERE (SELECT n FROM t WHERE k = $input.a) = 1",  // the command's n, not named as such
        "SELECT 1 WHERE n = 1 AND EXISTS (FROM t WHERE k = $input.a)",
        "SELECT 1 FROM t, u WHERE t.k = $input.a", "SELECT 1 FROM t WHERE k = $input.a UNION ALL SELECT 1",
        "SELECT 1 FROM c WHERE a = $input.a"}) {
    auto bound = BindInput(*f.connection, rule, nullptr);
    ASSERT_TRUE(bound) << rule;
    EXPECT_FALSE(RowJoins().ConditionSql(*f.connection, *bound, kRows)) << rule;
  }
}

TEST(CommandSqlTest, EqualJoinsAreOne) {
  Fixture f;
  RowJoins joins;
  for (const char* rule :
       {"SELECT 1 FROM t WHERE k = _input.a", "SELECT 2 FROM t WHERE k = _input.a AND v = 1"})
    ASSERT_TRUE(joins.ConditionSql(*f.connection, rule, kRows));
  EXPECT_EQ(joins.sql(), " LEFT JOIN (SELECT * FROM t) AS _row0 ON _row0.\"k\" = _input.\"a\"");
}

}  // namespace
}  // namespace millstream
