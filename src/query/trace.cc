#include "query/trace.h"

#include <charconv>

#include "base/text.h"
#include "event/cloudevents.h"
#include "event/json_scan.h"
#include "query/past_limit.h"
#include "query/past_tables.h"
#include "query/system_tables.h"

namespace millstream {
namespace {

constexpr int kCausesMax = 16;  // streams between an event and the first that caused it
constexpr uint64_t kTraceMemory = 256ull << 20;

struct Place {
  std::string stream;
  uint32_t partition = 0;
  uint64_t offset = 0;
};

class Tracer {
 public:
  Tracer(Engine& engine, const TraceRequest& request, PastLimit& limit)
      : engine_(engine), request_(request), limit_(limit) {}

  Result<std::string> Run() {
    std::optional<TableInfo> table = engine_.tables().Find(request_.table);
    if (!table) {
      std::vector<std::string> names;
      for (const TableInfo& each : engine_.tables().List()) names.push_back(each.spec.name);
      std::string nearest = Nearest(request_.table, names);
      return Fail(NotFound("no table '{}'{}", request_.table,
                           nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
    }
    ASSIGN_OR_FAIL(pipelines_, engine_.PipelinesAt(engine_.clock().WallUs()));
    ASSIGN_OR_FAIL(std::string row, FindRow(*table));
    std::string out = "{\"table\":";
    AppendJsonString(out, request_.table);
    out += ",\"row\":" + (row.empty() ? "null" : row);
    out += fmt::format(",\"total\":{},\"events\":[", total_);
    for (size_t i = 0; i < places_.size(); ++i) {
      if (i > 0) out += ',';
      FAIL_IF_ERROR(AppendEvent(out, places_[i].second, places_[i].first, 0));
    }
    out += "],\"not_reproducible\":";
    AppendJsonStrings(out, notes_);
    return out + "}";
  }

 private:
  Status NoRow() const { return NotFound("table '{}' has no row {}", request_.table, request_.key); }

  Result<std::vector<std::string>> KeyValues(const TableInfo& table) const {
    if (table.spec.key.size() == 1) return std::vector<std::string>{request_.key};
    std::vector<std::string> values;
    auto items = JsonElements(request_.key);
    if (!items || items->size() != table.spec.key.size())
      return Fail(Invalid("the key of table '{}' is a JSON list of {}", request_.table,
                          fmt::join(table.spec.key, ", ")));
    for (std::string_view item : *items) {
      std::string scratch;
      values.emplace_back(item.starts_with('"') ? std::string(JsonStringValue(MakeJsonValue(item), scratch))
                                                : std::string(item));
    }
    return values;
  }

  /// The row as JSON; fills `places_`.
  Result<std::string> FindRow(const TableInfo& table) {
    ASSIGN_OR_FAIL(auto connection, engine_.database().Connect());
    PastLimit::Watched watched(limit_, *connection);
    const std::string name = SqlIdentifier(request_.table);
    if (table.spec.key.empty()) {
      size_t colon = request_.key.find(':');
      auto partition = ParseNumber<uint64_t>(request_.key.substr(0, colon));
      auto offset = ParseNumber<uint64_t>(colon == std::string::npos ? "" : request_.key.substr(colon + 1));
      if (!partition || !offset)
        return Fail(
            Invalid("table '{}' has no key: name a row by its PARTITION:OFFSET, e.g. 0:17", request_.table));
      ASSIGN_OR_FAIL(Rows rows, connection->Query(fmt::format("SELECT * FROM {} WHERE _partition = {} AND "
                                                              "_offset = {} LIMIT 1",
                                                              name, *partition, *offset)));
      ASSIGN_OR_FAIL(std::string row, FirstRow(rows, ""));
      if (row.empty()) return Fail(NoRow());
      for (const auto& [pipeline, past] : pipelines_)
        if (Writes(past))
          Add(pipeline, {past.versions[0]->config.stream, static_cast<uint32_t>(*partition), *offset});
      if (places_.size() > 1)
        return Fail(
            Invalid("several pipelines write table '{}' without a key: which of them made a row is not told "
                    "by its place",
                    request_.table));
      return row;
    }
    ASSIGN_OR_FAIL(std::vector<std::string> values, KeyValues(table));
    ASSIGN_OR_FAIL(Rows rows, engine_.tables().Lookup(*connection, request_.table, values));
    bool is_own = table.spec.values.empty() && table.writers.size() == 1;
    ASSIGN_OR_FAIL(std::string row, FirstRow(rows, is_own ? table.writers[0] : ""));
    if (row.empty()) return Fail(NoRow());
    if (!is_own) FAIL_IF_ERROR(FindByReplay(table, values));
    return row;
  }

  bool Feeds(const SinkConfig& sink) const {
    return sink.kind == "table" &&
           engine_.registry().sinks().at(sink.kind).target(sink.options) == request_.table;
  }
  bool Writes(const PastPipeline& past) const {
    for (const auto& version : past.versions)
      if (std::any_of(version->config.sinks.begin(), version->config.sinks.end(),
                      [&](const SinkConfig& sink) {
                        return Feeds(sink) && (!past.ended || past.ended->contains(sink.id));
                      }))
        return true;
    return false;
  }

  void Add(const std::string& pipeline, Place place) {
    ++total_;
    if (places_.size() < request_.events) places_.emplace_back(pipeline, std::move(place));
  }

  /// "" if there is none. `pipeline`: the row names the event of this one that it comes from; "": it does
  /// not.
  Result<std::string> FirstRow(Rows& rows, const std::string& pipeline) {
    ASSIGN_OR_FAIL(std::optional<Chunk> chunk, rows.Next());
    while (chunk && chunk->rows() == 0) {
      ASSIGN_OR_FAIL(chunk, rows.Next());
    }
    if (!chunk) return std::string();
    JsonWriter writer = rows.MakeJsonWriter();
    std::string row = "{";
    std::optional<uint64_t> partition, offset;
    for (uint32_t column = 0; column < rows.columns().size(); ++column) {
      const std::string& name = rows.columns()[column].name;
      std::string value;
      writer.Append(value, *chunk, column, 0);
      if (name == "_partition") partition = std::strtoull(value.c_str(), nullptr, 10);
      if (name == "_offset") offset = std::strtoull(value.c_str(), nullptr, 10);
      if (column > 0) row += ',';
      AppendJsonString(row, name);
      row += ':' + value;
    }
    auto past = pipelines_.find(pipeline);
    if (past != pipelines_.end() && !past->second.versions.empty() && partition && offset)
      Add(pipeline, {past->second.versions[0]->config.stream, static_cast<uint32_t>(*partition), *offset});
    return row + "}";
  }

  Status FindByReplay(const TableInfo& table, const std::vector<std::string>& key) {
    PastRequest past_request;
    ASSIGN_OR_RETURN(past_request.as_of, ResolveAsOf(engine_, "0s"));
    past_request.rows_of = request_.table;
    ASSIGN_OR_RETURN(auto past, PastTables::Build(engine_, past_request, kTraceMemory, limit_.token()));
    notes_ = past->ground().not_reproducible;
    ASSIGN_OR_RETURN(auto connection, past->database().Connect());
    PastLimit::Watched watched(limit_, *connection);
    std::string where;
    for (size_t i = 0; i < table.spec.key.size(); ++i) {
      std::string type = "VARCHAR";
      for (const ColumnInfo& column : table.columns)
        if (column.name == table.spec.key[i]) type = column.type;
      where += fmt::format("{}{} = CAST(${} AS {})", i == 0 ? "" : " AND ", SqlIdentifier(table.spec.key[i]),
                           i + 1, type);
    }
    for (const PastTables::RowsOf& rows_of : past->rows()) {
      ASSIGN_OR_RETURN(Rows rows,
                       connection->Query(fmt::format("SELECT DISTINCT _partition::BIGINT, _offset FROM "
                                                     "{} WHERE {} ORDER BY _offset DESC",
                                                     rows_of.table, where),
                                         {key.begin(), key.end()}));
      while (true) {
        ASSIGN_OR_RETURN(std::optional<Chunk> chunk, rows.Next());
        if (!chunk) break;
        for (uint32_t row = 0; row < chunk->rows(); ++row)
          Add(rows_of.pipeline, {rows_of.stream, static_cast<uint32_t>(chunk->Int64(0, row)),
                                 static_cast<uint64_t>(chunk->Int64(1, row))});
      }
    }
    return OkStatus();
  }

  /// `of_table`: the event is one of the table's own, which may have been made anew by a later version.
  std::shared_ptr<const PipelineVersion> OwnerOf(const std::string& pipeline, const Place& place,
                                                 bool of_table) const {
    auto past = pipelines_.find(pipeline);
    if (past == pipelines_.end()) return nullptr;
    auto versions = past->second.versions;
    if (of_table) versions = past->second.VersionsFor([this](const SinkConfig& sink) { return Feeds(sink); });
    std::shared_ptr<const PipelineVersion> owner;
    for (const auto& version : versions) {
      auto from = version->from.find(place.partition);
      if (owner == nullptr || from == version->from.end() || from->second <= place.offset) owner = version;
    }
    return owner;
  }

  Status AppendEvent(std::string& out, const Place& place, const std::string& pipeline, int depth) {
    out += "{\"position\":";
    AppendJsonString(out, fmt::format("{}/{}:{}", place.stream, place.partition, place.offset));
    if (auto owner = OwnerOf(pipeline, place, depth == 0)) {
      out += ",\"pipeline\":";
      AppendJsonString(out, pipeline);
      out += fmt::format(",\"version\":{},\"filters\":[", owner->number);
      for (size_t i = 0; i < owner->config.filters.size(); ++i) {
        const FilterConfig& filter = owner->config.filters[i];
        out += i == 0 ? "{\"name\":" : ",{\"name\":";
        AppendJsonString(out, filter.name);
        out += ",\"kind\":";
        AppendJsonString(out, filter.kind);
        if (filter.kind == "sql") {
          out += ",\"sql\":";
          AppendJsonString(out, filter.sql);
        }
        out += '}';
      }
      out += ']';
    }
    Stream* stream = engine_.log().Find(place.stream);
    if (stream == nullptr || place.partition >= stream->partitions())
      return out += ",\"event\":null}", OkStatus();
    Partition& partition = stream->partition(place.partition);
    Bounds bounds = partition.bounds();
    if (place.offset < bounds.start || place.offset >= bounds.durable_end)  // retention has removed it
      return out += ",\"event\":null}", OkStatus();
    ASSIGN_OR_RETURN(auto reader, partition.Read(place.offset));
    ASSIGN_OR_RETURN(auto batch, reader->Next());
    if (batch == nullptr || batch->place().base_offset > place.offset)
      return out += ",\"event\":null}", OkStatus();
    auto row = static_cast<uint32_t>(place.offset - batch->place().base_offset);
    out += ",\"time\":";
    AppendJsonString(out, FormatTime(batch->IngestedAtUs(row)));
    ASSIGN_OR_RETURN(CloudEventWriter writer,
                     CloudEventWriter::Make(*batch, "/v1/streams/" + place.stream, place.stream));
    std::string event;
    writer.Append(event, row);
    out += ",\"event\":" + event;
    std::string cause, id;
    for (const auto& [name, value] :
         JsonMembers(event).value_or(std::vector<std::pair<std::string, std::string_view>>{})) {
      std::string scratch;
      if (name == "causationid") cause = std::string(JsonStringValue(MakeJsonValue(value), scratch));
      if (name == "id") id = std::string(JsonStringValue(MakeJsonValue(value), scratch));
    }
    auto position = ParsePosition(cause);
    if (position && position->offsets.size() == 1 && depth < kCausesMax) {
      out += ",\"cause\":";
      Place from{position->stream, position->offsets.begin()->first, position->offsets.begin()->second};
      RETURN_IF_ERROR(AppendEvent(out, from, MakerOf(place.stream, from.stream, id), depth + 1));
    }
    out += '}';
    return OkStatus();
  }

  /// The pipeline that made an event of stream `to` out of one of `from`: as its id says, or the one that
  /// does.
  std::string MakerOf(const std::string& to, const std::string& from, const std::string& id) const {
    std::string named = id.substr(0, id.find('.'));
    std::string maker;
    for (const auto& [name, past] : pipelines_) {
      for (const auto& version : past.versions) {
        if (version->config.stream != from) continue;
        for (const SinkConfig& sink : version->config.sinks)
          if (sink.kind == "stream" && engine_.registry().sinks().at(sink.kind).target(sink.options) == to &&
              (maker.empty() || name == named))
            maker = name;
      }
    }
    return maker;
  }

  Engine& engine_;
  const TraceRequest& request_;
  PastLimit& limit_;
  PastPipelines pipelines_;
  std::vector<std::pair<std::string, Place>> places_;  // pipeline, event
  uint64_t total_ = 0;
  std::vector<std::string> notes_;
};

}  // namespace

Result<std::string> Trace(Engine& engine, const TraceRequest& request) {
  PastLimit limit(engine, request.timeout_us, request.stop);
  auto answer = Tracer(engine, request, limit).Run();
  FAIL_IF_ERROR(limit.Tell(answer ? OkStatus() : answer.error()));
  return answer;
}

}  // namespace millstream
