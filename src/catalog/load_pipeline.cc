// Pipelines: start, filters, sinks.
#include "base/text.h"
#include "catalog/loader.h"
#include "stage/table_options.h"

namespace millstream {
namespace {

template <typename Kinds>
std::vector<std::string> KindNames(const Kinds& kinds) {
  std::vector<std::string> names;
  for (const auto& [name, kind] : kinds) names.push_back(name);
  return names;
}

std::string KeysOf(const Node& map) {
  std::string keys;
  for (const auto& [name, value] : map.members) keys += (keys.empty() ? "" : ", ") + name;
  return keys;
}

}  // namespace

void Loader::LoadStart(const std::string& text, const Node& node, PipelineConfig& pipeline) {
  StartConfig& start = pipeline.start;
  start.node = node;
  std::string path = "pipelines." + pipeline.name + ".start";
  if (text == "earliest") return;
  if (text == "latest") {
    start.from = StartConfig::From::kLatest;
  } else if (auto time = ParseTimeUs(text)) {
    start.from = StartConfig::From::kTime, start.time_us = *time;
  } else if (auto ago = ParseDurationUs(text)) {
    start.from = StartConfig::From::kTime, start.ago_us = *ago;
  } else if (auto position = ParsePosition(text)) {
    start.from = StartConfig::From::kPosition, start.position = *position;
    if (position->stream != pipeline.stream)
      AddFault(node, path,
               fmt::format("the position is of stream '{}', the pipeline reads '{}'", position->stream,
                           pipeline.stream));
    const StreamConfig* stream = project_.FindStream(position->stream);
    for (const auto& [partition, offset] : position->offsets) {
      if (stream == nullptr || partition < stream->shape.partitions) continue;
      AddFault(node, path,
               fmt::format("partition {} of stream '{}' does not exist; it has {}", partition,
                           position->stream, stream->shape.partitions));
    }
  } else {
    AddFault(node, path, fmt::format("'{}' is no start", text),
             "expected earliest, latest, a time (2026-11-01T00:00:00Z), a duration ago (2h) or a position "
             "(orders/0:17,1:9)");
  }
}

void Loader::LoadPipeline(const std::string& name, const Node& node) {
  std::string path = "pipelines." + name;
  PipelineConfig pipeline;
  pipeline.name = name;
  pipeline.node = node;
  PipelineSettings settings = PipelineSettingsSpec(registry_).Parse(node, At(path));
  pipeline.stream = settings.from;
  if (const Node* from = node.Find("from"); from != nullptr && !settings.from.empty())
    CheckStream(settings.from, *from, path + ".from");
  if (const Node* start = node.Find("start")) LoadStart(settings.start, *start, pipeline);

  if (settings.max_dead_letters) {
    const LetterLimitSettings& given = *settings.max_dead_letters;
    LetterLimit& limit = pipeline.max_dead_letters.emplace();
    if (given.share) limit.share = given.share->value;
    limit.count = given.count, limit.over_us = given.over.us;
    const Node* at = node.Find("max_dead_letters");
    if (!limit.share && !limit.count && at != nullptr)
      AddFault(*at, path + ".max_dead_letters", "neither share nor count is given",
               "e.g. {share: 1%, over: 10m}");
  }

  if (settings.filters.kind == Node::Kind::kSequence) {
    for (size_t i = 0; i < settings.filters.items.size(); ++i)
      if (!LoadFilter(settings.filters.items[i], fmt::format("{}.filters.{}", path, i), pipeline))
        pipeline.filters.emplace_back();
  } else if (settings.filters.kind != Node::Kind::kNull) {
    AddFault(settings.filters, path + ".filters", "expected a list, because the order counts",
             "begin each filter with '- ', as in '- NAME: SELECT …'");
  }

  if (settings.to.kind == Node::Kind::kSequence) {
    for (size_t i = 0; i < settings.to.items.size(); ++i)
      LoadSink(settings.to.items[i], fmt::format("{}.to.{}", path, i), pipeline);
    if (settings.to.items.empty()) AddFault(settings.to, path + ".to", "no sink", "e.g. '- table: NAME'");
  } else if (settings.to.kind != Node::Kind::kNull) {
    LoadSink(settings.to, path + ".to", pipeline);
  } else if (node.Find("to") != nullptr) {
    AddFault(settings.to, path + ".to", "no sink", "e.g. '- table: NAME'");
  }
  project_.pipelines.emplace(name, std::move(pipeline));
}

bool Loader::LoadFilter(const Node& item, const std::string& path, PipelineConfig& pipeline) {
  if (item.kind != Node::Kind::kMap || item.members.size() != 1) {
    std::string found = item.kind == Node::Kind::kMap ? "found the keys " + KeysOf(item) : "";
    if (item.IsScalar()) found = "this one has no name";
    AddFault(item, path, found.empty() ? "a filter is one entry" : "a filter is one entry; " + found,
             "write '- NAME: SELECT … FROM input', or '- NAME: {KIND: options}'");
    return false;
  }
  const auto& [name, value] = item.members.front();
  std::string filter_path = fmt::format("pipelines.{}.filters.{}", pipeline.name, name);
  if (Status status = CheckName(name); !status.ok()) {
    faults_.push_back(FaultAtKey(value, filter_path, status.message()));
    return false;
  }
  for (const FilterConfig& other : pipeline.filters) {
    if (other.name != name) continue;
    faults_.push_back(FaultAtKey(value, filter_path, "two filters of this pipeline have this name"));
    return false;
  }
  FilterConfig filter;
  filter.name = name;
  filter.kind = "sql";
  const Node* sql = value.IsScalar() ? &value : nullptr;
  if (value.kind == Node::Kind::kMap && value.members.size() == 1) {
    filter.kind = value.members.front().first;
    filter.options = value.members.front().second;
    if (filter.kind == "sql") sql = &value.members.front().second;
  } else if (sql == nullptr) {
    AddFault(value, filter_path,
             value.kind == Node::Kind::kNull ? "has no SQL" : "expected SQL, or one kind of filter",
             "e.g. 'SELECT * FROM input', or {exec: {command: […]}}; SQL that begins with '{' or '[' needs "
             "quotes");
    return false;
  }
  if (filter.kind == "sql") {
    if (!sql->IsScalar() || Trim(sql->scalar).empty()) {
      AddFault(*sql, filter_path, "has no SQL", "e.g. 'SELECT * FROM input'");
      return false;
    }
    if (sql->comment_follows) {
      AddFault(*sql, filter_path,
               "YAML cuts plain text at ' #', so the rest of the line is not part of the SQL",
               "put the SQL in quotes or write it as a '|' block; a comment goes on a line of its own");
      return false;
    }
    filter.sql = sql->scalar;
    filter.node = *sql;
  } else {
    auto found = registry_.filters().find(filter.kind);
    if (found == registry_.filters().end()) {
      std::vector<std::string> known = KindNames(registry_.filters());
      known.push_back("sql");
      UnknownKind(StageKind::kFilter, filter.kind, filter.options, filter_path, std::move(known));
      return false;
    }
    size_t faults_before = faults_.size();
    if (found->second.check) found->second.check(filter.options, At(filter_path + "." + filter.kind));
    if (faults_.size() > faults_before) return false;
    filter.node = value;
  }
  pipeline.filters.push_back(std::move(filter));
  return true;
}

void Loader::LoadSink(const Node& item, const std::string& path, PipelineConfig& pipeline) {
  Node entry = item;
  if (entry.IsScalar()) {  // `- stdout`
    Node nothing;
    nothing.file = item.file, nothing.line = item.line, nothing.column = item.column;
    entry = nothing;
    entry.kind = Node::Kind::kMap;
    entry.members.emplace_back(item.scalar, nothing);
  }
  if (entry.kind != Node::Kind::kMap || entry.members.size() != 1) {
    AddFault(item, path,
             entry.kind == Node::Kind::kMap ? "a sink is one entry; found the keys " + KeysOf(entry)
                                            : "a sink is one entry",
             "write '- KIND: VALUE', or '- KIND: {options}'; several sinks stand in a list");
    return;
  }
  const auto& [kind_name, options] = entry.members.front();
  auto found = registry_.sinks().find(kind_name);
  if (found == registry_.sinks().end()) {
    UnknownKind(StageKind::kSink, kind_name, options, path, KindNames(registry_.sinks()));
    return;
  }
  const SinkKind& kind = found->second;
  std::string sink_path = path + "." + kind_name;
  SinkConfig sink;
  sink.kind = kind_name;
  sink.options = options;
  sink.node = item;
  sink.path = sink_path;
  // `name` is the sink's id, save where the kind has a setting of that name (the table, the stream).
  const std::vector<FieldInfo>& fields = kind.spec.fields;
  bool own_name =
      std::any_of(fields.begin(), fields.end(), [](const FieldInfo& f) { return f.name == "name"; });
  std::string id;
  if (const Node* name = options.Find("name"); name != nullptr && !own_name) {
    if (Status status = CheckName(name->scalar); !name->IsScalar() || !status.ok())
      AddFault(*name, sink_path + ".name", name->IsScalar() ? status.message() : "expected a name");
    id = name->scalar;
    std::erase_if(sink.options.members, [](const auto& member) { return member.first == "name"; });
  }
  size_t faults_before = faults_.size();
  if (kind.check) kind.check(sink.options, At(sink_path));
  if (faults_.size() > faults_before) return;
  std::string target = kind.target ? kind.target(sink.options) : "";
  if (id.empty()) id = target.empty() ? kind_name : kind_name + ":" + target;
  sink.id = id;
  for (const SinkConfig& other : pipeline.sinks) {
    if (other.id != id) continue;
    AddFault(item, sink_path, fmt::format("two sinks of this pipeline are '{}'", id),
             own_name ? "give each a target of its own" : "give one of them a 'name'");
    return;
  }
  if (kind_name == "table") CheckTableSink(sink, sink_path);
  if (kind_name == "stream") {
    const Node* name = options.Find("name");
    CheckStream(target, name != nullptr ? *name : options, sink_path);
  }
  pipeline.sinks.push_back(std::move(sink));
}

void Loader::CheckTableSink(const SinkConfig& sink, const std::string& path) {
  TableOptions table = TableOptionsSpec().Parse(sink.options, At(path));
  const Node* name = sink.options.Find("name");
  if (Status status = CheckName(table.name); !status.ok())
    AddFault(name != nullptr ? *name : sink.options, path, status.message());
  auto needs_key = [&](const char* option, const char* why) {
    const Node* node = sink.options.Find(option);
    if (node == nullptr || !table.key.empty()) return;
    faults_.push_back(FaultAtKey(*node, path + "." + option, fmt::format("'{}' needs 'key'", option), why));
  };
  needs_key("values", "name the columns that group the rows");
  needs_key("delete_when", "without a key every row is kept");
  needs_key("order_by", "without a key every row is kept");
  for (const char* option : {"delete_when", "order_by"}) {
    const Node* node = sink.options.Find(option);
    if (node == nullptr || table.values.empty()) continue;
    faults_.push_back(FaultAtKey(*node, path + "." + option,
                                 fmt::format("'{}' has no meaning beside 'values'", option),
                                 "an aggregate takes inserts only"));
  }
}

void Loader::CheckSinkTargets() {
  std::map<std::string, std::string> owners;  // file path → pipeline
  for (const auto& [name, pipeline] : project_.pipelines) {
    for (const SinkConfig& sink : pipeline.sinks) {
      if (sink.kind != "file") continue;
      std::string target = registry_.sinks().at("file").target(sink.options);
      auto [owner, is_new] = owners.emplace(target, name);
      if (!is_new)
        AddFault(sink.node, "pipelines." + name + ".to",
                 fmt::format("file '{}' is already written by pipeline '{}'", target, owner->second),
                 "a file has one writer: give this one another path");
    }
  }
}

}  // namespace millstream
