// Reading settings: matching keys to fields, and values to types, with a fault for each that does not fit.
#include "stage/spec.h"

#include <charconv>

#include "base/text.h"

namespace millstream {
namespace {

std::string KindName(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull:
      return "nothing";
    case Node::Kind::kScalar:
      return "a text";
    case Node::Kind::kSequence:
      return "a list";
    case Node::Kind::kMap:
      return "a map";
  }
  return "";
}

void AddFault(const Node& node, const ParseContext& context, std::string message, std::string hint = "",
              std::string expected = "") {
  Fault fault = FaultAt(node, context.path, std::move(message), std::move(hint));
  fault.expected = std::move(expected);
  context.faults->push_back(std::move(fault));
}

bool HasVariable(const Node& node) { return node.scalar.find("${") != std::string::npos; }

// The text of a scalar with its variables resolved. `literal`: may be a number or boolean.
struct Scalar {
  std::string text;
  bool quoted = false;
};
std::optional<Scalar> ReadScalar(const Node& node, const ParseContext& context, const FieldInfo& info) {
  std::string article = info.type == "integer" ? "an " : "a ";
  if (node.kind == Node::Kind::kNull) {
    AddFault(node, context, "has no value",
             fmt::format("write {}{}, or leave out the key", article, info.type), info.type);
    return std::nullopt;
  }
  if (!node.IsScalar()) {
    AddFault(node, context, fmt::format("expected {}{}, found {}", article, info.type, KindName(node)));
    return std::nullopt;
  }
  if (info.secret && !(node.scalar.starts_with("${") && node.scalar.ends_with('}'))) {
    AddFault(node, context, "a secret may not stand in the file", "write ${env:NAME} or ${file:PATH}",
             "${env:NAME} or ${file:PATH}");
    return std::nullopt;
  }
  if (!HasVariable(node)) return Scalar{node.scalar, node.quoted};
  auto resolved = ResolveVariables(node.scalar, context.project_directory);
  if (!resolved) {
    AddFault(node, context, resolved.error().message());
    return std::nullopt;
  }
  return Scalar{std::move(*resolved), false};
}

template <typename T, typename Parser>
bool ReadParsed(const Node& node, const ParseContext& context, const FieldInfo& info, T& to, Parser parse) {
  auto scalar = ReadScalar(node, context, info);
  if (!scalar) return false;
  auto value = parse(scalar->text);
  if (!value) {
    AddFault(node, context, value.error().message());
    return false;
  }
  to = *value;
  return true;
}

bool CheckOneOf(const Node& node, const ParseContext& context, const FieldInfo& info,
                const std::string& text) {
  if (info.one_of.empty() || std::find(info.one_of.begin(), info.one_of.end(), text) != info.one_of.end())
    return true;
  std::string nearest = Nearest(text, info.one_of);
  std::string all = fmt::format("{}", fmt::join(info.one_of, ", "));
  AddFault(node, context, fmt::format("unknown {} '{}'", info.name, text),
           nearest.empty() ? "" : fmt::format("did you mean '{}'?", nearest), all);
  return false;
}

FieldInfo ElementOf(const FieldInfo& info) {
  FieldInfo element = info;
  element.type = "text";
  return element;
}

std::vector<std::string> NamesOf(const SpecInfo& info) {
  std::vector<std::string> names;
  for (const FieldInfo& field : info.fields)
    if (field.later.empty()) names.push_back(field.name);
  return names;
}

void FaultUnknownKey(const SpecInfo& info, const std::string& key, const Node& value,
                     const ParseContext& context) {
  std::vector<std::string> names = NamesOf(info);
  Fault fault = FaultAtKey(value, context.path, fmt::format("unknown key '{}'", key),
                           names.empty() ? "no key is known here" : HintOf(key, names, "keys"));
  fault.expected = fmt::format("{}", fmt::join(names, ", "));
  context.faults->push_back(std::move(fault));
}

}  // namespace

Fault FaultAt(const Node& node, std::string path, std::string message, std::string hint) {
  Fault fault;
  fault.file = node.file, fault.line = node.line, fault.column = node.column;
  fault.path = std::move(path), fault.message = std::move(message), fault.hint = std::move(hint);
  return fault;
}

