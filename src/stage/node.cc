#include "stage/node.h"

#include "base/text.h"
#include "event/json_scan.h"

namespace millstream {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// RFC 8259's number, nothing else: `01`, `+1`, `.5` and `0x10` are texts.
bool IsJsonNumber(std::string_view text) {
  size_t i = 0;
  auto digits = [&] {
    size_t begin = i;
    while (i < text.size() && IsDigit(text[i])) ++i;
    return i > begin;
  };
  if (i < text.size() && text[i] == '-') ++i;
  size_t integer = i;
  if (!digits() || (text[integer] == '0' && i - integer > 1)) return false;
  if (i < text.size() && text[i] == '.' && (++i, !digits())) return false;
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    ++i;
    if (i < text.size() && (text[i] == '+' || text[i] == '-')) ++i;
    if (!digits()) return false;
  }
  return i == text.size();
}

void AppendJson(std::string& out, const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull:
      out += "null";
      return;
    case Node::Kind::kScalar:
      if (IsLiteral(node)) {
        out += node.scalar;
      } else {
        AppendJsonString(out, node.scalar);
      }
      return;
    case Node::Kind::kSequence: {
      out += '[';
      for (size_t i = 0; i < node.items.size(); ++i) {
        if (i > 0) out += ',';
        AppendJson(out, node.items[i]);
      }
      out += ']';
      return;
    }
    case Node::Kind::kMap: {
      out += '{';
      for (size_t i = 0; i < node.members.size(); ++i) {
        if (i > 0) out += ',';
        AppendJsonString(out, node.members[i].first);
        out += ':';
        AppendJson(out, node.members[i].second);
      }
      out += '}';
      return;
    }
  }
}

bool IsNullWord(std::string_view text) {
  return text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL";
}

// Plain only where no reader of YAML could see anything but this text.
bool MayBePlain(std::string_view text) {
  if (IsNullWord(text) || text.front() == ' ' || text.back() == ' ' || text.back() == ':') return false;
  bool first_is_plain = std::isalnum(static_cast<unsigned char>(text.front())) || text.front() == '_' ||
                        text.front() == '/' || text.front() == '.' || text.front() == '$';
  if (!first_is_plain || text == "<<") return false;
  for (size_t i = 0; i < text.size(); ++i) {
    auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 || c == 0x7f) return false;
    if (c == ':' && i + 1 < text.size() && text[i + 1] == ' ') return false;
    if (c == '#' && text[i - 1] == ' ') return false;
  }
  return true;
}

bool MayBeBlock(std::string_view text) {
  if (text.find('\n') == std::string_view::npos || text.front() == ' ' || text.front() == '\n') return false;
  if (text.ends_with("\n\n")) return false;
  for (char c : text)
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7f) return false;
  return true;
}

void AppendYamlScalar(std::string& out, const Node& node, size_t indent) {
  const std::string& text = node.scalar;
  Node plain = ScalarNode(text);
  if (IsLiteral(plain) ? !node.quoted : MayBePlain(text)) {
    out += text;
  } else if (!text.empty() && MayBeBlock(text)) {
    out += text.back() == '\n' ? "|" : "|-";
    size_t begin = 0;
    while (begin < text.size()) {
      size_t end = std::min(text.find('\n', begin), text.size());
      out += '\n';
      if (end > begin) out.append(indent, ' ').append(text, begin, end - begin);
      begin = end + 1;
    }
  } else if (text.find_first_of("\n\t\r") == std::string::npos &&
             std::all_of(text.begin(), text.end(), [](unsigned char c) { return c >= 0x20 && c != 0x7f; })) {
    out += '\'';
    for (char c : text) out.append(c == '\'' ? 2 : 1, c);
    out += '\'';
  } else {
    AppendJsonString(out, text);
  }
}

void AppendYaml(std::string& out, const Node& node, size_t indent);

void AppendYamlValue(std::string& out, const Node& node, size_t indent) {
  bool nested = (node.kind == Node::Kind::kMap && !node.members.empty()) ||
                (node.kind == Node::Kind::kSequence && !node.items.empty());
  if (nested) {
    out += '\n';
    AppendYaml(out, node, indent);
    return;
  }
  if (node.kind != Node::Kind::kNull) out += ' ';
  if (node.kind == Node::Kind::kScalar) AppendYamlScalar(out, node, indent);
  if (node.kind == Node::Kind::kMap) out += "{}";
  if (node.kind == Node::Kind::kSequence) out += "[]";
  out += '\n';
}

void AppendYaml(std::string& out, const Node& node, size_t indent) {
  for (const auto& [name, value] : node.members) {
    out.append(indent, ' ');
    if (name.find('\n') == std::string::npos) {
      Node key = ScalarNode(name);
      key.quoted = IsLiteral(key);
      AppendYamlScalar(out, key, indent + 2);
    } else {
      AppendJsonString(out, name);
    }
    out += ':';
    AppendYamlValue(out, value, indent + 2);
  }
  for (const Node& item : node.items) {
    out.append(indent, ' ');
    out += '-';
    if (item.kind == Node::Kind::kMap && !item.members.empty()) {
      std::string inner;
      AppendYaml(inner, item, indent + 2);
      out += ' ';
      out.append(inner, indent + 2);  // the first key stands beside the dash
    } else {
      AppendYamlValue(out, item, indent + 2);
    }
  }
}

