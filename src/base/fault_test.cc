#include "base/fault.h"

#include <gtest/gtest.h>

namespace millstream {
namespace {

TEST(FaultTest, AsCheckPrintsIt) {
  Fault fault{.file = "millstream.yaml",
              .line = 14,
              .column = 15,
              .path = "streams.orders.contract.amount",
              .message = "unknown type 'decmal(12,2)'",
              .expected = "a type",
              .hint = "did you mean 'decimal(12,2)'?"};
  EXPECT_EQ(fault.ToString(),
            "millstream.yaml:14:15: streams.orders.contract.amount: unknown type 'decmal(12,2)'; "
            "did you mean 'decimal(12,2)'?");
}

TEST(FaultTest, CaretUnderTheUsersText) {
  Fault fault{.file = "filters/gross.sql",
              .line = 1,
              .column = 11,
              .path = "pipelines.revenue.filters.gross",
              .message = "no column 'ammount'",
              .hint = "input has id, amount, currency, ts",
              .excerpt = "SELECT *, ammount * 1.1 AS gross FROM input",
              .caret_start = 10,
              .caret_length = 7};
  EXPECT_EQ(
      fault.ToString(),
      "filters/gross.sql:1:11: pipelines.revenue.filters.gross: no column 'ammount'; input has id, amount, "
      "currency, ts\n"
      "    SELECT *, ammount * 1.1 AS gross FROM input\n"
      "              ^~~~~~~");
}

TEST(FaultTest, CaretWithTabsAndUtf8AndAtTheEnd) {
  Fault fault{.message = "m", .excerpt = "\t'ü', x", .caret_start = 7, .caret_length = 9};
  EXPECT_EQ(fault.ToString(), "m\n    \t'ü', x\n    \t     ^");
  fault.caret_start = 8;
  EXPECT_EQ(fault.ToString(), "m\n    \t'ü', x\n    \t      ^");
  fault.caret_start = 9;
  EXPECT_EQ(fault.ToString(), "m\n    \t'ü', x");
}

TEST(FaultTest, PartsThatAreNotKnownAreLeftOut) {
  EXPECT_EQ((Fault{.message = "m"}).ToString(), "m");
  EXPECT_EQ((Fault{.file = "f", .message = "m", .expected = "n"}).ToString(), "f: m; expected n");
  EXPECT_EQ((Fault{.file = "f", .line = 2, .message = "m"}).ToString(), "f:2: m");
  EXPECT_EQ((Fault{.path = "/amount", .index = 3, .message = "m"}).ToString(), "event 3: /amount: m");
}

TEST(FaultTest, Nearest) {
  std::vector<std::string> names = {"id", "amount", "currency", "ts"};
  EXPECT_EQ(Nearest("ammount", names), "amount");
  EXPECT_EQ(Nearest("AMOUNT", names), "amount");
  EXPECT_EQ(Nearest("curency", names), "currency");
  EXPECT_EQ(Nearest("st", names), "ts");
  EXPECT_EQ(Nearest("di", names), "id");
  EXPECT_EQ(Nearest("customer", names), "");
  EXPECT_EQ(Nearest("xy", names), "");
  EXPECT_EQ(Nearest("", names), "");
  EXPECT_EQ(Nearest("decmal(12,2)", {"decimal(12,2)", "double"}), "decimal(12,2)");
  EXPECT_EQ(Nearest(std::string(300, 'a'), {std::string(300, 'a')}), "");
}

TEST(FaultTest, TheNearerOfTwoWins) {
  EXPECT_EQ(Nearest("straem", {"strong", "stream"}), "stream");
  EXPECT_EQ(Nearest("pipline", {"pipelines", "pipeline"}), "pipeline");
}

}  // namespace
}  // namespace millstream
