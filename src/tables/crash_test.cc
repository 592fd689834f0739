// kill -9 while deliveries, folds and checkpoints run: after each, offsets and rows agree: the view answers
// what an oracle makes of all events below the stored offsets. MILLSTREAM_CRASH_ROUNDS raises the number of
// kills. SIGKILL ends a write of a block at a page, so a file that does not open again shows up here
// (sql/checkpoint_guard.h); a file system in memory tears most (TMPDIR=/dev/shm).

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "tables/test_rows.h"

namespace millstream {
namespace {

constexpr uint32_t kPartitions = 3;
constexpr const char* kChildVariable = "MILLSTREAM_CRASH_CHILD";
constexpr uint32_t kLifeMsMax = 16'000;  // of a child before it is killed, where the machine is slow
const Writer kWriter{"shop", 1, "table:orders"};

/// The rows of one event: a function of its place, so that the oracle can make them again.
std::vector<TestRow> RowsOfEvent(Mode mode, uint32_t partition, uint64_t offset) {
  SeededRandom random((offset * kPartitions + partition) * 0x9e3779b97f4a7c15ull);
  std::vector<TestRow> rows = RandomRows(random, mode, partition, offset, 1 + random.Below(2), 800);
  for (size_t i = 0; i < rows.size(); ++i) rows[i].offset = offset, rows[i].ordinal = static_cast<int32_t>(i);
  return rows;
}

uint64_t NextOf(TableStore& store, uint32_t partition) {
  auto offsets = store.Offsets(kWriter);
  auto found = offsets.find(partition);
  return found == offsets.end() ? 0 : found->second.next;
}

// Delivers from the stored offsets on until it is killed.
[[noreturn]] void DeliverUntilKilled(const std::string& folder, Mode mode) {
  TestStore test(folder);
  CHECK(test.store().Ensure(SpecOf(mode), TestColumns(false)).ok());
  std::vector<std::thread> threads;
  for (uint32_t partition = 0; partition < kPartitions; ++partition)
    threads.emplace_back([&, partition] {
      auto connection = std::move(*test.database().Connect());
      SystemRandom random;
      uint64_t next = NextOf(test.store(), partition);
      while (true) {
        std::vector<TestRow> rows;
        for (uint64_t count = random.Below(120); count > 0; --count)
          for (TestRow& row : RowsOfEvent(mode, partition, next++)) rows.push_back(std::move(row));
        RowBatch batch = MakeBatch(*connection, rows, partition);
        batch.next_offset = next;
        CHECK(test.store().Deliver(kWriter, "orders", batch).ok());
      }
    });
  SystemRandom random;
  while (true) {
    Status status = random.Below(3) == 0 ? test.store().Checkpoint() : test.store().FoldAll();
    if (!status.ok()) fmt::print(stderr, "{}\n", status.message());
    CHECK(status.ok());
  }
}

class CrashTest : public testing::TestWithParam<Mode> {};

TEST(CrashChild, RunsUntilKilled) {
  const char* child = std::getenv(kChildVariable);
  if (child == nullptr) GTEST_SKIP() << "only as a child of CrashTest";
  DeliverUntilKilled(child + 2, static_cast<Mode>(child[0] - '0'));
}

pid_t StartChild(const std::string& folder, Mode mode) {
  std::string value = fmt::format("{} {}", static_cast<int>(mode), folder);
  const char* arguments[] = {"tables_test", "--gtest_filter=CrashChild.*", "--gtest_brief=1", nullptr};
  pid_t child = fork();
  if (child == 0) {
    setenv(kChildVariable, value.c_str(), 1);
    execv("/proc/self/exe", const_cast<char**>(arguments));
    _exit(127);
  }
  return child;
}

TEST_P(CrashTest, OffsetsAndRowsAgreeAfterKills) {
  Mode mode = GetParam();
  std::string folder = (std::filesystem::temp_directory_path() / "crash_test_XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const char* rounds_text = std::getenv("MILLSTREAM_CRASH_ROUNDS");
  int rounds = rounds_text != nullptr ? std::atoi(rounds_text) : 10;
  SeededRandom random(static_cast<uint64_t>(getpid()));
  Oracle oracle(mode);
  uint64_t next[kPartitions] = {};
  uint32_t life_ms = 250;
  auto delivered = [&] { return next[0] + next[1] + next[2] > 0; };
  for (int round = 0; round < rounds; ++round) {
    // Killed before it had anything durable: a busy machine, a sanitizer.
    if (round > 0 && !delivered()) life_ms = std::min(2 * life_ms, kLifeMsMax);
    pid_t child = StartChild(folder, mode);
    ASSERT_GT(child, 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(life_ms + random.Below(700)));
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        << "the child ended by itself: " << status;

    TestStore test(folder);
    if (!test.store().Find("orders")) continue;
    for (uint32_t partition = 0; partition < kPartitions; ++partition)
      for (uint64_t end = NextOf(test.store(), partition); next[partition] < end; ++next[partition])
        for (const TestRow& row : RowsOfEvent(mode, partition, next[partition])) oracle.Add(row, "shop");
    for (uint32_t partition = 0; partition < kPartitions; ++partition)
      ASSERT_EQ(NextOf(test.store(), partition), next[partition]) << "an offset went back";
    ASSERT_EQ(test.Lines(oracle.Query("orders")), oracle.Lines()) << "round " << round;
    if (round % 3 == 2) {
      ASSERT_TRUE(test.store().FoldAll().ok());
      ASSERT_EQ(test.Lines(oracle.Query("orders")), oracle.Lines()) << "folded, round " << round;
    }
  }
  EXPECT_TRUE(delivered());
  std::filesystem::remove_all(folder);
}

std::string ModeName(const testing::TestParamInfo<Mode>& mode) {
  constexpr const char* kNames[] = {"Append", "Upsert", "UpsertAcross", "UpsertOrdered", "Aggregate"};
  return kNames[static_cast<int>(mode.param)];
}

INSTANTIATE_TEST_SUITE_P(Modes, CrashTest,
                         testing::Values(Mode::kAppend, Mode::kUpsert, Mode::kUpsertOrdered,
                                         Mode::kAggregate),
                         ModeName);

}  // namespace
}  // namespace millstream
