// The `postgres` sink over a real server: what it stores, what it refuses, what it finds out after a failure.
#include <gtest/gtest.h>

#include <thread>

#include "sinks/contract_test.h"
#include "sinks/postgres_server_test.h"
#include "sinks/postgres_types.h"
#include "sinks/sinks.h"

namespace millstream {
namespace {

constexpr const char* kPlace = "0::INTEGER AS _partition, i::BIGINT AS _offset, 0::INTEGER AS _ordinal FROM ";

class PostgresSinkTest : public testing::Test {
 protected:
  void SetUp() override {
    server_ = PostgresServer::Get();
    if (server_ == nullptr) GTEST_SKIP() << "no PostgreSQL in /usr/lib/postgresql";
    database_ = std::move(*Database::Open("", {}));
    connection_ = std::move(*database_->Connect());
    session_ = server_->Connect();
    schema_ = testing::UnitTest::GetInstance()->current_test_info()->name();
    Run("CREATE SCHEMA \"" + schema_ + "\"; SET search_path = \"" + schema_ + "\"");
  }

  Result<std::unique_ptr<Sink>> Make(const std::string& options) {
    SinkContext context = ContextOf(fs_, clock_, "postgres:kept");
    context.data_uuid = "12345678-1234-1234-1234-123456789abc";
    context.database = database_.get();
    std::string yaml = fmt::format("{{table: kept, schema: {}, url: \"${{env:TEST_POSTGRES}}\"{}}}", schema_,
                                   options.empty() ? "" : ", " + options);
    setenv("TEST_POSTGRES", server_->url().c_str(), 1);
    return PostgresSink().make(OptionsOf(yaml), context);
  }
  /// Open and told of the columns.
  std::unique_ptr<Sink> Ready(const std::string& options, const RowBatch& rows) {
    auto sink = Make(options);
    EXPECT_TRUE(sink) << sink.error().ToString();
    auto opened = (*sink)->Open();
    EXPECT_TRUE(opened) << opened.error().ToString();
    Status status = (*sink)->SetColumns(rows.columns, rows.visible);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return std::move(*sink);
  }
  /// One row an event of [first, next), `visible` over i, its offset; `_op` where a key asks for it.
  RowBatch Batch(const std::string& visible, uint64_t first, uint64_t next, const std::string& op = "") {
    std::string wanted = op.empty() ? "" : op + " AS _op, ";
    return Rows(fmt::format("SELECT {}, {}{}range({}, {}) t(i)", visible, wanted, kPlace, first, next), first,
                next, op.empty() ? 3 : 4);
  }
  RowBatch Rows(const std::string& sql, uint64_t first, uint64_t next, uint32_t reserved) {
    RowBatch batch;
    auto rows = connection_->Query(sql);
    EXPECT_TRUE(rows) << rows.error().ToString() << sql;
    batch.columns = rows->columns();
    batch.visible = static_cast<uint32_t>(batch.columns.size()) - reserved;
    batch.first_offset = first, batch.next_offset = next;
    while (auto chunk = *rows->Next()) batch.chunks.push_back(std::move(*chunk));
    return batch;
  }

  PostgresSession::Answer Run(const std::string& sql) {
    auto answer = session_->Run(sql);
    EXPECT_TRUE(answer) << answer.error().ToString() << "\n" << sql;
    return answer ? *answer : PostgresSession::Answer();
  }
  /// Rows as "a|b", a NULL as "-".
  std::vector<std::string> Read(const std::string& sql) {
    std::vector<std::string> lines;
    for (const auto& row : Run(sql).rows) {
      std::string& line = lines.emplace_back();
      for (const auto& value : row) line += (&value == &row[0] ? "" : "|") + value.value_or("-");
    }
    return lines;
  }
  std::string Column(const std::string& name) {
    auto lines =
        Read(fmt::format("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = "
                         "'kept'::regclass AND attname = '{}'",
                         name));
    return lines.empty() ? "none" : lines[0];
  }
  static void Expect(const Status& status, Code code, const std::string& says) {
    EXPECT_EQ(status.code(), code) << status.ToString();
    EXPECT_NE(status.message().find(says), std::string::npos) << status.message();
  }

