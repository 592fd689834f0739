// What filters may do and what is said of those that may not, without running any.
#include <gtest/gtest.h>

#include "sql/filter_chain.h"

namespace millstream {
namespace {

Field MakeField(std::string name, Type::Kind kind, uint8_t width = 0, uint8_t scale = 0) {
  Field field;
  field.name = std::move(name);
  field.type.kind = kind;
  field.type.width = width;
  field.type.scale = scale;
  field.pointer = "/" + field.name;
  return field;
}

class DescribeChainTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    database_ = std::move(*Database::Open("", {}));
    auto connection = std::move(*database_->Connect());
    ASSERT_TRUE(connection
                    ->Run("CREATE TABLE customers (customer VARCHAR, name VARCHAR, _partition INTEGER, "
                          "_offset BIGINT); "
                          "CREATE TABLE prices (sku VARCHAR, price DECIMAL(12,2))")
                    .ok());
  }
  static void TearDownTestSuite() { database_.reset(); }

  void SetUp() override {
    input_.stream = "orders";
    input_.contract.fields = {MakeField("id", Type::Kind::kVarchar), MakeField("type", Type::Kind::kVarchar),
                              MakeField("amount", Type::Kind::kDecimal, 12, 2),
                              MakeField("customer", Type::Kind::kVarchar),
                              MakeField("ts", Type::Kind::kTimestamptz)};
    Field lines = MakeField("lines", Type::Kind::kList);
    lines.type.children = {MakeField("element", Type::Kind::kStruct)};
    lines.type.children[0].type.children = {MakeField("sku", Type::Kind::kVarchar),
                                            MakeField("qty", Type::Kind::kInteger)};
    input_.contract.fields.push_back(lines);
  }

  ChainDescription Describe(const std::vector<std::string>& texts) {
    std::vector<SqlFilter> filters;
    for (const std::string& text : texts) filters.push_back({"f" + std::to_string(filters.size()), text});
    return DescribeChain(*database_, input_, filters);
  }

  // The visible columns of a chain as "name TYPE, …", or its faults.
  std::string Columns(const std::vector<std::string>& texts) {
    ChainDescription chain = Describe(texts);
    std::string out;
    for (const SqlFilterFault& fault : chain.faults)
      out += fmt::format("[{}@{}] {} ({})\n", fault.filter, fault.fault.position, fault.fault.message,
                         fault.expected);
    for (const ColumnInfo& column : chain.columns)
      out += (out.empty() ? "" : ", ") + column.name + " " + column.type;
    return out;
  }

  inline static std::unique_ptr<Database> database_;  // opened once: it takes longer than a test
  ChainInput input_;
};

TEST_F(DescribeChainTest, ReservedColumnsPassUnaskedAndAreNotWritten) {
  EXPECT_EQ(Columns({"SELECT id, amount FROM input"}), "id VARCHAR, amount DECIMAL(12,2)");
  EXPECT_EQ(Columns({"SELECT id, ce_time, _offset FROM input"}), "id VARCHAR");
  EXPECT_EQ(Columns({"SELECT id, ce_time AS placed_at, input._offset AS o FROM input"}),
            "id VARCHAR, placed_at TIMESTAMP WITH TIME ZONE, o BIGINT");
  EXPECT_EQ(Columns({"SELECT * EXCLUDE (lines) FROM input WHERE ce_type = 'x'"}),
            "id VARCHAR, type VARCHAR, amount DECIMAL(12,2), customer VARCHAR, ts TIMESTAMP WITH TIME ZONE");
  EXPECT_EQ(Columns({"SELECT id FROM input", "SELECT *, data->>'$.x' AS x, ce_id AS eid FROM input"}),
            "id VARCHAR, x VARCHAR, eid VARCHAR");
  EXPECT_EQ(Columns({"FROM input SELECT id"}), "id VARCHAR");
  EXPECT_EQ(Columns({"SELECT id, upper(type) AS ce_type, 'd' AS _op FROM input"}), "id VARCHAR");
}

