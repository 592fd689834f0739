// The view's answers before, during and after folds equal an oracle in memory, for every mode, with
// duplicates in a batch, deletes, partitions out of order, added columns and restarts.

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "sql/row_buffer.h"
#include "tables/test_rows.h"

namespace millstream {
namespace {

class FoldTest : public testing::TestWithParam<Mode> {};

TEST_P(FoldTest, AnswersEqualTheOracleThroughFolds) {
  Mode mode = GetParam();
  SeededRandom random(17 + static_cast<int>(mode));
  TestStore test;
  Oracle oracle(mode);
  ASSERT_TRUE(test.store().Ensure(SpecOf(mode), TestColumns(false)).ok());
  uint64_t next[3] = {0, 0, 0};
  for (int round = 0; round < 40; ++round) {
    uint32_t partition = static_cast<uint32_t>(random.Below(3));
    size_t count = 1 + random.Below(300);
    // Few keys at first, so that most rows replace others; more later.
    auto rows = RandomRows(random, mode, partition, next[partition], count, round < 20 ? 40 : 400);
    next[partition] = rows.back().offset + 1;
    Writer writer{partition == 2 ? "web" : "shop", 1, "table:orders"};
    Status status = test.store().Deliver(writer, "orders", MakeBatch(test.connection(), rows, partition));
    ASSERT_TRUE(status.ok()) << status.ToString();
    for (const TestRow& row : rows) oracle.Add(row, writer.pipeline);
    ASSERT_EQ(test.Lines(oracle.Query("orders")), oracle.Lines()) << "round " << round;
    if (random.Below(4) == 0) {
      ASSERT_TRUE(test.store().FoldAll().ok());
      ASSERT_EQ(test.Lines(oracle.Query("orders")), oracle.Lines()) << "after fold, round " << round;
    }
    if (random.Below(10) == 0) {
      test.Reopen();
      ASSERT_EQ(test.Lines(oracle.Query("orders")), oracle.Lines()) << "reopened, round " << round;
      EXPECT_EQ(test.store().Offsets(writer).at(partition).next, next[partition]);
    }
    if (round == 25 && mode != Mode::kAggregate) {
      std::vector<ColumnInfo> more = TestColumns(false);
      more.push_back({"note", "VARCHAR"});
      ASSERT_TRUE(test.store().Ensure(SpecOf(mode), more).ok());
    }
  }
}

// Readers on their own connections while deliveries and folds go on: each answer is that of some prefix of
// the deliveries, so its sums never go back, and a key that was answered is never gone.
TEST_P(FoldTest, ReadersNeverSeeAFoldHalfDone) {
  Mode mode = GetParam();
  TestStore test;
  ASSERT_TRUE(test.store().Ensure(SpecOf(mode), TestColumns(false)).ok());
  std::atomic<bool> stop{false};
  std::atomic<int> reads{0};
  std::string query = mode == Mode::kAppend      ? "SELECT count(*), max(_offset) + 1 FROM orders"
                      : mode == Mode::kAggregate ? "SELECT count(*), sum(n) FROM orders"
                                                 : "SELECT count(*), max(_offset) + 1 FROM orders";
  std::vector<std::string> faults;
  std::thread reader([&] {
    auto connection = std::move(*test.database().Connect());
    int64_t keys = 0, progress = 0;
    while (!stop) {
      ScanHold hold(test.database(), *connection);  // as every query has
      auto rows = TextRows(*connection, query);
      if (!rows) {
        faults.push_back(rows.error().ToString());
        continue;
      }
      int64_t now_keys = std::atoll((*rows)[0][0].c_str()), now = std::atoll((*rows)[0][1].c_str());
      if (now_keys < keys || now < progress)
        faults.push_back(fmt::format("{} keys after {}, {} after {}", now_keys, keys, now, progress));
      keys = now_keys, progress = now, ++reads;
    }
  });
  std::thread folder([&] {
    while (!stop)
      if (Status status = test.store().FoldAll(); !status.ok()) faults.push_back(status.ToString());
  });
  SeededRandom random(5);
  auto source = std::move(*test.database().Connect());
  uint64_t next = 0;
  for (int i = 0; i < 60; ++i) {
    auto rows = RandomRows(random, mode, 0, next, 50, 300);
    for (TestRow& row : rows)
      row.deleted = false, row.ingested_us = row.version = static_cast<int64_t>(row.offset);
    next = rows.back().offset + 1;
    ASSERT_TRUE(test.store().Deliver({"shop", 1, "t"}, "orders", MakeBatch(*source, rows, 0)).ok());
  }
  stop = true;
  reader.join(), folder.join();
  EXPECT_TRUE(faults.empty()) << faults[0];
  EXPECT_GT(reads.load(), 5);
}

std::vector<TestRow> ManyKeys(uint64_t first, uint64_t count) {
  std::vector<TestRow> rows(count);
  for (TestRow& row : rows) row.offset = first++, row.id = fmt::format("other{}", row.offset);
  return rows;
}

// A look-up reads base and delta by name: of a sum neither may count what the other has too.
TEST(AggregateFoldTest, ALookUpBesideFoldsCountsNothingTwice) {
  TestStore test;
  ASSERT_TRUE(test.store().Ensure(SpecOf(Mode::kAggregate), TestColumns(false)).ok());
  const Writer writer{"shop", 1, "t"};
  auto source = std::move(*test.database().Connect());
  uint64_t offset = 0;  // other keys first, so that folds change the base in place
  for (; offset < 10'000; offset += 1000)
    ASSERT_TRUE(test.store().Deliver(writer, "orders", MakeBatch(*source, ManyKeys(offset, 1000), 0)).ok());
  ASSERT_TRUE(test.store().FoldAll().ok());
  std::atomic<bool> stop{false};
  std::atomic<int64_t> begun{0}, done{0}, looked{0};
  std::vector<std::string> faults;
  std::thread folder([&] {
    while (!stop)
      if (Status status = test.store().FoldAll(); !status.ok()) faults.push_back(status.ToString());
  });
  std::thread reader([&] {
    auto connection = std::move(*test.database().Connect());
    while (!stop) {
      const int64_t least = done;
      auto rows = test.store().Lookup(*connection, "orders", {"k"});
      auto chunk = rows ? *rows->Next() : std::nullopt;
      const int64_t seen = chunk ? chunk->Int64(1, 0) : 0;
      if (!rows || seen < least || seen > begun) faults.push_back(fmt::format("{} after {}", seen, least));
      ++looked;
    }
  });
  for (; offset < 20'000 && test.store().counters().folds < 60; ++offset) {
    TestRow row;
    row.id = "k", row.offset = offset;
    ++begun;
    RowBatch batch = MakeBatch(*source, {row}, 0);
    batch.first_offset = offset;
    Status status = test.store().Deliver(writer, "orders", batch);
    if (!status.ok()) faults.push_back(status.ToString());
    ++done;
  }
  stop = true;
  reader.join(), folder.join();
  EXPECT_TRUE(faults.empty()) << faults[0];
  EXPECT_GT(looked.load(), 20);
}

TEST_P(FoldTest, AColumnIsAddedWhileFoldsRun) {
  Mode mode = GetParam();
  if (mode == Mode::kAggregate) GTEST_SKIP() << "its columns are its values";
  TestStore test;
  Oracle oracle(mode);
  ASSERT_TRUE(test.store().Ensure(SpecOf(mode), TestColumns(false)).ok());
  SeededRandom random(3);
  std::atomic<bool> stop{false};
  std::thread folder([&] {
    while (!stop) (void)test.store().FoldAll();
  });
  std::vector<ColumnInfo> columns = TestColumns(false);
  uint64_t next = 0;
  Status status;
  for (int i = 0; i < 20 && status.ok(); ++i) {
    auto rows = RandomRows(random, mode, 0, next, 200, 500);
    next = rows.back().offset + 1;
    status = test.store().Deliver({"shop", 1, "t"}, "orders", MakeBatch(test.connection(), rows, 0));
    if (!status.ok()) break;
    for (const TestRow& row : rows) oracle.Add(row, "shop");
    columns.push_back({fmt::format("extra{}", i), "INTEGER"});
    status = test.store().Ensure(SpecOf(mode), columns);
  }
  stop = true;
  folder.join();
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_EQ(test.Lines(oracle.Query("orders")), oracle.Lines());
  EXPECT_EQ(test.store().Find("orders")->columns.size(), 4u + 20 + 2);
}

// What an append table's file has is what lies below the offsets that it stores, however a delivery was cut.
TEST(AppendFoldTest, RowsAreCutBetweenEvents) {
  TestStore test;
  ASSERT_TRUE(test.store().Ensure(SpecOf(Mode::kAppend), TestColumns(false)).ok());
  std::vector<ColumnInfo> columns = TestColumns(true);
  columns.erase(columns.begin() + 4, columns.begin() + 6);  // `_op`, `_ingested_at`
  const Writer writer{"shop", 1, "t"};
  uint64_t next[2] = {0, 0}, rows_total = 0;
  constexpr uint64_t kEvents = 7001, kRowsAnEvent = 3;
  for (int i = 0; rows_total < 300'000; ++i) {
    uint32_t partition = i % 2;
    RowBatch batch;
    batch.columns = columns, batch.visible = 4, batch.partition = partition;
    batch.first_offset = next[partition], batch.next_offset = next[partition] += kEvents;
    auto rows = test.connection().Query(
        fmt::format("SELECT 'id' || i, 'city', 1::DECIMAL(12,2), i::BIGINT, {}::INTEGER, ({} + i // "
                    "{})::BIGINT, (i % {})::INTEGER "
                    "FROM range({}) r(i)",
                    partition, batch.first_offset, kRowsAnEvent, kRowsAnEvent, kEvents * kRowsAnEvent));
    ASSERT_TRUE(rows) << rows.error().ToString();
    while (auto chunk = *rows->Next()) batch.chunks.push_back(std::move(*chunk));
    rows_total += batch.rows();
    ASSERT_TRUE(test.store().Deliver(writer, "orders", batch).ok());
  }
  auto in_file = [&] {
    return test.One(
        "SELECT estimated_size FROM duckdb_tables() WHERE regexp_matches(table_name, '^t[0-9]+_[0-9]+$')");
  };
  for (int i = 0; i < 500 && in_file() == "0"; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(test.One("SELECT count(*) FROM orders"), fmt::format("{}", rows_total));
  ASSERT_TRUE(test.store().Checkpoint().ok());
  auto offsets = test.store().CheckpointedOffsets(writer);
  uint64_t below = (offsets[0].next + offsets[1].next) * kRowsAnEvent;
  EXPECT_EQ(in_file(), fmt::format("{}", below));
  EXPECT_EQ(test.One("SELECT count(DISTINCT (_partition, _offset, version)) FROM orders"),
            fmt::format("{}", rows_total));
  test.Reopen();
  EXPECT_EQ(test.One("SELECT count(*) FROM orders"), fmt::format("{}", rows_total));
}

std::string ModeName(const testing::TestParamInfo<Mode>& mode) {
  constexpr const char* kNames[] = {"Append", "Upsert", "UpsertAcross", "UpsertOrdered", "Aggregate"};
  return kNames[static_cast<int>(mode.param)];
}

INSTANTIATE_TEST_SUITE_P(Modes, FoldTest,
                         testing::Values(Mode::kAppend, Mode::kUpsert, Mode::kUpsertAcross,
                                         Mode::kUpsertOrdered, Mode::kAggregate),
                         ModeName);

}  // namespace
}  // namespace millstream
