#include "event/decode.h"

#include <fmt/format.h>

#include "base/text.h"
#include "event/literals.h"

namespace millstream {
namespace {

using Kind = Type::Kind;

constexpr size_t kValueShownMax = 60;
constexpr size_t kTypeShownMax = 80;

// The first `most` bytes of a UTF-8 text, whole characters, with "…" where something was cut.
std::string Cut(std::string_view text, size_t most) {
  if (text.size() <= most) return std::string(text);
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0) == 0x80) --most;
  return std::string(text.substr(0, most)) + "…";
}

template <typename T>
bool DecodeInteger(std::string_view text, Scalar& out) {
  Int128 value;
  if (!ParseInteger(text, static_cast<Int128>(std::numeric_limits<T>::min()),
                    static_cast<Int128>(std::numeric_limits<T>::max()), value)) {
    return false;
  }
  out.Set(static_cast<T>(value));
  return true;
}

bool DecodeDecimal(const Type& type, std::string_view text, Scalar& out) {
  Int128 value;
  if (!ParseDecimal(text, type.width, type.scale, value)) return false;
  // Little-endian: the low bytes are the narrower integer.
  out.Set(value);
  return true;
}

// By reference: `value` is written by the call that makes `converted`.
template <typename T>
bool Take(bool converted, const T& value, Scalar& out) {
  if (converted) out.Set(value);
  return converted;
}

}  // namespace

// What a nested type's values are read with.
struct Decoder::Members {
  std::vector<Decoder> decoders;  // list: one
  std::optional<JsonFinder> finder;
  std::vector<JsonValue> values;
};

Decoder::Decoder(const Type& type) : type_(type) {
  for (size_t i = 0; i < type_.symbols.size(); ++i)
    symbols_.emplace(type_.symbols[i], static_cast<uint32_t>(i));
  if (type_.IsFlat()) return;
  members_ = std::make_unique<Members>();
  std::vector<std::string> pointers;
  for (const Field& member : type_.children) {
    members_->decoders.emplace_back(member.type);
    pointers.push_back("/" + PointerToken(member.name));
  }
  if (type_.kind == Kind::kStruct) members_->finder.emplace(std::move(pointers), 1024);
}

Decoder::~Decoder() = default;
Decoder::Decoder(Decoder&&) noexcept = default;

bool Decoder::Decode(const JsonValue& value, Scalar& out, std::string& scratch) const {
  switch (value.kind) {
    case JsonKind::kMissing:
    case JsonKind::kNull:
      out.is_null = true;
      return true;
    case JsonKind::kString: {
      if (type_.kind == Kind::kJson) break;
      std::string_view text = JsonStringValue(value, scratch);
      if (type_.kind == Kind::kVarchar) {
        out.SetString(text);
        return true;
      }
      if (type_.kind == Kind::kEnum) return DecodeEnum(text, out);
      return DecodeText(text, out, scratch) || DecodeText(Trim(text), out, scratch);
    }
    case JsonKind::kNumber:
      switch (type_.kind) {
        case Kind::kVarchar:
        case Kind::kJson:
          break;
        case Kind::kBoolean:
        case Kind::kTinyint:
        case Kind::kSmallint:
        case Kind::kInteger:
        case Kind::kBigint:
        case Kind::kUtinyint:
        case Kind::kUsmallint:
        case Kind::kUinteger:
        case Kind::kUbigint:
        case Kind::kHugeint:
        case Kind::kFloat:
        case Kind::kDouble:
        case Kind::kDecimal:
          return DecodeText(value.text, out, scratch);
        default:
          return false;
      }
      break;
    case JsonKind::kBoolean:
      if (type_.kind == Kind::kBoolean) {
        out.Set<uint8_t>(value.text.size() == 4);
        return true;
      }
      break;
    case JsonKind::kArray:
    case JsonKind::kObject:
      if (type_.kind != Kind::kJson) return false;
      break;
  }
  if (type_.kind != Kind::kJson && type_.kind != Kind::kVarchar) return false;
  out.SetString(value.text);
  return true;
}

