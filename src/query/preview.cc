#include "query/preview.h"

#include "base/text.h"
#include "catalog/edit.h"
#include "catalog/trial.h"
#include "query/past_limit.h"
#include "query/past_tables.h"
#include "query/system_tables.h"

namespace millstream {
namespace {

constexpr uint64_t kPreviewMemory = 512ull << 20;
constexpr uint64_t kOldGeneration = 1, kNewGeneration = 2;  // tell the letters of the two runs apart

bool IsPlace(const std::string& name) { return name == "_partition" || name == "_offset"; }

/// Two tables of the same pipeline, the old filters' and the new ones'.
class Comparison {
 public:
  Comparison(Connection& connection, const TableInfo& before, const TableInfo& after, uint64_t rows)
      : connection_(connection), before_(before), after_(after), limit_(rows), key_(after.spec.key) {
    for (const ColumnInfo& column : after.columns) {
      const ColumnInfo* other = Find(before, column.name);
      if (other == nullptr || other->type != column.type)
        added_columns_.push_back(column.name);
      else if (!IsPlace(column.name))
        common_.push_back(column.name);
    }
    for (const ColumnInfo& column : before.columns) {
      const ColumnInfo* other = Find(after, column.name);
      if (other == nullptr || other->type != column.type) removed_columns_.push_back(column.name);
    }
    if (key_.empty()) key_ = {"_partition", "_offset", "_row"};
  }

  /// True in `same` stays only if nothing differs.
  Status Append(std::string& out, const std::string& table, bool& same) {
    std::string body;
    RETURN_IF_ERROR(AppendOneSided(body, "added", "after", "before", after_, same));
    RETURN_IF_ERROR(AppendOneSided(body, "removed", "before", "after", before_, same));
    RETURN_IF_ERROR(AppendChanged(body, same));
    if (!added_columns_.empty() || !removed_columns_.empty()) same = false;
    out += "{\"table\":";
    AppendJsonString(out, table);
    out += ",\"key\":";
    AppendJsonStrings(out, after_.spec.key);
    out += body + ",\"columns_added\":";
    AppendJsonStrings(out, added_columns_);
    out += ",\"columns_removed\":";
    AppendJsonStrings(out, removed_columns_);
    out += '}';
    return OkStatus();
  }

 private:
  static const ColumnInfo* Find(const TableInfo& table, const std::string& name) {
    for (const ColumnInfo& column : table.columns)
      if (column.name == name) return &column;
    return nullptr;
  }

  /// Rows of an append table are known by their event and their number in it.
  std::string Sources() const {
    auto source = [&](const char* name, const TableInfo& table) {
      std::string row = before_.spec.key.empty() && after_.spec.key.empty()
                            ? ", row_number() OVER (PARTITION BY _partition, _offset) AS _row"
                            : "";
      return fmt::format("{} AS (SELECT *{} FROM {})", name, row, SqlIdentifier(table.spec.name));
    };
    return fmt::format("WITH {}, {} ", source("before", before_), source("after", after_));
  }
  std::string SameKey() const {
    std::string on;
    for (const std::string& column : key_)
      on += fmt::format("{}a.{} IS NOT DISTINCT FROM b.{}", on.empty() ? "" : " AND ", SqlIdentifier(column),
                        SqlIdentifier(column));
    return on;
  }
  std::string Ordered(std::string_view from) const {
    std::string order;
    for (const std::string& column : key_)
      order += fmt::format("{}{}.{}", order.empty() ? " ORDER BY " : ", ", from, SqlIdentifier(column));
    return order + fmt::format(" LIMIT {}", limit_);
  }

  Result<std::vector<uint64_t>> Counts(const std::string& sql, size_t columns) {
    ASSIGN_OR_FAIL(Rows rows, connection_.Query(sql));
    ASSIGN_OR_FAIL(std::optional<Chunk> chunk, rows.Next());
    std::vector<uint64_t> counts(columns);
    for (uint32_t i = 0; chunk && i < columns; ++i) counts[i] = static_cast<uint64_t>(chunk->Int64(i, 0));
    return counts;
  }

