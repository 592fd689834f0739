#include "sql/writer_reserve.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "sql/allowance.h"
#include "sql/database.h"

namespace millstream {
namespace {

constexpr uint64_t kMemoryBytes = 128 << 20;

class WriterReserveTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) / "writer_reserve";
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    DatabaseOptions options;
    options.memory_bytes = kMemoryBytes;  // and no place to spill: what is held is held
    database_ = std::move(*Database::Open((folder_ / "tables.duckdb").string(), options));
    writer_ = std::move(*database_->Connect());
    ASSERT_TRUE(writer_->Run("CREATE TABLE t (n BIGINT, a BIGINT, b BIGINT, s VARCHAR)").ok());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  /// Queries that have taken all that DuckDB gives, and keep it.
  void HoldEverything() {
    for (int64_t rows = 1 << 20; rows >= 1 << 10;) {
      auto connection = std::move(*database_->Connect());
      // Its list is in memory until the last of its rows was taken.
      auto statement = connection->Prepare(
          fmt::format("SELECT unnest(l) FROM (SELECT list(i) AS l FROM range({}) r(i))", rows));
      if (auto held = (*statement)->Stream(); held && held->Next()) {
        held_.push_back({std::move(connection), std::move(*statement), std::move(*held)});
      } else {
        rows /= 2;
      }
    }
  }

  struct Held {
    std::unique_ptr<Connection> connection;
    std::unique_ptr<Statement> statement;
    Rows rows;
  };
  std::filesystem::path folder_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<Connection> writer_;
  std::vector<Held> held_;
};

TEST_F(WriterReserveTest, ACommitAndACheckpointHaveMemoryWhereQueriesHoldTheRest) {
  // Into a table that has rows: into an empty one a commit moves them, and needs nothing.
  const char* insert = "INSERT INTO t SELECT i, i, i, i::VARCHAR FROM range(50000) r(i)";
  ASSERT_TRUE(writer_->Run(insert).ok());
  ASSERT_TRUE(writer_->Run(fmt::format("BEGIN; {}", insert)).ok());
  HoldEverything();
  ASSERT_GT(held_.size(), 2u);
  Status committed = writer_->Commit();
  EXPECT_TRUE(committed.ok()) << committed.message();
  Status checkpointed = database_->Checkpoint(*writer_);
  EXPECT_TRUE(checkpointed.ok()) << checkpointed.message();
  held_.clear();
  auto rows = writer_->Query("SELECT count(*) FROM t WHERE n = b");
  ASSERT_TRUE(rows);
  auto chunk = *rows->Next();
  EXPECT_EQ(chunk->Int64(0, 0), 100000);
}

TEST_F(WriterReserveTest, WhatIsLentIsTakenBackBeforeTheNextWrite) {
  std::unique_ptr<Connection> limits = std::move(*database_->Connect());
  WriterReserve reserve(std::move(limits), 32 << 20, 16 << 20);
  // In this write others take what the limit leaves, and more than it will be.
  EXPECT_TRUE(reserve.Write([&] { return HoldEverything(), OkStatus(); }).ok());
  bool is_run = false;
  auto write = [&] { return is_run = true, OkStatus(); };
  EXPECT_EQ(reserve.Write(write).code(), Code::kExhausted);
  EXPECT_FALSE(is_run);
  held_.clear();
  EXPECT_TRUE(reserve.Write(write).ok());
  EXPECT_TRUE(is_run);
}

TEST_F(WriterReserveTest, TheSettingStaysOpenAndOthersDoNot) {
  EXPECT_TRUE(writer_->Run(fmt::format("SET {}='100MiB'", WriterReserve::kSetting)).ok());
  EXPECT_FALSE(writer_->Run("SET threads=2").ok());
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which need the allocator themselves

TEST_F(WriterReserveTest, QueriesGrowLittleBesideAWriter) {
  auto queries = std::move(*database_->ConnectBounded());
  const char* sql = "SELECT len(list(i)) FROM range(1000000) r(i)";  // more than 8 MB
  EXPECT_TRUE(queries->Query(sql));
  {
    Allowance::WriterScope writes(1 << 20);
    Result<Rows> refused = queries->Query(sql);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Code::kExhausted);
    EXPECT_NE(refused.error().message().find("tables were being written"), std::string::npos)
        << refused.error().message();
    EXPECT_TRUE(queries->Query("SELECT sum(i) FROM range(1000000) r(i)"));
    EXPECT_TRUE(writer_->Query(sql)) << "writers take what they need";
  }
  EXPECT_TRUE(queries->Query(sql));
}

#endif

}  // namespace
}  // namespace millstream