bool Decoder::DecodeText(std::string_view text, Scalar& out, std::string& scratch) const {
  switch (type_.kind) {
    case Kind::kBoolean: {
      bool value = false;
      return Take(ParseBoolean(text, value), value, out);
    }
    case Kind::kTinyint:
      return DecodeInteger<int8_t>(text, out);
    case Kind::kSmallint:
      return DecodeInteger<int16_t>(text, out);
    case Kind::kInteger:
      return DecodeInteger<int32_t>(text, out);
    case Kind::kBigint:
      return DecodeInteger<int64_t>(text, out);
    case Kind::kUtinyint:
      return DecodeInteger<uint8_t>(text, out);
    case Kind::kUsmallint:
      return DecodeInteger<uint16_t>(text, out);
    case Kind::kUinteger:
      return DecodeInteger<uint32_t>(text, out);
    case Kind::kUbigint:
      return DecodeInteger<uint64_t>(text, out);
    case Kind::kHugeint: {
      constexpr Int128 kHighest = static_cast<Int128>(~static_cast<unsigned __int128>(0) >> 1);
      Int128 value = 0;
      return Take(ParseInteger(text, -kHighest - 1, kHighest, value), value, out);
    }
    case Kind::kFloat: {
      float value = 0;
      return Take(ParseFloat(text, value), value, out);
    }
    case Kind::kDouble: {
      double value = 0;
      return Take(ParseDouble(text, value), value, out);
    }
    case Kind::kDecimal:
      return DecodeDecimal(type_, text, out);
    case Kind::kDate: {
      int32_t days = 0;
      return Take(ParseDate(text, days), days, out);
    }
    case Kind::kTime: {
      int64_t us = 0;
      return Take(ParseTime(text, us), us, out);
    }
    case Kind::kTimestamp:
    case Kind::kTimestamptz: {
      int64_t us = 0;
      return Take(ParseTimestamp(text, us), us, out);
    }
    case Kind::kUuid:
      out.is_null = false;
      return ParseUuid(text, out.fixed);
    case Kind::kBlob: {
      std::string bytes;  // `text` may lie in scratch
      if (!ParseBase64(text, bytes)) return false;
      scratch = std::move(bytes);
      out.SetString(scratch);
      return true;
    }
    default:
      return false;
  }
}

bool Decoder::DecodeEnum(std::string_view text, Scalar& out) const {
  uint32_t index = 0;
  if (type_.symbols.size() <= 8) {
    while (index < type_.symbols.size() && type_.symbols[index] != text) ++index;
    if (index == type_.symbols.size()) return false;
  } else {
    auto found = symbols_.find(std::string(text));
    if (found == symbols_.end()) return false;
    index = found->second;
  }
  out.Set(index);
  return true;
}

std::optional<DecodeError> Decoder::Append(const JsonValue& value, ColumnBuilder& to) {
  if (value.kind == JsonKind::kMissing || value.kind == JsonKind::kNull) {
    to.AppendNull();
    return std::nullopt;
  }
  if (type_.kind == Kind::kStruct && value.kind == JsonKind::kObject) return AppendStruct(value, to);
  if (type_.kind == Kind::kList && value.kind == JsonKind::kArray) return AppendList(value, to);
  Scalar scalar;
  if (!type_.IsFlat() || !Decode(value, scalar, scratch_)) {
    to.AppendNull();
    return DecodeError{"", Describe(value)};
  }
  to.Append(scalar);
  return std::nullopt;
}

std::optional<DecodeError> Decoder::AppendStruct(const JsonValue& value, ColumnBuilder& to) {
  uint32_t row = to.rows();
  if (auto error = members_->finder->Find(value.text, members_->values)) {
    to.AppendNull();
    return DecodeError{"", error->message};
  }
  for (size_t i = 0; i < members_->decoders.size(); ++i) {
    if (auto error = members_->decoders[i].Append(members_->values[i], to.child(i))) {
      for (size_t j = 0; j <= i; ++j) to.child(j).Truncate(row);
      to.AppendNull();
      error->path = "/" + PointerToken(type_.children[i].name) + error->path;
      return error;
    }
  }
  to.CloseRow();
  return std::nullopt;
}

std::optional<DecodeError> Decoder::AppendList(const JsonValue& value, ColumnBuilder& to) {
  uint32_t elements_before = to.child(0).rows();
  auto elements = JsonElements(value.text);
  for (size_t i = 0; elements && i < elements->size(); ++i) {
    JsonValue element = MakeJsonValue((*elements)[i]);
    if (auto error = members_->decoders[0].Append(element, to.child(0))) {
      to.child(0).Truncate(elements_before);
      to.AppendNull();
      error->path = fmt::format("/{}{}", i, error->path);
      return error;
    }
  }
  to.CloseRow();
  return std::nullopt;
}

std::string Decoder::Describe(const JsonValue& value) const {
  return fmt::format("{} is not {}", Cut(value.text, kValueShownMax), Cut(type_.ToString(), kTypeShownMax));
}

Status DecodeDefault(const Field& field, Scalar& out, std::string& keep) {
  out = Scalar();
  if (!field.default_literal) return OkStatus();
  if (!field.type.IsFlat()) return Invalid("a struct or list takes no default");
  const std::string& literal = *field.default_literal;
  std::string quoted;
  JsonValue value;
  if (field.type.kind == Kind::kJson) {
    if (auto error = ValidateJson(literal)) {
      return Invalid("the default {} is not JSON: {}", Cut(literal, kValueShownMax), error->message);
    }
    value = MakeJsonValue(Trim(literal));
  } else {
    AppendJsonString(quoted, literal);
    value = MakeJsonValue(quoted);
  }
  if (!Decoder(field.type).Decode(value, out, keep)) {
    return Invalid("the default '{}' is not {}", Cut(literal, kValueShownMax), field.type.ToString());
  }
  if (field.type.IsString() && !out.is_null && out.string.data() != keep.data()) {
    keep.assign(out.string);
    out.string = keep;
  }
  return OkStatus();
}

Status CheckDefault(const Field& field) {
  Scalar value;
  std::string keep;
  return DecodeDefault(field, value, keep);
}

}  // namespace millstream