  Status AppendOneSided(std::string& out, const char* name, const char* has, const char* lacks,
                        const TableInfo& table, bool& same) {
    std::string from = fmt::format("{} a ANTI JOIN {} b ON {}", has, lacks, SameKey());
    ASSIGN_OR_RETURN(std::vector<uint64_t> count, Counts(Sources() + "SELECT count(*) FROM " + from, 1));
    if (count[0] > 0) same = false;
    std::string list;
    for (const ColumnInfo& column : table.columns)
      list += (list.empty() ? "a." : ", a.") + SqlIdentifier(column.name);
    ASSIGN_OR_RETURN(Rows rows,
                     connection_.Query(Sources() + "SELECT " + list + " FROM " + from + Ordered("a")));
    JsonWriter writer = rows.MakeJsonWriter();
    out += fmt::format(",\"{}\":{{\"count\":{},\"rows\":[", name, count[0]);
    while (true) {
      ASSIGN_OR_RETURN(std::optional<Chunk> chunk, rows.Next());
      if (!chunk) break;
      if (chunk->rows() == 0) continue;
      if (!out.ends_with('[')) out += ',';
      writer.AppendObjects(out, *chunk, rows.columns(), static_cast<uint32_t>(rows.columns().size()), ",");
    }
    out += "]}";
    return OkStatus();
  }

  Status AppendChanged(std::string& out, bool& same) {
    std::vector<std::string> values;
    for (const std::string& column : common_)
      if (std::find(key_.begin(), key_.end(), column) == key_.end()) values.push_back(column);
    auto differs = [](const std::string& column) {
      return fmt::format("(a.{0} IS DISTINCT FROM b.{0})", SqlIdentifier(column));
    };
    out += ",\"changed\":{\"count\":";
    if (values.empty()) return out += "0,\"columns\":{},\"rows\":[]}", OkStatus();
    std::string any, counts, list;
    for (const std::string& column : values) {
      any += (any.empty() ? "" : " OR ") + differs(column);
      counts += ", count(*) FILTER (" + differs(column) + ")";
    }
    std::string from = fmt::format(" FROM before a JOIN after b ON {} WHERE {}", SameKey(), any);
    ASSIGN_OR_RETURN(std::vector<uint64_t> found,
                     Counts(Sources() + "SELECT count(*)" + counts + from, values.size() + 1));
    if (found[0] > 0) same = false;
    out += fmt::format("{},\"columns\":{{", found[0]);
    for (size_t i = 0; i < values.size(); ++i) {
      if (found[i + 1] == 0) continue;
      if (!out.ends_with('{')) out += ',';
      AppendJsonString(out, values[i]);
      out += fmt::format(":{}", found[i + 1]);
    }
    out += "},\"rows\":[";
    for (const std::string& column : key_) list += (list.empty() ? "a." : ", a.") + SqlIdentifier(column);
    for (const std::string& column : values)
      list += fmt::format(", a.{0}, b.{0}, {1}::BIGINT", SqlIdentifier(column), differs(column));
    ASSIGN_OR_RETURN(Rows rows, connection_.Query(Sources() + "SELECT " + list + from + Ordered("a")));
    JsonWriter writer = rows.MakeJsonWriter();
    auto keys = static_cast<uint32_t>(key_.size());
    while (true) {
      ASSIGN_OR_RETURN(std::optional<Chunk> chunk, rows.Next());
      if (!chunk) break;
      for (uint32_t row = 0; row < chunk->rows(); ++row) {
        out += out.ends_with('[') ? "{\"key\":{" : ",{\"key\":{";
        for (uint32_t i = 0; i < keys; ++i) {
          if (i > 0) out += ',';
          AppendJsonString(out, key_[i]);
          out += ':';
          writer.Append(out, *chunk, i, row);
        }
        out += "},\"columns\":{";
        for (uint32_t i = 0; i < values.size(); ++i) {
          if (chunk->Int64(keys + 3 * i + 2, row) == 0) continue;
          if (!out.ends_with('{')) out += ',';
          AppendJsonString(out, values[i]);
          out += ":{\"old\":";
          writer.Append(out, *chunk, keys + 3 * i, row);
          out += ",\"new\":";
          writer.Append(out, *chunk, keys + 3 * i + 1, row);
          out += '}';
        }
        out += "}}";
      }
    }
    out += "]}";
    return OkStatus();
  }

  Connection& connection_;
  const TableInfo &before_, &after_;
  const uint64_t limit_;
  std::vector<std::string> key_, common_, added_columns_, removed_columns_;
};

class Previewer {
 public:
  Previewer(Engine& engine, const PreviewRequest& request, PastLimit& limit)
      : engine_(engine), request_(request), limit_(limit) {}

