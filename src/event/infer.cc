#include "event/infer.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "event/json_cursor.h"
#include "event/literals.h"

namespace millstream {
namespace {

using Kind = Type::Kind;

constexpr int kInferredNestingMax = 16;  // deeper values are json
constexpr int kScaleMax = 4;             // fractions with more digits are measurements: double
constexpr uint8_t kDecimalWidth = 18;

// A column's name for a member: itself where SQL takes it without quotes and it is not one of ours.
std::string ColumnName(std::string_view name, std::set<std::string>& taken) {
  std::string column;
  for (char c : name) column += IsAsciiWord(c) ? c : '_';
  bool reserved = column.empty() || column[0] == '_' || (column[0] >= '0' && column[0] <= '9') ||
                  Lower(column) == "data" || Lower(column).starts_with("ce_");
  if (reserved) column = "field_" + column;
  std::string free = column;
  for (int i = 2; !taken.insert(Lower(free)).second; ++i) free = fmt::format("{}_{}", column, i);
  return free;
}

Type Simple(Kind kind) {
  Type type;
  type.kind = kind;
  return type;
}

bool HasZone(std::string_view time) {
  return time.back() == 'Z' || time.back() == 'z' || time.find_first_of("+-", 19) != time.npos;
}

bool IsUuid(std::string_view text) {
  char bytes[16];
  return text.size() == 36 && ParseUuid(text, bytes);
}

}  // namespace

// What was seen at one place of the samples.
struct ContractInference::Shape {
  uint64_t seen = 0, nulls = 0, booleans = 0, objects = 0, arrays = 0;
  uint64_t whole = 0, fractions = 0;  // numbers
  uint64_t strings = 0, zoned = 0, local = 0, dates = 0, uuids = 0;
  bool beyond_bigint = false, beyond_hugeint = false, inexact = false;
  int scale = 0, digits = 0;  // most digits after and before the point
  bool too_wide = false;
  std::vector<std::string> names;  // members in the order in which they came
  std::map<std::string, std::unique_ptr<Shape>> members;
  std::unique_ptr<Shape> element;

  void Add(std::string_view text, bool typed_text, int nesting) {
    ++seen;
    JsonValue value = MakeJsonValue(text);
    switch (value.kind) {
      case JsonKind::kMissing:
      case JsonKind::kNull:
        ++nulls;
        break;
      case JsonKind::kBoolean:
        ++booleans;
        break;
      case JsonKind::kNumber:
        AddNumber(text);
        break;
      case JsonKind::kString: {
        std::string scratch;
        AddString(JsonStringValue(value, scratch), typed_text);
        break;
      }
      case JsonKind::kArray:
        ++arrays;
        if (nesting >= kInferredNestingMax)
          too_wide = true;
        else
          AddElements(text, typed_text, nesting);
        break;
      case JsonKind::kObject:
        ++objects;
        if (nesting >= kInferredNestingMax)
          too_wide = true;
        else
          AddMembers(text, typed_text, nesting);
        break;
    }
  }

  void AddNumber(std::string_view text) {
    Int128 ignored;
    size_t point = text.find('.');
    bool exponent = text.find_first_of("eE") != text.npos;
    if (point == text.npos && !exponent) {
      ++whole;
      constexpr Int128 kHighest = static_cast<Int128>(~static_cast<unsigned __int128>(0) >> 1);
      if (!ParseInteger(text, INT64_MIN, INT64_MAX, ignored)) beyond_bigint = true;
      if (!ParseInteger(text, -kHighest - 1, kHighest, ignored)) beyond_hugeint = true;
      digits = std::max(digits, static_cast<int>(std::min<size_t>(text.size(), 1000)));
    } else {
      ++fractions;
      if (exponent) {
        inexact = true;
      } else {
        scale = std::max(scale, static_cast<int>(std::min<size_t>(text.size() - point - 1, 1000)));
        digits = std::max(digits, static_cast<int>(std::min<size_t>(point, 1000)));
      }
    }
  }

  void AddString(std::string_view text, bool typed_text) {
    if (typed_text) {
      std::string lower = Lower(text);
      if (lower == "true" || lower == "false") {
        ++booleans;
        return;
      }
      bool number =
          !text.empty() && (text[0] == '-' || (text[0] >= '0' && text[0] <= '9')) && !ValidateJson(text);
      if (number) return AddNumber(text);
    }
    ++strings;
    int64_t us;
    int32_t days;
    if (ParseTimestamp(text, us)) {
      ++(HasZone(text) ? zoned : local);
    } else if (ParseDate(text, days)) {
      ++dates;
    } else if (IsUuid(text)) {
      ++uuids;
    }
  }

  void AddElements(std::string_view text, bool typed_text, int nesting) {
    if (element == nullptr) element = std::make_unique<Shape>();
    auto elements = JsonElements(text);
    for (size_t i = 0; elements && i < elements->size(); ++i)
      element->Add((*elements)[i], typed_text, nesting + 1);
  }

