#include "pipeline/idempotency.h"

#include <gtest/gtest.h>

namespace millstream {
namespace {

using Begin = IdempotencyTable::Begin;

class IdempotencyTest : public testing::Test {
 protected:
  Begin Enter(const std::string& key, const std::string& body = "body") {
    return table_.Enter(key, body, [this](auto answer) {
      ++answered_;
      last_ = std::move(answer);
    });
  }
  static IngestAnswer Accepted(uint64_t count) {
    IngestAnswer answer;
    answer.accepted = count;
    return answer;
  }
  ManualClock clock_;
  IdempotencyTable table_{clock_, 3};
  int answered_ = 0;
  tl::expected<IngestAnswer, IngestRefusal> last_;
};

TEST_F(IdempotencyTest, ARetryGetsTheFirstAnswer) {
  EXPECT_EQ(Enter("k"), Begin::kFirst);
  table_.Finish("k", Accepted(7));
  EXPECT_EQ(Enter("k"), Begin::kReplay);
  EXPECT_EQ(answered_, 1);
  EXPECT_EQ(last_->accepted, 7u);
  EXPECT_TRUE(last_->replayed);
  EXPECT_EQ(Enter("k", "another"), Begin::kMismatch);
}

TEST_F(IdempotencyTest, OneInFlightWaitsAndTooManyAreTurnedAway) {
  EXPECT_EQ(Enter("k"), Begin::kFirst);
  for (size_t i = 0; i < IdempotencyTable::kWaitersMax; ++i) EXPECT_EQ(Enter("k"), Begin::kReplay);
  EXPECT_EQ(Enter("k"), Begin::kBusy);
  EXPECT_EQ(Enter("k", "another"), Begin::kMismatch);
  EXPECT_EQ(answered_, 0);
  table_.Finish("k", Accepted(1));
  EXPECT_EQ(answered_, static_cast<int>(IdempotencyTable::kWaitersMax));
  EXPECT_EQ(Enter("k"), Begin::kReplay);
}

TEST_F(IdempotencyTest, AFailureFreesTheKey) {
  EXPECT_EQ(Enter("k"), Begin::kFirst);
  EXPECT_EQ(Enter("k"), Begin::kReplay);
  table_.Abandon("k", {Unavailable("no"), {}});
  EXPECT_EQ(answered_, 1);
  EXPECT_FALSE(last_);
  EXPECT_EQ(Enter("k", "another"), Begin::kFirst);
}

TEST_F(IdempotencyTest, ForgetsByTimeAndNumber) {
  for (const char* key : {"a", "b", "c", "d", "e"}) {
    EXPECT_EQ(Enter(key), Begin::kFirst);
    table_.Finish(key, Accepted(1));
    clock_.AdvanceUs(1'000'000);
  }
  EXPECT_EQ(Enter("e"), Begin::kReplay);
  EXPECT_LE(table_.size(), 4u);
  EXPECT_EQ(Enter("a"), Begin::kFirst);
  clock_.AdvanceUs(25ll * 3600 * 1'000'000);
  EXPECT_EQ(Enter("e", "another"), Begin::kFirst);
}

}  // namespace
}  // namespace millstream
