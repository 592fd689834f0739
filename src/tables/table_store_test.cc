#include "tables/table_store.h"

#include <gtest/gtest.h>

#include <thread>

#include "tables/test_rows.h"

namespace millstream {
namespace {

const Writer kWriter{"shop", 1, "table:orders"};

TestRow Row(std::string id, std::string city, int64_t cents, uint64_t offset) {
  TestRow row;
  row.id = std::move(id), row.city = std::move(city), row.cents = cents, row.offset = offset;
  return row;
}

class TableStoreTest : public testing::Test {
 protected:
  Status Deliver(const std::vector<TestRow>& rows, uint32_t partition = 0, const Writer& writer = kWriter) {
    return test_.store().Deliver(writer, "orders", MakeBatch(test_.connection(), rows, partition));
  }
  void Ensure(Mode mode) {
    Status status = test_.store().Ensure(SpecOf(mode), TestColumns(false));
    ASSERT_TRUE(status.ok()) << status.ToString();
  }
  std::string LookupLine(const std::string& id) {
    auto rows = test_.store().Lookup(test_.connection(), "orders", {id});
    if (!rows) return rows.error().ToString();
    std::string line;
    JsonWriter json = rows->MakeJsonWriter();
    while (auto chunk = *rows->Next())
      for (uint32_t r = 0; r < chunk->rows(); ++r)
        for (uint32_t c = 0; c < chunk->columns(); ++c) {
          json.AppendText(line, *chunk, c, r);
          line += "|";
        }
    return line;
  }
  TestStore test_;
};

TEST_F(TableStoreTest, AppendKeepsEveryRowWithItsPlace) {
  Ensure(Mode::kAppend);
  ASSERT_TRUE(Deliver({Row("a", "x", 100, 0), Row("a", "y", 250, 1)}).ok());
  EXPECT_EQ(test_.Lines("SELECT * FROM orders ORDER BY _offset"),
            (std::vector<std::string>{"a|x|1.00|0|0|0", "a|y|2.50|0|0|1"}));
  EXPECT_EQ(test_.store().Offsets(kWriter).at(0).next, 2u);
  EXPECT_EQ(test_.store().Find("orders")->rows, 2u);
  EXPECT_EQ(test_.store().Find("orders")->writers, std::vector<std::string>{"shop"});
  EXPECT_EQ(test_.store().Find("orders")->columns.back().name, "_offset");
}

TEST_F(TableStoreTest, UpsertKeepsTheRowOfTheGreatestOffset) {
  Ensure(Mode::kUpsert);
  // Rows of one batch in a wrong order: a lookup join reorders rows.
  ASSERT_TRUE(Deliver({Row("a", "new", 3, 5), Row("a", "old", 1, 3), Row("b", "b", 1, 4)}).ok());
  EXPECT_EQ(test_.One("SELECT city FROM orders WHERE id = 'a'"), "new");
  EXPECT_EQ(LookupLine("a"), "a|new|0.03|0|0|5|");
  ASSERT_TRUE(test_.store().FoldAll().ok());
  EXPECT_EQ(test_.One("SELECT city FROM orders WHERE id = 'a'"), "new");
  // Late, and older than what was folded.
  ASSERT_TRUE(Deliver({Row("a", "late", 9, 4)}, 0, {"shop", 1, "table:again"}).ok());
  EXPECT_EQ(test_.One("SELECT city FROM orders WHERE id = 'a'"), "new");
  EXPECT_EQ(LookupLine("a"), "a|new|0.03|0|0|5|");
  ASSERT_TRUE(test_.store().FoldAll().ok());
  EXPECT_EQ(test_.One("SELECT city FROM orders WHERE id = 'a'"), "new");
  EXPECT_EQ(test_.One("SELECT count(*) FROM orders"), "2");
}

TEST_F(TableStoreTest, DeletesHideAndGoAtTheFold) {
  Ensure(Mode::kUpsert);
  ASSERT_TRUE(Deliver({Row("a", "x", 1, 0), Row("b", "y", 2, 1)}).ok());
  ASSERT_TRUE(test_.store().FoldAll().ok());
  TestRow gone = Row("a", "", 0, 2);
  gone.deleted = true;
  ASSERT_TRUE(Deliver({gone}).ok());
  EXPECT_EQ(test_.One("SELECT count(*) FROM orders"), "1");
  EXPECT_EQ(LookupLine("a"), "");
  ASSERT_TRUE(test_.store().FoldAll().ok());
  EXPECT_EQ(test_.One("SELECT count(*) FROM orders"), "1");
  EXPECT_EQ(test_.store().Find("orders")->rows, 1u);
}

TEST_F(TableStoreTest, DeleteWhenIsAnExpressionOverTheRow) {
  TableSpec spec = SpecOf(Mode::kUpsert);
  spec.delete_when = "gross < 0";
  ASSERT_TRUE(test_.store().Ensure(spec, TestColumns(false)).ok());
  ASSERT_TRUE(Deliver({Row("a", "x", 1, 0), Row("b", "y", 2, 1), Row("a", "x", -1, 2)}).ok());
  EXPECT_EQ(test_.Lines("SELECT id FROM orders"), std::vector<std::string>{"b"});
  spec.delete_when = "nonsense(gross)";
  Status status = test_.store().CheckCompatible(spec, TestColumns(false));
  EXPECT_EQ(status.code(), Code::kInvalid);
  EXPECT_NE(status.message().find("delete_when"), std::string::npos) << status.message();
}

TEST_F(TableStoreTest, ARowThatTakesTooLongIsItsEventsFault) {
  TableSpec spec = SpecOf(Mode::kUpsert);
  spec.delete_when = "len(list_filter(range(CAST(gross AS BIGINT)), x -> list_sum(range(x % 1000)) < 0)) > 0";
  ASSERT_TRUE(test_.store().Ensure(spec, TestColumns(false)).ok());
  ASSERT_TRUE(Deliver({Row("a", "x", 10, 0)}).ok());
  test_.store().LimitRows(100'000);
  Status status = Deliver({Row("b", "y", 10'000'000, 1)});
  EXPECT_EQ(status.code(), Code::kInvalid);
  EXPECT_EQ(status.message(), "table orders: `values` or `delete_when` took more than 100 ms");
  ASSERT_TRUE(Deliver({Row("c", "z", 10, 2)}).ok());
  EXPECT_EQ(test_.Lines("SELECT id FROM orders ORDER BY id"), (std::vector<std::string>{"a", "c"}));
}

TEST_F(TableStoreTest, AggregateSumsDeliveriesExactly) {
  Ensure(Mode::kAggregate);
  ASSERT_TRUE(Deliver({Row("a", "x", 10, 0), Row("a", "y", 20, 1), Row("b", "z", 5, 2)}).ok());
  ASSERT_TRUE(Deliver({Row("a", "w", 12, 3)}).ok());
  std::vector<std::string> expected = {"a|3|3|0.42|0.10|0.20|w", "b|1|1|0.05|0.05|0.05|z"};
  EXPECT_EQ(test_.Lines("SELECT * FROM orders ORDER BY id"), expected);
  ASSERT_TRUE(test_.store().FoldAll().ok());
  EXPECT_EQ(test_.Lines("SELECT * FROM orders ORDER BY id"), expected);
  ASSERT_TRUE(Deliver({Row("a", "late", 1, 2)}, 0, {"shop", 1, "table:again"}).ok());
  EXPECT_EQ(LookupLine("a"), "a|4|4|0.43|0.01|0.20|w|");
  auto columns = test_.store().Find("orders")->columns;
  EXPECT_EQ(columns[1], (ColumnInfo{"n", "BIGINT"}));
  EXPECT_EQ(columns[3], (ColumnInfo{"total", "DECIMAL(38,2)"}));
}

TEST_F(TableStoreTest, AggregateRefusesChangesAndHugeSums) {
  Ensure(Mode::kAggregate);
  TestRow change = Row("a", "x", 1, 0);
  change.changed = true;
  Status status = Deliver({change});
  EXPECT_EQ(status.code(), Code::kInvalid);
  EXPECT_NE(status.message().find("cannot take back"), std::string::npos) << status.message();
  EXPECT_TRUE(test_.store().Offsets(kWriter).empty());

  TableSpec wide;
  wide.name = "wide", wide.key = {"k"}, wide.values = {{"s", "sum(x)"}};
  ASSERT_TRUE(test_.store().Ensure(wide, {{"k", "INTEGER"}, {"x", "DECIMAL(38,0)"}}).ok());
  RowBatch batch;
  batch.columns = {{"k", "INTEGER"},
                   {"x", "DECIMAL(38,0)"},
                   {"_partition", "INTEGER"},
                   {"_offset", "BIGINT"},
                   {"_ordinal", "INTEGER"}};
  batch.visible = 2, batch.next_offset = 1;
  auto rows = test_.connection().Query(
      "SELECT 1, 90000000000000000000000000000000000000::DECIMAL(38,0), 0, 0::BIGINT, 0");
  ASSERT_TRUE(rows);
  batch.chunks.push_back(std::move(**rows->Next()));
  status = test_.store().Deliver(kWriter, "wide", batch);
  EXPECT_EQ(status.code(), Code::kInvalid);
  EXPECT_NE(status.message().find("too large"), std::string::npos) << status.message();
}

TEST_F(TableStoreTest, ANullKeyIsTheEventsFaultAndHarmsNoOther) {
  Ensure(Mode::kUpsert);
  TableSpec spec = SpecOf(Mode::kUpsert);
  spec.name = "by_city", spec.key = {"city"};
  ASSERT_TRUE(test_.store().Ensure(spec, TestColumns(false)).ok());
  TestRow null = Row("a", "", 1, 0);
  null.city_is_null = true;
  Status status;
  RowBatch bad = MakeBatch(test_.connection(), {null}, 0);
  std::vector<RowBatch> good;
  for (int i = 0; i < 4; ++i)
    good.push_back(MakeBatch(test_.connection(), {Row(fmt::format("g{}", i), "x", 1, 0)}, i + 1));
  // Some of these gather in one group.
  std::vector<std::thread> threads;
  std::vector<Status> statuses(4);
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&, i] { statuses[i] = test_.store().Deliver(kWriter, "orders", good[i]); });
  status = test_.store().Deliver({"other", 1, "x"}, "by_city", bad);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(status.code(), Code::kInvalid);
  EXPECT_EQ(status.message(), "table by_city: the key column city is NULL");
  for (const Status& one : statuses) EXPECT_TRUE(one.ok()) << one.ToString();
  EXPECT_EQ(test_.One("SELECT count(*) FROM orders"), "4");
  EXPECT_EQ(test_.store().Offsets(kWriter).size(), 4u);
}

TEST_F(TableStoreTest, WhatIsStoredIsNotTakenAgain) {
  for (Mode mode : {Mode::kAppend, Mode::kAggregate}) {
    Ensure(mode);
    std::string count = mode == Mode::kAppend ? "SELECT count(*) FROM orders" : "SELECT sum(n) FROM orders";
    ASSERT_TRUE(Deliver({Row("a", "x", 1, 0), Row("b", "x", 1, 1), Row("c", "x", 1, 2)}).ok());
    ASSERT_TRUE(Deliver({Row("a", "x", 1, 0), Row("b", "x", 1, 1)}).ok());
    EXPECT_EQ(test_.One(count), "3");
    EXPECT_EQ(test_.store().Offsets(kWriter).at(0).next, 3u);
    // Cut anew: only what lies above counts, however many rows an event gives.
    TestRow second = Row("d", "x", 1, 3);
    second.ordinal = 1;
    ASSERT_TRUE(Deliver({Row("b", "x", 1, 1), Row("c", "x", 1, 2), Row("d", "x", 1, 3), second}).ok());
    EXPECT_EQ(test_.One(count), "5");
    RowBatch nothing = MakeBatch(test_.connection(), {}, 0);
    nothing.first_offset = 0, nothing.next_offset = 2;
    ASSERT_TRUE(test_.store().Deliver(kWriter, "orders", nothing).ok());
    EXPECT_EQ(test_.store().Offsets(kWriter).at(0).next, 4u);
    test_.Reopen();
    EXPECT_EQ(test_.store().Offsets(kWriter).at(0).next, 4u);
    ASSERT_TRUE(Deliver({Row("c", "x", 1, 2), Row("d", "x", 1, 3), second}).ok());
    EXPECT_EQ(test_.One(count), "5");
    ASSERT_TRUE(test_.store().Drop("orders").ok());
  }
}

// Both deliveries wait for one transaction: the second sees what the first will have stored.
TEST_F(TableStoreTest, TheSameRowsTwiceInOneGroupAreStoredOnce) {
  Ensure(Mode::kAppend);
  std::vector<TestRow> rows;
  for (uint64_t offset = 0; offset < 2000; ++offset) rows.push_back(Row("a", "x", 1, offset));
  std::vector<RowBatch> batches;
  for (int i = 0; i < 4; ++i) batches.push_back(MakeBatch(test_.connection(), rows, 0));
  std::vector<std::thread> threads;
  for (const RowBatch& batch : batches)
    threads.emplace_back([&] { EXPECT_TRUE(test_.store().Deliver(kWriter, "orders", batch).ok()); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(test_.One("SELECT count(*) FROM orders"), "2000");
}

TEST_F(TableStoreTest, OffsetsWithoutRowsAreStoredAndSurvive) {
  Ensure(Mode::kAppend);
  RowBatch empty = MakeBatch(test_.connection(), {}, 3);
  empty.next_offset = 77, empty.epoch = 2;
  ASSERT_TRUE(test_.store().Deliver(kWriter, "orders", empty).ok());
  EXPECT_EQ(test_.store().Offsets(kWriter).at(3).next, 77u);
  EXPECT_TRUE(test_.store().CheckpointedOffsets(kWriter).empty());
  test_.Reopen();
  EXPECT_EQ(test_.store().Offsets(kWriter).at(3).next, 77u);
  EXPECT_EQ(test_.store().Offsets(kWriter).at(3).epoch, 2u);
  EXPECT_EQ(test_.store().CheckpointedOffsets(kWriter).at(3).next, 77u);
  ASSERT_TRUE(Deliver({Row("a", "x", 1, 80)}, 3).ok());
  EXPECT_EQ(test_.store().CheckpointedOffsets(kWriter).at(3).next, 77u);
  ASSERT_TRUE(test_.store().FoldAll().ok());
  ASSERT_TRUE(test_.store().Checkpoint().ok());
  EXPECT_EQ(test_.store().CheckpointedOffsets(kWriter).at(3).next, 81u);
  test_.store().ForgetWriter(kWriter);
  EXPECT_TRUE(test_.store().Offsets(kWriter).empty());
  test_.Reopen();
  EXPECT_TRUE(test_.store().Offsets(kWriter).empty());
}

// Retention deletes events below the checkpointed offsets: rows that are only in memory still need theirs.
TEST_F(TableStoreTest, OnlyAFoldMakesOffsetsDurable) {
  for (Mode mode : {Mode::kAppend, Mode::kUpsert, Mode::kAggregate}) {
    Ensure(mode);
    ASSERT_TRUE(Deliver({Row("a", "x", 1, 0), Row("b", "x", 1, 1)}).ok());
    ASSERT_TRUE(test_.store().Checkpoint().ok());
    EXPECT_EQ(test_.store().Offsets(kWriter).at(0).next, 2u);
    EXPECT_TRUE(test_.store().CheckpointedOffsets(kWriter).empty());
    ASSERT_TRUE(test_.store().FoldAll().ok());
    EXPECT_TRUE(test_.store().CheckpointedOffsets(kWriter).empty());
    ASSERT_TRUE(test_.store().Checkpoint().ok());
    EXPECT_EQ(test_.store().CheckpointedOffsets(kWriter).at(0).next, 2u);
    // More rows, and an offset that no row belongs to: neither is in the file yet.
    ASSERT_TRUE(Deliver({Row("c", "x", 1, 5)}).ok());
    RowBatch empty = MakeBatch(test_.connection(), {}, 1);
    empty.next_offset = 9;
    ASSERT_TRUE(test_.store().Deliver(kWriter, "orders", empty).ok());
    ASSERT_TRUE(test_.store().Checkpoint().ok());
    EXPECT_EQ(test_.store().Offsets(kWriter).at(1).next, 9u);
    EXPECT_EQ(test_.store().CheckpointedOffsets(kWriter).at(0).next, 2u);
    EXPECT_FALSE(test_.store().CheckpointedOffsets(kWriter).contains(1));
    ASSERT_TRUE(test_.store().FoldAll().ok());
    // An offset alone, with nothing to fold.
    empty.next_offset = 12;
    ASSERT_TRUE(test_.store().Deliver(kWriter, "orders", empty).ok());
    ASSERT_TRUE(test_.store().FoldAll().ok());
    ASSERT_TRUE(test_.store().Checkpoint().ok());
    EXPECT_EQ(test_.store().CheckpointedOffsets(kWriter).at(0).next, 6u);
    EXPECT_EQ(test_.store().CheckpointedOffsets(kWriter).at(1).next, 12u);
    ASSERT_TRUE(test_.store().Drop("orders").ok());
  }
}

TEST_F(TableStoreTest, AForgottenWritersRowsStay) {
  Ensure(Mode::kUpsert);
  ASSERT_TRUE(Deliver({Row("a", "x", 1, 0)}).ok());
  test_.store().ForgetWriter(kWriter);  // nobody would deliver the row again
  ASSERT_TRUE(test_.store().Checkpoint().ok());
  EXPECT_EQ(test_.One("SELECT count(*) FROM duckdb_tables() WHERE schema_name = '_millstream' AND "
                      "regexp_matches(table_name, '^t[0-9]') AND estimated_size = 1"),
            "1");
  EXPECT_TRUE(test_.store().Offsets(kWriter).empty());
  test_.Reopen();
  EXPECT_EQ(LookupLine("a"), "a|x|0.01|0|0|0|");
  EXPECT_TRUE(test_.store().Offsets(kWriter).empty());
}

TEST_F(TableStoreTest, EnsureAddsColumnsAndRefusesOtherTypes) {
  for (Mode mode : {Mode::kAppend, Mode::kUpsert}) {
    Ensure(mode);
    ASSERT_TRUE(Deliver({Row("a", "x", 1, 0)}).ok());
    ASSERT_TRUE(test_.store().FoldAll().ok());
    ASSERT_TRUE(Deliver({Row("b", "x", 1, 1)}).ok());
    std::vector<ColumnInfo> more = TestColumns(false);
    more.insert(more.begin(), {"note", "VARCHAR"});
    Status status = test_.store().Ensure(SpecOf(mode), more);
    ASSERT_TRUE(status.ok()) << status.ToString();
    ASSERT_TRUE(Deliver({Row("c", "x", 1, 2)}).ok());  // an old version's rows lack it
    EXPECT_EQ(test_.Lines("SELECT id, note FROM orders ORDER BY id"),
              (std::vector<std::string>{"a|", "b|", "c|"}));
    test_.Reopen();
    ASSERT_TRUE(test_.store().Ensure(SpecOf(mode), more).ok());
    EXPECT_EQ(test_.store().Find("orders")->columns[4].name, "note");
    more[0].type = "INTEGER";
    status = test_.store().CheckCompatible(SpecOf(mode), more);
    EXPECT_EQ(status.code(), Code::kInvalid);
    EXPECT_NE(status.message().find("column note is VARCHAR in the table and INTEGER in the rows"),
              std::string::npos)
        << status.message();
    ASSERT_TRUE(test_.store().Drop("orders").ok());
    EXPECT_FALSE(test_.store().Find("orders"));
    EXPECT_TRUE(test_.store().Offsets(kWriter).empty());
    EXPECT_NE(test_.One("SELECT * FROM orders").find("does not exist"), std::string::npos);
  }
}

TEST_F(TableStoreTest, EnsureRefusesAnotherKeyAndSaysWhatToDo) {
  Ensure(Mode::kUpsert);
  TableSpec spec = SpecOf(Mode::kUpsert);
  spec.key = {"city"};
  Status status = test_.store().Ensure(spec, TestColumns(false));
  EXPECT_EQ(status.code(), Code::kInvalid);
  EXPECT_EQ(status.message(),
            "table orders has the key id, not city: give the sink another table name, or make the table anew "
            "(--rebuild orders)");
  spec = SpecOf(Mode::kUpsert), spec.name = "other", spec.key = {"nothing"};
  EXPECT_EQ(test_.store().Ensure(spec, TestColumns(false)).message(),
            "table other: the key names 'nothing', which the rows do not have");
  spec = SpecOf(Mode::kAggregate), spec.name = "other", spec.values = {{"a", "avg(gross)"}};
  EXPECT_NE(test_.store().Ensure(spec, TestColumns(false)).message().find("keep sum(x) and count(x)"),
            std::string::npos);
}

TEST_F(TableStoreTest, TwoPipelinesWriteOneTable) {
  Ensure(Mode::kUpsertAcross);
  Writer other{"web", 1, "table:orders"};
  TestRow first = Row("a", "shop", 1, 9), second = Row("a", "web", 2, 1);
  first.ingested_us = 100, second.ingested_us = 200;
  ASSERT_TRUE(Deliver({second}, 0, other).ok());
  ASSERT_TRUE(Deliver({first}).ok());
  EXPECT_EQ(test_.One("SELECT city FROM orders"), "web");
  ASSERT_TRUE(test_.store().FoldAll().ok());
  EXPECT_EQ(test_.One("SELECT city FROM orders"), "web");
  EXPECT_EQ(test_.store().Find("orders")->writers, (std::vector<std::string>{"shop", "web"}));
}

TEST_F(TableStoreTest, ASecondWriterEndsTheOrderByOffsetsAlone) {
  TableSpec spec = SpecOf(Mode::kUpsert);
  spec.writer = "shop.1";
  ASSERT_TRUE(test_.store().Ensure(spec, TestColumns(false)).ok());
  TestRow newest = Row("a", "newest", 1, 3), folded = Row("b", "folded", 1, 4);
  newest.ingested_us = 300, folded.ingested_us = 300;
  ASSERT_TRUE(Deliver({newest, folded}).ok());
  ASSERT_TRUE(test_.store().FoldAll().ok());
  // Another pipeline's offsets say nothing about these rows; its spec alone looks as if they did.
  spec.writer = "web.2";
  Status status = test_.store().Ensure(spec, TestColumns(false));
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_FALSE(test_.store().Find("orders")->spec.key_in_one_partition);
  Writer web{"web", 2, "table:orders"};
  TestRow older = Row("a", "older", 1, 900), later = Row("b", "later", 1, 1);
  older.ingested_us = 200, later.ingested_us = 400;
  ASSERT_TRUE(Deliver({later, older}, 0, web).ok());
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(test_.Lines("SELECT id, city FROM orders"), (std::vector<std::string>{"a|newest", "b|later"}));
    EXPECT_EQ(LookupLine("a"), "a|newest|0.01|0|0|3|");
    ASSERT_TRUE(test_.store().FoldAll().ok());
  }
  // For good: the first writer alone again is not one.
  spec.writer = "shop.1";
  test_.Reopen();
  ASSERT_TRUE(test_.store().Ensure(spec, TestColumns(false)).ok());
  EXPECT_FALSE(test_.store().Find("orders")->spec.key_in_one_partition);
}

TEST_F(TableStoreTest, ASecondWriterIsRefusedOnceDeletesAreForgotten) {
  TableSpec spec = SpecOf(Mode::kUpsert), both = SpecOf(Mode::kUpsertAcross);
  spec.writer = both.writer = "shop.1";
  ASSERT_TRUE(test_.store().Ensure(spec, TestColumns(false)).ok());
  TestRow gone = Row("a", "", 0, 1);
  gone.deleted = true;
  ASSERT_TRUE(Deliver({Row("a", "x", 1, 0), gone}).ok());
  // The tombstone is still there.
  EXPECT_TRUE(test_.store().CheckCompatible(both, TestColumns(false)).ok());
  ASSERT_TRUE(test_.store().FoldAll().ok());
  test_.Reopen();
  ASSERT_TRUE(test_.store().Ensure(spec, TestColumns(false)).ok());
  Status status = test_.store().Ensure(both, TestColumns(false));
  EXPECT_EQ(status.code(), Code::kInvalid);
  EXPECT_NE(status.message().find("does not remember which rows were deleted"), std::string::npos)
      << status.message();
}

TEST_F(TableStoreTest, AnotherHashIsNoticedAndWrittenAnew) {
  Ensure(Mode::kUpsert);
  ASSERT_TRUE(Deliver({Row("a", "x", 1, 0), Row("b", "y", 1, 1)}).ok());
  ASSERT_TRUE(test_.store().FoldAll().ok());
  std::string base = test_.One(
      "SELECT '_millstream.' || table_name FROM duckdb_tables() WHERE schema_name = '_millstream' AND "
      "table_name LIKE 't%' AND estimated_size = 2");
  ASSERT_TRUE(test_.connection().Run("UPDATE " + base + " SET _hash = 7").ok());
  EXPECT_EQ(LookupLine("a"), "");
  ASSERT_TRUE(test_.connection().Run("UPDATE _millstream.meta SET value = 'another'").ok());
  test_.Reopen();
  EXPECT_EQ(LookupLine("a"), "a|x|0.01|0|0|0|");
}

TEST_F(TableStoreTest, TwoKeysOfOneHashStayTwo) {
  Ensure(Mode::kUpsert);
  ASSERT_TRUE(Deliver({Row("a", "x", 1, 0), Row("b", "y", 1, 1), Row("c", "z", 1, 2)}).ok());
  ASSERT_TRUE(test_.store().FoldAll().ok());
  ASSERT_TRUE(Deliver({Row("a", "new", 1, 3)}).ok());
  std::string base = test_.One(
      "SELECT '_millstream.' || table_name FROM duckdb_tables() WHERE schema_name = '_millstream' AND "
      "table_name LIKE 't%' AND estimated_size = 3");
  ASSERT_TRUE(test_.connection().Run("UPDATE " + base + " SET _hash = hash('a')").ok());
  std::vector<std::string> expected = {"a|new", "b|y", "c|z"};
  EXPECT_EQ(test_.Lines("SELECT id, city FROM orders ORDER BY id"), expected);
  ASSERT_TRUE(test_.store().FoldAll().ok());
  EXPECT_EQ(test_.Lines("SELECT id, city FROM orders ORDER BY id"), expected);
}

TEST_F(TableStoreTest, NarrowerTypesFitIntoWiderColumns) {
  Ensure(Mode::kAppend);
  std::vector<ColumnInfo> columns = TestColumns(false);
  columns[2].type = "DECIMAL(10,1)", columns[3].type = "INTEGER";
  EXPECT_TRUE(test_.store().CheckCompatible(SpecOf(Mode::kAppend), columns).ok());
  columns[3].type = "HUGEINT";
  EXPECT_FALSE(test_.store().CheckCompatible(SpecOf(Mode::kAppend), columns).ok());
  columns[3].type = "BIGINT", columns[2].type = "DOUBLE";
  EXPECT_FALSE(test_.store().CheckCompatible(SpecOf(Mode::kAppend), columns).ok());
  columns[2] = {"_offset", "BIGINT"};
  EXPECT_FALSE(test_.store().CheckCompatible(SpecOf(Mode::kAppend), columns).ok());
}

}  // namespace
}  // namespace millstream
