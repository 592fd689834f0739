// Decoder: the text of a JSON value to a value of a type, without loss.
//
// Place: floor 1. Used by the assembler at ingest and by EventBatch for columns that are not stored. What it
// makes of the same bytes is part of the log's meaning: whoever changes it raises kDecoderVersion. Rules:
// null and a missing value are NULL. Numbers never pass through a double unless the type is one; "1.50" is a
// decimal(3,2) and "1e2" an integer, 1.5 is no integer. Strings that convert are taken for other types. For
// varchar, numbers and booleans are their JSON text, objects and arrays are refused. json is the exact text.
// blob is base64. Threads: Decode is const and keeps no state; Append uses scratch of its own: one thread at
// a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "event/column_builder.h"
#include "event/json_scan.h"
#include "event/type.h"

namespace millstream {

/// Why a value does not convert.
struct DecodeError {
  std::string path;     // JSON pointer below the value: "" for itself, "/0/qty" inside
  std::string message;  // "\"abc\" is not decimal(12,2)"
};

class Decoder {
 public:
  explicit Decoder(const Type& type);
  ~Decoder();
  Decoder(Decoder&&) noexcept;

  const Type& type() const { return type_; }
  /// Flat types only. A string may point into the value, or into `scratch`. False: the value does not
  /// convert.
  bool Decode(const JsonValue& value, Scalar& out, std::string& scratch) const;
  /// Any type: appends one row. On failure the builder holds a NULL for it.
  std::optional<DecodeError> Append(const JsonValue& value, ColumnBuilder& to);
  /// "\"abc\" is not decimal(12,2)"; long values and types are cut.
  std::string Describe(const JsonValue& value) const;

 private:
  struct Members;
  bool DecodeText(std::string_view text, Scalar& out, std::string& scratch) const;
  bool DecodeEnum(std::string_view text, Scalar& out) const;
  std::optional<DecodeError> AppendStruct(const JsonValue& value, ColumnBuilder& to);
  std::optional<DecodeError> AppendList(const JsonValue& value, ColumnBuilder& to);

  Type type_;
  std::unordered_map<std::string, uint32_t> symbols_;
  std::unique_ptr<Members> members_;  // struct and list
  std::string scratch_;
};

/// A field's default as a value; `keep` holds its string. NULL if it has none. kInvalid if it does not
/// convert.
Status DecodeDefault(const Field& field, Scalar& out, std::string& keep);
/// Whether the default converts to the type.
Status CheckDefault(const Field& field);

}  // namespace millstream
