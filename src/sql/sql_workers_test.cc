#include "sql/sql_workers.h"

#include <gtest/gtest.h>

#include <thread>

#include "sql/sql_worker.h"

namespace millstream {
namespace {

constexpr int64_t kSecondUs = 1'000'000;

/// Programs that answer as workers do; the worker itself is tested by tests/sql_worker_test.py.
class SqlWorkersTest : public testing::Test {
 protected:
  Status Try(const std::string& script, const std::string& request = "x",
             int64_t timeout_us = 10 * kSecondUs) {
    SqlWorkers workers({"sh", "-c", script}, clock_);
    return workers.Try(request, timeout_us, {}, &where_);
  }
  SystemClock clock_;
  std::string where_;
};

TEST_F(SqlWorkersTest, WhatSurvivesIsFine) { EXPECT_TRUE(Try("while read line; do echo ok; done").ok()); }

TEST_F(SqlWorkersTest, ADeathSaysWhereAndWhy) {
  Status status = Try("read line; echo 'died 5 a b.c it takes long'");
  EXPECT_EQ(status.code(), Code::kInvalid);
  EXPECT_EQ(status.message(), "it takes long");
  EXPECT_EQ(where_, "a b.c");
}

TEST_F(SqlWorkersTest, ADeathWithoutAWordIsNoSurvival) {
  Status status = Try("read line; kill -9 $$");
  EXPECT_EQ(status.code(), Code::kInvalid);
  EXPECT_NE(status.message().find("signal 9"), std::string::npos) << status.message();
}

TEST_F(SqlWorkersTest, NoAnswerInTimeIsADeadline) {
  EXPECT_EQ(Try("sleep 100", "x", kSecondUs / 5).code(), Code::kDeadline);
}

TEST_F(SqlWorkersTest, WithoutWorkersNothingIsKnown) {
  SqlWorkers none({}, clock_);
  EXPECT_TRUE(none.Try("x", kSecondUs, {}, nullptr).ok());
  SqlWorkers missing({"no-such-program"}, clock_);
  EXPECT_TRUE(missing.Try("x", kSecondUs, {}, nullptr).ok());
}

TEST_F(SqlWorkersTest, AWorkerThatEndedWhileIdleIsReplaced) {
  SqlWorkers workers({"sh", "-c", "read line; echo ok"}, clock_);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(workers.Try("x", 10 * kSecondUs, {}, nullptr).ok()) << i;
}

TEST_F(SqlWorkersTest, MoreRequestsThanProcessesWaitForTheirTurn) {
  SqlWorkers workers({"sh", "-c", "while read line; do sleep 0.05; echo ok; done"}, clock_);
  std::atomic<int> done = 0;
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < 3 * SqlWorkers::kProcesses; ++i)
      threads.emplace_back([&] { done += workers.Try("x", 60 * kSecondUs, {}, nullptr).ok() ? 1 : 0; });
  }
  EXPECT_EQ(done, 3 * static_cast<int>(SqlWorkers::kProcesses));
}

TEST(ReadDeathTest, IsNothingForWhatSurvived) {
  EXPECT_FALSE(ReadDeath("ok"));
  EXPECT_EQ(ReadDeath("died 0  why")->why, "why");
  EXPECT_EQ(ReadDeath("died 900 cut")->where, "");
}

}  // namespace
}  // namespace millstream