Fault FaultAtKey(const Node& node, std::string path, std::string message, std::string hint) {
  Fault fault = FaultAt(node, std::move(path), std::move(message), std::move(hint));
  if (node.key_line > 0) fault.line = node.key_line, fault.column = node.key_column;
  return fault;
}

std::string HintOf(const std::string& name, const std::vector<std::string>& candidates,
                   const std::string& kinds) {
  std::string nearest = Nearest(name, candidates);
  if (!nearest.empty()) return fmt::format("did you mean '{}'?", nearest);
  if (candidates.empty()) return "";
  return fmt::format("known {}: {}", kinds, fmt::join(candidates, ", "));
}

bool CutByComment(const Node& node) {
  if (!node.comment_follows) return false;
  int depth = 0;
  char quote = 0;
  for (char c : node.scalar) {
    if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '\'' || c == '"') {
      quote = c;
    } else {
      depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    }
  }
  return quote != 0 || depth > 0;
}

namespace internal {

std::vector<const Node*> MatchFields(const SpecInfo& info, const Node& node, const ParseContext& context) {
  std::vector<const Node*> nodes(info.fields.size(), nullptr);
  auto main = std::find_if(info.fields.begin(), info.fields.end(), [](const FieldInfo& f) { return f.main; });
  bool is_main = node.IsScalar() || node.kind == Node::Kind::kSequence;
  if (is_main && main == info.fields.end()) {
    std::string all = fmt::format("{}", fmt::join(NamesOf(info), ", "));
    AddFault(node, context, fmt::format("expected a map, found {}", KindName(node)),
             all.empty() ? "" : "known keys: " + all, "a map");
    return nodes;
  }
  if (is_main) nodes[static_cast<size_t>(main - info.fields.begin())] = &node;
  for (const auto& [key, value] : node.members) {
    auto found = std::find_if(info.fields.begin(), info.fields.end(),
                              [&name = key](const FieldInfo& f) { return f.name == name; });
    if (found == info.fields.end()) {
      FaultUnknownKey(info, key, value, context);
    } else if (!found->later.empty()) {
      context.faults->push_back(
          FaultAtKey(value, context.At(key).path, "is not there yet in this version", found->later));
    } else {
      nodes[static_cast<size_t>(found - info.fields.begin())] = &value;
    }
  }
  for (size_t i = 0; i < nodes.size(); ++i) {
    const FieldInfo& field = info.fields[i];
    if (!field.required || nodes[i] != nullptr) continue;
    AddFault(node, context, fmt::format("needs '{}': {}", field.name, field.description));
  }
  return nodes;
}

bool NeedsAny(const SpecInfo& info) {
  return std::any_of(info.fields.begin(), info.fields.end(), [](const FieldInfo& f) { return f.required; });
}

std::optional<Node> DefaultNode(const FieldInfo& info) {
  if (info.implied) {
    Node empty;
    empty.kind = Node::Kind::kMap;
    return empty;
  }
  if (info.default_text.empty()) return std::nullopt;
  bool shown_only = !info.one_of.empty() &&
                    std::find(info.one_of.begin(), info.one_of.end(), info.default_text) == info.one_of.end();
  if (shown_only) return std::nullopt;
  return ScalarNode(info.default_text);
}

bool ReadSetting(const Node& node, const ParseContext& context, const FieldInfo& info, bool& to) {
  auto scalar = ReadScalar(node, context, info);
  if (!scalar) return false;
  if (!scalar->quoted && (scalar->text == "true" || scalar->text == "false")) {
    to = scalar->text == "true";
    return true;
  }
  std::string hint =
      scalar->text == "true" || scalar->text == "false" ? "leave out the quotes" : "write true or false";
  AddFault(node, context, fmt::format("'{}' is not a boolean", scalar->text), hint, "true or false");
  return false;
}

bool ReadSetting(const Node& node, const ParseContext& context, const FieldInfo& info, int64_t& to) {
  auto scalar = ReadScalar(node, context, info);
  if (!scalar) return false;
  int64_t value = 0;
  const std::string& text = scalar->text;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    AddFault(node, context, fmt::format("'{}' is not a whole number", text));
    return false;
  }
  if (scalar->quoted) {
    AddFault(node, context, fmt::format("'{}' is a text here", text), "leave out the quotes",
             "a whole number");
    return false;
  }
  bool too_small = info.min && value < *info.min, too_large = info.max && value > *info.max;
  if (too_small || too_large) {
    std::string bound =
        too_small ? fmt::format("at least {}", *info.min) : fmt::format("at most {}", *info.max);
    AddFault(node, context, fmt::format("{} is out of range", value), "", bound);
    return false;
  }
  to = value;
  return true;
}