TEST_F(DescribeChainTest, LayersAroundInput) {
  EXPECT_EQ(
      Columns(
          {"WITH a AS (SELECT id, amount * 2 AS twice FROM input), b AS (SELECT * FROM a WHERE twice > 1) "
           "SELECT *, _offset AS o FROM b"}),
      "id VARCHAR, twice DECIMAL(18,2), o BIGINT");
  EXPECT_EQ(Columns({"SELECT * FROM (SELECT id, ce_id FROM input) WHERE ce_id <> 'x'"}), "id VARCHAR");
  EXPECT_EQ(Columns({"SELECT i.*, ce_subject AS s FROM (SELECT id AS x FROM input i) AS i"}),
            "x VARCHAR, s VARCHAR");
  EXPECT_EQ(Columns({"SELECT x.id, l.sku, l.qty FROM input AS x, UNNEST(x.lines) AS u(l)"}),
            "id VARCHAR, sku VARCHAR, qty INTEGER");
  EXPECT_EQ(Columns({"SELECT id, unnest(lines, recursive := true) FROM input"}),
            "id VARCHAR, sku VARCHAR, qty INTEGER");
  EXPECT_EQ(Columns({"SELECT COLUMNS(c -> c LIKE '%t%')::VARCHAR FROM input"}),
            "type VARCHAR, amount VARCHAR, customer VARCHAR, ts VARCHAR");
  EXPECT_EQ(Columns({"SELECT id, 0.1e0 AS d, 1e-7 AS e, 0.1 AS f FROM input"}),
            "id VARCHAR, d DOUBLE, e DOUBLE, f DECIMAL(2,1)");
}

TEST_F(DescribeChainTest, Joins) {
  EXPECT_EQ(Columns({"SELECT * EXCLUDE (lines) FROM input JOIN customers USING (customer)"}),
            "id VARCHAR, type VARCHAR, amount DECIMAL(12,2), customer VARCHAR, ts TIMESTAMP WITH TIME ZONE, "
            "name VARCHAR");
  EXPECT_EQ(Columns({"SELECT i.id, c.* FROM input i LEFT JOIN customers c ON c.customer = i.customer"}),
            "id VARCHAR, customer VARCHAR, name VARCHAR");
  EXPECT_EQ(
      Columns(
          {"SELECT id, total FROM input LEFT JOIN (SELECT sku, sum(price) AS total FROM prices GROUP BY sku "
           "UNION ALL SELECT 'x', 1) p ON p.sku = input.type"}),
      "id VARCHAR, total DECIMAL(38,2)");
  EXPECT_EQ(Columns({"SELECT id FROM input SEMI JOIN customers USING (customer)"}), "id VARCHAR");
  EXPECT_EQ(
      Columns(
          {"SELECT id, (SELECT max(price) FROM prices WHERE sku = input.type) AS p FROM input WHERE EXISTS "
           "(SELECT 1 FROM customers c WHERE c.customer = input.customer)"}),
      "id VARCHAR, p DECIMAL(12,2)");
  EXPECT_EQ(
      Columns(
          {"SELECT id, s.n FROM input, LATERAL (SELECT sum(u.l.qty) AS n FROM unnest(lines) AS u(l)) AS s"}),
      "id VARCHAR, n HUGEINT");
  ChainDescription chain =
      Describe({"SELECT id FROM input JOIN customers USING (customer)", "SELECT * FROM input"});
  EXPECT_TRUE(chain.flags[0].lookup);
  EXPECT_TRUE(chain.flags[0].fans_out);
  EXPECT_EQ(chain.flags[0].tables, std::vector<std::string>{"customers"});
  EXPECT_FALSE(chain.flags[1].lookup);
}

TEST_F(DescribeChainTest, VolatileFunctionsAreTold) {
  ChainDescription chain = Describe({"SELECT id, now() AS n, random() AS r, current_date AS d FROM input"});
  EXPECT_TRUE(chain.faults.empty());
  EXPECT_TRUE(chain.flags[0].is_volatile);
  EXPECT_EQ(chain.flags[0].volatile_functions, (std::vector<std::string>{"now", "random", "current_date"}));
  EXPECT_FALSE(Describe({"SELECT id, upper(id) AS u FROM input"}).flags[0].is_volatile);
}

