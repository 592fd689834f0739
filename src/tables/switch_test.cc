// A table that was made anew takes the place of the one that readers see.
#include <gtest/gtest.h>

#include <thread>

#include "sql/row_buffer.h"
#include "tables/folder.h"
#include "tables/test_rows.h"

namespace millstream {
namespace {

const Writer kLive{"shop", 1, "table:orders"};
const Writer kRebuilt{"shop", 1, "table:orders@7"};
const Writer kOther{"gone", 3, "table:orders"};
const std::vector<std::pair<std::string, std::string>> kShadows{{"orders@7", "orders"}};

TestRow Row(std::string id, std::string city, uint64_t offset) {
  TestRow row;
  row.id = std::move(id), row.city = std::move(city), row.offset = offset, row.ingested_us = 1 + offset;
  return row;
}

class SwitchTest : public testing::TestWithParam<std::tuple<Mode, bool>> {
 protected:
  Status Deliver(const Writer& writer, const std::string& table, const std::vector<TestRow>& rows) {
    return test_.store().Deliver(writer, table, MakeBatch(test_.connection(), rows, 0));
  }
  void Ensure(const std::string& table) {
    TableSpec spec = SpecOf(std::get<0>(GetParam()));
    spec.name = table;
    Status status = test_.store().Ensure(spec, TestColumns(false));
    ASSERT_TRUE(status.ok()) << status.ToString();
  }
  std::vector<std::string> Cities(const std::string& table = "orders") {
    return test_.Lines(fmt::format("SELECT id, city FROM \"{}\" ORDER BY ALL", table));
  }
  TestStore test_;
};

TEST_P(SwitchTest, ReadersSeeTheOldOrTheNew) {
  using Lines = std::vector<std::string>;
  bool folds = std::get<1>(GetParam());
  Ensure("orders");
  ASSERT_TRUE(Deliver(kLive, "orders", {Row("a", "old", 0), Row("b", "old", 1)}).ok());
  ASSERT_TRUE(Deliver(kOther, "orders", {Row("c", "old", 0)}).ok());
  Ensure("orders@7");
  ASSERT_TRUE(Deliver(kRebuilt, "orders@7", {Row("a", "new", 0)}).ok());
  if (folds) {
    ASSERT_TRUE(test_.store().FoldAll().ok());
  }
  ASSERT_TRUE(Deliver(kRebuilt, "orders@7", {Row("d", "new", 2)}).ok());
  EXPECT_EQ(test_.store().List().size(), 1u) << "a shadow is nobody's to read";
  EXPECT_EQ(Cities(), (Lines{"a|old", "b|old", "c|old"}));

  auto reader = *test_.database().Connect();
  auto hold = std::make_unique<ScanHold>(test_.database(), *reader);  // as every query has
  ASSERT_TRUE(reader->Run("BEGIN TRANSACTION").ok());
  EXPECT_EQ(TestStore::One(*reader, "SELECT count(*) FROM orders"), "3");
  Status status = test_.store().Switch(kShadows);
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_EQ(Cities(), (Lines{"a|new", "d|new"}));
  EXPECT_EQ(TestStore::One(*reader, "SELECT count(*) FROM orders"), "3") << "a snapshot keeps the old";
  ASSERT_TRUE(reader->Run("COMMIT").ok());
  hold.reset();
  EXPECT_EQ(test_.store().Offsets(kLive).at(0).next, 3u);
  EXPECT_TRUE(test_.store().Offsets(kRebuilt).empty());
  EXPECT_TRUE(test_.store().Offsets(kOther).empty());
  EXPECT_FALSE(test_.store().Find("orders@7"));
  EXPECT_TRUE(test_.store().Switch(kShadows).ok()) << "it has been done already";

  ASSERT_TRUE(Deliver(kLive, "orders", {Row("e", "next", 3)}).ok());
  EXPECT_EQ(Cities(), (Lines{"a|new", "d|new", "e|next"}));
  ASSERT_TRUE(test_.store().FoldAll().ok());
  ASSERT_TRUE(test_.store().Checkpoint().ok());
  EXPECT_EQ(test_.One("SELECT count(*) FROM duckdb_tables() WHERE schema_name = '_millstream' AND "
                      "regexp_full_match(table_name, 't[0-9]+_[0-9]+')"),
            "1")
      << "the old one goes at a checkpoint";
  test_.Reopen();
  EXPECT_EQ(Cities(), (Lines{"a|new", "d|new", "e|next"}));
  EXPECT_EQ(test_.store().Offsets(kLive).at(0).next, 4u);
}

// For AddressSanitizer and ThreadSanitizer: the folder gives the replaced ones back while nobody holds them.
TEST_P(SwitchTest, WhatWasReplacedGoesAfterItsLockIsLeft) {
  Ensure("orders");
  Ensure("orders@7");
  ASSERT_TRUE(Deliver(kRebuilt, "orders@7", {Row("a", "new", 0)}).ok());
  ASSERT_TRUE(test_.store().Switch(kShadows).ok());
  std::this_thread::sleep_for(std::chrono::nanoseconds(3 * Folder::kReaderNs));
  EXPECT_EQ(Cities(), std::vector<std::string>{"a|new"});
}

TEST_P(SwitchTest, MakesATableThatWasNotThere) {
  Ensure("orders@7");
  ASSERT_TRUE(Deliver(kRebuilt, "orders@7", {Row("a", "new", 0)}).ok());
  ASSERT_TRUE(test_.store().Switch(kShadows).ok());
  EXPECT_EQ(Cities(), std::vector<std::string>{"a|new"});
  test_.Reopen();
  EXPECT_EQ(Cities(), std::vector<std::string>{"a|new"});
}

INSTANTIATE_TEST_SUITE_P(Modes, SwitchTest,
                         testing::Combine(testing::Values(Mode::kAppend, Mode::kUpsert, Mode::kUpsertAcross),
                                          testing::Bool()));

}  // namespace
}  // namespace millstream
