#include "pipeline/contract_checks.h"

#include <gtest/gtest.h>

#include "event/assembler.h"

namespace millstream {
namespace {

class ContractChecksTest : public ::testing::Test {
 public:
  ContractChecksTest() : database_(std::move(*Database::Open("", {}))) {}

  std::unique_ptr<ContractChecks> Make(const std::string& field) {
    shape_.name = "orders";
    shape_.contract.fields = {*ParseField("n", field)};
    shape_.contract.fields[0].pointer = "/n";
    auto checks = ContractChecks::Make(*database_, watchdog_, "orders", shape_.contract);
    EXPECT_TRUE(checks) << checks.error().ToString();
    return std::move(*checks);
  }
  std::unique_ptr<EventBatch> Batch(int count) {
    Assembler assembler(shape_);
    for (int n = 0; n < count; ++n) {
      std::string event = fmt::format("{{\"n\":{}}}", n);
      event.reserve(event.size() + 64);
      EXPECT_FALSE(assembler.Add({}, event).has_value());
    }
    return std::move(*assembler.Preview(0));
  }

  std::unique_ptr<Database> database_;
  Watchdog watchdog_;
  StreamShape shape_;
};

TEST_F(ContractChecksTest, ViolationsNameTheRowAndTheField) {
  auto checks = Make("bigint check (n <> 3)");
  auto violations = checks->Run(*Batch(5), 60'000'000);
  ASSERT_TRUE(violations) << violations.error().ToString();
  ASSERT_EQ(violations->size(), 1u);
  EXPECT_EQ((*violations)[0].row, 3u);
  EXPECT_EQ((*violations)[0].rejection.path, "/n");
}

TEST_F(ContractChecksTest, AllChecksOfAnEventThatDoNotHoldAreTold) {
  shape_.contract.fields = {*ParseField("a", "bigint check (a < 2)"),
                            *ParseField("b", "bigint check (b < 2)"),
                            *ParseField("c", "varchar check (c::INTEGER < 2)")};
  auto checks = std::move(*ContractChecks::Make(*database_, watchdog_, "orders", shape_.contract));
  Assembler assembler(shape_);
  for (const char* event :
       {R"({"a":1,"b":1,"c":"1"})", R"({"a":5,"b":5,"c":"1"})", R"({"a":5,"b":1,"c":"x"})"}) {
    std::string text = event;
    text.reserve(text.size() + 64);
    ASSERT_FALSE(assembler.Add({}, text).has_value());
  }
  auto violations = checks->Run(**assembler.Preview(0), 60'000'000);
  ASSERT_TRUE(violations) << violations.error().ToString();
  auto paths = [&](size_t i) {
    const Rejection& rejection = (*violations)[i].rejection;
    std::string text = fmt::format("{} {}", (*violations)[i].row, rejection.path);
    for (const Rejection& another : rejection.others) text += another.path;
    return text;
  };
  ASSERT_EQ(violations->size(), 2u);
  EXPECT_EQ(paths(0), "1 /a/b");
  EXPECT_EQ(paths(1), "2 /a/c");
  EXPECT_NE((*violations)[1].rejection.others[0].message.find("Could not convert"), std::string::npos);
}

TEST_F(ContractChecksTest, EndAtTheirDeadlineAndServeTheNextBatch) {
  auto checks = Make("bigint check (list_sum(range(n % 2 * 10000)) >= 0)");
  auto late = checks->Run(*Batch(50'000), 20'000);  // seconds of work, in steps of one vector
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), Code::kDeadline) << late.error().ToString();
  auto next = checks->Run(*Batch(10), 60'000'000);
  EXPECT_TRUE(next && next->empty());
}

}  // namespace
}  // namespace millstream
