// Streams: shape, contract, retention, dedupe.
#include "base/text.h"
#include "catalog/loader.h"
#include "sql/row_batch.h"

namespace millstream {
namespace {

std::string EscapePointer(std::string_view name) {
  std::string out = "/";
  for (char c : name) out += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return out;
}

// Columns of `input` that are not the contract's.
bool IsReserved(const std::string& name) {
  std::string lower = Lower(name);
  return lower == "data" || lower.starts_with("ce_") || lower.starts_with("_");
}

constexpr const char* kAttributeColumns[] = {"ce_id", "ce_source", "ce_type", "ce_subject", "ce_time"};

// A field whose type is at fault keeps its name, so that filters which use it are not blamed too.
Field GuessField(const std::string& name, const std::string& message) {
  Field field;
  field.name = name;
  field.pointer = EscapePointer(name);
  constexpr std::string_view kMark = "did you mean '";
  size_t begin = message.find(kMark), end = message.rfind("'?");
  if (begin == std::string::npos || end == std::string::npos || end < begin + kMark.size()) return field;
  auto type = ParseType(std::string_view(message).substr(begin + kMark.size(), end - begin - kMark.size()));
  if (type) field.type = *type;
  return field;
}

}  // namespace

std::string PointerOf(const std::string& text, const Contract& contract) {
  if (text.empty() || text.starts_with('/')) return text;
  int field = contract.Find(text);
  return field >= 0 ? contract.fields[static_cast<size_t>(field)].pointer : EscapePointer(text);
}

void Loader::LoadContract(const Node& node, const std::string& path, StreamConfig& stream) {
  if (node.kind == Node::Kind::kNull) return;
  if (node.kind != Node::Kind::kMap) {
    AddFault(node, path, "expected a map of fields",
             "write each as 'FIELD: TYPE', e.g. 'id: varchar not null'");
    return;
  }
  std::set<std::string> names;
  for (const auto& [name, value] : node.members) {
    std::string field_path = path + "." + name;
    if (name.empty() || IsReserved(name)) {
      faults_.push_back(
          FaultAtKey(value, field_path, fmt::format("'{}' is the name of a column of ours", name),
                     fmt::format("rename it: 'NAME: {{type: TYPE, from: {}}}'", EscapePointer(name))));
      continue;
    }
    if (!names.insert(Lower(name)).second) {
      faults_.push_back(
          FaultAtKey(value, field_path,
                     fmt::format("'{}' differs from another field only in upper and lower case", name),
                     "SQL cannot tell them apart: rename one with 'from:'"));
      continue;
    }
    size_t faults_before = faults_.size();
    ContractFieldSettings settings = ContractFieldSettingsSpec().Parse(value, At(field_path));
    if (faults_.size() > faults_before) {
      stream.doubtful = true;
      stream.shape.contract.fields.push_back(GuessField(name, ""));
      continue;
    }
    const Node* from = value.Find("from");
    auto field = ParseField(name, settings.type.text);
    if (!field) {
      AddFault(settings.type.node, field_path, field.error().message());
      stream.doubtful = true;
      stream.shape.contract.fields.push_back(GuessField(name, field.error().message()));
      continue;
    }
    if (from != nullptr && !settings.from.starts_with('/')) {
      AddFault(*from, field_path + ".from", fmt::format("'{}' is not a JSON pointer", settings.from),
               fmt::format("did you mean '/{}'?", settings.from));
      continue;
    }
    if (from != nullptr) field->pointer = settings.from;
    stream.shape.contract.fields.push_back(std::move(*field));
  }
}

void Loader::CheckDedupe(const StreamConfig& stream, const Node& node, const std::string& path) {
  std::vector<std::string> known(std::begin(kAttributeColumns), std::end(kAttributeColumns));
  for (const Field& field : stream.shape.contract.fields) known.push_back(field.name);
  const Node* by = node.Find("by");
  for (size_t i = 0; by != nullptr && i < stream.dedupe_by.size(); ++i) {
    const std::string& name = stream.dedupe_by[i];
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const Node& at = by->kind == Node::Kind::kSequence ? by->items[i] : *by;
    AddFault(at, path + ".by", fmt::format("'{}' is neither an attribute nor a field of the contract", name),
             HintOf(name, known, "names"));
  }
}

void Loader::LoadStream(const std::string& name, const Node& node) {
  std::string path = "streams." + name;
  Node options = node;  // `orders:` alone is a stream with nothing but defaults
  if (options.kind == Node::Kind::kNull) options.kind = Node::Kind::kMap;
  StreamSettings settings = StreamSettingsSpec().Parse(options, At(path));
  StreamConfig stream;
  StreamShape& shape = stream.shape;
  shape.name = name;
  shape.partitions = settings.partitions;
  shape.codec = settings.codec == "none" ? Codec::kNone : Codec::kLz4;
  LoadContract(settings.contract, path + ".contract", stream);
  for (const std::string& key : settings.key) shape.key.push_back(PointerOf(key, shape.contract));
  shape.id_from = PointerOf(settings.envelope.id, shape.contract);
  shape.source_from = PointerOf(settings.envelope.source, shape.contract);
  shape.type_from = PointerOf(settings.envelope.type, shape.contract);
  shape.subject_from = PointerOf(settings.envelope.subject, shape.contract);
  shape.time_from = PointerOf(settings.envelope.time, shape.contract);
  const LimitsConfig& limits = project_.server.limits;
  shape.max_event_bytes = static_cast<uint32_t>(std::min<uint64_t>(limits.event_bytes, UINT32_MAX));
  shape.max_depth = limits.depth;
  stream.ack = settings.ack == "written" ? AckMode::kWritten : AckMode::kDurable;
  stream.retention.age_us = settings.retain.age.us;
  stream.retention.bytes = settings.retain.size.bytes;
  stream.reject = settings.on_violation == "reject";
  if (settings.dedupe) {
    stream.dedupe_by = settings.dedupe->by;
    stream.dedupe_window_us = settings.dedupe->window.us;
    CheckDedupe(stream, *options.Find("dedupe"), path + ".dedupe");
  }
  stream.node = node;
  project_.streams.emplace(name, std::move(stream));
}

}  // namespace millstream
