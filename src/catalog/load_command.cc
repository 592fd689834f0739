// Commands: input, key, rules, what is emitted.
#include "catalog/loader.h"

namespace millstream {

void Loader::LoadEmit(const Node& node, const std::string& path, CommandConfig& command) {
  if (node.kind == Node::Kind::kNull) return;
  if (node.kind != Node::Kind::kMap || node.members.size() != 1 || !node.members[0].second.IsScalar()) {
    AddFault(node, path, "expected one stream and a SELECT",
             "e.g. 'orders: SELECT $input.id AS id'; events of one command lie in one batch of one stream");
    command.doubtful = true;
    return;
  }
  const auto& [stream, sql] = node.members[0];
  size_t faults_before = faults_.size();
  CheckStream(stream, sql, path);
  command.doubtful = command.doubtful || faults_.size() > faults_before;
  command.stream = stream;
  command.emit = {"", sql.scalar, sql};
}

void Loader::LoadCommand(const std::string& name, const Node& node) {
  std::string path = "commands." + name;
  CommandConfig command;
  command.name = name;
  command.node = node;
  size_t faults_before = faults_.size();
  CommandSettings settings = CommandSettingsSpec().Parse(node, At(path));
  command.key = settings.key;
  command.eventual = settings.consistency == "eventual";
  StreamConfig input;
  LoadContract(settings.input, path + ".input", input);
  if (settings.input.kind == Node::Kind::kMap && settings.input.members.empty())
    AddFault(settings.input, path + ".input", "no fields", "a command has at least those of its key");
  command.input = std::move(input.shape);
  command.input.name = name;
  command.input.codec = Codec::kNone;
  command.input.max_event_bytes =
      static_cast<uint32_t>(std::min<uint64_t>(project_.server.limits.event_bytes, UINT32_MAX));
  command.input.max_depth = project_.server.limits.depth;
  for (const std::string& key : command.key)
    command.input.key.push_back(PointerOf(key, command.input.contract));
  if (settings.require.kind == Node::Kind::kSequence) {
    for (size_t i = 0; i < settings.require.items.size(); ++i) {
      const Node& rule = settings.require.items[i];
      if (rule.kind == Node::Kind::kMap && rule.members.size() == 1 && rule.members[0].second.IsScalar())
        command.rules.push_back(
            {rule.members[0].first, rule.members[0].second.scalar, rule.members[0].second});
      else
        AddFault(
            rule, fmt::format("{}.require.{}", path, i), "expected MESSAGE: SELECT",
            "e.g. '- customer is blocked: SELECT 1 FROM customers WHERE id = $input.customer AND blocked'");
    }
  } else if (settings.require.kind != Node::Kind::kNull) {
    AddFault(settings.require, path + ".require", "expected a list",
             "write each rule as '- MESSAGE: SELECT …'");
  }
  LoadEmit(settings.emit, path + ".emit", command);
  command.doubtful = command.doubtful || faults_.size() > faults_before;
  project_.commands.emplace(name, std::move(command));
}

}  // namespace millstream
