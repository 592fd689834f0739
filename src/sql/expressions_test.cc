// What users write in filters must come through checking, rewriting and printing unchanged.
#include <gtest/gtest.h>

#include "sql/chain_for_test.h"
#include "sql/function_list.h"

namespace millstream {
namespace {

class ExpressionsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    database_ = std::move(*Database::Open("", {}));
    auto connection = std::move(*database_->Connect());
    ASSERT_TRUE(connection
                    ->Run("CREATE TABLE t (k VARCHAR, v INTEGER, w DOUBLE, seen TIMESTAMPTZ); INSERT INTO t "
                          "VALUES ('a', 1, 0.5, "
                          "'2026-01-01'), ('a', 2, 1.5, '2026-01-02'), ('b', 3, NULL, NULL)")
                    .ok());
  }
  static void TearDownTestSuite() { database_.reset(); }

  void SetUp() override {
    input_.stream = "s";
    input_.contract.fields = {
        FieldOf("id", "varchar"),           FieldOf("n", "integer"),
        FieldOf("amount", "decimal(12,2)"), FieldOf("d", "double"),
        FieldOf("ts", "timestamptz"),       FieldOf("day", "date"),
        FieldOf("tags", "varchar[]"),       FieldOf("p", "struct(x integer, y struct(z varchar))"),
        FieldOf("flag", "boolean")};
    batch_ = BatchOf(
        input_.contract,
        {R"({"id":"a","n":3,"amount":12.50,"d":0.1,"ts":"2026-11-22T10:00:00Z","day":"2026-11-22","tags":["x","yy"],"p":{"x":1,"y":{"z":"q"}},"flag":true,"o":{"k":[1,2]}})"});
  }

  // The rows that a filter gives; the same SELECT over a plain table tells what is right.
  void Expect(const std::string& sql) {
    auto chain = FilterChain::Make(*database_, input_, {{"f", sql}}, {});
    if (!chain) {
      ADD_FAILURE() << sql << "\n" << chain.error().message();
      return;
    }
    std::vector<uint64_t> counts;
    BatchRange range{batch_.get(), 0, 1};
    auto rows = (*chain)->Run(std::span(&range, 1), counts);
    if (!rows) {
      ADD_FAILURE() << sql << "\n" << rows.error().message();
      return;
    }
    auto scan = *BatchScan::Make(*database_, "s", input_.contract, {});
    scan->Set(std::span(&range, 1));
    auto connection = std::move(*database_->Connect());
    ASSERT_TRUE(connection->Run("CREATE TEMP TABLE input AS SELECT * FROM " + scan->Sql()).ok());
    auto direct = connection->Query(sql);
    if (!direct) {
      ADD_FAILURE() << sql << "\n" << direct.error().message();
      return;
    }
    JsonWriter writer = direct->MakeJsonWriter();
    std::vector<std::string> expected;
    while (true) {
      auto chunk = direct->Next();
      if (!chunk || !*chunk) break;
      for (uint32_t row = 0; row < (*chunk)->rows(); ++row) {
        std::string line;
        for (uint32_t i = 0; i < (*chunk)->columns(); ++i) {
          line += i == 0 ? "" : " ";
          writer.AppendText(line, **chunk, i, row);
        }
        expected.push_back(line);
      }
    }
    EXPECT_EQ(RowsOf(*database_, *rows), expected) << sql;
    EXPECT_EQ(std::vector<ColumnInfo>(rows->columns.begin(), rows->columns.begin() + rows->visible),
              direct->columns())
        << sql;
  }

  inline static std::unique_ptr<Database> database_;
  ChainInput input_;
  std::unique_ptr<EventBatch> batch_;
};

