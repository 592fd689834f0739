#include "event/type.h"

#include <fmt/format.h>

#include "base/text.h"
#include "event/type_names.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace millstream {
namespace {

// Names that need no quotes: letters, digits and '_', and no word of SQL.
bool IsPlainName(std::string_view name) {
  std::string lower(name);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return CheckName(lower).ok();
}

std::string Quoted(std::string_view text, char quote) {
  std::string out(1, quote);
  for (char c : text) {
    if (c == quote) out += quote;
    out += c;
  }
  return out += quote;
}

// Both text forms differ only in the names of the flat types and in how struct members are quoted.
std::string Spell(const Type& type, bool sql) {
  switch (type.kind) {
    case Type::Kind::kDecimal:
      return fmt::format("{}({},{})", sql ? "DECIMAL" : "decimal", type.width, type.scale);
    case Type::Kind::kEnum: {
      std::string out = sql ? "ENUM(" : "enum(";
      for (size_t i = 0; i < type.symbols.size(); ++i) {
        if (i > 0) out += sql ? ", " : ",";
        out += Quoted(type.symbols[i], '\'');
      }
      return out + ")";
    }
    case Type::Kind::kStruct: {
      std::string out = sql ? "STRUCT(" : "struct(";
      for (size_t i = 0; i < type.children.size(); ++i) {
        if (i > 0) out += ", ";
        const std::string& name = type.children[i].name;
        out += IsPlainName(name) ? name : Quoted(name, '"');
        out += ' ';
        out += Spell(type.children[i].type, sql);
      }
      return out + ")";
    }
    case Type::Kind::kList:
      return Spell(type.children[0].type, sql) + "[]";
    default:
      return std::string(sql ? FlatTypeSqlName(type.kind) : FlatTypeName(type.kind));
  }
}

}  // namespace

std::string Type::ToString() const { return Spell(*this, false); }
std::string Type::ToSql() const { return Spell(*this, true); }

uint32_t Type::FixedBytes() const {
  switch (kind) {
    case Kind::kBoolean:
    case Kind::kTinyint:
    case Kind::kUtinyint:
      return 1;
    case Kind::kSmallint:
    case Kind::kUsmallint:
      return 2;
    case Kind::kInteger:
    case Kind::kUinteger:
    case Kind::kFloat:
    case Kind::kDate:
      return 4;
    case Kind::kBigint:
    case Kind::kUbigint:
    case Kind::kDouble:
    case Kind::kTime:
    case Kind::kTimestamp:
    case Kind::kTimestamptz:
      return 8;
    case Kind::kHugeint:
    case Kind::kUuid:
      return 16;
    case Kind::kDecimal:
      return width <= 4 ? 2 : width <= 9 ? 4 : width <= 18 ? 8 : 16;
    case Kind::kEnum:
      return symbols.size() <= 0xFF ? 1 : symbols.size() <= 0xFFFF ? 2 : 4;
    case Kind::kVarchar:
    case Kind::kBlob:
    case Kind::kJson:
    case Kind::kStruct:
    case Kind::kList:
      return 0;
  }
  return 0;
}

bool Type::operator==(const Type& other) const {
  return kind == other.kind && width == other.width && scale == other.scale && symbols == other.symbols &&
         children == other.children;
}

bool Field::operator==(const Field& other) const {
  return name == other.name && type == other.type && not_null == other.not_null &&
         default_literal == other.default_literal && check == other.check && pointer == other.pointer;
}

uint64_t Field::Fingerprint() const {
  // Lengths stand before the texts, so that no two fields have one normal form.
  std::string type_text = type.ToString();
  std::string form = fmt::format("{}:{}{}:{}{}:{}v{}", pointer.size(), pointer, type_text.size(), type_text,
                                 default_literal ? static_cast<int64_t>(default_literal->size()) : -1,
                                 default_literal.value_or(""), kDecoderVersion);
  return XXH3_64bits(form.data(), form.size());
}

int Contract::Find(std::string_view name) const {
  for (size_t i = 0; i < fields.size(); ++i) {
    if (fields[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

bool Contract::operator==(const Contract& other) const { return fields == other.fields; }

}  // namespace millstream
