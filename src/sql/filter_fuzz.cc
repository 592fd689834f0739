// The checks of a filter's SQL and of a query on any text: sound or refused, nothing runs.
#include "sql/filter_chain.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millstream;
  static std::unique_ptr<Database> database = std::move(*Database::Open("", {}));
  static std::unique_ptr<Connection> connection = std::move(*database->Connect());
  std::string sql(reinterpret_cast<const char*>(data), size);
  SqlFault fault;
  (void)CheckQuery(*connection, sql, &fault);
  ChainInput input;
  input.contract.fields = {*ParseField("id", "varchar"), *ParseField("n", "bigint")};
  (void)DescribeChain(*database, input, {{"first", sql}});
  return 0;
}
