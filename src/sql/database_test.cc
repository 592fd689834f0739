#include "sql/database.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/file_system.h"
#include "sql/interrupts_for_test.h"

namespace millstream {
namespace {

class DatabaseTest : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = Database::Open("", {});
    ASSERT_TRUE(opened) << opened.error().ToString();
    database_ = std::move(*opened);
    connection_ = std::move(*database_->Connect());
  }

  // The rows of a query as JSON objects.
  std::string Json(const std::string& sql, const std::vector<SqlValue>& values = {}) {
    Result<Rows> rows = connection_->Query(sql, values);
    if (!rows) return rows.error().ToString();
    JsonWriter writer = rows->MakeJsonWriter();
    std::string out;
    while (true) {
      auto chunk = rows->Next();
      if (!chunk) return chunk.error().ToString();
      if (!*chunk) return out;
      if (!out.empty()) out += ",";
      writer.AppendObjects(out, **chunk, rows->columns(), (*chunk)->columns(), ",");
    }
  }

  // One value as text, as CSV shows it.
  std::string Text(const std::string& expression) {
    Result<Rows> rows = connection_->Query("SELECT " + expression);
    if (!rows) return rows.error().ToString();
    std::string out;
    auto chunk = rows->Next();
    rows->MakeJsonWriter().AppendText(out, **chunk, 0, 0);
    return out;
  }

  std::unique_ptr<Database> database_;
  std::unique_ptr<Connection> connection_;
};

TEST_F(DatabaseTest, NumbersKeepAllTheirDigits) {
  EXPECT_EQ(Json("SELECT 12.30::DECIMAL(4,2) a, -0.05::DECIMAL(3,2) b, 1234567.89::DECIMAL(12,2) c, "
                 "12345678901234567890.12345::DECIMAL(38,5) d, 7::DECIMAL(5,0) e"),
            R"({"a":12.30,"b":-0.05,"c":1234567.89,"d":12345678901234567890.12345,"e":7})");
  EXPECT_EQ(
      Json("SELECT 9223372036854775807 a, 18446744073709551615::UBIGINT b, "
           "'-170141183460469231731687303715884105728'::HUGEINT c, "
           "340282366920938463463374607431768211455::UHUGEINT d, (-5)::TINYINT e"),
      R"({"a":9223372036854775807,"b":18446744073709551615,"c":-170141183460469231731687303715884105728,)"
      R"("d":340282366920938463463374607431768211455,"e":-5})");
  EXPECT_EQ(Json("SELECT 0.1::DOUBLE a, 1::DOUBLE b, 1e300 c, 'NaN'::DOUBLE d, 'inf'::FLOAT e, 0.1::FLOAT f"),
            R"({"a":0.1,"b":1.0,"c":1e+300,"d":null,"e":null,"f":0.1})");
  EXPECT_EQ(Json("SELECT '-123456789012345678901234567890123456789012'::BIGNUM a, '1000000000000'::BIGNUM b, "
                 "'0'::BIGNUM c"),
            R"({"a":-123456789012345678901234567890123456789012,"b":1000000000000,"c":0})");
}

TEST_F(DatabaseTest, TimesAreRfc3339) {
  EXPECT_EQ(
      Json("SELECT TIMESTAMPTZ '2026-11-22 10:00:00.5+01' a, TIMESTAMP '1969-12-31 23:59:59.999999' b, "
           "DATE '2024-02-29' c, TIME '01:02:03.004' d, '1992-01-01 00:00:01.000000005'::TIMESTAMP_NS e"),
      R"({"a":"2026-11-22T09:00:00.5Z","b":"1969-12-31T23:59:59.999999","c":"2024-02-29",)"
      R"("d":"01:02:03.004","e":"1992-01-01T00:00:01.000000005"})");
  EXPECT_EQ(Json("SELECT '0044-03-15 (BC)'::DATE a, 'infinity'::TIMESTAMP b, '2020-01-01'::TIMESTAMP_S c, "
                 "'2020-01-01 00:00:00.25'::TIMESTAMP_MS d, '12:00:00+05:30'::TIMETZ e"),
            R"({"a":"-0043-03-15","b":"infinity","c":"2020-01-01T00:00:00","d":"2020-01-01T00:00:00.25",)"
            R"("e":"12:00:00+05:30"})");
  EXPECT_EQ(
      Json("SELECT INTERVAL '1 year 2 months 3 days 04:05:06.7' a, INTERVAL '0 s' b, INTERVAL '-90 s' c"),
      R"({"a":"P1Y2M3DT4H5M6.7S","b":"PT0S","c":"PT-1M-30S"})");
}