  Result<std::string> Run() {
    FAIL_IF_ERROR(FindVersions());
    FAIL_IF_ERROR(FindRange());
    FAIL_IF_ERROR(MakeJoined());
    HistoryRun& run = past_->run();
    FAIL_IF_ERROR(run.Run({Part(old_, kOldGeneration, "old")}, limit_.token()));
    FAIL_IF_ERROR(run.Run({Part(new_, kNewGeneration, "new")}, limit_.token()));
    ASSIGN_OR_FAIL(auto connection, run.database().Connect());
    PastLimit::Watched watched(limit_, *connection);
    bool same = true;
    std::string tables;
    for (size_t i = 0; i < sinks_.size(); ++i) {
      auto before = run.tables().Find(TableName("old", i)), after = run.tables().Find(TableName("new", i));
      if (!before || !after) return Fail(Internal("a table of the preview is not there"));
      if (i > 0) tables += ',';
      FAIL_IF_ERROR(
          Comparison(*connection, *before, *after, request_.rows).Append(tables, sinks_[i].first, same));
    }
    std::string letters = Letters(same);
    std::string out = "{\"pipeline\":";
    AppendJsonString(out, request_.pipeline);
    out += ",\"from\":";
    AppendJsonString(out, Position{stream_->name(), from_}.ToString());
    out += ",\"to\":";
    AppendJsonString(out, Position{stream_->name(), to_}.ToString());
    out += fmt::format(
        ",\"events\":{},\"same\":{},\"tables\":[{}],\"dead_letters\":{},\"cost\":{{\"old_ns\":{},"
        "\"new_ns\":{}}},\"not_reproducible\":",
        events_, same, tables, letters, Cost(2), Cost(1));
    AppendJsonStrings(out, notes_);
    return out + "}";
  }

