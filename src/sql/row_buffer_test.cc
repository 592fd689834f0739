#include "sql/row_buffer.h"

#include <gtest/gtest.h>

#include "sql/duckdb_face.h"
#include "sql/key_set.h"

namespace millstream {
namespace {

class RowBufferTest : public testing::Test {
 protected:
  RowBufferTest() {
    database_ = std::move(*Database::Open("", {}));
    connection_ = std::move(*database_->Connect());
    buffer_ = std::move(*RowBuffer::Make(
        *database_,
        {{"n", "BIGINT"}, {"name", "VARCHAR"}, {"_pipeline", "UINTEGER"}, {"_offset", "BIGINT"}}));
  }
  void Append(uint64_t first, uint64_t count, const std::string& more = "") {
    auto rows = connection_->Query(
        fmt::format("SELECT i AS n, CASE WHEN i % 10 > 0 THEN 'a rather long name ' || i END AS name{}, i AS "
                    "_offset FROM range({}, {}) r(i)",
                    more, first, first + count));
    std::vector<Chunk> chunks;
    while (auto chunk = *rows->Next()) chunks.push_back(std::move(*chunk));
    buffer_->Append(rows->columns(), chunks, 7);
  }
  std::string One(const std::string& sql) {
    auto rows = connection_->Query(sql);
    if (!rows) return rows.error().message();
    auto chunk = *rows->Next();
    std::string text;
    for (uint32_t i = 0; i < chunk->columns(); ++i) {
      if (i > 0) text += ' ';
      rows->MakeJsonWriter().AppendText(text, *chunk, i, 0);
    }
    return text;
  }
  std::unique_ptr<Database> database_;
  std::unique_ptr<Connection> connection_;
  std::unique_ptr<RowBuffer> buffer_;
};

TEST_F(RowBufferTest, GivesAnyRangeOfItsRows) {
  Append(0, 5000);
  Append(5000, 3);
  for (auto [first, end] :
       {std::pair<uint64_t, uint64_t>{0, 5003}, {1, 2}, {100, 4999}, {2048, 4096}, {5001, 5003}, {7, 7}})
    EXPECT_EQ(
        One(fmt::format(
            "SELECT count(*), coalesce(sum(n), 0), count(name), coalesce(max(_pipeline), 7) FROM {}",
            buffer_->Sql(first, end))),
        One(fmt::format(
            "SELECT count(*), coalesce(sum(i), 0), count(*) FILTER (i % 10 > 0), 7 FROM range({}, {}) r(i)",
            first, end)))
        << first << " to " << end;
  EXPECT_EQ(buffer_->OffsetOf(4999), 4999u);
  EXPECT_EQ(One(fmt::format("SELECT name FROM {} WHERE n = 4001", buffer_->Sql(0))),
            "a rather long name 4001");
}

TEST_F(RowBufferTest, FindsRowsByTheirHash) {
  auto hashed = RowBuffer::Make(*database_, {{"n", "BIGINT"},
                                             {"name", "VARCHAR"},
                                             {"_pipeline", "UINTEGER"},
                                             {"_offset", "BIGINT"},
                                             {"_hash", "UBIGINT"},
                                             {"absent", "DOUBLE"},
                                             {RowBuffer::kRow, "BIGINT"}});
  ASSERT_TRUE(hashed);
  buffer_ = std::move(*hashed);
  const std::string hash = ", CASE WHEN i % 5 = 0 THEN 0::UBIGINT ELSE hash(i % 1000) END AS _hash";
  Append(0, 5000, hash);
  for (uint64_t i = 0; i < 100; ++i) Append(5000 + i, 1, hash);  // of which some are put together
  const std::string columns =
      "count(*), coalesce(sum(n), 0), coalesce(sum(_row), 0), count(name), count(absent), max(_pipeline)";
  const std::string same = "SELECT " + columns + " FROM {} WHERE _hash = {}";
  std::unique_ptr<KeySet> keys = KeySet::Make(*database_);
  for (auto [first, end] :
       {std::pair<uint64_t, uint64_t>{0, RowBuffer::kOpenEnd}, {1, 2}, {3002, 5042}, {2047, 2049}}) {
    const std::string all = buffer_->Sql(first, end);
    for (const char* one : {"hash(2::BIGINT)", "hash(41::BIGINT)", "0::UBIGINT", "hash(-1::BIGINT)"})
      EXPECT_EQ(One("SELECT " + columns + " FROM " + RowBuffer::OfHash(all, one)),
                One(fmt::format(fmt::runtime(same), all, one)))
          << first << " to " << end << ", " << one;
    std::vector<uint64_t> hashes = {0, 7};
    for (const char* one : {"hash(3::BIGINT)", "hash(999::BIGINT)"})
      hashes.push_back(std::strtoull(One(fmt::format("SELECT {}", one)).c_str(), nullptr, 10));
    keys->Set(hashes);
    EXPECT_EQ(One("SELECT " + columns + " FROM " + keys->Among(all)),
              One("SELECT " + columns + " FROM " + all + " WHERE " + keys->Sql("_hash")));
  }
  EXPECT_EQ(One("SELECT count(*) FROM " + RowBuffer::OfHash(buffer_->Sql(0), "hash(2::BIGINT)")), "6");
}

TEST_F(RowBufferTest, PutsSmallDeliveriesTogether) {
  for (uint64_t i = 0; i < 1000; ++i) Append(3 * i, 3);
  EXPECT_EQ(buffer_->end(), 3000u);
  EXPECT_EQ(One(fmt::format("SELECT count(*), sum(n), count(DISTINCT name), sum(n * _offset) FROM {}",
                            buffer_->Sql(0))),
            One("SELECT count(*), sum(i), count(*) FILTER (i % 10 > 0), sum(i * i) FROM range(3000) r(i)"));
  // A thousand chunks of 2,048 rows would be 60 MB.
  EXPECT_LT(buffer_->bytes(), 4u << 20);
}

TEST_F(RowBufferTest, WhatLiesBehindANullIsNotMeasured) {
  auto rows = connection_->Query("SELECT 0::BIGINT AS n, repeat('x', 1000000) AS name, 0::BIGINT AS _offset");
  std::vector<Chunk> chunks;
  chunks.push_back(std::move(**rows->Next()));
  duckdb_vector names = duckdb_data_chunk_get_vector(chunks[0].get(), 1);
  duckdb_vector_ensure_validity_writable(names);
  duckdb_validity_set_row_invalid(duckdb_vector_get_validity(names), 0);
  buffer_->Append(rows->columns(), chunks, 7);
  EXPECT_LT(buffer_->bytes(), 500'000u);
}

TEST_F(RowBufferTest, AColumnThatComesLaterIsNullBefore) {
  Append(0, 10);
  ASSERT_TRUE(
      buffer_->SetColumns(*database_, {{"n", "BIGINT"}, {"pair", "STRUCT(a INTEGER)"}, {"_offset", "BIGINT"}})
          .ok());
  Append(10, 10, ", {'a': i::INTEGER} AS pair");
  EXPECT_EQ(
      One(fmt::format("SELECT count(*), count(pair), count(pair.a), min(pair.a) FROM {}", buffer_->Sql(0))),
      "20 10 10 10");
}

TEST_F(RowBufferTest, AStatementSeesOneStateUnderAHold) {
  Append(0, 100);
  std::string from = buffer_->Sql(0);
  auto prepared = std::move(*connection_->Prepare("SELECT count(*) FROM " + from));
  auto count = [&] { return (*(*prepared->Execute()).Next())->Int64(0, 0); };
  EXPECT_EQ(count(), 100);
  auto other = std::move(*database_->Connect());
  {
    ScanHold hold(*database_, *connection_);
    Append(100, 50);
    buffer_->DropBefore(80);
    EXPECT_EQ(count(), 100);
    auto rows = other->Query("SELECT count(*) FROM " + buffer_->Sql(80));
    EXPECT_EQ((*rows->Next())->Int64(0, 0), 70);
  }
  auto late = prepared->Execute();
  ASSERT_FALSE(late);
  EXPECT_NE(late.error().message().find("gone into the file"), std::string::npos) << late.error().message();
}

}  // namespace
}  // namespace millstream