TEST_F(DatabaseTest, NestedValuesAreJson) {
  EXPECT_EQ(
      Json("SELECT {'a': 1, 'b c': NULL} s, [1, NULL, 3] l, MAP {'k': 1.5, 'l': 2} m, [{'x': [1]}] n, "
           "[1, 2]::INTEGER[2] r, NULL::INTEGER[] z"),
      R"({"s":{"a":1,"b c":null},"l":[1,null,3],"m":{"k":1.5,"l":2.0},"n":[{"x":[1]}],"r":[1,2],"z":null})");
  EXPECT_EQ(Json("SELECT union_value(n := 5)::UNION(s VARCHAR, n INTEGER) u, MAP {DATE '2020-01-01': 'x'} m"),
            R"({"u":5,"m":{"2020-01-01":"x"}})");
  EXPECT_EQ(Json("SELECT '{\"a\": [1, 2.50]}'::JSON j, 'q\"\\\n' || chr(1) || 'ä' s, 'b'::ENUM('a','b') e"),
            "{\"j\":{\"a\": [1, 2.50]},\"s\":\"q\\\"\\\\\\n\\u0001ä\",\"e\":\"b\"}");
  EXPECT_EQ(Json("SELECT '\\x00\\xFFa'::BLOB b, '0011'::BIT t, "
                 "'f81d4fae-7dec-11d0-a765-00a0c91e6bf6'::UUID u, true v"),
            R"({"b":"AP9h","t":"0011","u":"f81d4fae-7dec-11d0-a765-00a0c91e6bf6","v":true})");
}

TEST_F(DatabaseTest, PlainTextForCsv) {
  EXPECT_EQ(Text("'a \"b\"'"), "a \"b\"");
  EXPECT_EQ(Text("NULL::VARCHAR"), "");
  EXPECT_EQ(Text("TIMESTAMPTZ '2026-01-01 00:00:00+00'"), "2026-01-01T00:00:00Z");
  EXPECT_EQ(Text("'NaN'::DOUBLE"), "nan");
  EXPECT_EQ(Text("['x', NULL]"), "[\"x\",null]");
}

TEST_F(DatabaseTest, TypeNamesAreThoseOfSql) {
  auto statement = connection_->Prepare(
      "SELECT NULL::STRUCT(a INTEGER, \"B c\" VARCHAR)[] a, NULL::DECIMAL(12,2) b, NULL::JSON c, "
      "NULL::ENUM('x','it''s') d, NULL::MAP(VARCHAR, BIGINT) e, NULL::TIMESTAMPTZ f");
  ASSERT_TRUE(statement);
  std::vector<ColumnInfo> expected = {{"a", "STRUCT(a INTEGER, \"B c\" VARCHAR)[]"},
                                      {"b", "DECIMAL(12,2)"},
                                      {"c", "JSON"},
                                      {"d", "ENUM('x', 'it''s')"},
                                      {"e", "MAP(VARCHAR, BIGINT)"},
                                      {"f", "TIMESTAMP WITH TIME ZONE"}};
  EXPECT_EQ((*statement)->columns(), expected);
  for (const ColumnInfo& column : expected)
    EXPECT_TRUE(connection_->Prepare("SELECT CAST(NULL AS " + column.type + ")")) << column.type;
}

