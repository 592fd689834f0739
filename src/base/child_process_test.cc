#include "base/child_process.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace millstream {
namespace {

constexpr int64_t kSecondUs = 1'000'000;

class ChildProcessTest : public testing::Test {
 protected:
  std::unique_ptr<ChildProcess> Start(const std::vector<std::string>& command) {
    auto child = ChildProcess::Start(command, "", clock_);
    EXPECT_TRUE(child) << child.error().ToString();
    return child ? std::move(*child) : nullptr;
  }
  Status Exchange(ChildProcess& child, const std::string& lines, size_t count,
                  int64_t timeout_us = 5 * kSecondUs) {
    return child.Exchange(lines, count, timeout_us, {}, replies_);
  }
  SystemClock clock_;
  std::vector<std::string> replies_;
};

TEST_F(ChildProcessTest, AnswersLineByLineAgainAndAgain) {
  auto child = Start({"cat"});
  ASSERT_TRUE(Exchange(*child, "a\nb\n", 2).ok());
  EXPECT_EQ(replies_, (std::vector<std::string>{"a", "b"}));
  ASSERT_TRUE(Exchange(*child, "c\n", 1).ok());
  EXPECT_EQ(replies_, std::vector<std::string>{"c"});
}

TEST_F(ChildProcessTest, MoreThanThePipesHoldDoesNotBlock) {
  auto child = Start({"cat"});
  std::string lines;
  for (int i = 0; i < 20'000; ++i) lines.append(200, 'x').append("\n");
  ASSERT_TRUE(Exchange(*child, lines, 20'000).ok());
  EXPECT_EQ(replies_.size(), 20'000u);
  EXPECT_EQ(replies_.back(), std::string(200, 'x'));
}

TEST_F(ChildProcessTest, AnEndingIsUnavailableAndSaysHow) {
  auto child = Start({"sh", "-c", "read line; echo $line; exit 7"});
  Status status = Exchange(*child, "a\nb\n", 2);
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_EQ(status.message(), "sh ended with exit code 7 after 1 of 2 replies");
  EXPECT_EQ(replies_, std::vector<std::string>{"a"});
}

TEST_F(ChildProcessTest, EndsBySignalWhileWeWrite) {
  auto child = Start({"sh", "-c", "kill -9 $$"});
  std::string line(1 << 20, 'x');
  line += '\n';
  Status status = Exchange(*child, line, 1);
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_EQ(status.message(), "sh was ended by signal 9 after 0 of 1 replies");
}

TEST_F(ChildProcessTest, AMissingProgramIsUnavailable) {
  auto child = ChildProcess::Start({"no-such-program-here"}, "", clock_);
  ASSERT_FALSE(child);
  EXPECT_EQ(child.error().code(), Code::kUnavailable);
  EXPECT_EQ(child.error().message(), "no-such-program-here cannot be started: No such file or directory");
}

TEST_F(ChildProcessTest, SilenceIsADeadline) {
  auto child = Start({"sleep", "100"});
  Status status = Exchange(*child, "a\n", 1, 100'000);
  EXPECT_EQ(status.code(), Code::kDeadline);
  EXPECT_EQ(status.message(), "sleep has not answered line 1 of 1 within 100 ms");
}

TEST_F(ChildProcessTest, MoreRepliesThanLinesAreRefused) {
  auto child = Start({"sh", "-c", "while read line; do printf '1\\n2\\n'; done"});
  Status status = Exchange(*child, "a\n", 1);
  // The second reply comes with the first, or is found waiting by the next exchange.
  if (status.ok()) {
    ::usleep(50'000);
    status = Exchange(*child, "b\n", 1);
  }
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_NE(status.message().find("more replies"), std::string::npos) << status.message();
}

TEST_F(ChildProcessTest, AStopEndsTheWait) {
  auto child = Start({"sleep", "100"});
  std::stop_source stop;
  std::jthread stopper([&] {
    ::usleep(50'000);
    stop.request_stop();
  });
  EXPECT_EQ(child->Exchange("a\n", 1, 60 * kSecondUs, stop.get_token(), replies_).code(), Code::kCancelled);
}

TEST_F(ChildProcessTest, WhatItStartedEndsWithIt) {
  auto child = Start({"sh", "-c", "read line; sleep 100 & echo $!; cat"});
  ASSERT_TRUE(Exchange(*child, "a\n", 1).ok());
  pid_t grandchild = std::stoi(replies_[0]);
  EXPECT_EQ(::kill(grandchild, 0), 0);
  child.reset();
  bool gone = false;
  for (int i = 0; i < 200 && !gone; ++i) {
    // A killed process that nobody has reaped yet still answers; its state is then Z.
    std::string stat_path = fmt::format("/proc/{}/stat", grandchild);
    FILE* file = std::fopen(stat_path.c_str(), "r");
    char state = 'Z';
    if (file != nullptr) {
      if (std::fscanf(file, "%*d %*s %c", &state) != 1) state = 'Z';
      std::fclose(file);
    }
    gone = state == 'Z';
    if (!gone) ::usleep(10'000);
  }
  EXPECT_TRUE(gone);
}

}  // namespace
}  // namespace millstream
