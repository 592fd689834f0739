#include "base/file_system.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "base/memory_file_system.h"

namespace millstream {
namespace {

constexpr char kMemory[] = "/data";

// The same behaviour is asked of the machine's file system and of the one in memory.
class FileSystemTest : public ::testing::TestWithParam<bool> {
 protected:
  FileSystemTest() {
    if (GetParam()) {
      char pattern[] = "/tmp/file_system_test.XXXXXX";
      folder_ = ::mkdtemp(pattern);
    } else {
      folder_ = kMemory;
      EXPECT_TRUE(memory_.CreateDirectories(folder_).ok());
    }
  }
  ~FileSystemTest() override {
    if (GetParam()) std::filesystem::remove_all(folder_);
  }
  FileSystem& fs() {
    if (GetParam()) return posix_;
    return memory_;
  }
  std::string Path(std::string_view name) const { return folder_ + "/" + std::string(name); }

  PosixFileSystem posix_;
  MemoryFileSystem memory_;
  std::string folder_;
};

INSTANTIATE_TEST_SUITE_P(Both, FileSystemTest, ::testing::Bool(),
                         [](const auto& which) { return std::string(which.param ? "Posix" : "Memory"); });

TEST_P(FileSystemTest, WritesPartsAndReadsThemBack) {
  auto file = fs().Open(Path("a"), OpenMode::kCreate);
  ASSERT_TRUE(file.has_value());
  std::vector<std::string> owned;
  std::vector<std::string_view> parts;
  std::string all;
  for (int i = 0; i < 1500; ++i) owned.push_back(std::string(i % 7, static_cast<char>('a' + i % 26)));
  for (const std::string& part : owned) parts.push_back(part), all += part;
  ASSERT_TRUE((*file)->WriteAt(3, parts).ok());
  ASSERT_TRUE((*file)->Sync().ok());
  EXPECT_EQ((*file)->Size().value(), all.size() + 3);
  std::string got(all.size() + 100, '?');
  EXPECT_EQ((*file)->ReadAt(3, got.data(), got.size()).value(), all.size());
  EXPECT_EQ(got.substr(0, all.size()), all);
  EXPECT_EQ((*file)->ReadAt(1 << 20, got.data(), 1).value(), 0u);
}

TEST_P(FileSystemTest, ReserveKeepsTheLengthAndTruncateCuts) {
  auto file = fs().Open(Path("a"), OpenMode::kCreate);
  ASSERT_TRUE(file.has_value());
  ASSERT_TRUE((*file)->WriteAt(0, "0123456789").ok());
  ASSERT_TRUE((*file)->Reserve(1 << 20).ok());
  EXPECT_EQ((*file)->Size().value(), 10u);
  ASSERT_TRUE((*file)->Truncate(4).ok());
  EXPECT_EQ(ReadFile(fs(), Path("a")).value(), "0123");
  EXPECT_EQ(ReadFile(fs(), Path("a"), 3).error().code(), Code::kExhausted);
}

TEST_P(FileSystemTest, NamesAndFolders) {
  ASSERT_TRUE(fs().CreateDirectories(Path("x/y/z")).ok());
  ASSERT_TRUE(fs().CreateDirectories(Path("x/y/z")).ok());
  ASSERT_TRUE(WriteFileDurably(fs(), Path("x/y/b"), "two").ok());
  ASSERT_TRUE(WriteFileDurably(fs(), Path("x/y/a"), "one").ok());
  EXPECT_EQ(fs().List(Path("x/y")).value(), (std::vector<std::string>{"a", "b", "z"}));
  EXPECT_TRUE(fs().Stat(Path("x/y/z")).value().is_directory);
  EXPECT_EQ(fs().Stat(Path("x/y/b")).value().size, 3u);
  ASSERT_TRUE(fs().Rename(Path("x/y/a"), Path("x/y/b")).ok());
  EXPECT_EQ(ReadFile(fs(), Path("x/y/b")).value(), "one");
  ASSERT_TRUE(fs().Remove(Path("x/y/b")).ok());
  EXPECT_EQ(fs().Remove(Path("x/y/b")).code(), Code::kNotFound);
  ASSERT_TRUE(fs().RemoveAll(Path("x")).ok());
  EXPECT_FALSE(fs().Exists(Path("x/y")));
  EXPECT_EQ(fs().Open(Path("none"), OpenMode::kReadWrite).error().code(), Code::kNotFound);
  EXPECT_EQ(fs().Open(Path("none/a"), OpenMode::kCreate).error().code(), Code::kNotFound);
  EXPECT_GT(fs().Space(folder_).value().total_bytes, 0u);
}

TEST_P(FileSystemTest, AnOpenFileOutlivesItsName) {
  ASSERT_TRUE(WriteFileDurably(fs(), Path("a"), "old").ok());
  auto file = fs().Open(Path("a"), OpenMode::kRead);
  ASSERT_TRUE(WriteFileDurably(fs(), Path("a"), "newer").ok());
  char got[8];
  EXPECT_EQ((*file)->ReadAt(0, got, sizeof got).value(), 3u);
  EXPECT_EQ(ReadFile(fs(), Path("a")).value(), "newer");
}

TEST(FileSystemNamesTest, DirectoryOf) {
  EXPECT_EQ(DirectoryOf("a/b"), "a");
  EXPECT_EQ(DirectoryOf("/a/b/"), "/a");
  EXPECT_EQ(DirectoryOf("/a"), "/");
  EXPECT_EQ(DirectoryOf("a"), ".");
  EXPECT_EQ(DirectoryOf("/"), "/");
}

class MemoryFileSystemTest : public ::testing::Test {
 protected:
  MemoryFileSystemTest() { EXPECT_TRUE(fs_.CreateDirectories(kMemory).ok()); }
  MemoryFileSystem fs_;
};

TEST_F(MemoryFileSystemTest, ACrashKeepsWhatWasSyncedAndTearsTheRest) {
  std::set<std::string> outcomes;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    MemoryFileSystem fs;
    ASSERT_TRUE(fs.CreateDirectories(kMemory).ok());
    auto file = fs.Open("/data/a", OpenMode::kCreate);
    ASSERT_TRUE((*file)->WriteAt(0, std::string(512, 'a')).ok());
    ASSERT_TRUE((*file)->Sync().ok());
    ASSERT_TRUE(fs.SyncDirectory(kMemory).ok());
    ASSERT_TRUE((*file)->WriteAt(512, std::string(2048, 'b')).ok());
    fs.Crash(seed);
    std::string content = ReadFile(fs, "/data/a").value();
    ASSERT_GE(content.size(), 512u);
    EXPECT_EQ(content.substr(0, 512), std::string(512, 'a'));
    for (char c : content.substr(512)) EXPECT_TRUE(c == 'b' || c == '\0');
    outcomes.insert(content);
    EXPECT_EQ((*file)->Sync().code(), Code::kIo) << "a file that was open in the crash is dead";
  }
  EXPECT_GT(outcomes.size(), 5u);
}

TEST_F(MemoryFileSystemTest, ANameIsDurableOnlyAfterItsFolderIsSynced) {
  int lost = 0, kept = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    MemoryFileSystem fs;
    ASSERT_TRUE(fs.CreateDirectories(kMemory).ok());
    ASSERT_TRUE(WriteFileDurably(fs, "/data/a", "old").ok());
    auto file = fs.Open("/data/b", OpenMode::kCreate);
    ASSERT_TRUE((*file)->WriteAt(0, "new").ok());
    ASSERT_TRUE((*file)->Sync().ok());
    ASSERT_TRUE(fs.Rename("/data/b", "/data/a").ok());
    fs.Crash(seed);
    (ReadFile(fs, "/data/a").value() == "old" ? lost : kept) += 1;
  }
  EXPECT_GT(lost, 0);
  EXPECT_GT(kept, 0);
}

