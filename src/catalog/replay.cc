#include "catalog/replay.h"

#include <fmt/ranges.h>

#include "base/text.h"

namespace millstream {
namespace {

template <typename Map, typename Each>
void AppendMap(std::string& out, const Map& map, Each each) {
  out += '{';
  std::string_view separator;
  for (const auto& [key, value] : map) {
    out += std::exchange(separator, ",");
    AppendJsonString(out, fmt::format("{}", key));
    out += ':';
    each(value);
  }
  out += '}';
}

void AppendPositions(std::string& out, const std::map<std::string, Position>& positions) {
  AppendMap(out, positions, [&](const Position& position) {
    out += "{\"stream\":";
    AppendJsonString(out, position.stream);
    out += ",\"next\":";
    AppendOffsets(out, position.offsets);
    out += '}';
  });
}

Status ReadPositions(const Node* node, std::map<std::string, Position>& positions) {
  if (node == nullptr) return OkStatus();
  for (const auto& [pipeline, value] : node->members) {
    Position& position = positions[pipeline];
    if (const Node* stream = value.Find("stream")) position.stream = stream->scalar;
    ASSIGN_OR_RETURN(position.offsets, ReadOffsets(value.Find("next")));
  }
  return OkStatus();
}

}  // namespace

Result<uint64_t> ReadNumber(std::string_view text) {
  auto number = ParseNumber<uint64_t>(text);
  if (!number) return Fail(Corrupt("'{}' is not a number", text));
  return *number;
}

void AppendOffsets(std::string& out, const std::map<uint32_t, uint64_t>& offsets) {
  AppendMap(out, offsets, [&](uint64_t offset) { out += std::to_string(offset); });
}

Result<std::map<uint32_t, uint64_t>> ReadOffsets(const Node* map) {
  std::map<uint32_t, uint64_t> offsets;
  if (map == nullptr) return offsets;
  for (const auto& [partition_text, offset_node] : map->members) {
    ASSIGN_OR_FAIL(uint64_t partition, ReadNumber(partition_text));
    ASSIGN_OR_FAIL(offsets[static_cast<uint32_t>(partition)], ReadNumber(offset_node.scalar));
  }
  return offsets;
}

bool ReplaySpec::Writes(const std::string& table) const {
  return Target() == "table " + table ||
         std::any_of(tables.begin(), tables.end(),
                     [&](const std::string& name) { return Shadow(name) == table; });
}

bool ReplaySpec::Remakes(const std::string& sink) const {
  return std::any_of(tables.begin(), tables.end(),
                     [&](const std::string& table) { return sink == "table:" + table; });
}

std::string ReplaySpec::Target() const {
  if (is_rebuild()) return fmt::format("table{} {}", tables.size() == 1 ? "" : "s", fmt::join(tables, ", "));
  if (into.members.empty()) return "";
  const auto& [kind, options] = into.members[0];
  const Node* value = &options;
  for (const char* name : {"name", "path", "table"})
    if (const Node* main = options.Find(name)) value = main;
  return value->IsScalar() && !value->scalar.empty() ? kind + " " + value->scalar : kind;
}

std::string ReplaySpec::ToJson() const {
  std::string out = fmt::format("{{\"id\":{},\"starts\":", id);
  AppendPositions(out, starts);
  if (!ends.empty()) {
    out += ",\"ends\":";
    AppendPositions(out, ends);
  }
  out += fmt::format(",\"share\":{},\"effects\":{}", share, effects);
  if (filters.kind != Node::Kind::kNull) out += ",\"filters\":" + millstream::ToJson(filters);
  if (into.kind != Node::Kind::kNull) out += ",\"into\":" + millstream::ToJson(into);
  if (is_rebuild()) {
    out += ",\"tables\":";
    AppendJsonStrings(out, tables);
    auto append = [&](const Node& definition) { out += millstream::ToJson(definition); };
    out += ",\"definitions\":";
    AppendMap(out, definitions.pipelines, append);
    if (!definitions.streams.empty()) {
      out += ",\"streams\":";
      AppendMap(out, definitions.streams, append);
    }
  }
  return out + "}";
}

Result<ReplaySpec> ReplaySpec::FromNode(const Node& node) {
  ReplaySpec spec;
  if (const Node* id = node.Find("id")) {
    ASSIGN_OR_FAIL(spec.id, ReadNumber(id->scalar));
  }
  FAIL_IF_ERROR(ReadPositions(node.Find("starts"), spec.starts));
  FAIL_IF_ERROR(ReadPositions(node.Find("ends"), spec.ends));
  if (const Node* share = node.Find("share")) spec.share = std::strtod(share->scalar.c_str(), nullptr);
  if (const Node* effects = node.Find("effects")) spec.effects = effects->scalar == "true";
  if (const Node* filters = node.Find("filters")) spec.filters = *filters;
  if (const Node* into = node.Find("into")) spec.into = *into;
  if (const Node* tables = node.Find("tables"))
    for (const Node& table : tables->items) spec.tables.push_back(table.scalar);
  for (const auto& [key, items] :
       {std::pair("definitions", &spec.definitions.pipelines), {"streams", &spec.definitions.streams}})
    if (const Node* definitions = node.Find(key))
      for (const auto& [name, definition] : definitions->members) (*items)[name] = definition;
  return spec;
}

}  // namespace millstream
