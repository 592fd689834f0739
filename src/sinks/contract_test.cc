#include "sinks/contract_test.h"

#include <gtest/gtest.h>

namespace millstream {
namespace {

constexpr const char* kVisible = "'row ' || i AS name, {p} AS p, i AS o";

std::string VisibleOf(uint32_t partition) {
  std::string visible = kVisible;
  return visible.replace(visible.find("{p}"), 3, std::to_string(partition));
}

/// One run of a sink from Open to Close, or to a kill.
class Session {
 public:
  Session(const SinkUnderTest& under_test, RowMaker& maker) : maker_(maker) {
    auto made = under_test.make();
    EXPECT_TRUE(made) << made.error().ToString();
    sink_ = std::move(*made);
    auto opened = sink_->Open();
    EXPECT_TRUE(opened) << opened.error().ToString();
    if (opened) offsets_ = *opened;
    RowBatch rows = maker_.Make(0, 0, 1, VisibleOf(0), sink_->WantedColumns());
    Status status = sink_->SetColumns(rows.columns, rows.visible);
    EXPECT_TRUE(status.ok()) << status.ToString();
  }
  const std::map<uint32_t, uint64_t>& offsets() const { return offsets_; }
  void Deliver(uint32_t partition, uint64_t first, uint64_t next) {
    Status status =
        sink_->Deliver(maker_.Make(partition, first, next, VisibleOf(partition), sink_->WantedColumns()));
    EXPECT_TRUE(status.ok()) << status.ToString();
  }
  void DeliverNothing(uint32_t partition, uint64_t first, uint64_t next) {
    Status status = sink_->Deliver(maker_.MakeEmpty(partition, first, next));
    EXPECT_TRUE(status.ok()) << status.ToString();
  }
  uint64_t Durable(uint32_t partition) {
    return sink_->DurableOffset(partition).value_or(offsets_[partition]);
  }
  void Close() { EXPECT_TRUE(sink_->Close().ok()); }

