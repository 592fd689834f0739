// Rates of the read path from batches in memory: what DuckDB and this room cost, without log and
// decompression.
#include <benchmark/benchmark.h>

#include "event/assembler.h"
#include "sql/filter_chain.h"

namespace millstream {
namespace {

constexpr uint32_t kEvents = 10'000;

Contract OrdersContract() {
  Contract contract;
  for (auto [name, type] : {std::pair{"id", "varchar"},
                            {"type", "varchar"},
                            {"customer", "varchar"},
                            {"amount", "decimal(12,2)"},
                            {"ts", "timestamptz"}})
    contract.fields.push_back(*ParseField(name, type));
  return contract;
}

// The orders of the workload W1: about 158 bytes of JSON each.
std::unique_ptr<EventBatch> OrdersBatch(const Contract& contract, uint32_t events) {
  StreamShape shape;
  shape.name = "orders";
  shape.contract = contract;
  Assembler assembler(shape);
  const char* types[] = {"order.placed", "order.paid", "order.cancelled", "page.viewed"};
  for (uint32_t i = 0; i < events; ++i) {
    std::string text = fmt::format(
        R"({{"id":"o-{:010}","type":"{}","customer":"c{:05}","amount":{}.{:02},"currency":"EUR","ts":"2026-11-22T10:{:02}:{:02}Z","note":"alpha bravo {}"}})",
        i, types[i * 7 % 4], i * 7919 % 20000, i * 31 % 500, i % 100, i / 60 % 60, i % 60, i);
    size_t size = text.size();
    text += std::string(64, ' ');
    if (assembler.Add({}, std::string_view(text).substr(0, size))) std::abort();
  }
  EncodedBatch encoded = assembler.Finish(0, {});
  return std::move(*EventBatch::Open({"orders", 0, 1, 0, encoded.count, 1'700'000'000'000'000}, encoded.codec,
                                     std::move(encoded.payload)));
}

struct Bench {
  std::unique_ptr<Database> database = std::move(*Database::Open("", {}));
  ChainInput input;
  std::unique_ptr<EventBatch> batch;
  std::unique_ptr<FilterChain> chain;

  Bench(const std::vector<std::string>& filters, uint32_t events, const std::string& setup = "") {
    input.stream = "orders";
    input.contract = OrdersContract();
    batch = OrdersBatch(input.contract, events);
    if (!setup.empty() && !(*database->Connect())->Run(setup).ok()) std::abort();
    std::vector<SqlFilter> list;
    for (const std::string& sql : filters) list.push_back({"f", sql});
    chain = std::move(*FilterChain::Make(*database, input, list, {}));
  }

  void Run(benchmark::State& state) {
    std::vector<uint64_t> counts;
    uint64_t rows = 0;
    for (auto _ : state) {
      BatchRange range{batch.get(), 0, batch->count()};
      auto out = chain->Run(std::span(&range, 1), counts);
      if (!out) state.SkipWithError(out.error().ToString().c_str());
      rows += out ? out->rows() : 0;
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) * batch->count());
    state.counters["rows_per_event"] = benchmark::Counter(
        static_cast<double>(rows) / static_cast<double>(state.iterations()) / batch->count());
  }
};

const std::vector<std::string> kTwoFilters = {
    "SELECT * FROM input WHERE type = 'order.placed'",
    "SELECT id, customer, amount * 1.19 AS gross, ts FROM input WHERE amount > 100"};

void BM_ScanOneColumn(benchmark::State& state) {
  Bench({"SELECT id FROM input WHERE type = 'nix'"}, kEvents).Run(state);
}
void BM_TwoFilters(benchmark::State& state) {
  Bench(kTwoFilters, static_cast<uint32_t>(state.range(0))).Run(state);
}
void BM_TwoFiltersToNothing(benchmark::State& state) {
  Bench({kTwoFilters[0], "SELECT id, customer, amount * 1.19 AS gross, ts FROM input WHERE amount > 100000"},
        kEvents)
      .Run(state);
}
void BM_AllColumns(benchmark::State& state) { Bench({}, kEvents).Run(state); }
void BM_Join(benchmark::State& state) {
  Bench({kTwoFilters[0], "SELECT id, name, amount FROM input JOIN customers USING (customer)"}, kEvents,
        "CREATE TABLE customers AS SELECT 'c' || lpad(range::VARCHAR, 5, '0') AS customer, 'name ' || range "
        "AS name FROM range(20000)")
      .Run(state);
}
BENCHMARK(BM_ScanOneColumn);
BENCHMARK(BM_TwoFilters)->Arg(1)->Arg(100)->Arg(10'000);
BENCHMARK(BM_TwoFiltersToNothing);
BENCHMARK(BM_AllColumns);
BENCHMARK(BM_Join);

void BM_JsonWriter(benchmark::State& state) {
  Bench bench({"SELECT id, customer, type, amount, ts FROM input"}, kEvents);
  auto connection = std::move(*bench.database->Connect());
  std::vector<uint64_t> counts;
  BatchRange range{bench.batch.get(), 0, kEvents};
  auto rows = bench.chain->Run(std::span(&range, 1), counts);
  auto scan = *RowScan::Make(*bench.database, rows->columns);
  auto result = connection->Query("SELECT * FROM " + scan->Sql());
  JsonWriter writer = result->MakeJsonWriter();
  std::string out;
  for (auto _ : state) {
    out.clear();
    for (const Chunk& chunk : rows->chunks) writer.AppendObjects(out, chunk, rows->columns, 5, "\n");
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) * kEvents);
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * out.size()));
}
BENCHMARK(BM_JsonWriter);

void BM_MakeChain(benchmark::State& state) {
  Bench bench({}, 1);
  std::vector<SqlFilter> filters = {{"a", kTwoFilters[0]}, {"b", kTwoFilters[1]}};
  for (auto _ : state) benchmark::DoNotOptimize(FilterChain::Make(*bench.database, bench.input, filters, {}));
}
BENCHMARK(BM_MakeChain);

}  // namespace
}  // namespace millstream

BENCHMARK_MAIN();
