// Column codec: a flat Column to the bytes of a payload's section and back (docs/log-format-payload.md,
// "Columns").
//
// Place: floor 1; used by payload.cc and batch.cc. Stateless.
// Failure: DecodeColumn answers kCorrupt on any bytes that EncodeColumn does not write; it never reads out of
// bounds and never allocates more than the number of rows asks for.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "event/column.h"

namespace millstream {

/// First byte of a column's section.
enum class ColumnForm : uint8_t {
  kAbsent = 0,
  kConstant = 1,
  kFlat = 2,
  kDictionary = 3,
  kReference = 4,
  kPacked = 5
};

/// Appends a column (kAbsent or kFlat, not nested) to `out` in the smallest form that is found in one pass.
void EncodeColumn(const Column& column, std::string& out);
/// Appends a reference to the section with this index.
void EncodeReference(uint32_t section, std::string& out);

/// Strings and, where they are not packed, fixed values borrow `body`, which must outlive the column.
/// References are the caller's: kCorrupt.
Status DecodeColumn(std::string_view body, const Type& type, uint32_t rows, Column& column);
/// The section that a reference names, if `body` is one.
bool IsReference(std::string_view body, uint64_t* section);

}  // namespace millstream