bool ReadSetting(const Node& node, const ParseContext& context, const FieldInfo& info, double& to) {
  auto scalar = ReadScalar(node, context, info);
  if (!scalar) return false;
  const std::string& text = scalar->text;
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || scalar->quoted) {
    AddFault(node, context, fmt::format("'{}' is not a number", text),
             scalar->quoted ? "leave out the quotes" : "", "a number");
    return false;
  }
  to = value;
  return true;
}

bool ReadSetting(const Node& node, const ParseContext& context, const FieldInfo& info, std::string& to) {
  auto scalar = ReadScalar(node, context, info);
  if (!scalar || !CheckOneOf(node, context, info, scalar->text)) return false;
  to = std::move(scalar->text);
  return true;
}

bool ReadSetting(const Node& node, const ParseContext& context, const FieldInfo& info, Duration& to) {
  return ReadParsed(node, context, info, to.us, ParseDurationUs);
}
bool ReadSetting(const Node& node, const ParseContext& context, const FieldInfo& info, ByteSize& to) {
  return ReadParsed(node, context, info, to.bytes, ParseBytes);
}
bool ReadSetting(const Node& node, const ParseContext& context, const FieldInfo& info, Share& to) {
  return ReadParsed(node, context, info, to.value, ParseShare);
}

bool ReadSetting(const Node& node, const ParseContext& context, const FieldInfo& info,
                 std::vector<std::string>& to) {
  FieldInfo element = ElementOf(info);
  std::vector<std::string> values;
  bool good = true;
  if (node.kind == Node::Kind::kSequence) {
    for (size_t i = 0; i < node.items.size(); ++i) {
      std::string value;
      good = ReadSetting(node.items[i], context.At(std::to_string(i)), element, value) && good;
      values.push_back(std::move(value));
    }
  } else {
    values.emplace_back();
    good = ReadSetting(node, context, element, values.back());
  }
  if (good) to = std::move(values);
  return good;
}

bool ReadSetting(const Node& node, const ParseContext& context, const FieldInfo& info,
                 std::map<std::string, std::string>& to) {
  if (node.kind != Node::Kind::kMap) {
    AddFault(node, context, fmt::format("expected a map of texts, found {}", KindName(node)));
    return false;
  }
  bool good = true;
  for (const auto& [key, value] : node.members)
    good = ReadSetting(value, context.At(key), ElementOf(info), to[key]) && good;
  return good;
}

bool ReadSetting(const Node& node, const ParseContext& context, const FieldInfo&, NamedTexts& to) {
  if (node.kind != Node::Kind::kMap) {
    AddFault(node, context, fmt::format("expected a map of texts, found {}", KindName(node)));
    return false;
  }
  bool good = true;
  for (const auto& [key, value] : node.members) {
    SqlText text;
    good = ReadSetting(value, context.At(key), {}, text) && good;
    to.emplace_back(key, std::move(text.text));
  }
  return good;
}

bool ReadSetting(const Node& node, const ParseContext& context, const FieldInfo&, SqlText& to) {
  if (!node.IsScalar()) {
    AddFault(node, context, fmt::format("expected a text, found {}", KindName(node)),
             node.kind == Node::Kind::kMap ? "a text that begins with '{' needs quotes" : "", "SQL");
    return false;
  }
  if (CutByComment(node)) {
    AddFault(node, context, "YAML cut this value at ' #'", "put the whole value in quotes", "");
    return false;
  }
  to.text = node.scalar, to.node = node;
  return true;
}

bool ReadSetting(const Node& node, const ParseContext&, const FieldInfo&, Node& to) {
  to = node;
  return true;
}

void FaultNotAList(const Node& node, const ParseContext& context) {
  AddFault(node, context, fmt::format("expected a list, found {}", KindName(node)),
           "begin each entry with '- '", "a list");
}

}  // namespace internal
}  // namespace millstream
