// The outermost keys, the server, sources.
#include "catalog/loader.h"

#include "base/text.h"

namespace millstream {
namespace {

bool IsLoopback(std::string_view host) {
  return host == "localhost" || host == "[::1]" || host == "::1" || host.starts_with("127.");
}

}  // namespace

void Loader::AddFault(const Node& node, const std::string& path, std::string message, std::string hint) {
  faults_.push_back(FaultAt(node, path, std::move(message), std::move(hint)));
}

std::vector<std::pair<std::string, const Node*>> Loader::Named(const Node& node, const std::string& path) {
  std::vector<std::pair<std::string, const Node*>> named;
  if (node.kind == Node::Kind::kNull) return named;
  if (node.kind != Node::Kind::kMap) {
    AddFault(node, path, "expected a map of names", "write each as 'NAME:' with its options below");
    return named;
  }
  for (const auto& [name, value] : node.members) {
    Status status = CheckName(name);
    if (!status.ok()) {
      faults_.push_back(FaultAtKey(value, path + "." + name, status.message()));
      continue;
    }
    named.emplace_back(name, &value);
  }
  return named;
}

void Loader::UnknownKind(StageKind stage, const std::string& kind, const Node& node, const std::string& path,
                         std::vector<std::string> known) {
  const char* what = stage == StageKind::kSource ? "source" : stage == StageKind::kSink ? "sink" : "filter";
  Fault fault;
  if (auto instead = InsteadOf(stage, kind)) {
    fault = FaultAtKey(node, path, fmt::format("{} kind '{}' is not there yet in this version", what, kind),
                       *instead);
  } else {
    fault =
        FaultAtKey(node, path, fmt::format("unknown {} kind '{}'", what, kind), HintOf(kind, known, "kinds"));
  }
  fault.expected = fmt::format("{}", fmt::join(known, ", "));
  faults_.push_back(std::move(fault));
}

void Loader::CheckStream(const std::string& stream, const Node& node, const std::string& path) {
  const Node* streams = project_.root.Find("streams");
  std::vector<std::string> names;
  if (streams != nullptr)
    for (const auto& [name, value] : streams->members) names.push_back(name);
  if (std::find(names.begin(), names.end(), stream) != names.end() || !project_.IsRead("streams", stream))
    return;
  std::string hint = HintOf(stream, names, "streams");
  if (hint.empty()) hint = fmt::format("declare it under 'streams:', at least as '{}: {{}}'", stream);
  AddFault(node, path, fmt::format("no stream '{}'", stream), hint);
}

void Loader::Load() {
  const Node& root = project_.root;
  size_t faults_before = faults_.size();
  if (root.kind != Node::Kind::kMap) {
    AddFault(root, "", "a project is a map", "begin with 'streams:'");
    project_.sound = false;
    return;
  }
  ProjectSettings settings = ProjectSettingsSpec(registry_).Parse(root, At(""));
  LoadServer(settings.server, root.Find("server"));
  for (const auto& [name, node] : Named(settings.streams, "streams")) LoadStream(name, *node);
  for (const auto& [name, node] : Named(settings.sources, "sources")) LoadSource(name, *node);
  for (const auto& [name, node] : Named(settings.pipelines, "pipelines")) LoadPipeline(name, *node);
  for (const auto& [name, node] : Named(settings.commands, "commands")) LoadCommand(name, *node);
  CheckSinkTargets();
  project_.sound = project_.sound && faults_.size() == faults_before;
}

void Loader::LoadServer(const ServerSettings& settings, const Node* node) {
  ServerConfig& server = project_.server;
  server.listen = settings.listen;
  server.data = settings.data;
  server.tokens = settings.tokens;
  server.log_level = settings.log.level, server.log_format = settings.log.format;
  server.memory_bytes = settings.memory.bytes;
  server.query_deadline_us = settings.query.deadline.us;
  server.query_concurrent = settings.query.concurrent;
  const LimitSettings& limits = settings.limits;
  server.limits = {
      limits.event.bytes, limits.body.bytes,   limits.inflated.bytes,    limits.header.bytes,    limits.depth,
      limits.connections, limits.batch_events, limits.batch_bytes.bytes, limits.free_space.value};
  const SandboxesSettings& sandboxes = settings.sandboxes;
  server.sandboxes = {sandboxes.count, sandboxes.disk.bytes, sandboxes.memory.bytes};
  if (node == nullptr) return;
  const Node* listen = node->Find("listen");
  if (listen == nullptr) return;
  size_t colon = server.listen.rfind(':');
  std::string host = server.listen.substr(0, colon);
  std::string port = colon == std::string::npos ? "" : server.listen.substr(colon + 1);
  bool number =
      !port.empty() && port.size() <= 5 && port.find_first_not_of("0123456789") == std::string::npos;
  if (host.empty() || !number || std::stoi(port) > 65535) {
    AddFault(*listen, "server.listen", fmt::format("'{}' is not an address", server.listen),
             "expected HOST:PORT, e.g. 127.0.0.1:8410");
  } else if (!IsLoopback(host) && server.tokens.empty()) {
    AddFault(*listen, "server.listen", fmt::format("'{}' can be reached from outside", host),
             "declare 'tokens:', or listen on 127.0.0.1");
  }
}

void Loader::LoadSource(const std::string& name, const Node& node) {
  std::string path = "sources." + name;
  SourceConfig source;
  source.name = name;
  source.node = node;
  size_t faults_before = faults_.size();
  SourceSettings settings = SourceSettingsSpec(registry_).Parse(node, At(path));
  if (const Node* to = node.Find("to"); to != nullptr && faults_.size() == faults_before)
    CheckStream(settings.to, *to, path + ".to");
  source.stream = settings.to;
  if (settings.from.kind == Node::Kind::kNull) {
    project_.sources.emplace(name, std::move(source));
    return;
  }
  std::string from_path = path + ".from";
  if (settings.from.kind != Node::Kind::kMap || settings.from.members.size() != 1) {
    AddFault(settings.from, from_path, "expected exactly one kind of source",
             "e.g. 'file: {path: \"in/*.ndjson\"}'");
    return;
  }
  const auto& [kind, options] = settings.from.members.front();
  auto found = registry_.sources().find(kind);
  if (found == registry_.sources().end()) {
    std::vector<std::string> known;
    for (const auto& [known_kind, unused] : registry_.sources()) known.push_back(known_kind);
    UnknownKind(StageKind::kSource, kind, options, from_path, std::move(known));
    return;
  }
  // What every source takes is ours, save where the kind declares it itself.
  Spec<CommonSourceSettings> common_spec = CommonSourceSettingsSpec();
  Node common, own = options;
  common.kind = Node::Kind::kMap;
  const std::vector<FieldInfo>& own_fields = found->second.spec.fields;
  std::erase_if(own.members, [&](const auto& member) {
    auto named = [&](const FieldInfo& field) { return field.name == member.first; };
    const std::vector<FieldInfo>& ours = common_spec.info().fields;
    if (std::none_of(ours.begin(), ours.end(), named)) return false;
    common.members.push_back(member);
    return std::none_of(own_fields.begin(), own_fields.end(), named);
  });
  CommonSourceSettings settings_of_all = common_spec.Parse(common, At(from_path + "." + kind));
  if (settings_of_all.every) source.every_us = settings_of_all.every->us;
  source.retry_min_us = settings_of_all.retry.min.us, source.retry_max_us = settings_of_all.retry.max.us;
  if (source.retry_min_us > source.retry_max_us) {
    const Node* retry = common.Find("retry");
    AddFault(retry != nullptr ? *retry : options, from_path + "." + kind + ".retry", "'min' is above 'max'");
  }
  if (found->second.check) found->second.check(own, At(from_path + "." + kind));
  source.kind = kind;
  source.options = std::move(own);
  project_.sources.emplace(name, std::move(source));
}

}  // namespace millstream
