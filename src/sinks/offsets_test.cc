// `drop` and `stdout`: sinks whose target keeps no offsets.
#include <gtest/gtest.h>

#include "sinks/contract_test.h"
#include "sinks/sinks.h"

namespace millstream {
namespace {

class OffsetsTest : public testing::Test {
 protected:
  MemoryFileSystem fs_;
  ManualClock clock_;
  RowMaker maker_;
};

TEST_F(OffsetsTest, DropKeepsTheContract) {
  SinkUnderTest under_test;
  under_test.make = [&] { return DropSink().make(Node(), ContextOf(fs_, clock_, "drop")); };
  under_test.exactly_once = false;
  CheckSinkContract(under_test);
}

TEST_F(OffsetsTest, StdoutKeepsTheContract) {
  SinkUnderTest under_test;
  std::string printed;
  under_test.make = [&] { return StdoutSink().make(Node(), ContextOf(fs_, clock_, "stdout")); };
  under_test.exactly_once = false;
  testing::internal::CaptureStdout();
  CheckSinkContract(under_test);
  printed = testing::internal::GetCapturedStdout();
  EXPECT_TRUE(
      printed.starts_with("{\"name\":\"row 0\",\"p\":0,\"o\":0}\n{\"name\":\"row 1\",\"p\":0,\"o\":1}\n"))
      << printed;
}

TEST_F(OffsetsTest, StdoutAsCsvHasOneHeader) {
  auto sink = std::move(*StdoutSink().make(OptionsOf("csv"), ContextOf(fs_, clock_, "stdout")));
  ASSERT_TRUE(sink->Open());
  RowBatch rows = maker_.Make(0, 0, 2, "i AS id, 'x' AS name");
  ASSERT_TRUE(sink->SetColumns(rows.columns, rows.visible).ok());
  testing::internal::CaptureStdout();
  EXPECT_TRUE(sink->Deliver(rows).ok());
  EXPECT_TRUE(sink->Deliver(maker_.Make(0, 3, 4, "i AS id, 'x' AS name")).ok());
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "id,name\n0,x\n1,x\n3,x\n");
}

TEST_F(OffsetsTest, StoredOnceASecondAndDurableSince) {
  auto sink = std::move(*DropSink().make(Node(), ContextOf(fs_, clock_, "drop")));
  ASSERT_TRUE(sink->Open());
  ASSERT_TRUE(sink->Deliver(maker_.MakeEmpty(0, 0, 10)).ok());
  EXPECT_EQ(sink->DurableOffset(0), 0u);
  clock_.AdvanceUs(1'000'000);
  ASSERT_TRUE(sink->Deliver(maker_.MakeEmpty(0, 10, 20)).ok());
  EXPECT_EQ(sink->DurableOffset(0), 20u);
  fs_.Crash(1);
  auto again = std::move(*DropSink().make(Node(), ContextOf(fs_, clock_, "drop")));
  EXPECT_EQ(again->Open()->at(0), 20u);
}

}  // namespace
}  // namespace millstream