 private:
  Status FindVersions() {
    PastPipelines pipelines = engine_.PipelinesNow();
    auto found = pipelines.find(request_.pipeline);
    if (found == pipelines.end()) {
      std::vector<std::string> names;
      for (const auto& [name, past] : pipelines) names.push_back(name);
      std::string nearest = Nearest(request_.pipeline, names);
      return NotFound("no pipeline '{}'{}", request_.pipeline,
                      nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
    }
    start_ = found->second.start;
    old_ = found->second.versions.back();
    auto changed = std::make_shared<PipelineVersion>(*old_);
    for (const auto& [name, sql] : request_.set) {
      auto& filters = changed->config.filters;
      auto filter =
          std::find_if(filters.begin(), filters.end(),
                       [&, wanted = name](const FilterConfig& each) { return each.name == wanted; });
      if (filter == filters.end())
        return NotFound("pipeline '{}' has no filter '{}'", request_.pipeline, name);
      if (filter->kind != "sql") return Invalid("filter '{}' is no sql filter", name);
      filter->sql = sql;
    }
    new_ = std::move(changed);
    RETURN_IF_ERROR(Try());
    for (const SinkConfig& sink : old_->config.sinks)
      if (sink.kind == "table")
        sinks_.emplace_back(engine_.registry().sinks().at(sink.kind).target(sink.options), sink);
    if (sinks_.empty()) sinks_.emplace_back(old_->config.sinks.at(0).id, SinkConfig{});
    return OkStatus();
  }

  /// What was never bound is bound in a worker first.
  Status Try() {
    if (engine_.sql_workers() == nullptr || request_.set.empty()) return OkStatus();
    Node root = engine_.catalog().root();
    for (const auto& [name, sql] : request_.set) {
      FilterEdit edit;
      edit.pipeline = request_.pipeline, edit.filter = name, edit.value = ScalarNode(sql);
      ASSIGN_OR_RETURN(root, EditFilter(root, edit));
    }
    Faults faults;
    const Project next = ParseProject(root, engine_.project()->directory, engine_.registry(), faults);
    if (TryProject(next, *engine_.sql_workers(), faults)) return OkStatus();
    return Invalid("{}: {}", faults.back().path, faults.back().message);
  }

  Status FindRange() {
    stream_ = engine_.log().Find(old_->config.stream);
    if (stream_ == nullptr) return NotFound("no stream '{}'", old_->config.stream);
    if (!request_.since.empty()) {
      ASSIGN_OR_RETURN(from_, ResolveFrom(engine_, *stream_, request_.since));
    }
    uint64_t each = (request_.last + stream_->partitions() - 1) / stream_->partitions();
    for (uint32_t p = 0; p < stream_->partitions(); ++p) {
      Bounds bounds = stream_->partition(p).bounds();
      to_[p] = bounds.durable_end;
      uint64_t first = request_.since.empty() ? to_[p] - std::min(to_[p], each) : from_[p];
      auto begun = start_.find(p);
      from_[p] = std::min(to_[p], std::max({first, bounds.start, begun == start_.end() ? 0 : begun->second}));
      events_ += to_[p] - from_[p];
    }
    return OkStatus();
  }

  /// Tables that the filters join, and the instance that all of it runs in.
  Status MakeJoined() {
    PastRequest past;
    ASSIGN_OR_RETURN(past.as_of, ResolveAsOf(engine_, "0s"));
    past.as_now = true;
    ASSIGN_OR_RETURN(auto database, Database::Open("", {}));
    ASSIGN_OR_RETURN(auto connection, database->Connect());
    for (const auto& version : {old_, new_}) {
      for (const FilterConfig& filter : version->config.filters) {
        FilterTraits traits = TraitsOf(*connection, filter);
        for (const std::string& table : traits.tables)
          if (std::find(past.tables.begin(), past.tables.end(), table) == past.tables.end())
            past.tables.push_back(table);
        for (const std::string& trait : traits.not_reproducible) {
          std::string note = fmt::format("{}.{}: {}", request_.pipeline, filter.name, trait);
          if (std::find(notes_.begin(), notes_.end(), note) == notes_.end()) notes_.push_back(note);
        }
      }
    }
    ASSIGN_OR_RETURN(past_, PastTables::Build(engine_, past, kPreviewMemory, limit_.token()));
    return OkStatus();
  }

  static std::string TableName(const char* which, size_t index) { return fmt::format("{}_{}", which, index); }

  HistoryPart Part(const std::shared_ptr<const PipelineVersion>& version, uint64_t generation,
                   const char* which) const {
    HistoryPart part;
    part.pipeline = request_.pipeline;
    part.generation = generation;
    part.stream = stream_->name();
    part.versions = {version};
    part.from = from_;
    part.to = to_;
    for (size_t i = 0; i < sinks_.size(); ++i)
      part.sinks.push_back(RenamedSink(sinks_[i].second, TableName(which, i), true));
    return part;
  }

  /// Of the new filters those that the old ones do not have.
  std::string Letters(bool& same) const {
    std::set<std::pair<int64_t, int64_t>> old_places, new_places;
    for (const DeadLetter& letter : past_->run().letters().letters())
      if (letter.pipeline == request_.pipeline && letter.generation == kOldGeneration)
        old_places.emplace(letter.partition, letter.offset);
    std::string rows;
    uint64_t shown = 0;
    for (const DeadLetter& letter : past_->run().letters().letters()) {
      if (letter.pipeline != request_.pipeline || letter.generation != kNewGeneration ||
          !new_places.emplace(letter.partition, letter.offset).second ||
          old_places.contains({letter.partition, letter.offset}) || shown++ >= request_.rows)
        continue;
      rows += (rows.empty() ? "" : ",") + letter.ToJson(false);
    }
    uint64_t before = 0, after = 0;
    const std::vector<PipelineStatus>& statuses = past_->run().statuses();
    auto dead = [&](const PipelineStatus& status) { return status.dead; };
    if (statuses.size() >= 2) before = dead(statuses[statuses.size() - 2]), after = dead(statuses.back());
    if (before != after || shown > 0) same = false;
    return fmt::format("{{\"old\":{},\"new\":{},\"rows\":[{}]}}", before, after, rows);
  }

  /// Nanoseconds an event and sink of the run that many before the end.
  int64_t Cost(size_t from_end) const {
    const std::vector<PipelineRuntime::Work>& work = past_->run().work();
    const PipelineRuntime::Work& of = work[work.size() - from_end];
    return of.events == 0 ? 0 : static_cast<int64_t>(of.seconds * 1e9 / static_cast<double>(of.events));
  }

  Engine& engine_;
  const PreviewRequest& request_;
  PastLimit& limit_;
  std::shared_ptr<const PipelineVersion> old_, new_;
  std::vector<std::pair<std::string, SinkConfig>> sinks_;  // what is compared: table, its sink
  Stream* stream_ = nullptr;
  Boundary start_, from_, to_;
  uint64_t events_ = 0;
  std::shared_ptr<PastTables> past_;
  std::vector<std::string> notes_;
};

}  // namespace

Result<std::string> Preview(Engine& engine, const PreviewRequest& request) {
  PastLimit limit(engine, request.timeout_us, request.stop);
  auto answer = Previewer(engine, request, limit).Run();
  FAIL_IF_ERROR(limit.Tell(answer ? OkStatus() : answer.error()));
  return answer;
}

}  // namespace millstream