void SetPlace(Node& node, std::string_view text, size_t position) {
  std::string_view before = text.substr(0, position);
  size_t line_begin = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  node.line = 1 + static_cast<int>(std::count(before.begin(), before.end(), '\n'));
  node.column = 1 + static_cast<int>(position - line_begin);
}

Node ReadJson(std::string_view whole, std::string_view text, const std::string& file, Faults& faults) {
  Node node;
  node.file = file;
  SetPlace(node, whole, static_cast<size_t>(text.data() - whole.data()));
  if (auto members = JsonMembers(text)) {
    node.kind = Node::Kind::kMap;
    for (auto& [name, value] : *members) {
      Node child = ReadJson(whole, value, file, faults);
      if (node.Find(name) != nullptr) {
        Fault fault;
        fault.file = file, fault.line = child.line, fault.column = child.column;
        fault.message = fmt::format("key '{}' stands twice in one object", name);
        fault.hint = "remove one of the two";
        faults.push_back(std::move(fault));
        continue;
      }
      node.members.emplace_back(std::move(name), std::move(child));
    }
  } else if (auto elements = JsonElements(text)) {
    node.kind = Node::Kind::kSequence;
    for (std::string_view element : *elements) node.items.push_back(ReadJson(whole, element, file, faults));
  } else if (text.front() == '"') {
    node.kind = Node::Kind::kScalar;
    node.quoted = true;
    std::string scratch;
    JsonValue value{JsonKind::kString, text.find('\\') != std::string_view::npos, text};
    node.scalar = std::string(JsonStringValue(value, scratch));
  } else if (text != "null") {
    node.kind = Node::Kind::kScalar;
    node.scalar = std::string(text);
  }
  return node;
}

}  // namespace

Node::Node() = default;
Node::Node(const Node&) = default;
Node::Node(Node&&) noexcept = default;
Node& Node::operator=(const Node&) = default;
Node& Node::operator=(Node&&) noexcept = default;
Node::~Node() = default;

const Node* Node::Find(std::string_view name) const {
  for (const auto& [key, value] : members)
    if (key == name) return &value;
  return nullptr;
}

std::string Node::TextOf(std::string_view name) const {
  const Node* member = Find(name);
  return member == nullptr ? "" : member->scalar;
}

bool Node::operator==(const Node& other) const {
  if (kind != other.kind) return false;
  if (kind == Kind::kScalar) return scalar == other.scalar && IsLiteral(*this) == IsLiteral(other);
  return items == other.items && members == other.members;
}

Node::Place Node::PlaceOf(size_t position) const {
  if (text_column == 0 && !is_block) return {line, column};
  std::string_view before = std::string_view(scalar).substr(0, position);
  size_t newline = before.rfind('\n');
  int lines = static_cast<int>(std::count(before.begin(), before.end(), '\n'));
  size_t line_begin = newline == std::string_view::npos ? 0 : newline + 1;
  // Columns count characters, not bytes.
  int characters = 0;
  for (char c : before.substr(line_begin)) characters += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  if (is_block) return {line + 1 + lines, block_indent + characters + 1};
  return {line + lines, (lines == 0 ? text_column : 1) + characters};
}

Node ScalarNode(std::string text) {
  Node node;
  node.kind = Node::Kind::kScalar;
  node.scalar = std::move(text);
  return node;
}

Node FileNode(std::string text, std::string file) {
  Node node = ScalarNode(std::move(text));
  node.quoted = true;
  node.file = std::move(file);
  node.line = node.column = node.text_column = 1;
  return node;
}

bool IsLiteral(const Node& node) {
  if (node.kind != Node::Kind::kScalar || node.quoted) return false;
  return node.scalar == "true" || node.scalar == "false" || IsJsonNumber(node.scalar);
}

Node ParseJson(std::string_view text, const std::string& file, Faults& faults) {
  if (auto error = ValidateJson(text)) {
    Node at;
    SetPlace(at, text, std::min(error->position, text.size()));
    Fault fault;
    fault.file = file, fault.line = at.line, fault.column = at.column;
    fault.message = "not JSON: " + error->message;
    faults.push_back(std::move(fault));
    return {};
  }
  size_t begin = text.find_first_not_of(" \t\r\n");
  size_t end = text.find_last_not_of(" \t\r\n") + 1;
  return ReadJson(text, text.substr(begin, end - begin), file, faults);
}

std::string ToJson(const Node& node) {
  std::string out;
  AppendJson(out, node);
  return out;
}

std::string ToYaml(const Node& node) {
  std::string out;
  if (node.kind == Node::Kind::kScalar) {
    AppendYamlScalar(out, node, 2);
    out += '\n';
  } else if (node.kind == Node::Kind::kNull) {
    out += "null\n";
  } else if (node.items.empty() && node.members.empty()) {
    out += node.kind == Node::Kind::kMap ? "{}\n" : "[]\n";
  } else {
    AppendYaml(out, node, 0);
  }
  return out;
}

}  // namespace millstream