  PostgresServer* server_ = nullptr;
  MemoryFileSystem fs_;
  SystemClock clock_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<Connection> connection_;
  std::unique_ptr<PostgresSession> session_;
  std::string schema_;
};

TEST_F(PostgresSinkTest, KeepsTheContract) {
  SinkUnderTest under_test;
  under_test.make = [&] { return Make(""); };
  under_test.rows = [&] { return Read("SELECT p || ':' || o FROM kept"); };
  CheckSinkContract(under_test);
  EXPECT_EQ(Read("SELECT partition, next FROM _millstream_offsets ORDER BY 1"),
            (std::vector<std::string>{"0|20", "1|9", "2|7"}));
}

TEST_F(PostgresSinkTest, KeepsTheContractWithAKey) {
  SinkUnderTest under_test;
  under_test.make = [&] { return Make("key: [p, o]"); };
  under_test.rows = [&] { return Read("SELECT p || ':' || o FROM kept"); };
  CheckSinkContract(under_test);
}

TEST_F(PostgresSinkTest, EveryTypeArrives) {
  RowBatch rows = Batch(
      "true AS b, (-128)::TINYINT AS i1, 32767::SMALLINT AS i2, i::INTEGER AS i4, 9007199254740993::BIGINT "
      "AS i8, "
      "18446744073709551615::UBIGINT AS u8, '-170141183460469231731687303715884105728'::HUGEINT AS h, "
      "12345678901234.5600::DECIMAL(18,4) AS d, 0.1::FLOAT AS f, 'nan'::DOUBLE AS x, 'infinity'::DOUBLE AS "
      "y, "
      "E'tab\\t line\\n cr\\r back\\\\slash \\\\N ü' AS t, '' AS empty, NULL::VARCHAR AS nothing, "
      "'\\x00\\xFF'::BLOB AS bytes, DATE '2024-02-29' AS day, TIME '23:59:59.999999' AS tm, "
      "TIMESTAMP '2024-02-29 12:00:00.123456' AS ts, TIMESTAMPTZ '2024-02-29 12:00:00.5+02' AS tz, "
      "INTERVAL '14 months 3 days 4 seconds' AS iv, 'c0ffee00-1234-4321-aaaa-000000000001'::UUID AS id, "
      "'{\"a\": [1, \"x\\\\ty\"]}'::JSON AS j, [1, NULL, 3] AS l, {'a': 1, 'b': 'q\"'} AS s, MAP {'k': 2} AS "
      "m, "
      "'open'::ENUM('open', 'paid') AS e, '101'::BIT AS bits",
      5, 6);
  auto sink = Ready("", rows);
  ASSERT_TRUE(sink->Deliver(rows).ok());
  Run("SET timezone = 'UTC'");
  EXPECT_EQ(Read("SELECT b, i1, i2, i4, i8, u8, h, d, f, x, y FROM kept"),
            (std::vector<std::string>{
                "t|-128|32767|5|9007199254740993|18446744073709551615|"
                "-170141183460469231731687303715884105728|12345678901234.5600|0.1|NaN|Infinity"}));
  EXPECT_EQ(Read("SELECT t, empty, nothing, bytes FROM kept"),
            (std::vector<std::string>{"tab\t line\n cr\r back\\slash \\N ü||-|\\x00ff"}));
  EXPECT_EQ(Read("SELECT day, tm, ts, tz, iv, id, j, l, s, m, e, bits FROM kept"),
            (std::vector<std::string>{
                "2024-02-29|23:59:59.999999|2024-02-29 12:00:00.123456|2024-02-29 10:00:00.5+00|P1Y2M3DT4S|"
                "c0ffee00-1234-4321-aaaa-000000000001|{\"a\": [1, \"x\\\\ty\"]}|[1, null, 3]|{\"a\": 1, "
                "\"b\": \"q\\\"\"}|"
                "{\"k\": 2}|open|101"}));
  EXPECT_EQ(Column("d"), "numeric(18,4)");
  EXPECT_EQ(Column("tz"), "timestamp with time zone");
  EXPECT_EQ(Column("l"), "jsonb");
}

TEST_F(PostgresSinkTest, TheNewestRowOfAKeyStaysAndADeletionRemovesIt) {
  // Ten keys, each several times; what a key's last row says decides, however the rows come.
  RowBatch rows =
      Batch("(i % 10)::INTEGER AS id, i AS n", 0, 100, "CASE WHEN i IN (95, 86) THEN 'd' ELSE 'u' END");
  auto sink = Ready("key: id", rows);
  EXPECT_TRUE(sink->wants_deletes());
  Status status = sink->Deliver(rows);
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_EQ(
      Read("SELECT id, n FROM kept ORDER BY id"),
      (std::vector<std::string>{"0|90", "1|91", "2|92", "3|93", "4|94", "6|96", "7|97", "8|98", "9|99"}));
  RowBatch reversed =
      Rows(fmt::format("SELECT (i % 2)::INTEGER AS id, i AS n, NULL::VARCHAR AS _op, {}range(100, 110) "
                       "t(i) ORDER BY i DESC",
                       kPlace),
           100, 110, 4);
  ASSERT_TRUE(sink->Deliver(reversed).ok());
  ASSERT_TRUE(sink->Deliver(Batch("3 AS id, i AS n", 110, 111, "'d'")).ok());
  EXPECT_EQ(Read("SELECT id, n FROM kept WHERE id IN (0, 1, 3, 5) ORDER BY id"),
            (std::vector<std::string>{"0|108", "1|109"}));
}

TEST_F(PostgresSinkTest, AnOwnConditionDeletes) {
  RowBatch rows = Batch("(i % 3)::INTEGER AS id, i AS n", 0, 9, "'c'");
  auto sink = Ready("key: id, delete_when: n = 7", rows);
  EXPECT_FALSE(sink->wants_deletes());
  ASSERT_TRUE(sink->Deliver(rows).ok());
  EXPECT_EQ(Read("SELECT id, n FROM kept ORDER BY id"), (std::vector<std::string>{"0|6", "2|8"}));
  auto wrong = Make("key: id, delete_when: nope > 1");
  ASSERT_TRUE((*wrong)->Open());
  Expect((*wrong)->SetColumns(rows.columns, rows.visible), Code::kInvalid, "delete_when: ");
}

TEST_F(PostgresSinkTest, ATableThatIsThereIsFittedOrRefusedWithWhatToDo) {
  Run("CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TABLE kept (id bigint, feels mood, note varchar(5), "
      "extra text DEFAULT 'kept', made int GENERATED ALWAYS AS (1) STORED)");
  RowBatch rows = Batch("i::INTEGER AS id, 'happy' AS feels, i * 2 AS note, 1.5::DOUBLE AS added", 0, 2);
  auto sink = Ready("", rows);
  ASSERT_TRUE(sink->Deliver(rows).ok());
  EXPECT_EQ(Read("SELECT * FROM kept ORDER BY id"),
            (std::vector<std::string>{"0|happy|0|kept|1|1.5", "1|happy|2|kept|1|1.5"}));
  auto set = [&](Sink& of, const std::string& visible) {
    RowBatch other = Batch(visible, 2, 3, "NULL::VARCHAR");
    return of.SetColumns(other.columns, other.visible);
  };
  Expect(
      set(*sink, "i::DOUBLE AS id"), Code::kInvalid,
      "column id is bigint in the table and DOUBLE in the rows: cast it in the filter, or change the column");
  Expect(set(*sink, "i AS id, 1 AS made"), Code::kInvalid, "column made is generated");
  auto fixed = Make("create: false");
  ASSERT_TRUE((*fixed)->Open());
  Expect(set(**fixed, "i AS id, 1 AS newer"), Code::kInvalid, "has no column newer");
  auto keyed = Make("key: id");
  ASSERT_TRUE((*keyed)->Open());
  Expect(set(**keyed, "i AS id"), Code::kInvalid, "CREATE UNIQUE INDEX ON ");
  Run("CREATE UNIQUE INDEX ON kept (id, note)");
  Expect(set(**keyed, "i AS id"), Code::kInvalid, "has no unique index");
  Run("CREATE UNIQUE INDEX ON kept (id) INCLUDE (note)");
  EXPECT_TRUE(set(**keyed, "i AS id").ok());
  auto typo = Make("key: ID");
  ASSERT_TRUE((*typo)->Open());
  Expect(set(**typo, "i AS id"), Code::kInvalid, "the key names 'ID', which the rows do not have");
}

TEST_F(PostgresSinkTest, ARowAtFaultIsInvalidAndLeavesNothing) {
  Run("CREATE TABLE kept (id bigint CHECK (id <> 7), t text, m numeric(4,2))");
  auto deliver = [&](const std::string& visible, uint64_t first, uint64_t next) {
    RowBatch rows = Batch(visible, first, next);
    auto sink = Ready("", rows);
    Status status = sink->Deliver(rows);
    if (status.ok()) return status;
    EXPECT_EQ(Read("SELECT count(*) FROM kept")[0], "0");
    EXPECT_TRUE(Read("SELECT * FROM _millstream_offsets").empty());
    // The session serves on.
    RowBatch good = Batch(visible, first, first + 1);
    good.first_offset = 0, good.next_offset = 1;
    EXPECT_TRUE(sink->Deliver(good).ok());
    Run("TRUNCATE kept; TRUNCATE _millstream_offsets");
    return status;
  };
  Expect(deliver("i AS id", 0, 10), Code::kInvalid, "violates check constraint");
  Expect(deliver("CASE WHEN i = 5 THEN 'a' || chr(0) ELSE 'b' END AS t", 0, 10), Code::kInvalid,
         "invalid byte sequence for encoding");
  Expect(deliver("CASE WHEN i = 5 THEN '[0]' ELSE '{\"a\":\"\\u0000\"}' END::JSON AS j", 5, 7),
         Code::kInvalid, "\\u0000");
  RowBatch null_key = Batch("CASE WHEN i = 3 THEN NULL ELSE i END AS id", 0, 5, "'c'");
  Run("CREATE UNIQUE INDEX ON kept (id)");
  auto keyed = Ready("key: id", null_key);
  auto refused = keyed->Refuse(null_key);
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].offset, 3u);
}

