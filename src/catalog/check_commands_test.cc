// Commands with faults, as `check` tells them.
#include <gtest/gtest.h>

#include "catalog/check_for_test.h"

namespace millstream {
namespace {

std::string WithCommand(const std::string& command, const std::string& more = "") {
  return "streams:\n  orders:\n    key: customer\n    contract:\n      customer: varchar not null\n"
         "      amount: decimal(12,2)\n  other:\n    contract: {customer: varchar}\n"
         "pipelines:\n  sums:\n    from: orders\n    to:\n"
         "      - table: {name: sums, key: customer, values: {total: sum(amount)}}\n"
         "  elsewhere:\n    from: other\n    to:\n      - table: {name: elsewhere, key: customer}\n" +
         more + "commands:\n  place:\n" + command;  // 19 lines without `more`
}

const std::string kPlaceInput =
    "    input: {customer: varchar not null, amount: integer}\n    key: customer\n";  // 2 lines
const std::string kPlaceEmit =
    "    emit: {orders: \"SELECT $input.customer AS customer, $input.amount AS amount\"}\n";

TEST(Check, ACommandThatIsSound) {
  Checked checked = Check(
      {{"millstream.yaml",
        WithCommand(kPlaceInput + kPlaceEmit +
                    "    require:\n      - too much: SELECT 1 FROM sums WHERE customer = $input.customer AND "
                    "total > 10 -- all\n")}});
  EXPECT_EQ(checked.faults, "");
  EXPECT_EQ(Summary(checked.project), "ok: 2 streams, 0 sources, 2 pipelines, 2 tables, 1 command");
  EXPECT_EQ(checked.project.commands.at("place").rules[0].message, "too much");
}

TEST(Check, FaultsOfACommand) {
  EXPECT_EQ(
      FaultsOf(WithCommand(kPlaceInput)),
      "millstream.yaml:20:5: commands.place: needs 'emit': STREAM: SELECT; each row becomes an event of the "
      "stream, its `ce_*` columns the envelope\n");
  EXPECT_EQ(FaultsOf(WithCommand(kPlaceInput + "    emit: {oders: SELECT 1 AS customer}\n")),
            "millstream.yaml:22:19: commands.place.emit: no stream 'oders'; did you mean 'orders'?\n");
  EXPECT_EQ(FaultsOf(WithCommand("    input: {customer: varchar}\n    key: customer\n" +
                                 std::string("    emit: {orders: SELECT $input.customer AS customer}\n"))),
            "millstream.yaml:21:10: commands.place.key: 'customer' may be missing from a command; declare it "
            "'not null', without a default: each command has a key\n");
  EXPECT_EQ(
      FaultsOf(WithCommand("    input: {customer: integer not null}\n    key: customer\n" +
                           std::string("    emit: {orders: SELECT $input.customer AS customer}\n"))),
      "millstream.yaml:21:10: commands.place.key: 'customer' is INTEGER; a key is varchar or an enum: 10 "
      "and 1e1 are one number and two keys\n");
  EXPECT_EQ(
      FaultsOf(WithCommand(kPlaceInput + "    emit: {orders: SELECT $input.amount AS amount}\n")),
      "millstream.yaml:22:20: commands.place.emit.orders: no column 'customer', which the key of stream "
      "'orders' is made of; the events have amount\n");
  std::string unkeyed =
      FaultsOf(WithCommand(kPlaceInput + "    emit: {other: SELECT $input.customer AS customer}\n"));
  EXPECT_NE(unkeyed.find("the command's key has 1 field, that of stream 'other' none"), std::string::npos)
      << unkeyed;
}

TEST(Check, TablesThatACommandMayRead) {
  auto rule = [](const std::string& sql, const std::string& more = "", const std::string& pipelines = "") {
    return FaultsOf(
        WithCommand(kPlaceInput + kPlaceEmit + more + "    require:\n      - no: " + sql + "\n", pipelines));
  };
  std::string other = rule("SELECT 1 FROM elsewhere");
  EXPECT_TRUE(other.starts_with(
      "millstream.yaml:24:13: commands.place.require.no: table 'elsewhere' is fed by stream "
      "'other', the command emits into 'orders'; "))
      << other;
  EXPECT_EQ(rule("SELECT 1 FROM elsewhere", "    consistency: eventual\n"), "");
  std::string two =
      rule("SELECT 1 FROM sums", "",
           "  again:\n    from: orders\n    to:\n      - table: {name: sums, key: customer, values: "
           "{total: sum(amount)}}\n");
  EXPECT_NE(two.find("table 'sums' is written by 2 pipelines"), std::string::npos) << two;
  EXPECT_EQ(
      rule("SELECT 1 FROM sums WHERE totl > 1"),
      "millstream.yaml:24:38: commands.place.require.no: no column 'totl'; the command has $input.customer, "
      "$input.amount\n    SELECT 1 FROM sums WHERE totl > 1\n                             ^~~~\n");
  std::string parameter = rule("SELECT 1 FROM sums WHERE total > $1");
  EXPECT_NE(parameter.find("no parameter '$1' here"), std::string::npos) << parameter;
  std::string field = rule("SELECT 1 WHERE $input.amout > 1");
  EXPECT_NE(field.find("millstream.yaml:24:"), std::string::npos) << field;
  EXPECT_NE(rule("SELECT 1 FROM $input").find("is one command, not a table"), std::string::npos);
  EXPECT_NE(rule("DELETE FROM sums"), "");
  EXPECT_NE(rule("SELECT 1 FROM nothing").find("no table 'nothing'"), std::string::npos);
}

TEST(Check, ConditionsOfACommandsInputAreOfOneRow) {
  EXPECT_NE(FaultsOf(WithCommand("    input: {customer: varchar not null, n: integer check (n > random())}\n"
                                 "    key: customer\n" +
                                 kPlaceEmit))
                .find("commands.place.input.n: random gives another value each time"),
            std::string::npos);
}

}  // namespace
}  // namespace millstream
