// The checks of a filter's SQL and of a query on any text: sound or refused, nothing runs.
#include "base/fuzz_target.h"
#include "sql/filter_chain.h"

FUZZ_TARGET(sql_filter_fuzz, text) {
  using namespace millstream;
  // Never destroyed: DuckDB's memory of the thread is gone when what is static goes.
  static Database* database = Database::Open("", {})->release();
  static Connection* connection = database->Connect()->release();
  const std::string sql(text);
  SqlFault fault;
  (void)CheckQuery(*connection, sql, &fault);
  ChainInput input;
  input.contract.fields = {*ParseField("id", "varchar"), *ParseField("n", "bigint")};
  (void)DescribeChain(*database, input, {{"first", sql}});
}