TEST_F(DescribeChainTest, WithoutAContractDataIsWritten) {
  input_.contract.fields.clear();
  EXPECT_EQ(Columns({}), "data JSON");
  EXPECT_EQ(Columns({"SELECT * FROM input"}), "data JSON");
  EXPECT_EQ(Columns({"SELECT data FROM input"}), "data JSON");
  EXPECT_EQ(Columns({"SELECT *, data->>'$.a' AS a FROM input", "SELECT * FROM input WHERE a = 'x'"}),
            "data JSON, a VARCHAR");
  EXPECT_EQ(Columns({"SELECT data->>'$.a' AS a FROM input", "SELECT *, data->>'$.b' AS b FROM input"}),
            "a VARCHAR, b VARCHAR");
  EXPECT_EQ(Columns({"SELECT {'a': data->'$.a'} AS data FROM input", "SELECT data FROM input"}),
            "data STRUCT(a JSON)");
}

TEST_F(DescribeChainTest, RowsOfAnotherFilterAsInput) {
  input_.contract.fields.clear();
  input_.rows = {{"score", "DOUBLE"},
                 {"ce_id", "VARCHAR"},
                 {"_partition", "INTEGER"},
                 {"_offset", "BIGINT"},
                 {"_ordinal", "INTEGER"}};
  EXPECT_EQ(Columns({"SELECT *, score * 2 AS twice, ce_id AS id, ce_subject AS s FROM input"}),
            "score DOUBLE, twice DOUBLE, id VARCHAR, s VARCHAR");
}

TEST_F(DescribeChainTest, FaultsStandInTheUsersOwnText) {
  ChainDescription chain =
      Describe({"SELECT *, ammount * 1.1 AS gross FROM input", "SELECT nix(id) FROM input"});
  ASSERT_EQ(chain.faults.size(), 2u);
  EXPECT_EQ(chain.faults[0].filter, 0);
  EXPECT_EQ(chain.faults[0].fault.position, 10);
  EXPECT_EQ(chain.faults[0].fault.message,
            "no column 'ammount'; input has id, type, amount, customer, ts, lines");
  EXPECT_EQ(chain.faults[0].fault.nearest, "amount");
  EXPECT_EQ(chain.faults[1].filter, 1);
  EXPECT_EQ(chain.faults[1].fault.position, 7);

  chain = Describe({"SELECT id,\n  i.nope\nFROM input i"});
  ASSERT_EQ(chain.faults.size(), 1u);
  EXPECT_EQ(chain.faults[0].fault.position, 13);
  chain = Describe({"SELECT id FORM input"});
  ASSERT_EQ(chain.faults.size(), 1u);
  EXPECT_EQ(chain.faults[0].fault.kind, "Parser Error");
  EXPECT_EQ(chain.faults[0].fault.position, 15);
  chain = Describe({"SELECT id, x FROM (SELECT id, 1 AS x FROM input)", "SELECT y FROM input"});
  ASSERT_EQ(chain.faults.size(), 1u);
  EXPECT_EQ(chain.faults[0].fault.message, "no column 'y'; input has id, x");
  EXPECT_EQ(Columns({"SELECT id, amount AS id FROM input"}).substr(0, 40),
            "[0@-1] two result columns are named 'id'");
  EXPECT_NE(Columns({"SELECT ce_id FROM input"}).find("the result has no columns"), std::string::npos);
}

struct Refusal {
  const char* sql;
  const char* says;
  int position;  // -2: does not matter
};

void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.sql; }

class RefusalTest : public DescribeChainTest, public testing::WithParamInterface<Refusal> {};

