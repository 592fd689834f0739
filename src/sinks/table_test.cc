#include <gtest/gtest.h>

#include <filesystem>

#include "sinks/sinks.h"
#include "tables/table_store.h"

namespace millstream {
namespace {

class TableSinkTest : public testing::Test {
 protected:
  void SetUp() override {
    database_ = std::move(*Database::Open("", {}));
    connection_ = std::move(*database_->Connect());
    store_ = std::move(*TableStore::Open(*database_, clock_));
  }

  Result<std::unique_ptr<Sink>> Make(const std::string& json) {
    Faults faults;
    SinkContext context;
    context.pipeline = "shop", context.generation = 1, context.id = "table:orders";
    context.stream = "orders", context.partitions = 1, context.key_in_one_partition = true;
    context.clock = &clock_, context.database = database_.get(), context.tables = store_.get();
    return TableSink().make(ParseJson(json, "test.json", faults), context);
  }

  RowBatch Batch(const std::string& select, uint64_t next) {
    auto rows = connection_->Query("SELECT *, 0::INTEGER AS _ordinal FROM (" + select + ")");
    EXPECT_TRUE(rows) << rows.error().ToString();
    RowBatch batch;
    batch.columns = rows->columns(), batch.visible = 2, batch.next_offset = next;
    while (auto chunk = *rows->Next()) batch.chunks.push_back(std::move(*chunk));
    return batch;
  }

  SystemClock clock_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<Connection> connection_;
  std::unique_ptr<TableStore> store_;
};

constexpr const char* kRow =
    "SELECT '{}' AS id, {}::BIGINT AS gross, '{}' AS _op, NULL::TIMESTAMPTZ AS "
    "_ingested_at, 0::INTEGER AS _partition, {}::BIGINT AS _offset";

TEST_F(TableSinkTest, KeepsTheNewestRowOfAKeyAndItsOwnOffset) {
  auto sink = Make(R"({"name": "orders", "key": "id"})");
  ASSERT_TRUE(sink) << sink.error().ToString();
  EXPECT_TRUE((*sink)->Open()->empty());
  EXPECT_TRUE((*sink)->concurrent());
  EXPECT_TRUE((*sink)->wants_deletes());
  RowBatch first = Batch(fmt::format(kRow, "a", 1, "c", 0), 1);
  ASSERT_TRUE((*sink)->SetColumns(first.columns, first.visible).ok());
  ASSERT_TRUE((*sink)->Deliver(first).ok());
  ASSERT_TRUE((*sink)->Deliver(Batch(fmt::format(kRow, "b", 2, "c", 1), 2)).ok());
  ASSERT_TRUE((*sink)->Deliver(Batch(fmt::format(kRow, "a", 0, "d", 2), 3)).ok());
  EXPECT_EQ((*sink)->Open()->at(0), 3u);
  auto rows = connection_->Query("SELECT id, gross FROM orders");
  ASSERT_TRUE(rows) << rows.error().ToString();
  auto chunk = rows->Next();
  ASSERT_TRUE(chunk && *chunk);
  EXPECT_EQ((*chunk)->rows(), 1u);
  EXPECT_EQ((*chunk)->String(0, 0), "b");
}

TEST_F(TableSinkTest, RefusesColumnsThatDoNotFit) {
  auto sink = Make(R"({"name": "orders", "key": "nothing"})");
  ASSERT_TRUE(sink);
  RowBatch batch = Batch(fmt::format(kRow, "a", 1, "c", 0), 1);
  Status status = (*sink)->SetColumns(batch.columns, batch.visible);
  EXPECT_EQ(status.code(), Code::kInvalid);
  EXPECT_NE(status.message().find("the key names 'nothing'"), std::string::npos);
}

TEST_F(TableSinkTest, RefusesRowsWithoutAKeyAtSight) {
  const std::string rows =
      "SELECT CASE WHEN o % 3 = 1 THEN NULL ELSE o END::BIGINT AS id, NULL::VARCHAR AS \"Part\", "
      "NULL::VARCHAR AS _op, NULL::TIMESTAMPTZ AS _ingested_at, 0::INTEGER AS _partition, o::BIGINT AS "
      "_offset "
      "FROM range(3000, 9000) t(o)";
  RowBatch batch = Batch(rows, 9000);
  auto sink = Make(R"({"name": "orders", "key": "ID"})");
  ASSERT_TRUE(sink) << sink.error().ToString();
  std::vector<RefusedEvent> refused = (*sink)->Refuse(batch);
  ASSERT_EQ(refused.size(), 2000u);
  EXPECT_EQ(refused[0].offset, 3001u);
  EXPECT_EQ(refused[0].reason, "table orders: the key column ID is NULL");
  EXPECT_EQ(refused[1999].offset, 8998u);
  EXPECT_EQ((*Make(R"({"name": "t", "key": ["id", "part"]})"))->Refuse(batch).size(), 8000u);
  // Rows that lie in no table, and keys of aggregates, may be NULL.
  EXPECT_TRUE((*Make(R"({"name": "t"})"))->Refuse(batch).empty());
  EXPECT_TRUE((*Make(R"_({"name": "t", "key": "id", "values": {"n": "count(*)"}})_"))->Refuse(batch).empty());
}

TEST_F(TableSinkTest, AnOwnDeleteWhenSeesEveryEvent) {
  auto sink = Make(R"({"name": "orders", "key": "id", "delete_when": "gross = 0"})");
  ASSERT_TRUE(sink) << sink.error().ToString();
  EXPECT_FALSE((*sink)->wants_deletes());
  EXPECT_EQ(TableSink().target(ParseJson(R"({"name": "orders"})", "x", *std::make_unique<Faults>())),
            "orders");
}

}  // namespace
}  // namespace millstream