TEST_F(DatabaseTest, FaultsTellKindPlaceAndNearestName) {
  EXPECT_FALSE(connection_->Prepare("SELECT 1,\n  ammount FROM (SELECT 1 AS amount)"));
  const SqlFault& fault = connection_->fault();
  EXPECT_EQ(fault.kind, "Binder Error");
  EXPECT_EQ(fault.position, 12);
  EXPECT_EQ(fault.nearest, "amount");
  EXPECT_EQ(fault.message.find('\n'), std::string::npos);
  EXPECT_FALSE(fault.data_error);

  EXPECT_FALSE(connection_->Prepare("SELEC 1"));
  EXPECT_EQ(connection_->fault().kind, "Parser Error");
  EXPECT_EQ(connection_->fault().position, 0);

  Result<Rows> rows = connection_->Query("SELECT $1::INTEGER", {std::string("x")});
  ASSERT_FALSE(rows);
  EXPECT_EQ(rows.error().code(), Code::kInvalid);
  EXPECT_TRUE(connection_->fault().data_error);
  EXPECT_EQ(connection_->fault().kind, "Conversion Error");
}

TEST_F(DatabaseTest, ParametersByNameAndNumber) {
  EXPECT_EQ(Json("SELECT $1 + 1 a, $2 || 'x' b, $3 c", {int64_t{4}, std::string("y"), std::monostate()}),
            R"({"a":5,"b":"yx","c":null})");
  auto statement = connection_->Prepare("SELECT $id::INTEGER AS id");
  ASSERT_TRUE(statement);
  EXPECT_EQ((*statement)->parameters(), std::vector<std::string>{"id"});
  EXPECT_TRUE((*statement)->Bind("id", std::string("12")).ok());
  EXPECT_EQ((*statement)->Bind("nix", int64_t{1}).code(), Code::kNotFound);
  auto rows = (*statement)->Execute();
  ASSERT_TRUE(rows);
  auto chunk = rows->Next();
  EXPECT_EQ(static_cast<int32_t*>((*chunk)->data(0))[0], 12);
}

TEST_F(DatabaseTest, NothingOutsideCanBeReached) {
  for (const char* sql :
       {"SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM '/etc/passwd.csv'",
        "COPY (SELECT 1) TO '/tmp/millstream_out.csv'", "INSTALL httpfs", "LOAD httpfs",
        "SET enable_external_access=true", "SET threads=4", "ATTACH '/tmp/millstream_other.db'"})
    EXPECT_FALSE(connection_->Run(sql).ok()) << sql;
}

TEST_F(DatabaseTest, StreamsGiveRowsAndAnInterruptEndsThem) {
  auto statement = connection_->Prepare("SELECT range AS n FROM range(100000)");
  auto rows = (*statement)->Stream();
  ASSERT_TRUE(rows);
  uint64_t count = 0;
  while (true) {
    auto chunk = rows->Next();
    ASSERT_TRUE(chunk);
    if (!*chunk) break;
    count += (*chunk)->rows();
  }
  EXPECT_EQ(count, 100000u);

  auto endless = connection_->Prepare(
      "SELECT count(*) FROM range(100000000) a, range(100000) b WHERE a.range + b.range = 7");
  std::thread other([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    connection_->Interrupt();
  });
  auto ended = (*endless)->Execute();
  other.join();
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code(), Code::kDeadline);
  EXPECT_EQ(Json("SELECT 1 a"), R"({"a":1})");
}

TEST_F(DatabaseTest, AnInterruptedInsertInsertsAllOrFails) {
  ASSERT_TRUE(connection_->Run("CREATE TABLE t (n BIGINT, s VARCHAR)").ok());
  auto insert =
      connection_->Prepare("INSERT INTO t SELECT i, repeat('x', 3000) FROM range(20) r(i) WHERE i % 4 = 0");
  std::jthread other = InterruptAtRandom([&] { connection_->Interrupt(); }, std::chrono::milliseconds(1));
  uint64_t inserted = 0, failed = 0;
  auto until = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  while (std::chrono::steady_clock::now() < until) {
    auto rows = (*insert)->Execute();
    inserted += rows ? 1 : 0, failed += rows ? 0 : 1;
    if (rows) {
      EXPECT_EQ(rows->changed_rows(), 5u);
    }
  }
  other.request_stop();
  other.join();
  EXPECT_GT(inserted, 10u);
  EXPECT_GT(failed, 10u);
  // One that failed may have been done all the same, as a whole.
  auto left = connection_->Query("SELECT count(*), count(*) FILTER (n = 4), count(*) FILTER (n = 16) FROM t");
  auto chunk = *left->Next();
  EXPECT_EQ(chunk->Int64(0, 0) % 5, 0);
  EXPECT_GE(chunk->Int64(0, 0), static_cast<int64_t>(5 * inserted));
  EXPECT_EQ(chunk->Int64(1, 0), chunk->Int64(0, 0) / 5);
  EXPECT_EQ(chunk->Int64(2, 0), chunk->Int64(0, 0) / 5);
}

