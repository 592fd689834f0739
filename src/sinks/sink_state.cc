#include "sinks/sink_state.h"

#include <charconv>

#include "base/text.h"

namespace millstream {
namespace {

/// A sink's id as a file name: what is not plain becomes %XX.
std::string FileNameOf(const std::string& id) {
  std::string name;
  for (unsigned char c : id) {
    bool plain = std::isalnum(c) || c == '_' || c == '-' || (c == '.' && !name.empty());
    if (plain)
      name += static_cast<char>(c);
    else
      name += fmt::format("%{:02X}", c);
  }
  return name;
}

template <typename T>
bool ReadNumber(const Node* node, T& value) {
  if (node == nullptr || !node->IsScalar()) return false;
  const char* end = node->scalar.data() + node->scalar.size();
  auto [stop, error] = std::from_chars(node->scalar.data(), end, value);
  return error == std::errc() && stop == end;
}

bool ReadText(const Node* node, std::string& value) {
  if (node == nullptr || !node->IsScalar()) return false;
  value = node->scalar;
  return true;
}

bool ReadOffsets(const Node* node, std::map<uint32_t, uint64_t>& offsets) {
  if (node == nullptr || node->kind != Node::Kind::kMap) return false;
  for (const auto& [name, value] : node->members) {
    uint32_t partition = 0;
    auto [stop, error] = std::from_chars(name.data(), name.data() + name.size(), partition);
    if (error != std::errc() || stop != name.data() + name.size()) return false;
    if (!ReadNumber(&value, offsets[partition])) return false;
  }
  return true;
}

bool ReadState(const Node& node, SinkState& state) {
  if (!ReadNumber(node.Find("generation"), state.generation)) return false;
  if (!ReadOffsets(node.Find("offsets"), state.offsets)) return false;
  const Node* file = node.Find("file");
  if (file == nullptr) return true;
  if (!ReadText(file->Find("name"), state.name) || !ReadNumber(file->Find("inode"), state.inode))
    return false;
  if (!ReadNumber(file->Find("length"), state.length) || !ReadText(file->Find("header"), state.header))
    return false;
  const Node* first = file->Find("first");
  if (first == nullptr) return true;
  state.has_rows = true;
  return ReadNumber(first->Find("partition"), state.first_partition) &&
         ReadNumber(first->Find("offset"), state.first_offset) &&
         ReadNumber(first->Find("time_us"), state.opened_us);
}

}  // namespace

std::string SinkStatePath(const SinkContext& context) {
  return fmt::format("{}/sinks/{}.{}/{}.json", context.data_directory, context.pipeline, context.generation,
                     FileNameOf(context.id));
}

Result<std::optional<SinkState>> LoadSinkState(FileSystem& fs, const std::string& path) {
  Result<std::string> text = ReadFile(fs, path);
  if (!text) {
    if (text.error().code() == Code::kNotFound) return std::optional<SinkState>();
    return Fail(text.error());
  }
  Faults faults;
  Node node = ParseJson(*text, path, faults);
  SinkState state;
  if (!faults.empty() || !ReadState(node, state))
    return Fail(Corrupt("{} is not what a sink stores about itself", path));
  return std::optional<SinkState>(std::move(state));
}

Status StoreSinkState(FileSystem& fs, const std::string& path, const SinkState& state) {
  std::string text = fmt::format("{{\"generation\":{},\"offsets\":{{", state.generation);
  const char* separator = "";
  for (const auto& [partition, offset] : state.offsets) {
    text += fmt::format("{}\"{}\":{}", separator, partition, offset);
    separator = ",";
  }
  text += '}';
  if (!state.name.empty()) {
    text += ",\"file\":{\"name\":";
    AppendJsonString(text, state.name);
    text += fmt::format(",\"inode\":{},\"length\":{},\"header\":", state.inode, state.length);
    AppendJsonString(text, state.header);
    if (state.has_rows)
      text += fmt::format(",\"first\":{{\"partition\":{},\"offset\":{},\"time_us\":{}}}",
                          state.first_partition, state.first_offset, state.opened_us);
    text += '}';
  }
  text += "}\n";
  return WriteFileDurably(fs, path, text);
}

}  // namespace millstream