TEST_F(MemoryFileSystemTest, WriteFileDurablyIsAllOrNothingAtEveryCrash) {
  for (uint64_t nth = 1;; ++nth) {
    MemoryFileSystem fs;
    ASSERT_TRUE(fs.CreateDirectories(kMemory).ok());
    ASSERT_TRUE(WriteFileDurably(fs, "/data/a", std::string(3000, 'o')).ok());
    fs.PowerOffAt(nth);
    bool done = WriteFileDurably(fs, "/data/a", std::string(2000, 'n')).ok();
    bool struck = fs.powered_off();
    fs.Crash(nth * 31);
    std::string content = ReadFile(fs, "/data/a").value();
    EXPECT_TRUE(content == std::string(2000, 'n') || (!done && content == std::string(3000, 'o'))) << nth;
    if (!struck) break;
  }
}

TEST_F(MemoryFileSystemTest, FailsAtTheNthCallAndWhenFull) {
  auto file = fs_.Open("/data/a", OpenMode::kCreate);
  fs_.FailAt(FileCall::kSync, 2, IoError("sync"));
  EXPECT_TRUE((*file)->Sync().ok());
  EXPECT_EQ((*file)->Sync().code(), Code::kIo);
  EXPECT_TRUE((*file)->Sync().ok());
  fs_.SetCapacity(1000);
  EXPECT_EQ((*file)->WriteAt(0, std::string(2000, 'x')).code(), Code::kExhausted);
  EXPECT_EQ((*file)->Reserve(2000).code(), Code::kExhausted);
  EXPECT_TRUE((*file)->WriteAt(0, std::string(900, 'x')).ok());
}

}  // namespace
}  // namespace millstream
