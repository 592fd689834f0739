// JsonWriter: values of chunks as JSON or plain text. The output path of HTTP answers, NDJSON and CSV files.
#include "sql/duckdb_face.h"
#include "sql/json_text.h"

namespace millstream {

struct JsonWriter::TypeInfo {
  duckdb_type id = DUCKDB_TYPE_INVALID;
  duckdb_type physical = DUCKDB_TYPE_INVALID;  // of decimals and enums
  uint8_t scale = 0;
  bool json = false;
  idx_t array_size = 0;
  std::vector<std::string> names;      // enum symbols; members of a struct or union, quoted and with a colon
  std::vector<std::string> raw_names;  // enum symbols as they are
  std::vector<TypeInfo> children;

  static TypeInfo Make(duckdb_logical_type type);
};

namespace {

std::string TakeText(char* text) {
  std::string out = text == nullptr ? "" : text;
  duckdb_free(text);
  return out;
}

// A vector's pointers, fetched once for many rows.
struct VectorView {
  duckdb_vector vector;
  const char* data;
  const uint64_t* mask;

  explicit VectorView(duckdb_vector of)
      : vector(of),
        data(static_cast<const char*>(duckdb_vector_get_data(of))),
        mask(duckdb_vector_get_validity(of)) {}
  bool IsNull(idx_t row) const { return mask != nullptr && (mask[row >> 6] >> (row & 63) & 1) == 0; }
  template <typename T>
  T Get(idx_t row) const {
    T value;
    std::memcpy(&value, data + row * sizeof(T), sizeof(T));
    return value;
  }
  std::string_view String(idx_t row) const {
    auto* text = reinterpret_cast<const duckdb_string_t*>(data) + row;
    uint32_t length = text->value.inlined.length;
    return {length <= 12 ? text->value.inlined.inlined : text->value.pointer.ptr, length};
  }
};

}  // namespace

JsonWriter::TypeInfo JsonWriter::TypeInfo::Make(duckdb_logical_type type) {
  TypeInfo info;
  info.id = info.physical = duckdb_get_type_id(type);
  auto add = [&info](duckdb_logical_type child) { info.children.push_back(Make(LogicalType(child).get())); };
  switch (info.id) {
    case DUCKDB_TYPE_VARCHAR:
      info.json = TypeName(type) == "JSON";
      break;
    case DUCKDB_TYPE_DECIMAL:
      info.scale = duckdb_decimal_scale(type);
      info.physical = duckdb_decimal_internal_type(type);
      break;
    case DUCKDB_TYPE_ENUM:
      info.physical = duckdb_enum_internal_type(type);
      for (uint32_t i = 0; i < duckdb_enum_dictionary_size(type); ++i) {
        info.raw_names.push_back(TakeText(duckdb_enum_dictionary_value(type, i)));
        AppendQuoted(info.names.emplace_back(), info.raw_names.back());
      }
      break;
    case DUCKDB_TYPE_LIST:
      add(duckdb_list_type_child_type(type));
      break;
    case DUCKDB_TYPE_ARRAY:
      info.array_size = duckdb_array_type_array_size(type);
      add(duckdb_array_type_child_type(type));
      break;
    case DUCKDB_TYPE_MAP:
      add(duckdb_map_type_key_type(type));
      add(duckdb_map_type_value_type(type));
      break;
    case DUCKDB_TYPE_STRUCT:
      for (idx_t i = 0; i < duckdb_struct_type_child_count(type); ++i) {
        AppendQuoted(info.names.emplace_back(), TakeText(duckdb_struct_type_child_name(type, i)));
        info.names.back() += ':';
        add(duckdb_struct_type_child_type(type, i));
      }
      break;
    case DUCKDB_TYPE_UNION:
      for (idx_t i = 0; i < duckdb_union_type_member_count(type); ++i)
        add(duckdb_union_type_member_type(type, i));
      break;
    default:
      break;
  }
  return info;
}

namespace {

using Info = JsonWriter::TypeInfo;

__int128 DecimalAt(const VectorView& view, duckdb_type physical, idx_t row) {
  switch (physical) {
    case DUCKDB_TYPE_SMALLINT:
      return view.Get<int16_t>(row);
    case DUCKDB_TYPE_INTEGER:
      return view.Get<int32_t>(row);
    case DUCKDB_TYPE_BIGINT:
      return view.Get<int64_t>(row);
    default:
      return view.Get<__int128>(row);
  }
}

uint32_t EnumAt(const VectorView& view, duckdb_type physical, idx_t row) {
  switch (physical) {
    case DUCKDB_TYPE_UTINYINT:
      return view.Get<uint8_t>(row);
    case DUCKDB_TYPE_USMALLINT:
      return view.Get<uint16_t>(row);
    default:
      return view.Get<uint32_t>(row);
  }
}

// Numbers and truth values: the same in JSON and in plain text. False: `id` is none of them.
bool AppendNumber(std::string& out, const Info& info, const VectorView& view, idx_t row) {
  switch (info.id) {
    case DUCKDB_TYPE_BOOLEAN:
      out += view.Get<uint8_t>(row) != 0 ? "true" : "false";
      return true;
    case DUCKDB_TYPE_TINYINT:
      AppendInteger(out, view.Get<int8_t>(row));
      return true;
    case DUCKDB_TYPE_SMALLINT:
      AppendInteger(out, view.Get<int16_t>(row));
      return true;
    case DUCKDB_TYPE_INTEGER:
      AppendInteger(out, view.Get<int32_t>(row));
      return true;
    case DUCKDB_TYPE_BIGINT:
      AppendInteger(out, view.Get<int64_t>(row));
      return true;
    case DUCKDB_TYPE_UTINYINT:
      AppendUnsigned(out, view.Get<uint8_t>(row));
      return true;
    case DUCKDB_TYPE_USMALLINT:
      AppendUnsigned(out, view.Get<uint16_t>(row));
      return true;
    case DUCKDB_TYPE_UINTEGER:
      AppendUnsigned(out, view.Get<uint32_t>(row));
      return true;
    case DUCKDB_TYPE_UBIGINT:
      AppendUnsigned(out, view.Get<uint64_t>(row));
      return true;
    case DUCKDB_TYPE_DECIMAL:
      AppendDecimal(out, DecimalAt(view, info.physical, row), info.scale);
      return true;
    case DUCKDB_TYPE_BIGNUM:
      AppendBignum(out, view.String(row));
      return true;
    case DUCKDB_TYPE_HUGEINT:
    case DUCKDB_TYPE_UHUGEINT: {
      auto value = view.Get<duckdb_uhugeint>(row);
      AppendHugeint(out, value.lower, value.upper, info.id == DUCKDB_TYPE_HUGEINT);
      return true;
    }
    default:
      return false;
  }
}

// Values that JSON writes as strings, without their quotes; they need no escapes. False: none of them.
bool AppendBare(std::string& out, const Info& info, const VectorView& view, idx_t row) {
  switch (info.id) {
    case DUCKDB_TYPE_DATE:
      AppendDate(out, view.Get<int32_t>(row));
      return true;
    case DUCKDB_TYPE_TIME:
      AppendTimeOfDay(out, view.Get<int64_t>(row), 1'000'000);
      return true;
    case DUCKDB_TYPE_TIME_NS:
      AppendTimeOfDay(out, view.Get<int64_t>(row), 1'000'000'000);
      return true;
    case DUCKDB_TYPE_TIMESTAMP:
      AppendTimestamp(out, view.Get<int64_t>(row), 1'000'000, false);
      return true;
    case DUCKDB_TYPE_TIMESTAMP_TZ:
      AppendTimestamp(out, view.Get<int64_t>(row), 1'000'000, true);
      return true;
    case DUCKDB_TYPE_TIMESTAMP_S:
      AppendTimestamp(out, view.Get<int64_t>(row), 1, false);
      return true;
    case DUCKDB_TYPE_TIMESTAMP_MS:
      AppendTimestamp(out, view.Get<int64_t>(row), 1'000, false);
      return true;
    case DUCKDB_TYPE_TIMESTAMP_NS:
      AppendTimestamp(out, view.Get<int64_t>(row), 1'000'000'000, false);
      return true;
    case DUCKDB_TYPE_BLOB:
      AppendBase64(out, view.String(row));
      return true;
    case DUCKDB_TYPE_BIT:
      AppendBits(out, view.String(row));
      return true;
    case DUCKDB_TYPE_TIME_TZ: {
      duckdb_time_tz_struct parts = duckdb_from_time_tz({view.Get<uint64_t>(row)});
      const duckdb_time_struct& time = parts.time;
      AppendTimeOfDay(out, ((time.hour * 60ll + time.min) * 60 + time.sec) * 1'000'000 + time.micros,
                      1'000'000);
      int minutes = std::abs(parts.offset) / 60;
      fmt::format_to(std::back_inserter(out), "{}{:02}:{:02}", parts.offset < 0 ? '-' : '+', minutes / 60,
                     minutes % 60);
      return true;
    }
    case DUCKDB_TYPE_UUID: {
      auto value = view.Get<duckdb_hugeint>(row);
      AppendUuid(out, value.lower, value.upper);
      return true;
    }
    case DUCKDB_TYPE_INTERVAL: {
      auto value = view.Get<duckdb_interval>(row);
      AppendInterval(out, value.months, value.days, value.micros);
      return true;
    }
    default:
      return false;
  }
}

void AppendPlain(std::string& out, const Info& info, const VectorView& view, idx_t row);

void AppendJson(std::string& out, const Info& info, const VectorView& view, idx_t row) {
  if (view.IsNull(row)) {
    out += "null";
    return;
  }
  switch (info.id) {
    case DUCKDB_TYPE_VARCHAR:
      info.json ? void(out += view.String(row)) : AppendQuoted(out, view.String(row));
      return;
    case DUCKDB_TYPE_FLOAT:
      if (!AppendFloat(out, view.Get<float>(row))) out += "null";
      return;
    case DUCKDB_TYPE_DOUBLE:
      if (!AppendDouble(out, view.Get<double>(row))) out += "null";
      return;
    case DUCKDB_TYPE_ENUM:
      out += info.names[EnumAt(view, info.physical, row)];
      return;
    case DUCKDB_TYPE_STRUCT: {
      char separator = '{';
      for (size_t i = 0; i < info.children.size(); ++i) {
        out.push_back(separator);
        out += info.names[i];
        AppendJson(out, info.children[i], VectorView(duckdb_struct_vector_get_child(view.vector, i)), row);
        separator = ',';
      }
      out += info.children.empty() ? "{}" : "}";
      return;
    }
    case DUCKDB_TYPE_UNION: {  // a struct whose first child is the tag
      auto tag = VectorView(duckdb_struct_vector_get_child(view.vector, 0)).Get<uint8_t>(row);
      AppendJson(out, info.children[tag], VectorView(duckdb_struct_vector_get_child(view.vector, tag + 1)),
                 row);
      return;
    }
    case DUCKDB_TYPE_LIST:
    case DUCKDB_TYPE_ARRAY: {
      bool array = info.id == DUCKDB_TYPE_ARRAY;
      duckdb_list_entry entry = array ? duckdb_list_entry{row * info.array_size, info.array_size}
                                      : view.Get<duckdb_list_entry>(row);
      VectorView child(array ? duckdb_array_vector_get_child(view.vector)
                             : duckdb_list_vector_get_child(view.vector));
      out.push_back('[');
      for (idx_t i = 0; i < entry.length; ++i) {
        if (i > 0) out.push_back(',');
        AppendJson(out, info.children[0], child, entry.offset + i);
      }
      out.push_back(']');
      return;
    }
    case DUCKDB_TYPE_MAP: {  // a list of struct(key, value)
      auto entry = view.Get<duckdb_list_entry>(row);
      duckdb_vector pairs = duckdb_list_vector_get_child(view.vector);
      VectorView keys(duckdb_struct_vector_get_child(pairs, 0)),
          values(duckdb_struct_vector_get_child(pairs, 1));
      out.push_back('{');
      for (idx_t i = 0; i < entry.length; ++i) {
        if (i > 0) out.push_back(',');
        std::string key;
        AppendPlain(key, info.children[0], keys, entry.offset + i);
        AppendQuoted(out, key);
        out.push_back(':');
        AppendJson(out, info.children[1], values, entry.offset + i);
      }
      out.push_back('}');
      return;
    }
    default:
      break;
  }
  if (AppendNumber(out, info, view, row)) return;
  size_t begin = out.size();
  out.push_back('"');
  if (AppendBare(out, info, view, row)) {
    out.push_back('"');
  } else {
    out.resize(begin);
    out += "null";
  }
}

void AppendPlain(std::string& out, const Info& info, const VectorView& view, idx_t row) {
  if (view.IsNull(row)) return;
  switch (info.id) {
    case DUCKDB_TYPE_VARCHAR:
      out += view.String(row);
      return;
    case DUCKDB_TYPE_ENUM:
      out += info.raw_names[EnumAt(view, info.physical, row)];
      return;
    case DUCKDB_TYPE_FLOAT:
      if (auto value = view.Get<float>(row); !AppendFloat(out, value)) out += fmt::format("{}", value);
      return;
    case DUCKDB_TYPE_DOUBLE:
      if (auto value = view.Get<double>(row); !AppendDouble(out, value)) out += fmt::format("{}", value);
      return;
    default:
      break;
  }
  if (!AppendBare(out, info, view, row)) AppendJson(out, info, view, row);
}

}  // namespace

JsonWriter::JsonWriter(std::vector<duckdb_logical_type> types) {
  for (duckdb_logical_type type : types) types_.push_back(TypeInfo::Make(type));
}
JsonWriter::~JsonWriter() = default;
JsonWriter::JsonWriter(JsonWriter&&) noexcept = default;

void JsonWriter::Append(std::string& out, const Chunk& chunk, uint32_t column, uint32_t row) const {
  AppendJson(out, types_[column], VectorView(duckdb_data_chunk_get_vector(chunk.get(), column)), row);
}

void JsonWriter::AppendText(std::string& out, const Chunk& chunk, uint32_t column, uint32_t row) const {
  AppendPlain(out, types_[column], VectorView(duckdb_data_chunk_get_vector(chunk.get(), column)), row);
}

void JsonWriter::AppendObjects(std::string& out, const Chunk& chunk, const std::vector<ColumnInfo>& columns,
                               uint32_t count, std::string_view between) const {
  std::vector<VectorView> views;
  std::vector<std::string> names;
  for (uint32_t i = 0; i < count; ++i) {
    views.emplace_back(duckdb_data_chunk_get_vector(chunk.get(), i));
    names.emplace_back(1, i == 0 ? '{' : ',');
    AppendQuoted(names.back(), columns[i].name);
    names.back() += ':';
  }
  uint32_t rows = chunk.rows();
  for (uint32_t row = 0; row < rows; ++row) {
    if (row > 0) out += between;
    for (uint32_t i = 0; i < count; ++i) {
      out += names[i];
      AppendJson(out, types_[i], views[i], row);
    }
    out += count == 0 ? "{}" : "}";
  }
}

}  // namespace millstream
