// The log on the machine's own file system, in a process that is killed.
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "log/log_test_support.h"

namespace millstream {
namespace {

class KillTest : public ::testing::Test {
 protected:
  KillTest() {
    char pattern[] = "/tmp/log_kill_test.XXXXXX";
    folder_ = ::mkdtemp(pattern);
    options_.segment_bytes = 64 << 10;
    options_.index_every_bytes = 8 << 10;
    options_.reserve_bytes = 4096;
    options_.free_space_floor = 0;
  }
  ~KillTest() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<Log> Open() {
    auto log = Log::Open(fs_, clock_, random_, folder_ + "/log", options_, {});
    CHECK(log.has_value());
    return std::move(*log);
  }

  // Appends batches of changing sizes for ever and tells each acknowledged end through the pipe.
  [[noreturn]] void Append(int acknowledged) {
    std::unique_ptr<Log> log = Open();
    Stream* stream = *log->OpenStream("orders", 1);
    stream->SetLayout({}, Codec::kLz4, {});
    while (true) {
      uint64_t first = stream->partition(0).bounds().end;
      auto placed =
          stream->partition(0).AppendAndWait(NumberedBatch(first, 1 + first % 5, 100 + first % 300));
      CHECK(placed.has_value());
      uint64_t end = placed->first_offset + placed->count;
      CHECK(::write(acknowledged, &end, sizeof end) == sizeof end);
    }
  }

  PosixFileSystem fs_;
  SystemClock clock_;
  SystemRandom random_;
  LogOptions options_;
  std::string folder_;
};

TEST_F(KillTest, WhatAKilledProcessHadAcknowledgedIsThere) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer knows no threads after a fork";
#endif
  uint64_t acknowledged = 0;
  for (int round = 0; round < 4; ++round) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) Append(ends[1]);
    ::close(ends[1]);
    for (int i = 0; i < 150 + 37 * round; ++i)
      ASSERT_EQ(::read(ends[0], &acknowledged, sizeof acknowledged), 8);
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    while (::read(ends[0], &acknowledged, sizeof acknowledged) == 8) continue;
    ::close(ends[0]);
    ::waitpid(child, nullptr, 0);

    EXPECT_TRUE(Log::Verify(fs_, folder_ + "/log", "orders")->empty()) << "an unfinished tail is no damage";
    std::unique_ptr<Log> log = Open();
    auto stream = log->OpenStream("orders", 1);
    ASSERT_TRUE(stream.has_value()) << stream.error().ToString();
    EXPECT_EQ((*stream)->partition(0).bounds().epoch, static_cast<uint32_t>(2 * round + 2));
    std::map<uint64_t, std::string> events = ReadEvents((*stream)->partition(0), 0);
    ASSERT_GE(events.size(), acknowledged);
    for (const auto& [offset, text] : events)
      EXPECT_TRUE(text.starts_with(fmt::format("{{\"n\":{},", offset))) << text;
    EXPECT_GT((*stream)->partition(0).bounds().segments, static_cast<uint64_t>(round));
  }
}

}  // namespace
}  // namespace millstream
