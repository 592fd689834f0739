#include "sinks/rotated_file.h"

#include <gtest/gtest.h>

#include "base/memory_file_system.h"

namespace millstream {
namespace {

constexpr uint64_t kRows = 8;

RotatedFile::Place PlaceHere() {
  return {"/out/rows.ndjson", "rows.ndjson", "/data/sinks/p.1/file.json", 1, true};
}
std::string RowText(uint64_t row) { return fmt::format("row {}\n", row); }

/// Delivers rows from the stored offset on, one each, rotating before every third, until the first failure.
Status DeliverAll(RotatedFile& file, uint64_t* acknowledged) {
  for (;;) {
    RETURN_IF_ERROR(file.Recover());
    auto stored = file.state().offsets.find(0);
    uint64_t row = stored == file.state().offsets.end() ? 0 : stored->second;
    *acknowledged = std::max(*acknowledged, row);
    if (row == kRows) return OkStatus();
    RotatedFile::First first{row, 0, ""};
    RETURN_IF_ERROR(file.Append(RowText(row), 0, row + 1, first, row > 0 && row % 3 == 0));
    *acknowledged = row + 1;
  }
}

/// Final files by offset, then the open one, as a reader would see them now.
std::string ReadAll(FileSystem& fs) {
  std::string all;
  for (uint64_t row = 0; row < kRows; ++row)
    if (auto text = ReadFile(fs, fmt::format("/out/rows.{}.ndjson", row))) all += *text;
  if (auto text = ReadFile(fs, "/out/rows.ndjson")) all += *text;
  return all;
}

std::string Expected(uint64_t rows) {
  std::string all;
  for (uint64_t row = 0; row < rows; ++row) all += RowText(row);
  return all;
}

TEST(RotatedFileTest, ClosedFilesAreNamedByTheirFirstRow) {
  MemoryFileSystem fs;
  RotatedFile file(fs, PlaceHere());
  uint64_t acknowledged = 0;
  ASSERT_TRUE(DeliverAll(file, &acknowledged).ok());
  EXPECT_EQ(*fs.List("/out"), (std::vector<std::string>{"rows.0.ndjson", "rows.3.ndjson", "rows.ndjson"}));
  EXPECT_EQ(*ReadFile(fs, "/out/rows.3.ndjson"), "row 3\nrow 4\nrow 5\n");
  EXPECT_EQ(*ReadFile(fs, "/out/rows.ndjson"), "row 6\nrow 7\n");
}

TEST(RotatedFileTest, APowerCutAtAnyChangeLosesAndDoublesNothing) {
  MemoryFileSystem counting;
  uint64_t ignored = 0;
  RotatedFile whole(counting, PlaceHere());
  ASSERT_TRUE(DeliverAll(whole, &ignored).ok());
  uint64_t changes = counting.changes();
  ASSERT_GT(changes, 50u);
  for (uint64_t cut = 1; cut <= changes; ++cut) {
    for (uint64_t seed = 0; seed < 8; ++seed) {
      MemoryFileSystem fs;
      uint64_t acknowledged = 0;
      fs.PowerOffAt(cut);
      {
        RotatedFile file(fs, PlaceHere());
        ASSERT_FALSE(DeliverAll(file, &acknowledged).ok());
      }
      fs.Crash(seed);
      RotatedFile file(fs, PlaceHere());
      Status status = file.Recover();
      ASSERT_TRUE(status.ok()) << "cut " << cut << " seed " << seed << ": " << status.ToString();
      uint64_t stored = file.state().offsets.empty() ? 0 : file.state().offsets.at(0);
      ASSERT_GE(stored, acknowledged) << "cut " << cut << " seed " << seed;
      ASSERT_EQ(ReadAll(fs), Expected(stored)) << "cut " << cut << " seed " << seed;
      ASSERT_TRUE(DeliverAll(file, &acknowledged).ok());
      ASSERT_EQ(ReadAll(fs), Expected(kRows)) << "cut " << cut << " seed " << seed;
    }
  }
}

TEST(RotatedFileTest, AnyFailingCallCanBeTriedAgain) {
  for (int call = 0; call < static_cast<int>(FileCall::kCount); ++call) {
    for (int nth = 1; nth <= 24; ++nth) {
      MemoryFileSystem fs;
      fs.FailAt(static_cast<FileCall>(call), nth, IoError("asked for"));
      RotatedFile file(fs, PlaceHere());
      uint64_t acknowledged = 0;
      Status status = DeliverAll(file, &acknowledged);
      if (!status.ok()) {
        ASSERT_EQ(status.message(), "asked for");
        status = DeliverAll(file, &acknowledged);
      }
      ASSERT_TRUE(status.ok()) << "call " << call << " nth " << nth << ": " << status.ToString();
      fs.StopFailing();
      ASSERT_EQ(ReadAll(fs), Expected(kRows)) << "call " << call << " nth " << nth;
    }
  }
}

class DamagedFileTest : public testing::Test {
 protected:
  void SetUp() override {
    RotatedFile file(fs_, PlaceHere());
    uint64_t acknowledged = 0;
    ASSERT_TRUE(DeliverAll(file, &acknowledged).ok());
  }
  Status Reopen() { return RotatedFile(fs_, PlaceHere()).Recover(); }
  MemoryFileSystem fs_;
};

TEST_F(DamagedFileTest, LongerIsCut) {
  auto open = fs_.Open("/out/rows.ndjson", OpenMode::kReadWrite);
  ASSERT_TRUE((*open)->WriteAt((*open)->Size().value(), "torn").ok());
  ASSERT_TRUE(Reopen().ok());
  EXPECT_EQ(*ReadFile(fs_, "/out/rows.ndjson"), "row 6\nrow 7\n");
}

TEST_F(DamagedFileTest, ShorterIsCorrupt) {
  ASSERT_TRUE((*fs_.Open("/out/rows.ndjson", OpenMode::kReadWrite))->Truncate(7).ok());
  Status status = Reopen();
  EXPECT_EQ(status.code(), Code::kCorrupt);
  EXPECT_NE(status.message().find("has 7 bytes, but 12 were stored"), std::string::npos) << status.message();
}

TEST_F(DamagedFileTest, MissingIsCorrupt) {
  ASSERT_TRUE(fs_.Remove("/out/rows.ndjson").ok());
  EXPECT_EQ(Reopen().code(), Code::kCorrupt);
}

TEST_F(DamagedFileTest, AnotherFileInItsPlaceIsCorrupt) {
  ASSERT_TRUE(fs_.Remove("/out/rows.ndjson").ok());
  ASSERT_TRUE(WriteFileDurably(fs_, "/out/rows.ndjson", "row 6\nrow 7\n").ok());
  Status status = Reopen();
  EXPECT_EQ(status.code(), Code::kCorrupt);
  EXPECT_NE(status.message().find("another file"), std::string::npos) << status.message();
}

TEST(RotatedFileConflictTest, AFileOfSomebodyElseIsLeftAlone) {
  MemoryFileSystem fs;
  ASSERT_TRUE(fs.CreateDirectories("/out").ok());
  ASSERT_TRUE(WriteFileDurably(fs, "/out/rows.ndjson", "mine\n").ok());
  RotatedFile file(fs, PlaceHere());
  EXPECT_EQ(file.Recover().code(), Code::kConflict);
  EXPECT_EQ(*ReadFile(fs, "/out/rows.ndjson"), "mine\n");
}

TEST(RotatedFileConflictTest, AnotherPathUnderTheSameNameIsRefused) {
  MemoryFileSystem fs;
  RotatedFile file(fs, PlaceHere());
  ASSERT_TRUE(file.Recover().ok());
  RotatedFile::Place other = PlaceHere();
  other.name = "other.ndjson";
  Status status = RotatedFile(fs, other).Recover();
  EXPECT_EQ(status.code(), Code::kConflict);
}

TEST(RotatedFileNameTest, EndingsStay) {
  MemoryFileSystem fs;
  auto final_path = [&](const std::string& path, bool one_partition) {
    RotatedFile::Place place = PlaceHere();
    place.path = path;
    place.one_partition = one_partition;
    return RotatedFile(fs, place).FinalPath();
  };
  EXPECT_EQ(final_path("/a.b/out", true), "/a.b/out.0");
  EXPECT_EQ(final_path("/a.b/out.csv", true), "/a.b/out.0.csv");
  EXPECT_EQ(final_path("/a.b/out.ndjson.gz", true), "/a.b/out.0.ndjson.gz");
  EXPECT_EQ(final_path("out.x.ndjson.zst", false), "out.x.0-0.ndjson.zst");
}

}  // namespace
}  // namespace millstream