TEST_F(ExpressionsTest, Scalars) {
  for (const char* expression : {"n + 1",
                                 "-n",
                                 "n - -1",
                                 "n * 2.5",
                                 "n / 2",
                                 "n // 2",
                                 "n % 2",
                                 "n ** 2",
                                 "2 ^ 3",
                                 "n & 1",
                                 "n | 4",
                                 "n << 2",
                                 "~n",
                                 "@(-3)",
                                 "5!",
                                 "amount * 0.1e0",
                                 "1e-7",
                                 "1.5e300",
                                 "0.1",
                                 "1_000",

                                 "12345678901234567890123",
                                 "-9223372036854775808",

                                 "true",
                                 "NULL",
                                 "NULL::INTEGER",
                                 "'it''s'",
                                 "E'a\\nb'",
                                 "$$dollar$$",
                                 "$tag$a$$b$tag$",
                                 "'ä€😀'",
                                 "x'4142'::BLOB",
                                 "id || '-' || n",
                                 "id LIKE 'a%'",
                                 "id NOT LIKE 'a%'",
                                 "id ILIKE 'A'",
                                 "id LIKE 'a!%' ESCAPE '!'",
                                 "id SIMILAR TO 'a|b'",
                                 "id NOT SIMILAR TO 'a|b'",
                                 "id ~ 'a'",
                                 "id GLOB 'a*'",
                                 "id ~~* 'A'",
                                 "id !~~ 'b'",
                                 "id ^@ 'a'",
                                 "id COLLATE NOCASE = 'A'",
                                 "n BETWEEN 1 AND 5",
                                 "n NOT BETWEEN 1 AND 5",
                                 "n IN (1, 2, 3)",
                                 "n NOT IN (1, 2)",
                                 "n IS NULL",
                                 "n IS NOT NULL",
                                 "n IS DISTINCT FROM 3",
                                 "n IS NOT DISTINCT FROM 3",
                                 "flag IS TRUE",
                                 "flag IS NOT FALSE",
                                 "flag IS UNKNOWN",
                                 "NOT flag",
                                 "flag AND n > 2 OR n < 0",
                                 "CASE WHEN n > 2 THEN 'big' WHEN n > 1 THEN 'mid' ELSE 'small' END",
                                 "CASE n WHEN 3 THEN 'three' END",
                                 "coalesce(NULL, n)",
                                 "ifnull(n, 1)",
                                 "nullif(n, 3)",
                                 "if(flag, 1, 2)",
                                 "greatest(1, n, 2)",
                                 "try_cast(id AS INTEGER)",
                                 "try(id::INTEGER)",
                                 "n::VARCHAR",
                                 "CAST(n AS DECIMAL(10,3))",
                                 "n::TINYINT::DOUBLE",
                                 "id::ENUM('a', 'b')",
                                 "'2026-01-01'::DATE",
                                 "DATE '2026-01-01'",
                                 "TIMESTAMP '2026-01-01 01:02:03'",
                                 "TIMESTAMPTZ '2026-01-01 01:02:03+02'",
                                 "ts + INTERVAL 1 DAY",
                                 "ts - INTERVAL '2 hours 30 minutes'",
                                 "day - DATE '2026-01-01'",
                                 "INTERVAL (n) MONTH",
                                 "INTERVAL '1' YEAR",
                                 "extract(year FROM ts)",
                                 "date_trunc('hour', ts)",
                                 "ts AT TIME ZONE 'Europe/Berlin'",
                                 "strftime(ts, '%Y-%m')",
                                 "epoch_ms(ts)",
                                 "date_part('dow', day)",
                                 "time_bucket(INTERVAL 5 MINUTES, ts)",
                                 "position('a' IN id)",
                                 "substring(id FROM 1 FOR 1)",
                                 "trim(BOTH 'x' FROM id)",

                                 "id.upper()",
                                 "id[1]",
                                 "id[1:2]",
                                 "left(id, 1)",
                                 "format('{}-{:05d}', id, n)",
                                 "printf('%s %d', id, n)",
                                 "regexp_extract(id, '(a)', 1)",
                                 "regexp_replace(id, 'a', 'b', 'g')",
                                 "md5(id)",
                                 "hash(id)",
                                 "concat_ws(',', id, n)",
                                 "lpad(id, 5, '.')",
                                 "string_split('a,b', ',')"})
    Expect(fmt::format("SELECT {} AS x FROM input", expression));
}

