#include "sql/allowance.h"

#include <gtest/gtest.h>

#include <chrono>
#include <list>
#include <stdexcept>
#include <thread>
#include <vector>

#include "sql/database.h"
#include "sql/executions.h"

namespace millstream {
namespace {

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which need the allocator themselves

constexpr uint64_t kMemoryBytes = 128 << 20;

class AllowanceTest : public testing::Test {
 protected:
  void SetUp() override {
    DatabaseOptions options;
    options.memory_bytes = kMemoryBytes;
    database_ = std::move(*Database::Open("", options));
    connection_ = std::move(*database_->ConnectBounded());
    ASSERT_TRUE(connection_->Run("CREATE TABLE t AS SELECT i AS n FROM range(1000) r(i)").ok());
  }

  Code CodeOf(const std::string& sql) {
    auto rows = connection_->Query(sql);
    return rows ? Code::kOk : rows.error().code();
  }

  std::unique_ptr<Database> database_;
  std::unique_ptr<Connection> connection_;
};

TEST_F(AllowanceTest, WhatVectorsHoldIsBounded) {
  // Texts, lists, and what a function takes for itself: DuckDB's own limit counts none of them.
  for (const char* sql : {"SELECT length(repeat('x', n * 1000000)) FROM t",
                          "SELECT len(list_resize([n], n * 1000)) FROM t WHERE n > 500",
                          "SELECT length(printf('%' || n * 100000 || 's', 'x')) FROM t"}) {
    EXPECT_EQ(CodeOf(sql), Code::kExhausted) << sql;
    EXPECT_NE(connection_->fault().message.find("(128 MiB, server.memory)"), std::string::npos)
        << connection_->fault().message;
  }
  EXPECT_EQ(CodeOf("SELECT sum(length(repeat('x', n * 10))) FROM t"), Code::kOk);
}

TEST_F(AllowanceTest, WhatIsGivenBackCountsNoMore) {
  EXPECT_EQ(
      CodeOf(
          "SELECT sum(length(repeat('x', 1000000 + (range % 2)))) FROM range(0, 1000, 1) WHERE range < 40"),
      Code::kOk);
  for (int i = 0; i < 20; ++i)  // 40 MB each
    EXPECT_EQ(CodeOf("SELECT sum(length(repeat('x', n * 1000))) FROM t WHERE n < 280"), Code::kOk);
}

TEST_F(AllowanceTest, AnInterruptEndsWhatAllocatesWithinAVector) {
  using Clock = std::chrono::steady_clock;
  auto begun = Clock::now();
  std::jthread interrupter([&](const std::stop_token& stop) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    for (; !stop.stop_requested(); std::this_thread::sleep_for(std::chrono::milliseconds(20)))
      connection_->Interrupt();
  });
  Code code = CodeOf(
      "SELECT list_sum(list_transform(range(1000), lambda a: list_sum(list_transform(range(1000), lambda b: "
      "list_sum(list_transform(range(100), lambda c: a * b * c % (n + 7))))))) FROM t WHERE n < 40");
  interrupter.request_stop();
  interrupter.join();
  EXPECT_EQ(code, Code::kDeadline);
  EXPECT_LT(Clock::now() - begun, std::chrono::seconds(5));
  EXPECT_EQ(CodeOf("SELECT 1"), Code::kOk);  // the next one is not hit
}

TEST_F(AllowanceTest, RowsThatWereTakenCountNoMore) {
  auto statement = connection_->Prepare(
      "SELECT i, 'a text of more than twelve bytes ' || i AS s FROM range(3000000) r(i)");
  auto rows = (*statement)->Stream();
  ASSERT_TRUE(rows);
  uint64_t count = 0;
  while (true) {
    auto chunk = rows->Next();
    ASSERT_TRUE(chunk) << chunk.error().message();
    if (!*chunk) break;
    count += (*chunk)->rows();
  }
  EXPECT_EQ(count, 3'000'000u);
}

// DuckDB counts what the states of aggregates take, and would count what was refused for ever.
TEST_F(AllowanceTest, WhatWasRefusedIsNotCounted) {
  for (int i = 0; i < 200; ++i) {
    std::jthread interrupter([&](const std::stop_token& stop) {
      std::this_thread::sleep_for(std::chrono::milliseconds(3));
      for (; !stop.stop_requested(); std::this_thread::sleep_for(std::chrono::milliseconds(1)))
        connection_->Interrupt();
    });
    CodeOf("SELECT max(len(l)) FROM (SELECT list(i) AS l FROM range(3000000) r(i) GROUP BY i % 1000)");
  }
  auto ours = std::move(*database_->Connect());
  auto rows = ours->Query("SELECT memory_usage_bytes FROM duckdb_memory() WHERE tag = 'ALLOCATOR'");
  ASSERT_TRUE(rows);
  auto chunk = *rows->Next();
  EXPECT_LT(chunk->Int64(0, 0), 4 << 20);
}

/// Allocates what an interrupted execution may not have.
void AllocateMuch() {
  for (int i = 0; i < 3; ++i) std::vector<char> block(1 << 20);
  std::list<int> small(100'000);
}

TEST_F(AllowanceTest, WhatUnwindsIsNotRefused) {
  struct Destroyed {
    ~Destroyed() { AllocateMuch(); }  // as DuckDB's do; an exception would end the program
  };
  Executions executions(connection_->get());
  executions.Bound(kMemoryBytes);
  executions.Begin();
  executions.Interrupt();
  auto unwind = [] {
    Destroyed destroyed;
    throw std::runtime_error("unwinding");
    return DuckDBSuccess;
  };
  EXPECT_EQ(executions.Call(unwind), DuckDBError);
  EXPECT_EQ(executions.Call([] { return AllocateMuch(), DuckDBSuccess; }), DuckDBError);
  EXPECT_TRUE(executions.WasCut());
}

TEST_F(AllowanceTest, WhatWeAllocateAfterAnInterruptIsNotRefused) {
  Executions executions(connection_->get());
  executions.Bound(kMemoryBytes);
  executions.Begin();
  executions.Interrupt();
  EXPECT_EQ(executions.Call([] { return DuckDBSuccess; }), DuckDBSuccess);
  EXPECT_NO_THROW(AllocateMuch());
  EXPECT_TRUE(executions.WasCut());
}

TEST_F(AllowanceTest, OursAreNotBounded) {
  auto ours = std::move(*database_->Connect());
  EXPECT_TRUE(ours->Query("SELECT length(repeat('x', n * 1000)) FROM t"));  // 500 MB
}

#endif

}  // namespace
}  // namespace millstream