TEST_F(PostgresSinkTest, ALostSessionIsReplacedAndNothingDoubled) {
  RowBatch rows = Batch("i AS n", 0, 10);
  auto sink = Ready("", rows);
  ASSERT_TRUE(sink->Deliver(rows).ok());
  Run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'millstream' AND pid "
      "<> "
      "pg_backend_pid()");
  RowBatch more = Batch("i AS n", 5, 20);  // cut anew
  EXPECT_EQ(sink->Deliver(more).code(), Code::kUnavailable);
  ASSERT_TRUE(sink->Deliver(more).ok());
  EXPECT_EQ(Read("SELECT count(*), count(DISTINCT n), max(n) FROM kept")[0], "20|20|19");
  ASSERT_TRUE(server_->Stop("immediate"));
  EXPECT_EQ(sink->Deliver(Batch("i AS n", 20, 30)).code(), Code::kUnavailable);
  Expect(sink->Deliver(Batch("i AS n", 20, 30)), Code::kUnavailable, "cannot connect");
  ASSERT_TRUE(server_->Start());
  session_ = server_->Connect();
  Run("SET search_path = \"" + schema_ + "\"");
  ASSERT_TRUE(sink->Deliver(Batch("i AS n", 20, 30)).ok());
  EXPECT_EQ(Read("SELECT count(*), count(DISTINCT n), max(n) FROM kept")[0], "30|30|29");
}