  void AddMembers(std::string_view text, bool typed_text, int nesting) {
    auto found = JsonMembers(text);
    std::set<std::string> here;
    for (size_t i = 0; found && i < found->size(); ++i) {
      const auto& [name, value] = (*found)[i];
      if (!here.insert(name).second) continue;  // the first of equal names wins
      std::unique_ptr<Shape>& member = members[name];
      if (member == nullptr) {
        if (names.size() == kFieldsMax) {
          members.erase(name);
          too_wide = true;
          continue;
        }
        names.push_back(name);
        member = std::make_unique<Shape>();
      }
      member->Add(value, typed_text, nesting + 1);
    }
  }

  Type NumberType() const {
    if (fractions == 0)
      return Simple(beyond_hugeint ? Kind::kDouble : beyond_bigint ? Kind::kHugeint : Kind::kBigint);
    if (inexact || scale > kScaleMax || digits + scale > kDecimalWidth) return Simple(Kind::kDouble);
    Type decimal = Simple(Kind::kDecimal);
    decimal.width = kDecimalWidth, decimal.scale = static_cast<uint8_t>(scale);
    return decimal;
  }

  Type StringType() const {
    if (zoned == strings) return Simple(Kind::kTimestamptz);
    if (local == strings) return Simple(Kind::kTimestamp);
    if (dates == strings) return Simple(Kind::kDate);
    if (uuids == strings) return Simple(Kind::kUuid);
    return Simple(Kind::kVarchar);
  }

  Type Infer() const {
    uint64_t values = seen - nulls;
    if (values == 0 || too_wide) return Simple(Kind::kJson);
    if (booleans == values) return Simple(Kind::kBoolean);
    if (whole + fractions == values) return NumberType();
    if (strings == values) return StringType();
    if (arrays == values) {
      Type list = Simple(Kind::kList);
      Field item;
      item.type = element->Infer();
      if (element->seen == 0) return Simple(Kind::kJson);
      list.children.push_back(std::move(item));
      return list;
    }
    if (objects != values || names.empty()) return Simple(Kind::kJson);
    // DuckDB's member names differ in more than case; an object whose names do not is json.
    Type result = Simple(Kind::kStruct);
    std::set<std::string> taken;
    for (const std::string& name : names) {
      if (name.empty() || !taken.insert(Lower(name)).second) return Simple(Kind::kJson);
      Field member;
      member.name = name;
      member.type = members.at(name)->Infer();
      result.children.push_back(std::move(member));
    }
    return result;
  }
};

ContractInference::ContractInference(bool typed_text)
    : root_(std::make_unique<Shape>()), typed_text_(typed_text) {}
ContractInference::~ContractInference() = default;
ContractInference::ContractInference(ContractInference&&) noexcept = default;

Status ContractInference::Add(std::string_view json) {
  if (auto error = ValidateJson(json, kJsonDepthMax)) {
    return Invalid("not JSON: {} at byte {}", error->message, error->position);
  }
  size_t begin = json.find_first_not_of(" \t\r\n");
  if (json[begin] != '{') return Invalid("a contract describes objects, and this sample is none");
  root_->Add(json.substr(begin), typed_text_, 0);
  ++samples_;
  return OkStatus();
}

Contract ContractInference::Finish() const {
  Contract contract;
  std::set<std::string> taken;
  for (const std::string& name : root_->names) {
    const Shape& shape = *root_->members.at(name);
    Field field;
    field.name = ColumnName(name, taken);
    field.pointer = "/" + PointerToken(name);
    field.type = shape.Infer();
    field.not_null = shape.seen == samples_ && shape.nulls == 0;
    contract.fields.push_back(std::move(field));
  }
  return contract;
}

namespace {

// A scalar of YAML: plain where every YAML parser reads it as the same text, else in double quotes.
std::string YamlScalar(std::string_view text, bool in_flow) {
  static const std::set<std::string> kWords = {"true", "false", "yes", "no", "on", "off",
                                               "null", "y",     "n",   "~",  ""};
  bool plain = !kWords.contains(Lower(text)) && IsAsciiWord(text[0]) && text.find(": ") == text.npos &&
               text.find(" #") == text.npos && text.find_first_of("\"\\\n") == text.npos &&
               text.back() != ':' && text.back() != ' ';
  if (in_flow) plain = plain && text.find_first_of(",[]{}") == text.npos;
  if (plain && text[0] >= '0' && text[0] <= '9' && text.find_first_not_of("0123456789._eE+-xX") == text.npos)
    plain = false;
  if (plain) return std::string(text);
  std::string quoted;
  AppendJsonString(quoted, text);  // JSON strings are YAML's
  return quoted;
}

}  // namespace

std::string ContractToYaml(const Contract& contract, int indent) {
  std::string yaml;
  for (const Field& field : contract.fields) {
    std::string text = field.type.ToString();
    if (field.not_null) text += " not null";
    if (field.default_literal) {
      text += " default '";
      for (char c : *field.default_literal) text += c == '\'' ? "''" : std::string(1, c);
      text += '\'';
    }
    if (!field.check.empty()) text += fmt::format(" check ({})", field.check);
    yaml += std::string(static_cast<size_t>(indent), ' ') + YamlScalar(field.name, false) + ": ";
    if (field.pointer == "/" + PointerToken(field.name)) {
      yaml += YamlScalar(text, false);
    } else {
      yaml += fmt::format("{{type: {}, from: {}}}", YamlScalar(text, true), YamlScalar(field.pointer, true));
    }
    yaml += '\n';
  }
  return yaml;
}

}  // namespace millstream
