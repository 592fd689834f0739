// What lies around a simulated process: events whose fate is known beforehand, filters that give it to them,
// and sinks that keep what a process has put out when the process is gone.
//
// Place: floor 5, tests of pipeline/ only. One thread. At named moments the filters and the sinks call `at`,
// where the simulator lets something else happen: so the steps of what would be several threads interleave.
#pragma once

#include <charconv>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "pipeline/pipeline_runner.h"
#include "sql/chunk_for_test.h"
#include "stage/make_kind.h"

namespace millstream {

/// What becomes of a sink's rows and offset when the process ends.
enum class Keeping : uint8_t {
  kExact,    // both stay: a database elsewhere, in one transaction
  kTable,    // both go back to the last checkpoint
  kPrinted,  // rows stay, the offset goes back to the last checkpoint: rows come again
};

/// What a version's filters and a sink make of an event, told from its number alone.
struct Fate {
  bool is_letter = false;  // a dead letter, and no rows
  bool of_filter = false;  // the filter's
  bool at_sight = false;   // the sink's, which tells it without an attempt; else it chokes on it
  uint32_t rows = 0;
};

inline Fate FateOf(uint64_t version, Keeping keeping, uint64_t n) {
  Fate fate;
  fate.of_filter = (n + version) % 11 == 0;
  fate.rows = (3 * n + version) % 4 == 0 ? 0 : (n + version) % 5 == 0 ? 2 : 1;
  fate.at_sight = keeping == Keeping::kExact && n % 13 == 3;
  const bool chokes = keeping == Keeping::kTable && n % 17 == 5;
  fate.is_letter = fate.of_filter || (fate.rows > 0 && (fate.at_sight || chokes));
  return fate;
}

/// The number that an event's text names.
inline uint64_t NumberOf(std::string_view text) {
  uint64_t number = UINT64_MAX;
  size_t at = text.find("\"n\":");
  if (at != std::string_view::npos) std::from_chars(text.data() + at + 4, text.data() + text.size(), number);
  return number;
}

/// The version whose filters these are: "SELECT 7 FROM input".
inline uint64_t VersionOf(const PipelineConfig& pipeline) {
  uint64_t version = 0;
  const std::string& sql = pipeline.filters.at(0).sql;
  std::from_chars(sql.data() + sql.find(' ') + 1, sql.data() + sql.size(), version);
  return version;
}

/// When something else may happen.
enum class Moment : uint8_t { kNever, kFiltering, kDelivering, kDelivered, kHeld, kSealed };

class Outside {
 public:
  struct Row {
    uint32_t partition = 0;
    uint64_t offset = 0;
    int64_t ordinal = 0;
    uint64_t version = 0, n = 0;
  };
  struct Target {
    Keeping keeping = Keeping::kExact;
    std::map<uint32_t, uint64_t> next, durable_next;
    std::vector<Row> rows;
    size_t durable_rows = 0;
    // Troubles to come: Open fails; Deliver fails, before and after its effect.
    uint32_t away = 0, refuses = 0, loses_answers = 0;

    void Checkpoint() { durable_next = next, durable_rows = rows.size(); }
  };

  Outside() {
    targets["exact"].keeping = Keeping::kExact;
    targets["table"].keeping = Keeping::kTable;
    targets["printed"].keeping = Keeping::kPrinted;
  }
  /// The process has ended.
  void LoseProcess() {
    for (auto& [name, target] : targets) {
      if (target.keeping == Keeping::kExact) continue;
      target.next = target.durable_next;
      if (target.keeping == Keeping::kTable) target.rows.resize(target.durable_rows);
    }
  }
  void Heal() {
    for (auto& [name, target] : targets) target.away = target.refuses = target.loses_answers = 0;
  }