// A session that was given up may still commit: the one after it must not write the same rows.
TEST_F(PostgresSinkTest, TheOffsetIsMovedOnlyFromWhereItWasExpected) {
  RowBatch rows = Batch("i AS n", 0, 10);
  auto sink = Ready("", rows), other = Ready("", rows);
  ASSERT_TRUE(sink->Deliver(rows).ok());
  Expect(other->Deliver(rows), Code::kUnavailable, "another session has moved the offset of partition 0");
  EXPECT_TRUE(other->Deliver(rows).ok()) << "it is there already";
  ASSERT_TRUE(other->Deliver(Batch("i AS n", 10, 20)).ok());
  Expect(sink->Deliver(Batch("i AS n", 10, 15)), Code::kUnavailable, "another session");
  ASSERT_TRUE(sink->Deliver(Batch("i AS n", 10, 25)).ok());
  EXPECT_EQ(Read("SELECT count(*), count(DISTINCT n), max(n) FROM kept")[0], "25|25|24");
  Run("UPDATE _millstream_offsets SET next = 3");
  Expect(sink->Deliver(Batch("i AS n", 25, 26)), Code::kUnavailable, "another session");
  Expect(sink->Deliver(Batch("i AS n", 25, 26)), Code::kCorrupt, "has lost what it had committed");
}

TEST_F(PostgresSinkTest, ATableThatChangesMeanwhileIsFittedAgain) {
  RowBatch rows = Batch("i AS n, 'x' AS t", 0, 10);
  auto sink = Ready("", rows);
  ASSERT_TRUE(sink->Deliver(rows).ok());
  Run("ALTER TABLE kept DROP COLUMN t");
  EXPECT_EQ(sink->Deliver(Batch("i AS n, 'x' AS t", 10, 20)).code(), Code::kConflict);
  ASSERT_TRUE(sink->Deliver(Batch("i AS n, 'x' AS t", 10, 20)).ok());
  EXPECT_EQ(Read("SELECT count(*), count(t) FROM kept")[0], "20|10");
  // Where the table does not take such rows any more, no event is at fault.
  Run("ALTER TABLE kept ALTER COLUMN t TYPE int USING NULL");
  Expect(sink->Deliver(Batch("i AS n, 'x' AS t", 20, 30)), Code::kConflict,
         "column t is integer in the table");
  Expect(sink->Deliver(Batch("i AS n, 'x' AS t", 20, 30)), Code::kConflict,
         "column t is integer in the table");
  Run("ALTER TABLE kept ALTER COLUMN t TYPE text");
  ASSERT_TRUE(sink->Deliver(Batch("i AS n, 'x' AS t", 20, 30)).ok());
}

