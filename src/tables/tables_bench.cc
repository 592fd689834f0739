// Rows a second into append, upsert and aggregate tables with folds and checkpoints included, commit latency,
// and point look-ups meanwhile.
//
//   tables_bench MODE KEYS SECONDS [ROWS_A_BATCH [ROWS_A_SECOND]]     MODE: append, upsert, across, aggregate
//
// A keyed table is filled with all KEYS first. Then two partitions deliver random keys as fast as they can
// (or at the given rate), while one reader looks keys up.

#include <sys/resource.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/clock.h"
#include "base/random.h"
#include "base/thread.h"
#include "tables/registry.h"
#include "tables/table_store.h"

namespace millstream {
namespace {

struct Settings {
  std::string mode;
  uint64_t keys = 0;
  int seconds = 0;
  uint64_t batch_rows = 10'000;
  uint64_t rows_a_second = 0;  // 0: as fast as it goes
};

std::string Select(const std::string& key, uint64_t rows, uint64_t seed, int partition) {
  return fmt::format(
      "SELECT 'order-' || lpad(({0})::VARCHAR, 9, '0') AS id, 'city' || (i % 50) AS city, "
      "((i * 37) % 100000)::DECIMAL(12,2) AS gross, CASE i % 3 WHEN 0 THEN 'open' WHEN 1 THEN 'paid' ELSE "
      "'sent' END AS status, make_timestamptz(1700000000000000 + i) AS placed, CASE WHEN i < 0 THEN 'c' END "
      "AS "
      "_op, make_timestamptz(1700000000000000 + {2} + i) AS _ingested_at, {3}::INTEGER AS _partition, "
      "({2} + i)::BIGINT AS _offset, 0::INTEGER AS _ordinal FROM (SELECT i::BIGINT AS i FROM range({1}) "
      "r(i))",
      key, rows, seed, partition);
}

std::vector<RowBatch> Batches(Connection& connection, const std::string& sql, uint64_t batch_rows,
                              int partition) {
  auto statement = connection.Prepare(sql);
  if (!statement) fmt::print(stderr, "{}\n", statement.error().ToString());
  auto rows = std::move(*(*statement)->Stream());
  std::vector<RowBatch> batches;
  while (auto chunk = *rows.Next()) {
    if (batches.empty() || batches.back().rows() >= batch_rows) {
      batches.emplace_back();
      batches.back().columns = rows.columns(), batches.back().visible = 5;
      batches.back().partition = static_cast<uint32_t>(partition);
    }
    batches.back().chunks.push_back(std::move(*chunk));
  }
  return batches;
}

void Print(const char* what, std::vector<double>& values) {
  if (values.empty()) return;
  std::sort(values.begin(), values.end());
  fmt::print("  {:<22} p50 {:8.2f}  p99 {:8.2f}  max {:8.2f} ms   ({} times)\n", what,
             values[values.size() / 2], values[values.size() * 99 / 100], values.back(), values.size());
}

double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
         (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

double ThreadCpuMs() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

struct Bench {
  Settings settings;
  SystemClock clock;
  std::unique_ptr<Database> database;
  std::unique_ptr<TableStore> store;
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> delivered_rows{0};

  double Ms() const { return static_cast<double>(clock.MonotonicNs()) / 1e6; }

  TableSpec Spec() const {
    TableSpec spec;
    spec.name = "orders";
    if (settings.mode == "append") return spec;
    spec.key = {"id"};
    spec.key_in_one_partition = settings.mode != "across";
    if (settings.mode == "aggregate")
      spec.values = {
          {"n", "count(*)"}, {"total", "sum(gross)"}, {"high", "max(gross)"}, {"status", "last(status)"}};
    return spec;
  }

  /// As a loop does: while there is no room for rows, they wait.
  void Surely(const Writer& writer, RowBatch& batch) {
    Status status = store->Deliver(writer, "orders", batch);
    while (status.code() == Code::kUnavailable) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      status = store->Deliver(writer, "orders", batch);
    }
    if (!status.ok()) fmt::print(stderr, "{}\n", status.ToString());
    CHECK(status.ok());
  }

  void Fill(Connection& connection) {
    double begin = Ms();
    constexpr uint64_t kStep = 1'000'000;
    uint64_t filled = 0;
    for (uint64_t first = 0; first < settings.keys; first += kStep) {
      uint64_t count = std::min(kStep, settings.keys - first);
      for (RowBatch& batch :
           Batches(connection, Select(fmt::format("{} + i", first), count, first, 0), 100'000, 0)) {
        batch.first_offset = filled, batch.next_offset = filled += batch.rows();
        Surely({"shop", 1, "fill"}, batch);
      }
    }
    Status status = store->FoldAll();
    if (status.ok()) status = store->Checkpoint();
    if (!status.ok()) fmt::print("{}\n", status.ToString());
    fmt::print("  filled with {} keys in {:.1f} s\n", settings.keys, (Ms() - begin) / 1000);
  }

  void Deliver(int partition, std::vector<RowBatch>& batches, std::vector<double>& latencies) {
    uint64_t pool_rows = 0, delivered = 0;
    for (const RowBatch& batch : batches) pool_rows += batch.rows();
    double begin = Ms();
    Writer writer{"shop", 1, "table:orders"};
    for (size_t i = 0; !stop; ++i) {
      RowBatch& batch = batches[i % batches.size()];
      if (i >= batches.size())
        for (Chunk& chunk : batch.chunks) {
          auto* offsets = static_cast<int64_t*>(chunk.data(static_cast<uint32_t>(batch.Find("_offset"))));
          for (uint32_t r = 0; r < chunk.rows(); ++r) offsets[r] += static_cast<int64_t>(pool_rows);
        }
      batch.partition = static_cast<uint32_t>(partition);
      batch.first_offset = delivered, batch.next_offset = delivered += batch.rows();
      double sent = Ms();
      // An append table shares the rows with whoever delivers them: these change, so it gets copies.
      RowBatch copy;
      if (settings.mode == "append") {
        copy.columns = batch.columns, copy.visible = batch.visible, copy.partition = batch.partition;
        copy.first_offset = batch.first_offset, copy.next_offset = batch.next_offset;
        copy.chunks = SelectRows(batch, [](uint64_t) { return true; });
      }
      Surely(writer, settings.mode == "append" ? copy : batch);
      latencies.push_back(Ms() - sent);
      delivered_rows += batch.rows();
      if (settings.rows_a_second > 0) {
        double due =
            begin + static_cast<double>(delivered) * 2 * 1000.0 / static_cast<double>(settings.rows_a_second);
        if (due > Ms())
          std::this_thread::sleep_for(std::chrono::microseconds(static_cast<int64_t>((due - Ms()) * 1000)));
      }
    }
  }

  void LookUp(std::vector<double>& latencies, std::vector<double>& cpu_ms) {
    NameThread("look-ups");
    auto connection = std::move(*database->Connect());
    SeededRandom random(9);
    while (!stop && settings.mode != "append") {
      double begin = Ms(), cpu = ThreadCpuMs();
      auto found =
          store->Lookup(*connection, "orders", {fmt::format("order-{:09}", random.Below(settings.keys))});
      if (!found) fmt::print("{}\n", found.error().ToString());
      latencies.push_back(Ms() - begin);
      cpu_ms.push_back(ThreadCpuMs() - cpu);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

  void Run(const std::string& folder) {
    DatabaseOptions options;
    options.memory_bytes = 2ull << 30, options.temp_directory = folder + "/spill";
    database = std::move(*Database::Open(folder + "/tables.db", options));
    store = std::move(*TableStore::Open(*database, clock));
    auto connection = std::move(*database->Connect());
    std::vector<RowBatch> pools[2];
    for (int p = 0; p < 2; ++p)
      pools[p] = Batches(*connection,
                         Select(fmt::format("hash(i + {}) % {}", p * 77'777'777, settings.keys), 1'000'000,
                                settings.keys, p),
                         settings.batch_rows, p);
    std::vector<ColumnInfo> visible(pools[0][0].columns.begin(), pools[0][0].columns.begin() + 5);
    Status status = store->Ensure(Spec(), visible);
    if (!status.ok()) fmt::print("{}\n", status.ToString());
    fmt::print("{} {} keys, batches of {}\n", settings.mode, settings.keys, settings.batch_rows);
    if (settings.mode != "append") Fill(*connection);
    auto before = store->counters();
    double cpu = CpuSeconds(), begin = Ms();
    std::vector<double> latencies[2], lookups, lookups_cpu;
    std::vector<std::thread> threads;
    for (int p = 0; p < 2; ++p) threads.emplace_back([&, p] { Deliver(p, pools[p], latencies[p]); });
    threads.emplace_back([&] { LookUp(lookups, lookups_cpu); });
    std::this_thread::sleep_for(std::chrono::seconds(settings.seconds));
    stop = true;
    for (auto& thread : threads) thread.join();
    double delivered = (Ms() - begin) / 1000;
    uint64_t left = store->Find("orders")->delta_rows;
    status = store->FoldAll();
    double all = (Ms() - begin) / 1000;
    auto after = store->counters();
    cpu = CpuSeconds() - cpu;
    latencies[0].insert(latencies[0].end(), latencies[1].begin(), latencies[1].end());
    fmt::print(
        "  {:.0f} rows/s delivered, {:.0f} rows/s with the last fold ({} rows left, {:.1f} s); {} folds of "
        "{} "
        "rows, {} deliveries; {:.2f} cores, {:.0f} ns of CPU a row\n",
        delivered_rows / delivered, delivered_rows / all, left, all - delivered, after.folds - before.folds,
        after.folded_rows - before.folded_rows, after.deliveries - before.deliveries, cpu / all,
        cpu * 1e9 / static_cast<double>(delivered_rows));
    Print("delivery", latencies[0]);
    Print("look-up", lookups);
    Print("look-up, CPU only", lookups_cpu);
    if (!status.ok()) fmt::print("{}\n", status.ToString());
    begin = Ms();
    auto count = TextRows(*connection, "SELECT count(*) FROM orders");
    fmt::print("  count(*) of the view {} in {:.0f} ms\n", count ? (*count)[0][0] : count.error().ToString(),
               Ms() - begin);
    begin = Ms();
    store.reset(), connection.reset(), database.reset();
    fmt::print("  closed in {:.0f} ms, file {} MiB\n", Ms() - begin,
               std::filesystem::file_size(folder + "/tables.db") >> 20);
  }
};

}  // namespace
}  // namespace millstream

int main(int argc, char** argv) {
  if (argc < 4) {
    fmt::print("tables_bench append|upsert|across|aggregate KEYS SECONDS [ROWS_A_BATCH [ROWS_A_SECOND]]\n");
    return 2;
  }
  millstream::Bench bench;
  bench.settings.mode = argv[1];
  bench.settings.keys = std::strtoull(argv[2], nullptr, 10);
  bench.settings.seconds = std::atoi(argv[3]);
  if (argc > 4) bench.settings.batch_rows = std::strtoull(argv[4], nullptr, 10);
  if (argc > 5) bench.settings.rows_a_second = std::strtoull(argv[5], nullptr, 10);
  std::string folder = (std::filesystem::temp_directory_path() / "tables_bench_XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return 1;
  bench.Run(folder);
  std::filesystem::remove_all(folder);
  return 0;
}
