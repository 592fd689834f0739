// Bounds hold however a function is called, and what is within them is computed as before.
#include "sql/function_bounds.h"

#include <gtest/gtest.h>

#include <chrono>

#include "sql/filter_chain.h"
#include "sql/query_rewriter.h"

namespace millstream {
namespace {

class FunctionBoundsTest : public testing::Test {
 protected:
  void SetUp() override {
    database_ = std::move(*Database::Open("", {}));
    ours_ = std::move(*database_->Connect());
    users_ = std::move(*database_->ConnectBounded());
    // A thousand bytes a row, of two letters.
    ASSERT_TRUE(
        ours_
            ->Run("CREATE TABLE t AS SELECT i AS n, repeat('ab' || i, 500) AS long, 'ab' || i AS short, "
                  "repeat('a', 100000) AS big, TIMESTAMP '2026-01-01' AS since FROM range(3) r(i)")
            .ok());
  }

  // As a query is checked, rewritten and run: all values, or the error.
  std::string Ask(const std::string& sql) {
    SqlFault fault;
    users_ = std::move(*database_->ConnectBounded({sql}));
    if (Status checked = CheckQuery(*users_, sql, &fault); !checked.ok()) return checked.message();
    auto rewritten = RewriteTables(*users_, sql, {}, &fault);
    if (!rewritten) return rewritten.error().message();
    return Values(*users_, rewritten->sql);
  }

  static std::string Values(Connection& connection, const std::string& sql) {
    auto rows = connection.Query(sql);
    if (!rows) return rows.error().message();
    JsonWriter writer = rows->MakeJsonWriter();
    std::string out;
    while (true) {
      auto chunk = rows->Next();
      if (!chunk) return chunk.error().message();
      if (!*chunk) return out;
      writer.AppendObjects(out, **chunk, rows->columns(), (*chunk)->columns(), ",");
    }
  }

