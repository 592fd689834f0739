#include <gtest/gtest.h>

#include "sinks/contract_test.h"
#include "sinks/sinks.h"
#include "tables/table_store.h"

namespace millstream {
namespace {

TEST(TableContractTest, ATableOfRowsKeepsIt) {
  SystemClock clock;
  MemoryFileSystem fs;
  auto database = std::move(*Database::Open("", {}));
  auto connection = std::move(*database->Connect());
  auto store = std::move(*TableStore::Open(*database, clock));
  SinkUnderTest under_test;
  under_test.make = [&] {
    SinkContext context = ContextOf(fs, clock, "table:kept");
    context.database = database.get();
    context.tables = store.get();
    return TableSink().make(OptionsOf("kept"), context);
  };
  under_test.rows = [&] {
    std::vector<std::string> kept;
    auto rows = connection->Query("SELECT p || ':' || o FROM kept");
    EXPECT_TRUE(rows) << rows.error().ToString();
    for (;;) {
      auto chunk = rows->Next();
      if (!chunk || !*chunk) return kept;
      for (uint32_t row = 0; row < (*chunk)->rows(); ++row) kept.emplace_back((*chunk)->String(0, row));
    }
  };
  CheckSinkContract(under_test);
}

}  // namespace
}  // namespace millstream
