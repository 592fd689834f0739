// What is left of a checkpoint that a kill or a power cut ended, made from copies of the file: before it, and
// after it.

#include "sql/checkpoint_guard.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file_system.h"
#include "sql/database.h"

namespace millstream {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kHeadersBytes = 3 * kPageBytes;
constexpr int kTables = 40;

class CheckpointGuardTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = (std::filesystem::temp_directory_path() / "guard_test_XXXXXX").string();
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    path_ = folder_ + "/tables.db";
    // A checkpointed state, then rows that are only in the write-ahead log, then a checkpoint of those.
    auto opened = Database::Open(path_, {});
    ASSERT_TRUE(opened) << opened.error().message();
    auto database = std::move(*opened);
    auto connection = std::move(*database->Connect());
    for (int i = 0; i < kTables; ++i)
      ASSERT_TRUE(connection->Run(fmt::format("CREATE TABLE t{} AS SELECT 1::BIGINT AS n", i)).ok());
    ASSERT_TRUE(database->Checkpoint(*connection).ok());
    for (int i = 0; i < kTables; ++i)
      ASSERT_TRUE(connection->Run(fmt::format("INSERT INTO t{} VALUES ({})", i, i)).ok());
    log_ = Content(path_ + ".wal");
    before_ = Content(path_);
    ASSERT_TRUE(database->Checkpoint(*connection).ok());
    after_ = Content(path_);
    guard_ = Content(path_ + ".guard");
    ASSERT_FALSE(log_.empty());
    ASSERT_NE(before_.substr(kHeadersBytes, kPageBytes), after_.substr(kHeadersBytes, kPageBytes))
        << "block 0 is not written in place: this test has no object";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Content(const std::string& path) { return *ReadFile(fs_, path); }
  void Put(const std::string& path, const std::string& content) {
    ASSERT_TRUE(WriteFileDurably(fs_, path, content).ok());
  }
  void PutState(const std::string& file, const std::string& log, const std::string& guard) {
    for (const std::string& path : {path_, path_ + ".wal", path_ + ".guard"}) (void)fs_.Remove(path);
    Put(path_, file);
    if (!log.empty()) Put(path_ + ".wal", log);
    if (!guard.empty()) Put(path_ + ".guard", guard);
  }
  // The file as it was before the checkpoint, with the first bytes of its first block from after it.
  std::string Torn(size_t bytes) {
    std::string torn = before_;
    torn.replace(kHeadersBytes, bytes, after_, kHeadersBytes, bytes);
    return torn;
  }
  void ExpectAllRows(bool restored) {
    auto database = Database::Open(path_, {});
    ASSERT_TRUE(database) << database.error().message();
    EXPECT_EQ((*database)->restored(), restored);
    auto connection = std::move(*(*database)->Connect());
    for (int i = 0; i < kTables; ++i)
      EXPECT_TRUE(
          connection
              ->Run(fmt::format("SELECT CASE WHEN count(*) = 2 AND sum(n) = {} THEN 1 ELSE error('rows') "
                                "END FROM t{}",
                                1 + i, i))
              .ok())
          << i;
  }

  PosixFileSystem fs_;
  std::string folder_, path_, log_, before_, after_, guard_;
};

TEST_F(CheckpointGuardTest, TornBlockIsPutBackWhereverItWasTorn) {
  for (size_t bytes : {kPageBytes, 5 * kPageBytes, 63 * kPageBytes, 64 * kPageBytes}) {
    PutState(Torn(bytes), log_, guard_);
    ExpectAllRows(true);
  }
}

TEST_F(CheckpointGuardTest, WithoutTheGuardATornBlockIsTheEnd) {
  PutState(Torn(kPageBytes), log_, "");
  auto database = Database::Open(path_, {});
  ASSERT_FALSE(database);
  EXPECT_NE(database.error().message().find("Corrupt database file"), std::string::npos);
}

TEST_F(CheckpointGuardTest, FinishedCheckpointStays) {
  PutState(after_, "", guard_);
  ExpectAllRows(false);
}

TEST_F(CheckpointGuardTest, TornHeaderIsPutBack) {
  // The checkpoint's header is the one of the two that changed.
  size_t at = before_.compare(kPageBytes, kPageBytes, after_, kPageBytes, kPageBytes) != 0 ? kPageBytes
                                                                                           : 2 * kPageBytes;
  std::string torn = Torn(64 * kPageBytes);
  torn.replace(at, 512, after_, at, 16);
  PutState(torn, log_, guard_);
  ExpectAllRows(true);
}

TEST_F(CheckpointGuardTest, DamagedGuardOrThatOfAnotherFileIsLeftAlone) {
  std::string damaged = guard_;
  damaged[100] ^= 1;
  PutState(before_, log_, damaged);
  ExpectAllRows(false);
  std::string other = folder_ + "/other.db";
  ASSERT_TRUE(Database::Open(other, {}));
  Put(other + ".guard", guard_);
  auto database = Database::Open(other, {});
  ASSERT_TRUE(database);
  EXPECT_FALSE((*database)->restored());
}

TEST_F(CheckpointGuardTest, FileWhoseMakingWasCutShortIsMadeAgain) {
  std::string path = folder_ + "/new.db";
  Put(path + ".new", before_.substr(0, kPageBytes));
  auto database = Database::Open(path, {});
  ASSERT_TRUE(database) << database.error().message();
}

}  // namespace
}  // namespace millstream
