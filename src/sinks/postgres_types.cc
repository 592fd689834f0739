#include "sinks/postgres_types.h"

#include <cstdio>
#include <map>
#include <set>

namespace millstream {
namespace {

struct Mapping {
  const char* made;             // the type of a new column
  std::set<std::string> taken;  // pg_type.typname of columns that hold every value
};

const std::map<std::string, Mapping>& Mappings() {
  static const std::map<std::string, Mapping> kMappings = {
      {"BOOLEAN", {"boolean", {"bool"}}},
      {"TINYINT", {"smallint", {"int2", "int4", "int8", "numeric", "float4", "float8"}}},
      {"UTINYINT", {"smallint", {"int2", "int4", "int8", "numeric", "float4", "float8"}}},
      {"SMALLINT", {"smallint", {"int2", "int4", "int8", "numeric", "float4", "float8"}}},
      {"USMALLINT", {"integer", {"int4", "int8", "numeric", "float4", "float8"}}},
      {"INTEGER", {"integer", {"int4", "int8", "numeric", "float8"}}},
      {"UINTEGER", {"bigint", {"int8", "numeric", "float8"}}},
      {"BIGINT", {"bigint", {"int8", "numeric"}}},
      {"UBIGINT", {"numeric(20)", {"numeric"}}},
      {"HUGEINT", {"numeric(39)", {"numeric"}}},
      {"UHUGEINT", {"numeric(39)", {"numeric"}}},
      {"BIGNUM", {"numeric", {"numeric"}}},
      {"FLOAT", {"real", {"float4", "float8"}}},
      {"DOUBLE", {"double precision", {"float8"}}},
      {"VARCHAR", {"text", {}}},
      {"BLOB", {"bytea", {"bytea"}}},
      {"BIT", {"bit varying", {"varbit"}}},
      {"DATE", {"date", {"date", "timestamp", "timestamptz"}}},
      {"TIME", {"time", {"time"}}},
      {"TIME_NS", {"time", {"time"}}},
      {"TIME WITH TIME ZONE", {"time with time zone", {"timetz"}}},
      {"TIMESTAMP", {"timestamp", {"timestamp"}}},
      {"TIMESTAMP_S", {"timestamp", {"timestamp"}}},
      {"TIMESTAMP_MS", {"timestamp", {"timestamp"}}},
      {"TIMESTAMP_NS", {"timestamp", {"timestamp"}}},
      {"TIMESTAMP WITH TIME ZONE", {"timestamp with time zone", {"timestamptz"}}},
      {"INTERVAL", {"interval", {"interval"}}},
      {"UUID", {"uuid", {"uuid"}}},
      {"JSON", {"jsonb", {"jsonb", "json"}}}};
  return kMappings;
}

bool IsNested(const std::string& type) {
  if (type.ends_with(']')) return true;  // a list, an array
  for (const char* begin : {"STRUCT(", "MAP(", "UNION("})
    if (type.starts_with(begin)) return true;
  return false;
}

/// Digits before and after the point.
bool ReadDecimal(const std::string& type, const char* form, int& whole, int& scale) {
  int precision = 0;
  scale = 0;
  if (std::sscanf(type.c_str(), form, &precision, &scale) < 1) return false;
  whole = precision - scale;
  return true;
}

}  // namespace

std::string PostgresTypeOf(const std::string& type) {
  if (IsNested(type)) return "jsonb";
  int whole = 0, scale = 0;
  if (ReadDecimal(type, "DECIMAL(%d,%d)", whole, scale))
    return "numeric(" + std::to_string(whole + scale) + "," + std::to_string(scale) + ")";
  auto found = Mappings().find(type);
  return found == Mappings().end() ? "text" : found->second.made;
}

bool TakesType(const PostgresColumn& column, const std::string& type) {
  if (column.category == 'S') return true;  // everything has a text
  if (IsNested(type)) return column.base == "jsonb" || column.base == "json";
  int whole = 0, scale = 0;
  if (ReadDecimal(type, "DECIMAL(%d,%d)", whole, scale)) {
    int there_whole = 0, there_scale = 0;
    if (column.base != "numeric") return false;
    if (!ReadDecimal(column.type, "numeric(%d,%d)", there_whole, there_scale)) return true;
    return there_whole >= whole && there_scale >= scale;
  }
  auto found = Mappings().find(type);
  bool is_text = found == Mappings().end() || type == "VARCHAR";
  // Enums, domains over texts, uuid, json, addresses, what extensions add: read from their text.
  if (is_text) return column.category == 'E' || column.category == 'U' || column.category == 'I';
  return found->second.taken.contains(column.base);
}

}  // namespace millstream