TEST_P(RefusalTest, IsRefusedWithWhatToUseInstead) {
  ChainDescription chain = Describe({GetParam().sql});
  ASSERT_FALSE(chain.faults.empty()) << GetParam().sql;
  const SqlFilterFault& fault = chain.faults[0];
  EXPECT_NE((fault.fault.message + " / " + fault.expected).find(GetParam().says), std::string::npos)
      << GetParam().sql << "\n"
      << fault.fault.message << " / " << fault.expected;
  if (GetParam().position != -2) {
    EXPECT_EQ(fault.fault.position, GetParam().position) << GetParam().sql;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Filters, RefusalTest,
    testing::Values(
        Refusal{"SELECT count(*) FROM input", "`aggregate` table", 7},
        Refusal{"SELECT id, sum(amount) FROM input GROUP BY id", "`aggregate` table", -2},
        Refusal{"SELECT id FROM input GROUP BY ALL", "GROUP BY", -2},
        Refusal{"SELECT json_group_array(id) AS a FROM input", "aggregate", 7},
        Refusal{"SELECT id FROM input HAVING max(amount) > 1", "HAVING", -2},
        Refusal{"SELECT DISTINCT id FROM input", "DISTINCT", 7},
        Refusal{"SELECT DISTINCT ON (id) id, amount FROM input", "upsert table", 7},
        Refusal{"SELECT id, row_number() OVER () AS n FROM input", "window function", 11},
        Refusal{"SELECT id, lag(amount) OVER (ORDER BY ts) AS n FROM input", "window function", 11},
        Refusal{"SELECT id FROM input QUALIFY row_number() OVER (PARTITION BY id) = 1", "QUALIFY", 21},
        Refusal{"SELECT id FROM input ORDER BY ts", "ORDER BY", 30},
        Refusal{"SELECT id FROM input LIMIT 3", "LIMIT", 21},
        Refusal{"SELECT id FROM input OFFSET 3", "LIMIT", -2},
        Refusal{"SELECT id FROM input USING SAMPLE 10%", "sample", -2},
        Refusal{"SELECT id FROM input TABLESAMPLE 3 ROWS", "sample", -2},
        Refusal{"SELECT id FROM input UNION ALL SELECT sku FROM prices", "UNION", 21},
        Refusal{"SELECT id FROM input UNION SELECT id FROM input", "read twice", -2},
        Refusal{"SELECT id FROM input EXCEPT SELECT sku FROM prices", "EXCEPT", 21},
        Refusal{"SELECT sku FROM prices INTERSECT SELECT id FROM input", "INTERSECT", 23},
        Refusal{"SELECT id FROM input FULL JOIN customers USING (customer)", "FULL JOIN", -2},
        Refusal{"SELECT id FROM input RIGHT JOIN customers USING (customer)", "RIGHT JOIN", -2},
        Refusal{"SELECT id FROM customers LEFT JOIN input USING (customer)", "put `input` first", -2},
        Refusal{"SELECT name FROM customers SEMI JOIN input USING (customer)", "put `input` first", -2},
        Refusal{"SELECT id FROM input NATURAL JOIN customers", "USING", -2},
        Refusal{"SELECT id FROM input POSITIONAL JOIN customers", "POSITIONAL", -2},
        Refusal{"SELECT a.id FROM input a JOIN input b ON a.id = b.id", "read twice", 30},
        Refusal{"WITH a AS (SELECT * FROM input) SELECT x.id FROM a x JOIN a y ON x.id = y.id", "read twice",
                -2},
        Refusal{"SELECT id FROM input WHERE amount > (SELECT avg(amount) FROM input)", "`input` is read", -2},
        Refusal{"SELECT (SELECT max(id) FROM input) AS m", "subquery", 7},
        Refusal{"SELECT id, (SELECT sum(input.amount)) AS s FROM input", "aggregate", -2},
        Refusal{"SELECT 1 AS one", "does not read `input`", -2},
        Refusal{"SELECT sku FROM prices", "does not read `input`", -2},
        Refusal{"SELECT id FROM input; SELECT id FROM input", "several statements", -2},
        Refusal{"DROP TABLE customers", "one SELECT", -2},
        Refusal{"INSERT INTO customers SELECT * FROM input", "one SELECT", -2},
        Refusal{"PIVOT input ON type USING sum(amount)", "one SELECT", -2},
        Refusal{"SELECT * FROM (PIVOT input ON type USING sum(amount))", "one SELECT", -2},
        Refusal{"SELECT * FROM (UNPIVOT input ON amount)", "", -2}, Refusal{"DESCRIBE input", "DESCRIBE", -2},
        Refusal{"SUMMARIZE input", "SUMMARIZE", -2}, Refusal{"FROM (SHOW TABLES)", "", -2},
        Refusal{"SELECT id FROM input, read_csv('x.csv')", "table function read_csv", 22},
        Refusal{"SELECT id FROM input, 'x.csv'", "file", 22},
        Refusal{"SELECT id FROM input, query('SELECT 1')", "table function query", 22},
        Refusal{"SELECT id FROM input, duckdb_settings()", "table function", 22},
        Refusal{"SELECT id FROM input, information_schema.tables", "not among the tables", 22},
        Refusal{"SELECT id FROM input, pg_catalog.pg_class", "not among the tables", 22},
        Refusal{"SELECT id, getvariable('x') AS g FROM input", "getvariable", 11},
        Refusal{"SELECT id, current_setting('threads') AS g FROM input", "current_setting", 11},
        Refusal{"SELECT id, nextval('s') AS g FROM input", "nextval", 11},
        Refusal{"SELECT id, _tally(1, 2) AS g FROM input", "_tally", 11},
        Refusal{"SELECT id FROM input, _batch(1)", "_batch", 22},
        Refusal{"SELECT id, uper(id) AS g FROM input", "did you mean upper", 11},
        Refusal{"SELECT id FROM input WHERE id = $1", "no parameters", 32},
        Refusal{"SELECT id, 5 AS _offset FROM input", "told by the log", 11},
        Refusal{"SELECT id, c._offset FROM input JOIN customers c USING (customer)", "reserved", 11},
        Refusal{"SELECT * REPLACE (1 AS _op) FROM input", "reserved", -2},
        Refusal{"SELECT x.id FROM input AS x(id2)", "column names after", -2},
        Refusal{"WITH RECURSIVE r AS (SELECT id, 1 AS n FROM input UNION ALL SELECT id, n + 1 FROM r WHERE n "
                "< 3) "
                "SELECT id FROM r",
                "UNION", -2},
        Refusal{"WITH input AS (SELECT 1 AS id) SELECT id FROM input", "taken", -2}));

TEST(CheckQueryTest, WhatAUserMayAsk) {
  auto database = std::move(*Database::Open("", {}));
  auto connection = std::move(*database->Connect());
  for (const char* sql :
       {"SELECT count(*), sum(x) OVER () FROM t GROUP BY y HAVING max(x) > 1 ORDER BY 1 LIMIT 3",
        "SELECT DISTINCT * FROM _streams.orders WHERE _offset > $from",
        "SELECT * FROM range(5) UNION SELECT 1", "FROM t", "WITH a AS (SELECT 1) SELECT * FROM a",
        "SELECT now(), random()", "SELECT * FROM _pipelines"}) {
    SqlFault fault;
    EXPECT_TRUE(CheckQuery(*connection, sql, &fault).ok()) << sql << fault.message;
  }
  for (const char* sql :
       {"DROP TABLE t", "SELECT 1; SELECT 2", "SELECT * FROM 'x.parquet'",
        "SELECT * FROM read_text('/etc/passwd')", "DESCRIBE t", "SELECT getenv('HOME')",
        "SELECT * FROM query('SELECT 1')", "SELECT * FROM duckdb_settings",
        "SELECT current_setting('memory_limit')", "SELECT * FROM _batch(1)", "INSERT INTO t VALUES (1)",
        "SET threads=1", "SELECT * FROM other.t", "SELEC 1", ""}) {
    SqlFault fault;
    Status status = CheckQuery(*connection, sql, &fault);
    EXPECT_EQ(status.code(), Code::kInvalid) << sql;
    EXPECT_FALSE(fault.message.empty()) << sql;
  }
}

}  // namespace
}  // namespace millstream