TEST_F(PostgresSinkTest, AnInterruptEndsAWait) {
  RowBatch rows = Batch("i AS n", 0, 10);
  auto sink = Ready("", rows);
  ASSERT_TRUE(sink->Deliver(rows).ok());
  Run("BEGIN; LOCK TABLE kept");
  std::jthread stop([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    sink->Interrupt();
  });
  auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(sink->Deliver(Batch("i AS n", 10, 20)).code(), Code::kCancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5));
  Run("COMMIT");
  EXPECT_EQ(Read("SELECT count(*) FROM kept")[0], "10");
}

TEST_F(PostgresSinkTest, AStatementHasADeadline) {
  ManualClock clock;
  std::atomic<bool> never{false};
  auto session = PostgresSession::Connect(server_->url(), clock, never);
  ASSERT_TRUE(session);
  std::jthread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    clock.AdvanceUs(PostgresSession::kStatementUs);
  });
  auto answer = (*session)->Run("SELECT pg_sleep(30)");
  ASSERT_FALSE(answer);
  Expect(answer.error(), Code::kUnavailable, "no answer in time");
}

TEST(PostgresUrlTest, IsCheckedWithoutAWordOfIt) {
  EXPECT_TRUE(CheckPostgresUrl("postgresql://u:p%40ss@localhost:5432/shop?sslmode=require").ok());
  EXPECT_TRUE(CheckPostgresUrl("host=/run/postgresql dbname=shop").ok());
  for (const char* url : {"", "postgresql://u:sec/ret@h/d", "postgresql://u:sec@ret@h/d", "sec ret",
                          "postgresql://u:secret@h/d?nope=secret", "mysql://u:secret@h/d"}) {
    Status status = CheckPostgresUrl(url);
    EXPECT_EQ(status.code(), Code::kInvalid) << url;
    EXPECT_EQ(status.message().find("sec"), std::string::npos) << status.message();
    EXPECT_EQ(status.message().find("ret"), std::string::npos) << status.message();
  }
}

TEST(PostgresTypesTest, ColumnsTakeWhatTheyCanHold) {
  auto takes = [](const std::string& base, const std::string& full, char category, const std::string& type) {
    return TakesType({"c", full, base, category}, type);
  };
  EXPECT_TRUE(takes("int8", "bigint", 'N', "INTEGER"));
  EXPECT_FALSE(takes("int4", "integer", 'N', "BIGINT"));
  EXPECT_FALSE(takes("int4", "integer", 'N', "VARCHAR"));
  EXPECT_FALSE(takes("float8", "double precision", 'N', "BIGINT"));
  EXPECT_TRUE(takes("numeric", "numeric", 'N', "DECIMAL(12,2)"));
  EXPECT_TRUE(takes("numeric", "numeric(14,4)", 'N', "DECIMAL(12,2)"));
  EXPECT_FALSE(takes("numeric", "numeric(12,4)", 'N', "DECIMAL(12,2)"));
  EXPECT_FALSE(takes("numeric", "numeric(14,1)", 'N', "DECIMAL(12,2)"));
  EXPECT_TRUE(takes("text", "text", 'S', "STRUCT(a INTEGER)"));
  EXPECT_TRUE(takes("jsonb", "jsonb", 'U', "INTEGER[]"));
  EXPECT_TRUE(takes("uuid", "uuid", 'U', "VARCHAR"));
  EXPECT_TRUE(takes("mood", "mood", 'E', "ENUM('a', 'b')"));
  EXPECT_FALSE(takes("timestamptz", "timestamp with time zone", 'D', "TIMESTAMP"));
  EXPECT_EQ(PostgresTypeOf("ENUM('a')"), "text");
  EXPECT_EQ(PostgresTypeOf("UBIGINT"), "numeric(20)");
}

}  // namespace
}  // namespace millstream
