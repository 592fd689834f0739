// ColumnBuilder: grows a Column row by row.
//
// Place: floor 1; the assembler's and the decoder's. Keeps its memory over Clear, so that a builder which is
// used again and again stops allocating. Threads: one at a time.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "event/column.h"

namespace millstream {

/// One flat value.
struct Scalar {
  bool is_null = true;
  alignas(16) char fixed[16] = {};  // DuckDB's physical layout, little-endian
  std::string_view string;

  template <typename T>
  void Set(T value) {
    std::memcpy(fixed, &value, sizeof(T));
    is_null = false;
  }
  void SetString(std::string_view value) {
    string = value;
    is_null = false;
  }
};

class ColumnBuilder {
 public:
  explicit ColumnBuilder(const Type& type);
  ColumnBuilder(ColumnBuilder&&) noexcept = default;
  ColumnBuilder& operator=(ColumnBuilder&&) noexcept = default;

  const Type& type() const { return column_.type; }
  uint32_t rows() const { return rows_; }
  /// Bytes of values held.
  size_t bytes() const { return fixed_used_ + bytes_used_; }

  void Append(const Scalar& value) {
    if (value.is_null) return AppendNull();
    if (is_string_) return AppendString(value.string);
    AppendFixed(value.fixed);
  }
  /// `value` has 16 readable bytes.
  void AppendFixed(const char* value) {
    if (fixed_used_ + 16 > column_.owned_fixed.size()) [[unlikely]]
      Grow(column_.owned_fixed, fixed_used_ + 16);
    std::memcpy(column_.owned_fixed.data() + fixed_used_, value, 16);
    fixed_used_ += width_;
    Valid();
  }
  void AppendString(std::string_view value) {
    size_t end = bytes_used_ + value.size();
    if (end > column_.owned_bytes.size()) [[unlikely]]
      Grow(column_.owned_bytes, end);
    CopyText(column_.owned_bytes.data() + bytes_used_, value.data(), value.size());
    bytes_used_ = end;
    column_.ends.push_back(static_cast<uint32_t>(end));
    Valid();
  }
  void AppendNull();
  void AppendNulls(uint32_t count);
  /// Row `row` of a flat column of the same type.
  void AppendFrom(const Column& column, uint32_t row);
  /// All rows of a flat column of the same type.
  void AppendAll(const Column& column);

  /// Struct: one row is one row of each child; call after the children got theirs. List: the row ends at the
  /// child's present end.
  void CloseRow();
  ColumnBuilder& child(size_t index) { return children_[index]; }
  /// Drops the last rows, down to `rows` (nested ones with their children).
  void Truncate(uint32_t rows);

  /// The column so far; its memory is the builder's. Flat types only. Valid until the next change.
  const Column& View();
  Column Take();
  void Clear();

 private:
  // Most texts are short: two loads that may overlap instead of a call.
  static void CopyText(char* to, const char* from, size_t size) {
    if (size > 16) {
      std::memcpy(to, from, size);
    } else if (size >= 8) {
      CopyEnds<uint64_t>(to, from, size);
    } else if (size >= 4) {
      CopyEnds<uint32_t>(to, from, size);
    } else {
      for (size_t i = 0; i < size; ++i) to[i] = from[i];
    }
  }
  template <typename T>
  static void CopyEnds(char* to, const char* from, size_t size) {
    T first, last;
    std::memcpy(&first, from, sizeof(T));
    std::memcpy(&last, from + size - sizeof(T), sizeof(T));
    std::memcpy(to, &first, sizeof(T));
    std::memcpy(to + size - sizeof(T), &last, sizeof(T));
  }
  static void Grow(std::string& buffer, size_t least);
  void Valid() {
    if (nulls_ > 0) SetValid();
    ++rows_;
  }
  void SetValid();

  Column column_;  // ends, validity, list_ends and the buffers grow in place; the rest is filled by View and
                   // Take
  std::vector<ColumnBuilder> children_;
  size_t fixed_used_ = 0, bytes_used_ = 0;
  uint32_t width_, rows_ = 0, nulls_ = 0;
  bool is_string_;
};

}  // namespace millstream