TEST_F(ExpressionsTest, WhatCannotBeCarriedIsTold) {
  ChainDescription chain = DescribeChain(*database_, input_, {{"f", "SELECT id FROM input WHERE d < 1e400"}});
  ASSERT_EQ(chain.faults.size(), 1u);
  EXPECT_EQ(chain.faults[0].fault.message, "a number in the text is out of range");
  chain = DescribeChain(*database_, input_, {{"f", "SELECT row(n, id) AS r FROM input"}});
  ASSERT_EQ(chain.faults.size(), 1u);
  EXPECT_NE(chain.faults[0].fault.message.find("struct without names"), std::string::npos);
}

TEST_F(ExpressionsTest, NestedValues) {
  for (const char* expression : {"tags[1]",
                                 "tags[-1]",
                                 "tags[1:2]",
                                 "tags[:1]",
                                 "[n, 2, 3]",
                                 "[]",
                                 "len(tags)",
                                 "list_contains(tags, 'x')",
                                 "'x' IN tags",
                                 "n = ANY([1, 3])",
                                 "n <> ALL([1, 2])",
                                 "list_transform(tags, lambda t: t || '!')",
                                 "list_transform(tags, t -> t || '!')",
                                 "list_transform(tags, lambda t, i: t || i)",
                                 "list_filter([1,2,3], lambda v: v > 1 AND v < n)",
                                 "list_reduce([1,2,3], lambda a, b: a + b)",
                                 "[v * 2 FOR v IN [1,2,3] IF v > 1]",
                                 "list_sort(tags, 'DESC')",
                                 "list_sum([1,2])",
                                 "list_aggregate([1,2], 'max')",
                                 "p.x",
                                 "p.y.z",
                                 "input.p.y.z",
                                 "p['x']",
                                 "{'a': n, 'b c': id}",
                                 "{'a': {'b': [n]}}.a.b[1]",
                                 "struct_pack(k := n)",

                                 "MAP {'a': n}",
                                 "MAP {'a': 1}['a']",
                                 "map([1,2],['a','b'])",
                                 "struct_insert(p, w := 1)",
                                 "data->'$.o'",
                                 "data->>'$.o.k[0]'",
                                 "data->>'id'",
                                 "data->'o'->'k'->>1",
                                 "(data->>'$.n')::INTEGER + 1",
                                 "json_extract_string(data, '$.id')",
                                 "json_array_length(data->'$.o.k')",
                                 "to_json(p)",
                                 "json_object('a', n)",
                                 "(data->'$.o.k')::INTEGER[]",
                                 "from_json(data, '{\"n\":\"INTEGER\"}')",
                                 "p::JSON",

                                 "(n, id) = (3, 'a')",
                                 "array_value(1, 2)",
                                 "[1, 2]::INTEGER[2]",
                                 "flatten([[1],[2]])",
                                 "range(n)",
                                 "unnest([1,2])"})
    Expect(fmt::format("SELECT {} AS x FROM input", expression));
}

