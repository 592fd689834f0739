// Type, Field, Contract: the typed, versioned fields that a stream's data must have.
//
// Place: floor 1. Parsed from YAML by catalog/, enforced at append by the assembler, read by sql/ as columns.
// Values; immutable once parsed; shared freely.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace millstream {

struct Field;

/// A type of a contract's field. Text forms are those of SURFACE: "decimal(12,2)", "enum('a','b')",
/// "struct(sku varchar, qty integer)[]", "varchar[]".
struct Type {
  enum class Kind : uint8_t {
    kBoolean,
    kTinyint,
    kSmallint,
    kInteger,
    kBigint,
    kUtinyint,
    kUsmallint,
    kUinteger,
    kUbigint,
    kHugeint,
    kFloat,
    kDouble,
    kDecimal,
    kVarchar,
    kDate,
    kTime,
    kTimestamp,
    kTimestamptz,
    kUuid,
    kBlob,
    kJson,
    kEnum,
    kStruct,
    kList,
  };
  Kind kind = Kind::kVarchar;
  uint8_t width = 0;                 // decimal: total digits, 1 to 38
  uint8_t scale = 0;                 // decimal: digits after the point
  std::vector<std::string> symbols;  // enum
  std::vector<Field> children;       // struct: the members; list: one, the element

  /// "decimal(12,2)": the normal form, which ParseType reads back to an equal type.
  std::string ToString() const;
  /// The type's name in DuckDB's SQL, e.g. "STRUCT(sku VARCHAR, qty INTEGER)[]".
  std::string ToSql() const;
  /// True for all but struct and list (json, blob, enum are flat): stored as a column in the batch.
  bool IsFlat() const { return kind != Kind::kStruct && kind != Kind::kList; }
  /// True where DuckDB's physical form is a string (varchar, blob, json).
  bool IsString() const { return kind == Kind::kVarchar || kind == Kind::kBlob || kind == Kind::kJson; }
  /// Bytes of one value in DuckDB's physical layout (decimal by width: 2, 4, 8, 16; enum by its size: 1, 2,
  /// 4); 0 for strings, structs and lists.
  uint32_t FixedBytes() const;
  bool operator==(const Type&) const;
};

struct Field {
  std::string name;
  Type type;
  bool not_null = false;
  std::optional<std::string>
      default_literal;  // as written in the contract, e.g. 'open' without its quotes, or 12.50
  std::string check;    // SQL over the contract's fields; empty = none
  std::string pointer;  // JSON pointer of the value; "/NAME" unless `from:` says otherwise

  /// 64 bits over (pointer, type, default, decoder version): a stored column is used only if its fingerprint
  /// equals this.
  uint64_t Fingerprint() const;
  bool operator==(const Field&) const;
};

struct Contract {
  std::vector<Field> fields;
  bool empty() const { return fields.empty(); }
  /// Index of a field by name, or -1.
  int Find(std::string_view name) const;
  bool operator==(const Contract&) const;
};

/// Parses "TYPE". kInvalid names what was wrong and the nearest type, e.g. "unknown type 'decmal(12,2)'; did
/// you mean 'decimal(12,2)'?"
Result<Type> ParseType(std::string_view text);
/// Parses "TYPE [not null] [default LITERAL] [check (EXPR)]" for a field `name`; checks that the default
/// converts.
Result<Field> ParseField(std::string name, std::string_view text);

/// A name as a token of a JSON pointer (RFC 6901, 4): "a/b~c" as "a~1b~0c".
std::string PointerToken(std::string_view name);

/// Raised when decoding changes what it makes of the same bytes.
inline constexpr uint32_t kDecoderVersion = 1;

}  // namespace millstream
