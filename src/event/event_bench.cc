// Benchmarks of the ingest path and of reading, on the orders of rivals/generate_orders.py (158 bytes each).
#include <benchmark/benchmark.h>
#include <simdjson.h>

#include <cstdio>

#include "event/assembler.h"
#include "event/json_scan.h"

namespace millstream {
namespace {

std::vector<std::string> MakeOrders(int count) {
  const char* types[] = {"order.placed", "order.paid", "order.cancelled", "page.viewed"};
  const char* currencies[] = {"USD", "EUR", "GBP"};
  const char* words[] = {"alpha", "bravo", "delta", "gamma", "omega", "sigma", "kappa", "theta"};
  std::vector<std::string> orders;
  uint64_t x = 88172645463325252ull;
  for (int i = 1; i <= count; ++i) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    orders.push_back(fmt::format(
        R"({{"id":"evt-{:08}","type":"{}","customer":"c{:05}","amount":{:.2f},"currency":"{}","ts":"2026-11-21T23:{:02}:{:02}.{:03}Z","note":"{}, customer note"}})",
        i, types[x & 3], (x >> 8) % 100000, static_cast<double>((x >> 36) % 20000) / 100 + 0.01,
        currencies[(x >> 2) % 3], i / 60000 % 60, i / 1000 % 60, (x >> 26) % 1000, words[(x >> 56) & 7]));
  }
  return orders;
}

const std::vector<std::string>& Orders() {
  static const std::vector<std::string> kOrders = MakeOrders(10'000);
  return kOrders;
}

const StreamShape& Shape() {
  static const StreamShape kShape = [] {
    StreamShape shape;
    shape.name = "orders";
    for (auto [name, type] :
         {std::pair("id", "varchar not null"), std::pair("type", "varchar"), std::pair("customer", "varchar"),
          std::pair("amount", "decimal(12,2)"), std::pair("ts", "timestamptz")}) {
      shape.contract.fields.push_back(*ParseField(name, type));
    }
    shape.key = {"/customer"};
    shape.id_from = "/id", shape.type_from = "/type", shape.time_from = "/ts";
    return shape;
  }();
  return kShape;
}

void PerEvent(benchmark::State& state, uint64_t events) {
  state.SetItemsProcessed(static_cast<int64_t>(events));
  state.counters["ns/event"] = benchmark::Counter(static_cast<double>(events) * 1e-9,
                                                  benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void ScanAndFind(benchmark::State& state) {
  JsonFinder finder({"/id", "/type", "/customer", "/amount", "/ts"});
  std::vector<JsonValue> values;
  std::string all;
  for (const std::string& order : Orders()) all += order;
  all.append(64, '\0');
  uint64_t events = 0;
  for (auto _ : state) {
    size_t at = 0;
    for (const std::string& order : Orders()) {
      if (finder.FindPadded(std::string_view(all).substr(at, order.size()), values))
        state.SkipWithError("not JSON");
      benchmark::DoNotOptimize(values.data());
      at += order.size();
      ++events;
    }
  }
  PerEvent(state, events);
}
BENCHMARK(ScanAndFind);

void SimdjsonDom(benchmark::State& state) {
  simdjson::dom::parser parser;
  std::vector<simdjson::padded_string> orders;
  for (const std::string& order : Orders()) orders.emplace_back(order);
  uint64_t events = 0;
  for (auto _ : state) {
    for (const simdjson::padded_string& order : orders) {
      simdjson::dom::object root = parser.parse(order);
      for (const char* name : {"id", "type", "customer", "amount", "ts"}) {
        simdjson::dom::element value;
        if (root.at_key(name).get(value)) state.SkipWithError("not found");
        benchmark::DoNotOptimize(value);
      }
      ++events;
    }
  }
  PerEvent(state, events);
}
BENCHMARK(SimdjsonDom);

void SimdjsonOnDemand(benchmark::State& state) {
  simdjson::ondemand::parser parser;
  std::vector<simdjson::padded_string> orders;
  for (const std::string& order : Orders()) orders.emplace_back(order);
  uint64_t events = 0;
  for (auto _ : state) {
    for (const simdjson::padded_string& order : orders) {
      simdjson::ondemand::document document = parser.iterate(order);
      simdjson::ondemand::object root = document.get_object();
      for (const char* name : {"id", "type", "customer", "amount", "ts"}) {
        std::string_view text;
        if (root[name].raw_json_token().get(text)) state.SkipWithError("not found");
        benchmark::DoNotOptimize(text);
      }
      ++events;
    }
  }
  PerEvent(state, events);
}
BENCHMARK(SimdjsonOnDemand);

void AddOnly(benchmark::State& state) {
  uint64_t events = 0;
  Assembler assembler(Shape());
  for (auto _ : state) {
    for (const std::string& order : Orders()) {
      if (assembler.Add({}, order)) state.SkipWithError("refused");
      ++events;
    }
    state.PauseTiming();
    assembler.Finish(0, {});
    state.ResumeTiming();
  }
  PerEvent(state, events);
}
BENCHMARK(AddOnly);

void AddAndFinish(benchmark::State& state) {
  uint64_t events = 0, bytes = 0;
  Assembler assembler(Shape());
  for (auto _ : state) {
    for (const std::string& order : Orders()) {
      if (assembler.Add({}, order)) state.SkipWithError("refused");
      ++events;
    }
    EncodedBatch batch = assembler.Finish(0, {});
    bytes += batch.payload.size();
    benchmark::DoNotOptimize(batch.payload_crc);
  }
  state.counters["payload_bytes/event"] = static_cast<double>(bytes) / static_cast<double>(events);
  PerEvent(state, events);
}
BENCHMARK(AddAndFinish);

void Read(benchmark::State& state, const Contract& contract) {
  Assembler assembler(Shape());
  for (const std::string& order : Orders()) {
    if (assembler.Add({}, order)) state.SkipWithError("refused");
  }
  EncodedBatch encoded = assembler.Finish(0, {});
  std::vector<const Field*> fields;
  for (const Field& field : contract.fields) fields.push_back(&field);
  uint64_t events = 0;
  for (auto _ : state) {
    BatchPlace place;
    place.count = encoded.count;
    auto batch = EventBatch::Open(place, encoded.codec, encoded.payload);
    if (!batch || !(*batch)->LoadFields(fields).ok()) state.SkipWithError("not read");
    for (const Field* field : fields) benchmark::DoNotOptimize(*(*batch)->FieldColumn(*field));
    events += encoded.count;
  }
  PerEvent(state, events);
}

void OpenAndReadFiveColumns(benchmark::State& state) { Read(state, Shape().contract); }
BENCHMARK(OpenAndReadFiveColumns);

void OpenAndDecodeFiveColumnsFromData(benchmark::State& state) {
  Contract contract = Shape().contract;
  for (Field& field : contract.fields) field.default_literal = "2026-11-21 00:00:00";  // another fingerprint
  contract.fields[3].default_literal = "1";
  Read(state, contract);
}
BENCHMARK(OpenAndDecodeFiveColumnsFromData);

}  // namespace
}  // namespace millstream

BENCHMARK_MAIN();