TEST_F(DatabaseTest, OutOfMemoryIsExhausted) {
  auto small = Database::Open("", {.memory_bytes = 20 << 20});
  ASSERT_TRUE(small);
  auto connection = std::move(*(*small)->Connect());
  Result<Rows> rows = connection->Query("SELECT list(range) FROM range(30000000)");
  ASSERT_FALSE(rows);
  EXPECT_EQ(rows.error().code(), Code::kExhausted);
  EXPECT_TRUE(connection->Query("SELECT 1"));
}

TEST_F(DatabaseTest, ChangedRowsAndTransactions) {
  ASSERT_TRUE(connection_->Run("CREATE TABLE t (a INTEGER PRIMARY KEY)").ok());
  Result<Rows> rows = connection_->Query("INSERT INTO t SELECT range FROM range(5)");
  ASSERT_TRUE(rows);
  EXPECT_EQ(rows->changed_rows(), 5u);
  EXPECT_EQ(connection_->Run("INSERT INTO t VALUES (1)").code(), Code::kInvalid);
  EXPECT_TRUE(connection_->fault().data_error);

  ASSERT_TRUE(
      connection_->Run("CREATE TABLE u (k INTEGER PRIMARY KEY, v INTEGER); INSERT INTO u VALUES (1, 0)")
          .ok());
  auto second = std::move(*database_->Connect());
  ASSERT_TRUE(connection_->Run("BEGIN; UPDATE u SET v = 1").ok());
  ASSERT_TRUE(second->Run("BEGIN").ok());
  EXPECT_EQ(second->Run("UPDATE u SET v = 2").code(), Code::kUnavailable);
}

TEST(DatabaseFileTest, RowsSurviveAndReadOnlyRefusesWrites) {
  char folder[] = "/tmp/millstream_sql_XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  std::string path = std::string(folder) + "/a.duckdb";
  {
    auto database = std::move(*Database::Open(path, {.temp_directory = std::string(folder) + "/spill"}));
    auto connection = std::move(*database->Connect());
    ASSERT_TRUE(connection->Run("CREATE TABLE t AS SELECT 42 AS a").ok());
  }
  {
    auto database = Database::Open(path, {.read_only = true});
    ASSERT_TRUE(database) << database.error().ToString();
    auto connection = std::move(*(*database)->Connect());
    auto rows = connection->Query("SELECT a FROM t");
    ASSERT_TRUE(rows);
    EXPECT_FALSE(connection->Run("INSERT INTO t VALUES (1)").ok());
  }
  EXPECT_EQ(Database::Open(std::string(folder) + "/no/such/a.duckdb", {}).error().code(), Code::kIo);
  std::filesystem::remove_all(folder);
}

TEST(DatabaseFileTest, ADamagedFileIsToldFromOneThatCannotBeRead) {
  char folder[] = "/tmp/millstream_sql_XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  std::string path = std::string(folder) + "/a.duckdb";
  ASSERT_TRUE(Database::Open(path, {}));
  PosixFileSystem fs;
  // The last opening did not end: the file is tried first, and is sound.
  ASSERT_TRUE(fs.Open(path + ".opening", OpenMode::kCreate));
  {
    auto database = Database::Open(path, {});
    ASSERT_TRUE(database) << database.error().ToString();
    EXPECT_FALSE(fs.Exists(path + ".opening"));
    (*database)->NoteDamage(IoError("a full disk"));
    EXPECT_TRUE(Database::Open(path, {.read_only = true}));
    (*database)->NoteDamage(Corrupt("a block"));
  }
  EXPECT_EQ(Database::Open(path, {}).error().code(), Code::kCorrupt);
  ASSERT_TRUE(fs.Remove(path + ".damaged").ok());
  std::filesystem::resize_file(path, 5000);
  EXPECT_EQ(Database::Open(path, {}).error().code(), Code::kCorrupt);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace millstream
