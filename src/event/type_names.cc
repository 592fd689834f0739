#include "event/type_names.h"

#include <iterator>

namespace millstream {
namespace {

using Kind = Type::Kind;

struct TypeName {
  Kind kind;
  std::string_view name;
  std::string_view sql;  // empty: an alias
};

// A kind's own name comes before its aliases.
constexpr TypeName kNames[] = {
    {Kind::kBoolean, "boolean", "BOOLEAN"},
    {Kind::kTinyint, "tinyint", "TINYINT"},
    {Kind::kSmallint, "smallint", "SMALLINT"},
    {Kind::kInteger, "integer", "INTEGER"},
    {Kind::kBigint, "bigint", "BIGINT"},
    {Kind::kUtinyint, "utinyint", "UTINYINT"},
    {Kind::kUsmallint, "usmallint", "USMALLINT"},
    {Kind::kUinteger, "uinteger", "UINTEGER"},
    {Kind::kUbigint, "ubigint", "UBIGINT"},
    {Kind::kHugeint, "hugeint", "HUGEINT"},
    {Kind::kFloat, "float", "FLOAT"},
    {Kind::kDouble, "double", "DOUBLE"},
    {Kind::kDecimal, "decimal", "DECIMAL"},
    {Kind::kVarchar, "varchar", "VARCHAR"},
    {Kind::kDate, "date", "DATE"},
    {Kind::kTime, "time", "TIME"},
    {Kind::kTimestamp, "timestamp", "TIMESTAMP"},
    {Kind::kTimestamptz, "timestamptz", "TIMESTAMP WITH TIME ZONE"},
    {Kind::kUuid, "uuid", "UUID"},
    {Kind::kBlob, "blob", "BLOB"},
    {Kind::kJson, "json", "JSON"},
    {Kind::kEnum, "enum", "ENUM"},
    {Kind::kStruct, "struct", "STRUCT"},
    {Kind::kBoolean, "bool", ""},
    {Kind::kTinyint, "int1", ""},
    {Kind::kSmallint, "int2", ""},
    {Kind::kSmallint, "short", ""},
    {Kind::kInteger, "int", ""},
    {Kind::kInteger, "int4", ""},
    {Kind::kBigint, "int8", ""},
    {Kind::kBigint, "long", ""},
    {Kind::kHugeint, "int128", ""},
    {Kind::kFloat, "real", ""},
    {Kind::kFloat, "float4", ""},
    {Kind::kDouble, "float8", ""},
    {Kind::kDecimal, "numeric", ""},
    {Kind::kVarchar, "text", ""},
    {Kind::kVarchar, "string", ""},
    {Kind::kTimestamp, "datetime", ""},
    {Kind::kBlob, "bytea", ""},
    {Kind::kBlob, "binary", ""},
};

}  // namespace

std::string_view FlatTypeName(Kind kind) {
  for (const TypeName& entry : kNames) {
    if (entry.kind == kind) return entry.name;
  }
  return "";
}

std::string_view FlatTypeSqlName(Kind kind) {
  for (const TypeName& entry : kNames) {
    if (entry.kind == kind) return entry.sql;
  }
  return "";
}

std::optional<Kind> FindTypeKind(std::string_view name) {
  for (const TypeName& entry : kNames) {
    if (entry.name == name) return entry.kind;
  }
  return std::nullopt;
}

std::vector<std::string> TypeNames() {
  std::vector<std::string> names;
  for (const TypeName& entry : kNames) names.emplace_back(entry.name);
  return names;
}

}  // namespace millstream