 private:
  RowMaker& maker_;
  std::unique_ptr<Sink> sink_;
  std::map<uint32_t, uint64_t> offsets_;
};

/// What a reader must see once the rows of [0, next) of each partition are delivered.
void ExpectRows(const SinkUnderTest& under_test, const std::map<uint32_t, uint64_t>& next) {
  if (!under_test.rows) return;
  std::vector<std::string> expected, actual = under_test.rows();
  for (auto [partition, end] : next)
    for (uint64_t offset : RowOffsets(0, end)) expected.push_back(fmt::format("{}:{}", partition, offset));
  std::sort(expected.begin(), expected.end());
  std::sort(actual.begin(), actual.end());
  if (!under_test.exactly_once) actual.erase(std::unique(actual.begin(), actual.end()), actual.end());
  EXPECT_EQ(actual, expected);
}

}  // namespace

RowMaker::RowMaker() {
  auto database = Database::Open("", {});
  EXPECT_TRUE(database) << database.error().ToString();
  database_ = std::move(*database);
  connection_ = std::move(*database_->Connect());
}

RowBatch RowMaker::Make(uint32_t partition, uint64_t first, uint64_t next, const std::string& visible,
                        const std::vector<std::string>& wanted) {
  static const std::map<std::string, std::string> kReserved = {
      {"data", "'{}'::JSON"},   {"ce_id", "'e' || i"},       {"ce_source", "'source'"},
      {"ce_type", "'type'"},    {"ce_subject", "'subject'"}, {"ce_time", "to_timestamp(1000 + i)"},
      {"_op", "NULL::VARCHAR"}, {"_key", "NULL::VARCHAR"},   {"_ingested_at", "to_timestamp(2000 + i)"}};
  std::string sql = "SELECT " + visible;
  for (const std::string& name : wanted) sql += fmt::format(", {} AS {}", kReserved.at(name), name);
  sql += fmt::format(
      ", {}::INTEGER AS _partition, i AS _offset, 0::INTEGER AS _ordinal FROM range({}, {}) t(i) "
      "WHERE i % 3 <> 2",
      partition, first, next);
  RowBatch rows = Run(partition, first, next, sql);
  rows.visible = static_cast<uint32_t>(rows.columns.size() - wanted.size() - 3);
  return rows;
}

RowBatch RowMaker::MakeEmpty(uint32_t partition, uint64_t first, uint64_t next) {
  RowBatch rows;
  rows.stream = "orders";
  rows.partition = partition;
  rows.epoch = 1;
  rows.first_offset = first;
  rows.next_offset = next;
  rows.events = next - first;
  return rows;
}

RowBatch RowMaker::Run(uint32_t partition, uint64_t first, uint64_t next, const std::string& sql) {
  RowBatch rows = MakeEmpty(partition, first, next);
  auto result = connection_->Query(sql);
  EXPECT_TRUE(result) << result.error().ToString() << "\n" << sql;
  rows.columns = result->columns();
  for (;;) {
    auto chunk = result->Next();
    EXPECT_TRUE(chunk) << chunk.error().ToString();
    if (!chunk || !*chunk) break;
    rows.chunks.push_back(std::move(**chunk));
  }
  return rows;
}

std::vector<uint64_t> RowOffsets(uint64_t first, uint64_t next) {
  std::vector<uint64_t> offsets;
  for (uint64_t offset = first; offset < next; ++offset)
    if (offset % 3 != 2) offsets.push_back(offset);
  return offsets;
}

void CheckSinkContract(const SinkUnderTest& under_test) {
  RowMaker maker;
  {
    SCOPED_TRACE("a new sink knows nothing; each partition goes forward by itself");
    Session session(under_test, maker);
    EXPECT_TRUE(session.offsets().empty());
    session.Deliver(0, 0, 11);
    session.Deliver(1, 0, 5);
    ExpectRows(under_test, {{0, 11}, {1, 5}});
    session.DeliverNothing(0, 11, 12);  // the filter lets 2 modulo 3 not pass
    session.DeliverNothing(2, 0, 7);
    session.Close();
  }
  {
    SCOPED_TRACE(
        "stored offsets are found again, those of empty batches too; what is stored is not taken twice");
    Session session(under_test, maker);
    EXPECT_EQ(session.offsets(), (std::map<uint32_t, uint64_t>{{0, 12}, {1, 5}, {2, 7}}));
    if (under_test.skips_stored) {
      session.Deliver(0, 0, 11);
      session.DeliverNothing(0, 11, 12);
    }
    // A batch may be cut anew after a crash: only what lies above the offset counts.
    session.Deliver(1, under_test.skips_stored ? 3 : 5, 9);
    session.Close();
    ExpectRows(under_test, {{0, 12}, {1, 9}});
  }
  {
    SCOPED_TRACE("a delivery that was repeated has not moved the offset back");
    Session session(under_test, maker);
    EXPECT_EQ(session.offsets(), (std::map<uint32_t, uint64_t>{{0, 12}, {1, 9}, {2, 7}}));
    session.Deliver(0, 12, 16);
    uint64_t durable = session.Durable(0);
    EXPECT_LE(durable, 16u);
    // Killed: no Close.
  }
  {
    SCOPED_TRACE("after a kill it goes on from what it has stored");
    Session session(under_test, maker);
    uint64_t stored = session.offsets().at(0);
    EXPECT_LE(stored, 16u);
    EXPECT_GE(stored, 12u);
    if (under_test.exactly_once) {
      EXPECT_EQ(stored, 16u);
    }
    session.Deliver(0, stored, 20);
    session.Close();
    ExpectRows(under_test, {{0, 20}, {1, 9}});
  }
}

Node OptionsOf(const std::string& yaml) {
  Faults faults;
  Node node = ParseYaml(yaml, "test.yaml", faults);
  EXPECT_TRUE(faults.empty()) << faults.front().ToString();
  return node;
}

SinkContext ContextOf(FileSystem& fs, Clock& clock, const std::string& id) {
  SinkContext context;
  context.pipeline = "p";
  context.generation = 1;
  context.id = id;
  context.stream = "orders";
  context.partitions = 3;
  context.project_directory = "/project";
  context.data_directory = "/project/.millstream";
  context.fs = &fs;
  context.clock = &clock;
  return context;
}

}  // namespace millstream
