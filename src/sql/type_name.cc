#include "sql/duckdb_face.h"

namespace millstream {
namespace {

std::string Take(char* text) {
  std::string out = text == nullptr ? "" : text;
  duckdb_free(text);
  return out;
}

// A member's name, quoted only where SQL needs it.
std::string MemberName(const std::string& name) {
  bool plain = !name.empty() && !(name[0] >= '0' && name[0] <= '9');
  for (char c : name) plain = plain && ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_');
  return plain ? name : QuoteIdentifier(name);
}

std::string MembersOf(duckdb_logical_type type, bool is_union) {
  std::string out;
  idx_t count = is_union ? duckdb_union_type_member_count(type) : duckdb_struct_type_child_count(type);
  for (idx_t i = 0; i < count; ++i) {
    std::string name =
        Take(is_union ? duckdb_union_type_member_name(type, i) : duckdb_struct_type_child_name(type, i));
    LogicalType child(is_union ? duckdb_union_type_member_type(type, i)
                               : duckdb_struct_type_child_type(type, i));
    if (i > 0) out += ", ";
    out += MemberName(name) + " " + TypeName(child.get());
  }
  return out;
}

std::string_view PlainName(duckdb_type type) {
  switch (type) {
    case DUCKDB_TYPE_BOOLEAN:
      return "BOOLEAN";
    case DUCKDB_TYPE_TINYINT:
      return "TINYINT";
    case DUCKDB_TYPE_SMALLINT:
      return "SMALLINT";
    case DUCKDB_TYPE_INTEGER:
      return "INTEGER";
    case DUCKDB_TYPE_BIGINT:
      return "BIGINT";
    case DUCKDB_TYPE_UTINYINT:
      return "UTINYINT";
    case DUCKDB_TYPE_USMALLINT:
      return "USMALLINT";
    case DUCKDB_TYPE_UINTEGER:
      return "UINTEGER";
    case DUCKDB_TYPE_UBIGINT:
      return "UBIGINT";
    case DUCKDB_TYPE_FLOAT:
      return "FLOAT";
    case DUCKDB_TYPE_DOUBLE:
      return "DOUBLE";
    case DUCKDB_TYPE_TIMESTAMP:
      return "TIMESTAMP";
    case DUCKDB_TYPE_DATE:
      return "DATE";
    case DUCKDB_TYPE_TIME:
      return "TIME";
    case DUCKDB_TYPE_INTERVAL:
      return "INTERVAL";
    case DUCKDB_TYPE_HUGEINT:
      return "HUGEINT";
    case DUCKDB_TYPE_UHUGEINT:
      return "UHUGEINT";
    case DUCKDB_TYPE_VARCHAR:
      return "VARCHAR";
    case DUCKDB_TYPE_BLOB:
      return "BLOB";
    case DUCKDB_TYPE_TIMESTAMP_S:
      return "TIMESTAMP_S";
    case DUCKDB_TYPE_TIMESTAMP_MS:
      return "TIMESTAMP_MS";
    case DUCKDB_TYPE_TIMESTAMP_NS:
      return "TIMESTAMP_NS";
    case DUCKDB_TYPE_UUID:
      return "UUID";
    case DUCKDB_TYPE_BIT:
      return "BIT";
    case DUCKDB_TYPE_TIME_TZ:
      return "TIME WITH TIME ZONE";
    case DUCKDB_TYPE_TIMESTAMP_TZ:
      return "TIMESTAMP WITH TIME ZONE";
    case DUCKDB_TYPE_BIGNUM:
      return "BIGNUM";
    case DUCKDB_TYPE_SQLNULL:
      return "\"NULL\"";
    case DUCKDB_TYPE_TIME_NS:
      return "TIME_NS";
    default:
      return "UNKNOWN";
  }
}

}  // namespace

std::string TypeName(duckdb_logical_type type) {
  if (char* alias = duckdb_logical_type_get_alias(type); alias != nullptr) return Take(alias);
  switch (duckdb_type id = duckdb_get_type_id(type)) {
    case DUCKDB_TYPE_DECIMAL:
      return fmt::format("DECIMAL({},{})", duckdb_decimal_width(type), duckdb_decimal_scale(type));
    case DUCKDB_TYPE_ENUM: {
      std::string out = "ENUM(";
      for (uint32_t i = 0; i < duckdb_enum_dictionary_size(type); ++i)
        out += (i == 0 ? "" : ", ") + QuoteLiteral(Take(duckdb_enum_dictionary_value(type, i)));
      return out + ")";
    }
    case DUCKDB_TYPE_LIST:
      return TypeName(LogicalType(duckdb_list_type_child_type(type)).get()) + "[]";
    case DUCKDB_TYPE_ARRAY:
      return fmt::format("{}[{}]", TypeName(LogicalType(duckdb_array_type_child_type(type)).get()),
                         duckdb_array_type_array_size(type));
    case DUCKDB_TYPE_MAP:
      return fmt::format("MAP({}, {})", TypeName(LogicalType(duckdb_map_type_key_type(type)).get()),
                         TypeName(LogicalType(duckdb_map_type_value_type(type)).get()));
    case DUCKDB_TYPE_STRUCT:
      return "STRUCT(" + MembersOf(type, false) + ")";
    case DUCKDB_TYPE_UNION:
      return "UNION(" + MembersOf(type, true) + ")";
    default:
      return std::string(PlainName(id));
  }
}

LogicalType MakeLogicalType(const Type& type) {
  auto plain = [](duckdb_type id) { return LogicalType(duckdb_create_logical_type(id)); };
  switch (type.kind) {
    case Type::Kind::kBoolean:
      return plain(DUCKDB_TYPE_BOOLEAN);
    case Type::Kind::kTinyint:
      return plain(DUCKDB_TYPE_TINYINT);
    case Type::Kind::kSmallint:
      return plain(DUCKDB_TYPE_SMALLINT);
    case Type::Kind::kInteger:
      return plain(DUCKDB_TYPE_INTEGER);
    case Type::Kind::kBigint:
      return plain(DUCKDB_TYPE_BIGINT);
    case Type::Kind::kUtinyint:
      return plain(DUCKDB_TYPE_UTINYINT);
    case Type::Kind::kUsmallint:
      return plain(DUCKDB_TYPE_USMALLINT);
    case Type::Kind::kUinteger:
      return plain(DUCKDB_TYPE_UINTEGER);
    case Type::Kind::kUbigint:
      return plain(DUCKDB_TYPE_UBIGINT);
    case Type::Kind::kHugeint:
      return plain(DUCKDB_TYPE_HUGEINT);
    case Type::Kind::kFloat:
      return plain(DUCKDB_TYPE_FLOAT);
    case Type::Kind::kDouble:
      return plain(DUCKDB_TYPE_DOUBLE);
    case Type::Kind::kDecimal:
      return LogicalType(duckdb_create_decimal_type(type.width, type.scale));
    case Type::Kind::kVarchar:
      return plain(DUCKDB_TYPE_VARCHAR);
    case Type::Kind::kDate:
      return plain(DUCKDB_TYPE_DATE);
    case Type::Kind::kTime:
      return plain(DUCKDB_TYPE_TIME);
    case Type::Kind::kTimestamp:
      return plain(DUCKDB_TYPE_TIMESTAMP);
    case Type::Kind::kTimestamptz:
      return plain(DUCKDB_TYPE_TIMESTAMP_TZ);
    case Type::Kind::kUuid:
      return plain(DUCKDB_TYPE_UUID);
    case Type::Kind::kBlob:
      return plain(DUCKDB_TYPE_BLOB);
    case Type::Kind::kJson: {
      LogicalType json = plain(DUCKDB_TYPE_VARCHAR);
      duckdb_logical_type_set_alias(json.get(), "JSON");
      return json;
    }
    case Type::Kind::kEnum: {
      std::vector<const char*> symbols;
      for (const std::string& symbol : type.symbols) symbols.push_back(symbol.c_str());
      return LogicalType(duckdb_create_enum_type(symbols.data(), symbols.size()));
    }
    case Type::Kind::kStruct: {
      std::vector<LogicalType> children;
      std::vector<duckdb_logical_type> types;
      std::vector<const char*> names;
      for (const Field& child : type.children) {
        children.push_back(MakeLogicalType(child.type));
        types.push_back(children.back().get());
        names.push_back(child.name.c_str());
      }
      return LogicalType(duckdb_create_struct_type(types.data(), names.data(), types.size()));
    }
    case Type::Kind::kList:
      return LogicalType(duckdb_create_list_type(MakeLogicalType(type.children[0].type).get()));
  }
  return plain(DUCKDB_TYPE_VARCHAR);
}

std::string QuoteIdentifier(std::string_view name) {
  std::string out = "\"";
  for (char c : name) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

std::string QuoteLiteral(std::string_view text) {
  std::string out = "'";
  for (char c : text) out += c == '\'' ? "''" : std::string(1, c);
  return out + "'";
}

}  // namespace millstream
