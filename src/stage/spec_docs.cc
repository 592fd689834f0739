// SpecHelp, SpecSchema, SpecMarkdown: what a Spec says of itself.
#include "base/text.h"
#include "stage/spec.h"

namespace millstream {
namespace {

std::string Quoted(std::string_view text) {
  std::string out;
  AppendJsonString(out, text);
  return out;
}

std::string TypeText(const FieldInfo& field) {
  if (!field.one_of.empty()) {
    std::string all = fmt::format("{}", fmt::join(field.one_of, " | "));
    return field.type == "list of text" ? "list of " + all : all;
  }
  return field.type;
}

// What help and docs add to a description: default, required, bounds.
std::string Notes(const FieldInfo& field) {
  std::vector<std::string> notes;
  if (field.required) notes.push_back("required");
  if (field.secret) notes.push_back("secret: ${env:NAME} or ${file:PATH}");
  if (!field.default_text.empty()) notes.push_back("default " + field.default_text);
  return notes.empty() ? "" : fmt::format(" ({})", fmt::join(notes, "; "));
}

struct Row {
  std::string name, type, text;
};

void CollectRows(const std::vector<FieldInfo>& fields, const std::string& prefix, std::vector<Row>& rows) {
  for (const FieldInfo& field : fields) {
    if (!field.later.empty()) continue;
    rows.push_back(
        {prefix + field.name + (field.main ? "*" : ""), TypeText(field), field.description + Notes(field)});
    CollectRows(field.fields, prefix + field.name + ".", rows);
  }
}

constexpr const char* kDuration = R"({"type":"string","pattern":"^[0-9]+(us|ms|s|m|h|d)$|\\$\\{"})";
constexpr const char* kSize =
    R"({"anyOf":[{"type":"integer","minimum":0},{"type":"string","pattern":"^[0-9]+([KMGT]iB|B)?$|\\$\\{"}]})";
constexpr const char* kShare = R"({"type":"string","pattern":"^[0-9.]+%$|\\$\\{"})";
constexpr const char* kText = R"({"type":["string","number","boolean"]})";
constexpr const char* kVariable = R"({"type":"string","pattern":"\\$\\{"})";

std::string FieldSchema(const FieldInfo& field);

std::string ObjectSchema(const std::vector<FieldInfo>& fields) {
  std::string properties, required;
  for (const FieldInfo& field : fields) {
    if (!field.later.empty()) continue;
    if (!properties.empty()) properties += ',';
    properties += Quoted(field.name) + ":" + FieldSchema(field);
    if (!field.required) continue;
    if (!required.empty()) required += ',';
    required += Quoted(field.name);
  }
  return fmt::format(R"({{"type":"object","properties":{{{}}},{}"additionalProperties":false}})", properties,
                     required.empty() ? "" : fmt::format(R"("required":[{}],)", required));
}

// A map, or the value of the main field alone.
std::string ObjectOrMainSchema(const std::vector<FieldInfo>& fields) {
  std::string object = ObjectSchema(fields);
  std::string main;
  bool all_optional = true;
  for (const FieldInfo& field : fields) {
    if (field.main) main = FieldSchema(field);
    all_optional = all_optional && !field.required;
  }
  std::string empty = all_optional ? R"(,{"type":"null"})" : "";
  if (main.empty() && empty.empty()) return object;
  return fmt::format(R"({{"anyOf":[{}{}{}]}})", object, main.empty() ? "" : "," + main, empty);
}

std::string TypeSchema(const FieldInfo& field) {
  const std::string& type = field.type;
  if (!field.schema.empty()) return field.schema;
  if (field.secret) return R"({"type":"string","pattern":"^\\$\\{(env|file):.*\\}$"})";
  std::string one = kText;
  if (!field.one_of.empty()) {
    std::string values;
    for (const std::string& value : field.one_of) values += (values.empty() ? "" : ",") + Quoted(value);
    one = fmt::format(R"({{"anyOf":[{{"enum":[{}]}},{}]}})", values, kVariable);
  }
  if (type == "text") return one;
  if (type == "list of text") return fmt::format(R"({{"anyOf":[{{"type":"array","items":{0}}},{0}]}})", one);
  if (type == "boolean") return fmt::format(R"({{"anyOf":[{{"type":"boolean"}},{}]}})", kVariable);
  if (type == "number") return fmt::format(R"({{"anyOf":[{{"type":"number"}},{}]}})", kVariable);
  if (type == "integer") {
    std::string bounds = field.min ? fmt::format(R"(,"minimum":{})", *field.min) : "";
    if (field.max) bounds += fmt::format(R"(,"maximum":{})", *field.max);
    return fmt::format(R"({{"anyOf":[{{"type":"integer"{}}},{}]}})", bounds, kVariable);
  }
  if (type == "duration") return kDuration;
  if (type == "size") return kSize;
  if (type == "share") return kShare;
  if (type == "SQL") return R"({"type":["string","number","boolean"]})";
  if (type == "map of text" || type == "ordered map of text")
    return fmt::format(R"({{"type":"object","additionalProperties":{}}})", kText);
  if (type == "map") return ObjectOrMainSchema(field.fields);
  if (type == "list of map")
    return fmt::format(R"({{"type":"array","items":{}}})", ObjectOrMainSchema(field.fields));
  return "{}";
}

std::string FieldSchema(const FieldInfo& field) {
  std::string schema = TypeSchema(field);
  std::string notes = fmt::format(R"("description":{})", Quoted(field.description));
  if (!field.default_text.empty()) notes += fmt::format(R"(,"default":{})", Quoted(field.default_text));
  return "{" + notes + (schema.size() > 2 ? "," : "") + schema.substr(1);
}

void AppendMarkdownCell(std::string& out, std::string_view text) {
  for (char c : text) out += c == '|' ? "\\|" : std::string(1, c);
}

}  // namespace

std::string SpecHelp(const SpecInfo& info) {
  std::string out = fmt::format("{}: {}\n", info.kind, info.description);
  std::vector<Row> rows;
  CollectRows(info.fields, "", rows);
  size_t name_width = 0, type_width = 0;
  bool has_main = false;
  for (const Row& row : rows) {
    name_width = std::max(name_width, row.name.size());
    if (row.type.size() <= 28) type_width = std::max(type_width, row.type.size());
    has_main = has_main || row.name.ends_with('*');
  }
  if (!rows.empty()) out += '\n';
  for (const Row& row : rows) {
    out += fmt::format("  {:<{}}  {:<{}}  {}\n", row.name, name_width, row.type, type_width, row.text);
  }
  if (has_main) out += fmt::format("\n  * '{}: VALUE' sets this one\n", info.kind);
  if (!info.guarantee.empty()) out += fmt::format("\nGuarantee: {}\n", info.guarantee);
  if (!info.examples.empty()) out += "\nExamples:\n";
  for (const std::string& example : info.examples) {
    std::string_view rest = example;
    while (!rest.empty()) {
      size_t end = rest.find('\n');
      out += fmt::format("  {}\n", rest.substr(0, end));
      rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    }
  }
  return out;
}

std::string SpecSchema(const SpecInfo& info) {
  FieldInfo whole;
  whole.type = "map", whole.description = info.description, whole.fields = info.fields;
  return FieldSchema(whole);
}

std::string SpecMarkdown(const SpecInfo& info) {
  std::string out = fmt::format("### `{}`\n\n{}\n", info.kind, info.description);
  if (!info.guarantee.empty())
    out += fmt::format("\nGuarantee: {}{}\n", info.guarantee, info.guarantee.ends_with('.') ? "" : ".");
  std::vector<Row> rows;
  CollectRows(info.fields, "", rows);
  if (!rows.empty()) out += "\n| option | type | |\n|---|---|---|\n";
  for (const Row& row : rows) {
    bool main = row.name.ends_with('*');
    std::string name = main ? row.name.substr(0, row.name.size() - 1) : row.name;
    out += main ? fmt::format("| **`{}`** | ", name) : fmt::format("| `{}` | ", name);
    AppendMarkdownCell(out, row.type);
    out += " | ";
    AppendMarkdownCell(out, row.text);
    out += " |\n";
  }
  for (const std::string& example : info.examples)
    out += fmt::format("\n```yaml\n{}{}```\n", example, example.ends_with('\n') ? "" : "\n");
  return out;
}

}  // namespace millstream