  std::unique_ptr<Database> database_;
  std::unique_ptr<Connection> ours_, users_;
};

TEST_F(FunctionBoundsTest, WithinBoundsNothingChanges) {
  for (const char* expression : {"levenshtein(short, 'abc')",
                                 "editdist3(short, 'xyz')",
                                 "damerau_levenshtein(short, 'ba')",
                                 "jaro_similarity(short, 'ab1')",
                                 "jaro_winkler_similarity(short, 'ab1')",
                                 "replace(long, 'ab', 'x')",
                                 "replace(long, short, NULL)",
                                 "strpos(long, short)",
                                 "instr(long, 'b1')",
                                 "position('b' IN long)",
                                 "string_split(short, 'b')",
                                 "str_split(short, 'b')",
                                 "split(short, 'b')",
                                 "string_to_array(short, 'b')",
                                 "split_part(long, 'b', 2)",
                                 "long LIKE '%a%b%a%b%'",
                                 "long NOT LIKE '%1'",
                                 "long ILIKE '%A%B%'",
                                 "short NOT ILIKE 'AB_'",
                                 "short LIKE short || '%'",
                                 "long LIKE '%' || short || '%'",
                                 "short LIKE 'ab!_' ESCAPE '!'",
                                 "short NOT LIKE '!%' ESCAPE '!'",
                                 "short ILIKE 'AB!1' ESCAPE '!'",
                                 "short GLOB 'a*1'",
                                 "short LIKE NULL",
                                 "NULL LIKE short",
                                 "regexp_replace(long, 'a.*?b', 'x', 'g')",
                                 "regexp_replace(long, '[^b]+', '', 'g')",
                                 "regexp_replace(long, 'A[^b]*b', '-', 'gi')",
                                 "regexp_replace(long, 'a+b', '-')",
                                 "regexp_extract_all(short, '(a)(b*)x?', 0)",
                                 "regexp_extract_all(long, 'a*b')",
                                 "string_split_regex(long, '1*a')",
                                 "regexp_split_to_array(long, 'b+a')",
                                 "regexp_split_to_table(short, 'a*b')",
                                 "range(since, since + to_days(2), INTERVAL 1 DAY)",
                                 "generate_series(since::DATE, since::DATE + 3, INTERVAL 1 DAY)",
                                 "range(n, 10, n + 1)",
                                 "range(0, n, 2)",
                                 "generate_series(10, n, -(n + 1))",
                                 "range(since::TIMESTAMPTZ, now(), to_years(40))",
                                 "range(NULL, since, INTERVAL 1 DAY)",
                                 "short.levenshtein('abc')",
                                 "main.levenshtein(short, 'abc')",
                                 "[replace(x, 'a', 'b') for x in [short]]",
                                 "list_transform([short], lambda x: x LIKE x || '%')",
                                 "list_transform(regexp_extract_all(long, 'a*b'), lambda x: range(since, "
                                 "since + to_days(2), to_days(1)))"}) {
    std::string sql = fmt::format("SELECT {} AS x FROM t", expression);
    std::string expected = Values(*ours_, sql);
    EXPECT_EQ(Ask(sql), expected) << sql;
    EXPECT_EQ(expected.find("Error"), std::string::npos) << sql << expected;
  }
}

TEST_F(FunctionBoundsTest, BoundsHoldHoweverAFunctionIsCalled) {
  for (auto [expression, said] : {
           std::pair{"levenshtein(big, big)", "levenshtein: a text of 100000 bytes where at most 10000"},
           {"\"LEVENSHTEIN\"(big, short)", "levenshtein: a text"},
           {"levenshtein(short, big)", "levenshtein: a text"},
           {"main.levenshtein(big, big)", "levenshtein: a text"},
           {"temp.levenshtein(big, big)", "levenshtein: a text"},
           {"temp.main.levenshtein(big, big)", "levenshtein: a text"},
           {"system.levenshtein(big, big)", "a function of a catalog"},
           {"system.main.levenshtein(big, big)", "a function of a catalog"},
           {"\"system\".\"main\".\"levenshtein\"(big, big)", "a function of a catalog"},
           {"system.main.\"~~\"(big, big)", "a function of a catalog"},
           {"big.levenshtein(big)", "levenshtein: a text"},
           {"t.big.levenshtein(big)", "levenshtein: a text"},
           {"[levenshtein(x, x) for x in [big]]", "levenshtein: a text"},
           {"list_transform([big], lambda x: x.levenshtein(x))", "levenshtein: a text"},
           {"[x.replace(x, 'b') for x in [big]]", "replace: a text"},
           {"(SELECT max(levenshtein(u.big, t.big)) FROM t u)", "levenshtein: a text"},
           {"editdist3(big, big)", "editdist3: a text"},
           {"damerau_levenshtein(long, long || long)", "damerau_levenshtein: a text"},
           {"jaro_similarity(big || 'b', big)", "jaro_similarity: a text"},
           {"jaro_winkler_similarity(big || 'b', big)", "jaro_winkler_similarity: a text"},
           {"replace(big, long, '')", "replace: a text"},
           {"strpos(big, long)", "strpos: a text"},
           {"instr(big, long)", "instr: a text"},
           {"position(long IN big)", "position: a text"},
           {"string_split(big, long)", "string_split: a text"},
           {"split(big, long)", "split: a text"},
           {"split_part(big, long, 1)", "string_split: a text"},
           {"big LIKE '%a%b_'", "LIKE: more than one"},
           {"big LIKE '%a%' || short", "LIKE: more than one"},
           {"\"~~\"(big, '%a%' || short)", "LIKE: more than one"},
           {"big NOT LIKE '%a%' || short", "LIKE: more than one"},
           {"big ILIKE '%a%' || short", "LIKE: more than one"},
           {"big NOT ILIKE '%a%' || short", "LIKE: more than one"},
           {"big LIKE '%a%b' ESCAPE '!'", "LIKE: more than one"},
           {"big NOT ILIKE '%a%b' ESCAPE '!'", "LIKE: more than one"},
           {"big LIKE long", "LIKE: a pattern of"},
           {"big GLOB '*a*b'", "GLOB: more than one"},
           {"regexp_replace(big, 'a*b|a', 'x', 'g')",
            "regexp_replace: a text of 100000 bytes where at most 32768"},
           {"REGEXP_REPLACE(big, short, 'x', 'g')", "regexp_replace: a text"},
           {"\"regexp_replace\"(big, short, 'x', 'gi')", "regexp_replace"},
           {"main.regexp_replace(big, short, 'x', 'g')", "regexp_replace"},
           {"big.regexp_replace('a*b|a', 'x', 'g')", "regexp_replace"},
           {"big.string_split_regex('a*b|a')", "string_split_regex"},
           {"t.big.regexp_extract_all(short)", "regexp_extract_all"},
           {"regexp_replace(big, 'a*b|a', 'x', 'gsi')", "with these options"},
           {"regexp_extract_all(big, 'a*b|a')", "regexp_extract_all: a text"},
           {"regexp_extract_all(big, '(a*)b|a', 1)", "regexp_extract_all: a text"},
           {"regexp_extract_all(big, 'A*b|a', 0, 'i')", "with these options"},
           {"string_split_regex(big, 'a*b|a')", "string_split_regex: a text"},
           {"str_split_regex(big, 'a*b|a')", "str_split_regex: a text"},
           {"regexp_split_to_array(big, 'a*b|a')", "regexp_split_to_array: a text"},
           {"regexp_split_to_table(big, 'a*b|a')", "regexp_split_to_table: a text"},
           {"range(since, since + to_years(10), INTERVAL 1 SECOND)", "times where at most"},
           {"generate_series(since, since - to_years(10), INTERVAL (-1) SECOND)", "times where at most"},
           {"range(since::TIMESTAMPTZ, now(), to_microseconds(n + 1))", "times where at most"},
       }) {
    auto begun = std::chrono::steady_clock::now();
    std::string said_of = Ask(fmt::format("SELECT {} AS x FROM t", expression));
    EXPECT_NE(said_of.find(said), std::string::npos) << expression << "\n" << said_of.substr(0, 300);
    EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(2)) << expression;
  }
}

TEST_F(FunctionBoundsTest, PlacesStandInTheUsersText) {
  std::string sql = "SELECT regexp_replace(long, short, 'x', 'g'), nosuch FROM t";
  auto rewritten = RewriteTables(*users_, sql, {}, nullptr);
  ASSERT_TRUE(rewritten);
  EXPECT_FALSE(users_->Prepare(rewritten->sql));
  EXPECT_EQ(rewritten->OriginalPosition(users_->fault().position), static_cast<int>(sql.find("nosuch")));
}

TEST_F(FunctionBoundsTest, FiltersHaveThemToo) {
  auto faults = [&](const std::string& sql) {
    ChainInput input;
    input.stream = "s";
    std::string out;
    for (const SqlFilterFault& fault : DescribeChain(*database_, input, {{"f", sql}}).faults)
      out += fault.fault.message;
    return out;
  };
  EXPECT_EQ(faults("SELECT regexp_replace(data::VARCHAR, '<[^>]+>', '', 'g') AS x FROM input"), "");
  EXPECT_EQ(faults("SELECT levenshtein(data::VARCHAR, 'a') AS x FROM input"), "");
  EXPECT_NE(faults("SELECT regexp_extract_all(data::VARCHAR, '<[^>]+>', 1, 'i') AS x FROM input")
                .find("with these"),
            std::string::npos);
}

}  // namespace
}  // namespace millstream
