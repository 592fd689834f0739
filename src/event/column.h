// Column: the values of one field for consecutive events, laid out as DuckDB's vectors want them.
//
// Place: floor 1; made by the assembler (ingest) and by EventBatch (from the log), read by sql/batch_scan.
// Form decides which members hold:
//   kAbsent      every value is NULL
//   kConstant    every value is the first of `fixed` or of the strings
//   kFlat        fixed width: `fixed` has rows * width bytes. Strings: value i is bytes[ends[i-1], ends[i])
//   kDictionary  strings only: value i is dictionary entry codes[i]; the entries are bytes[ends[...]] as
//   above kNested      struct: children are the members, row for row. list: children[0] holds the elements,
//   row i owns
//                [list_ends[i-1], list_ends[i])
// A Column may own its memory or borrow it from the EventBatch that holds it.
// NULL: bit i of `validity` (64-bit words, bit set = valid, DuckDB's mask) is clear; an empty mask = no
// NULLs. The fixed bytes of a NULL are zero. A NULL struct's members are NULL too.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "event/type.h"

namespace millstream {

struct Column {
  enum class Form : uint8_t { kAbsent, kConstant, kFlat, kDictionary, kNested };

  Type type;
  Form form = Form::kAbsent;
  uint32_t rows = 0;
  std::vector<uint64_t> validity;
  std::string_view fixed;           // points into owned_fixed, or into the batch
  std::string_view bytes;           // points into owned_bytes, or into the batch
  std::vector<uint32_t> ends;       // strings: end of each value (or dictionary entry) in `bytes`
  std::vector<uint16_t> codes;      // dictionary: one a row
  std::vector<uint32_t> list_ends;  // list
  std::vector<Column> children;     // struct and list
  std::string owned_fixed;
  std::string owned_bytes;

  Column() = default;
  Column(Column&&) = default;
  Column& operator=(Column&&) = default;
  Column(const Column&) = delete;
  Column& operator=(const Column&) = delete;

  bool IsNull(uint32_t row) const {
    if (form == Form::kAbsent) return true;
    return !validity.empty() && (validity[row >> 6] >> (row & 63) & 1) == 0;
  }
  /// A string value (strings only, not NULL).
  std::string_view String(uint32_t row) const {
    uint32_t entry = form == Form::kConstant ? 0 : form == Form::kDictionary ? codes[row] : row;
    uint32_t begin = entry == 0 ? 0 : ends[entry - 1];
    return bytes.substr(begin, ends[entry] - begin);
  }
  /// A fixed-width value (not NULL) as T, e.g. int64_t for a timestamp.
  template <typename T>
  T Fixed(uint32_t row) const {
    T value;
    __builtin_memcpy(&value, fixed.data() + (form == Form::kConstant ? 0 : row) * sizeof(T), sizeof(T));
    return value;
  }
};

}  // namespace millstream