TEST_F(ExpressionsTest, WholeFilters) {
  for (const char* sql :
       {"SELECT n FROM input", "SELECT n x, id \"Id Two\" FROM input i WHERE i.n > 1",
        "SELECT \"n\" FROM \"input\"", "FROM input SELECT id, n",
        "SELECT id -- comment ' \" \n, n /* FROM x */ FROM input", "SELECT id FROM INPUT WHERE INPUT.N = 3",
        "SELECT ID, N FROM Input", "SELECT n, unnest(tags) AS t FROM input",
        "SELECT t, n FROM input, unnest(tags) AS u(t)",
        "SELECT t FROM input CROSS JOIN unnest(tags) AS u(t) WHERE t <> 'x'",
        "SELECT u.v FROM input, (SELECT unnest(tags) AS v) u", "SELECT n, unnest(p) FROM input",
        "SELECT n, x.value FROM input, json_each(data->'$.o.k') AS x",
        "SELECT n, r.range AS i FROM input, range(n) r"})
    Expect(sql);
  for (const char* sql :
       {"SELECT id, v FROM input JOIN t ON t.k = input.id AND t.v > 1",
        "SELECT id, v FROM input, t WHERE t.k = input.id AND v = 2",
        "SELECT id, s.total FROM input LEFT JOIN (SELECT k, sum(v) AS total FROM t GROUP BY k HAVING "
        "count(*) > 0) s ON s.k = id",
        "SELECT id, s.v FROM input JOIN (SELECT DISTINCT ON (k) k, v FROM t ORDER BY k, v DESC) s ON s.k = "
        "input.id",
        "SELECT id, s.v FROM input JOIN (SELECT k, v, row_number() OVER (PARTITION BY k ORDER BY v DESC) AS "
        "r FROM t) s ON s.k = input.id AND s.r = 1",
        "SELECT id, s.v FROM input JOIN (SELECT * FROM t QUALIFY rank() OVER (PARTITION BY k ORDER BY v) = "
        "1) s ON s.k = input.id",
        "SELECT id, (SELECT max(v) FROM t WHERE t.k = input.id) AS m FROM input",
        "SELECT id FROM input WHERE id IN (SELECT k FROM t)",
        "SELECT id FROM input WHERE EXISTS (SELECT 1 FROM t WHERE t.k = input.id AND t.v > input.n - 2)",
        "SELECT id FROM input WHERE n > ALL (SELECT v FROM t WHERE k = 'a')",
        "SELECT id, c.name FROM input JOIN (VALUES ('a', 'Ann'), ('b', 'Bob')) AS c(id2, name) ON c.id2 = id",
        "WITH best AS (SELECT k, max(v) AS v FROM t GROUP BY ALL), mine AS (SELECT id, n FROM input WHERE n "
        "> 0) SELECT mine.id, best.v FROM mine JOIN best ON k = id",
        "SELECT id, x.v FROM input ASOF JOIN t x ON x.k = input.id AND input.ts >= x.seen",
        "SELECT id FROM input SEMI JOIN t ON t.k = id",
        "SELECT * EXCLUDE (tags, p) REPLACE (n + 1 AS n) FROM (SELECT n, id, tags, p FROM input)",
        "SELECT * RENAME (n AS m) FROM (SELECT n FROM input)",
        "SELECT id, u.k FROM input JOIN (SELECT k FROM t UNION SELECT 'a' EXCEPT SELECT 'b') u ON u.k = id",
        "SELECT id, l.s FROM input, LATERAL (SELECT sum(len(x)) AS s FROM unnest(tags) AS q(x)) l",
        "SELECT id, cnt FROM input JOIN (SELECT k, count(*) FILTER (WHERE v > 1) AS cnt, "
        "string_agg(v::VARCHAR, ',' ORDER BY v DESC) AS a FROM t GROUP BY k) g ON g.k = id"})
    Expect(sql);
}

TEST_F(ExpressionsTest, TheListOfFunctionsIsThatOfTheLibrary) {
  std::vector<std::string> names = FunctionNames();
  for (const std::string& name : names) EXPECT_TRUE(FindFunction(name)) << name << " is out of order";
  auto connection = std::move(*database_->Connect());
  auto rows = connection->Query("SELECT DISTINCT function_name, function_type FROM duckdb_functions()");
  ASSERT_TRUE(rows);
  std::set<std::string> known, aggregates;
  while (true) {
    auto chunk = rows->Next();
    if (!chunk || !*chunk) break;
    for (uint32_t row = 0; row < (*chunk)->rows(); ++row) {
      known.emplace((*chunk)->String(0, row));
      if ((*chunk)->String(1, row) == "aggregate") aggregates.emplace((*chunk)->String(0, row));
    }
  }
  // Words of the grammar, and functions that the parser or binder makes of them.
  const std::set<std::string> grammar = {"coalesce",  "current_time",   "current_timestamp",
                                         "grouping",  "grouping_id",    "ifnull",
                                         "localtime", "localtimestamp", "try",
                                         "unlist",    "unnest"};
  for (const std::string& name : names) EXPECT_TRUE(known.contains(name) || grammar.contains(name)) << name;
  for (const std::string& name : aggregates) EXPECT_EQ(FindFunction(name), FunctionKind::kAggregate) << name;
  for (const char* name : {"read_csv", "getenv", "nextval", "current_setting", "query", "_tally", "sleep_ms",
                           "write_log", "set_config"})
    EXPECT_FALSE(FindFunction(name)) << name;
}

}  // namespace
}  // namespace millstream
