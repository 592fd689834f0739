#include "tables/test_rows.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "tables/table_sql.h"

namespace millstream {
namespace {

std::string Money(int64_t cents) {
  return fmt::format("{}{}.{:02}", cents < 0 ? "-" : "", std::abs(cents) / 100, std::abs(cents) % 100);
}

}  // namespace

std::vector<ColumnInfo> TestColumns(bool reserved) {
  std::vector<ColumnInfo> columns = {
      {"id", "VARCHAR"}, {"city", "VARCHAR"}, {"gross", "DECIMAL(12,2)"}, {"version", "BIGINT"}};
  if (reserved)
    columns.insert(columns.end(), {{"_op", "VARCHAR"},
                                   {"_ingested_at", "TIMESTAMP WITH TIME ZONE"},
                                   {"_partition", "INTEGER"},
                                   {"_offset", "BIGINT"},
                                   {"_ordinal", "INTEGER"}});
  return columns;
}

RowBatch MakeBatch(Connection& connection, const std::vector<TestRow>& rows, uint32_t partition) {
  RowBatch batch;
  batch.stream = "orders", batch.partition = partition;
  batch.columns = TestColumns(true), batch.visible = 4;
  std::string values;
  for (const TestRow& row : rows) {
    values += fmt::format("{}('{}', {}, {}, {}, '{}', {}, {}, {}, {})", values.empty() ? "" : ", ", row.id,
                          row.city_is_null ? "NULL" : "'" + row.city + "'", Money(row.cents), row.version,
                          row.deleted   ? "d"
                          : row.changed ? "u"
                                        : "c",
                          row.ingested_us, row.partition, row.offset, row.ordinal);
    batch.next_offset = std::max(batch.next_offset, row.offset + 1);
  }
  batch.events = rows.size();
  if (rows.empty()) return batch;
  Result<Rows> made = connection.Query(
      "SELECT i::VARCHAR, c::VARCHAR, g::DECIMAL(12,2), v::BIGINT, o::VARCHAR, make_timestamptz(t::BIGINT), "
      "p::INTEGER, f::BIGINT, n::INTEGER FROM (VALUES " +
      values + ") x(i, c, g, v, o, t, p, f, n)");
  if (!made) fmt::print(stderr, "{}\n", made.error().ToString());
  CHECK(made.has_value());
  while (auto chunk = *made->Next()) batch.chunks.push_back(std::move(*chunk));
  return batch;
}

TestStore::TestStore(std::string folder, uint64_t memory_bytes)
    : folder_(std::move(folder)), memory_bytes_(memory_bytes), own_folder_(folder_.empty()) {
  if (own_folder_) {
    std::string pattern = (std::filesystem::temp_directory_path() / "tables_test_XXXXXX").string();
    CHECK(mkdtemp(pattern.data()) != nullptr);
    folder_ = pattern;
  }
  Open();
}

TestStore::~TestStore() {
  Close();
  if (own_folder_) std::filesystem::remove_all(folder_);
}

void TestStore::Open() {
  DatabaseOptions options;
  options.memory_bytes = memory_bytes_;
  options.temp_directory = folder_ + "/spill";
  auto database = Database::Open(folder_ + "/tables.db", options);
  if (!database) fmt::print(stderr, "{}\n", database.error().ToString());
  CHECK(database.has_value());
  database_ = std::move(*database);
  connection_ = std::move(*database_->Connect());
  auto store = TableStore::Open(*database_, clock_);
  if (!store) fmt::print(stderr, "{}\n", store.error().ToString());
  CHECK(store.has_value());
  store_ = std::move(*store);
}

void TestStore::Close() { store_.reset(), connection_.reset(), database_.reset(); }

std::vector<std::string> TestStore::Lines(Connection& connection, const std::string& sql) {
  auto rows = TextRows(connection, sql);
  if (!rows) return {rows.error().ToString()};
  std::vector<std::string> lines;
  for (const auto& row : *rows) {
    std::string line;
    for (const std::string& value : row) line += (line.empty() ? "" : "|") + value;
    lines.push_back(std::move(line));
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

std::string TestStore::One(Connection& connection, const std::string& sql) {
  std::vector<std::string> lines = Lines(connection, sql);
  return lines.empty() ? "nothing" : lines[0];
}

TableSpec SpecOf(Mode mode) {
  TableSpec spec;
  spec.name = "orders";
  if (mode != Mode::kAppend) spec.key = {"id"};
  spec.key_in_one_partition = mode == Mode::kAppend || mode == Mode::kUpsert;
  if (mode == Mode::kUpsertOrdered) spec.order_by = {"version"};
  if (mode == Mode::kAggregate) {
    spec.key_in_one_partition = true;
    spec.values = {{"n", "count(*)"},     {"cities", "count(city)"}, {"total", "sum(gross)"},
                   {"low", "min(gross)"}, {"high", "max(gross)"},    {"last_city", "last(city)"}};
  }
  return spec;
}

void Oracle::Add(const TestRow& row, const std::string& pipeline) {
  if (mode_ == Mode::kAppend) {
    all_.push_back(row);
    return;
  }
  if (mode_ == Mode::kAggregate) {
    Sum& sum = sums_[row.id];
    sum.low = sum.n == 0 ? row.cents : std::min(sum.low, row.cents);
    sum.high = sum.n == 0 ? row.cents : std::max(sum.high, row.cents);
    ++sum.n, sum.cities += !row.city_is_null, sum.cents += row.cents;
    if (std::tuple at(row.offset, row.ordinal); sum.n == 1 || at > sum.newest)
      sum.newest = at, sum.last = row.city_is_null ? "" : row.city;
    return;
  }
  bool across = mode_ != Mode::kUpsert;
  Order order{mode_ == Mode::kUpsertOrdered ? row.version : 0,
              across ? row.ingested_us : 0,
              across ? PipelineNumber(pipeline) : 0,
              across ? row.partition : 0,
              row.offset,
              row.ordinal};
  auto found = newest_.find(row.id);
  if (found == newest_.end())
    newest_.emplace(row.id, std::pair(order, row));
  else if (order > found->second.first)
    found->second = {order, row};
}

std::string Oracle::Query(const std::string& table) const {
  if (mode_ == Mode::kAppend) return "SELECT id, city, gross, version, _offset FROM " + table;
  if (mode_ == Mode::kAggregate) return "SELECT id, n, cities, total, low, high, last_city FROM " + table;
  return "SELECT id, city, gross, version, _offset FROM " + table;
}

std::vector<std::string> Oracle::Lines() const {
  std::vector<std::string> lines;
  auto line = [](const TestRow& row) {
    return fmt::format("{}|{}|{}|{}|{}", row.id, row.city_is_null ? "" : row.city, Money(row.cents),
                       row.version, row.offset);
  };
  for (const TestRow& row : all_) lines.push_back(line(row));
  for (const auto& [id, entry] : newest_)
    if (!entry.second.deleted) lines.push_back(line(entry.second));
  for (const auto& [id, sum] : sums_)
    lines.push_back(fmt::format("{}|{}|{}|{}|{}|{}|{}", id, sum.n, sum.cities, Money(sum.cents),
                                Money(sum.low), Money(sum.high), sum.last));
  std::sort(lines.begin(), lines.end());
  return lines;
}

std::vector<TestRow> RandomRows(Random& random, Mode mode, uint32_t partition, uint64_t first_offset,
                                size_t count, uint64_t keys) {
  std::vector<TestRow> rows;
  uint64_t offset = first_offset;
  for (size_t i = 0; i < count; ++i) {
    TestRow row;
    uint64_t key = random.Below(keys);
    bool across = mode == Mode::kUpsertAcross || mode == Mode::kUpsertOrdered;
    // Where a key lives in one partition, partitions share no key.
    row.id = fmt::format("k{:06}", across ? key : key * 8 + partition);
    row.city = fmt::format("city{}", random.Below(20));
    row.city_is_null = random.Below(9) == 0;
    row.cents = static_cast<int64_t>(random.Below(1'000'000)) - 500'000;
    row.version = static_cast<int64_t>(random.Below(1000));
    row.deleted = (across || mode == Mode::kUpsert) && random.Below(6) == 0;
    row.ingested_us = 1'700'000'000'000'000 + static_cast<int64_t>(random.Below(5000));
    row.partition = partition;
    // Several rows of one event now and then.
    if (i > 0 && random.Below(5) == 0)
      row.offset = rows.back().offset, row.ordinal = rows.back().ordinal + 1;
    else
      row.offset = offset++;
    rows.push_back(row);
  }
  return rows;
}

}  // namespace millstream