  std::map<std::string, Target> targets;
  std::function<void(Moment)> at;
  std::function<bool()> is_dead;  // nothing that the process still does has an effect
  bool doubles = false;           // a planted fault: what comes again is kept again
};

/// The columns of all rows.
inline std::vector<ColumnInfo> SimulatedColumns() {
  return {{"n", "BIGINT"},
          {"v", "BIGINT"},
          {"_partition", "BIGINT"},
          {"_offset", "BIGINT"},
          {"_ordinal", "BIGINT"}};
}

class SimulatedFilters final : public PipelineRunner {
 public:
  SimulatedFilters(Outside& outside, uint64_t version) : outside_(outside), version_(version) {
    columns_ = SimulatedColumns();
    visible_ = 2;
    counts_.resize(1);
  }
  Result<RowBatch> Run(std::span<const BatchRange> ranges, std::stop_token stop) override {
    outside_.at(Moment::kFiltering);
    // Who is asked to stop may have come to its end just then.
    const uint64_t first = ranges.front().batch->place().base_offset + ranges.front().begin;
    if (stop.stop_requested() && first % 2 == 1) return Fail(Deadline("interrupted"));
    std::vector<std::vector<int64_t>> values;
    for (const BatchRange& range : ranges) {
      ASSIGN_OR_FAIL(const Column* data, range.batch->Data());
      for (uint32_t row = range.begin; row < range.end; ++row) {
        const uint64_t n = NumberOf(data->String(row));
        const Fate fate = FateOf(version_, Keeping::kPrinted, n);
        if (fate.of_filter) return Fail(Invalid("version {} does not take {}", version_, n));
        const BatchPlace& place = range.batch->place();
        for (uint32_t ordinal = 0; ordinal < fate.rows; ++ordinal)
          values.push_back({static_cast<int64_t>(n), static_cast<int64_t>(version_), place.partition,
                            static_cast<int64_t>(place.base_offset + row), ordinal});
      }
    }
    counts_[0] += values.size();
    RowBatch rows;
    rows.columns = columns_, rows.visible = visible_;
    if (!values.empty()) rows.chunks.push_back(BigintChunk(columns_.size(), values));
    return rows;
  }
  void Interrupt() override {}
  Blame FindBlame(const BatchRange&, std::stop_token) override { return {"f", "sql", "not taken"}; }

 private:
  Outside& outside_;
  const uint64_t version_;
};

class SimulatedSink final : public Sink {
 public:
  SimulatedSink(Outside& outside, Outside::Target& target) : outside_(outside), target_(target) {}

  Result<std::map<uint32_t, uint64_t>> Open() override {
    if (outside_.is_dead()) return Fail(Unavailable("nobody is there"));
    if (target_.away > 0) return --target_.away, Fail(Unavailable("away"));
    return target_.next;
  }
  Status SetColumns(const std::vector<ColumnInfo>&, uint32_t) override { return OkStatus(); }
  std::vector<RefusedEvent> Refuse(const RowBatch& rows) const override {
    std::vector<RefusedEvent> refused;
    for (const Outside::Row& row : RowsOf(rows))
      if (FateOf(row.version, target_.keeping, row.n).at_sight) refused.push_back({row.offset, "not taken"});
    return refused;
  }
  Status Deliver(const RowBatch& batch) override {
    outside_.at(Moment::kDelivering);
    if (outside_.is_dead()) return Unavailable("nobody is there");
    if (target_.refuses > 0) return --target_.refuses, Unavailable("not now");
    std::vector<Outside::Row> rows = RowsOf(batch);
    for (const Outside::Row& row : rows)
      if (FateOf(row.version, target_.keeping, row.n).is_letter) return Invalid("choked on {}", row.n);
    uint64_t& next = target_.next[batch.partition];
    for (const Outside::Row& row : rows) {
      // Its answer was lost, and so it comes again.
      const bool is_known = target_.keeping != Keeping::kPrinted && row.offset < next && !outside_.doubles;
      if (!is_known) target_.rows.push_back(row);
    }
    next = std::max(next, batch.next_offset);
    outside_.at(Moment::kDelivered);
    if (target_.loses_answers > 0) return --target_.loses_answers, Unavailable("the answer was lost");
    return OkStatus();
  }
  std::optional<uint64_t> DurableOffset(uint32_t partition) override {
    if (target_.keeping == Keeping::kExact) return std::nullopt;
    auto found = target_.durable_next.find(partition);
    return found == target_.durable_next.end() ? 0 : found->second;
  }
  bool remote() const override { return target_.keeping == Keeping::kExact; }
  Status Close() override {
    if (!outside_.is_dead()) target_.Checkpoint();
    return OkStatus();
  }

 private:
  static std::vector<Outside::Row> RowsOf(const RowBatch& batch) {
    std::vector<Outside::Row> rows;
    for (const Chunk& chunk : batch.chunks)
      for (uint32_t i = 0; i < chunk.rows(); ++i)
        rows.push_back({static_cast<uint32_t>(chunk.Int64(2, i)), static_cast<uint64_t>(chunk.Int64(3, i)),
                        chunk.Int64(4, i), static_cast<uint64_t>(chunk.Int64(1, i)),
                        static_cast<uint64_t>(chunk.Int64(0, i))});
    return rows;
  }

  Outside& outside_;
  Outside::Target& target_;
};

struct SimulatedSinkOptions {
  std::string name;
};

/// `- model: NAME`, a target of `outside`.
inline SinkKind SimulatedSinkKind(Outside& outside) {
  Spec<SimulatedSinkOptions> spec("model", "Keeps rows in memory.");
  spec.Field("name", &SimulatedSinkOptions::name, "which").Required().Main();
  return MakeSinkKind(
      spec, [](const SimulatedSinkOptions& options) { return options.name; },
      [&outside](SimulatedSinkOptions options, const SinkContext&) -> Result<std::unique_ptr<Sink>> {
        return std::make_unique<SimulatedSink>(outside, outside.targets.at(options.name));
      });
}

}  // namespace millstream
