#include "event/column_builder.h"

#include <algorithm>

namespace millstream {
namespace {

constexpr size_t kBufferMin = 256;

}  // namespace

ColumnBuilder::ColumnBuilder(const Type& type) : width_(type.FixedBytes()), is_string_(type.IsString()) {
  column_.type = type;
  for (const Field& child : type.children) children_.emplace_back(child.type);
}

void ColumnBuilder::Grow(std::string& buffer, size_t least) {
  buffer.resize(std::max({least, buffer.size() * 2, kBufferMin}));
}

void ColumnBuilder::SetValid() {
  if (rows_ / 64 >= column_.validity.size()) column_.validity.push_back(0);
  column_.validity[rows_ / 64] |= uint64_t{1} << (rows_ % 64);
}

void ColumnBuilder::AppendNull() {
  if (nulls_ == 0) {
    column_.validity.assign(rows_ / 64 + 1, ~uint64_t{0});
    column_.validity[rows_ / 64] = (uint64_t{1} << (rows_ % 64)) - 1;
  } else if (rows_ / 64 >= column_.validity.size()) {
    column_.validity.push_back(0);
  }
  ++nulls_;
  ++rows_;
  if (is_string_) {
    column_.ends.push_back(static_cast<uint32_t>(bytes_used_));
  } else if (width_ > 0) {
    if (fixed_used_ + 16 > column_.owned_fixed.size()) Grow(column_.owned_fixed, fixed_used_ + 16);
    std::memset(column_.owned_fixed.data() + fixed_used_, 0, 16);
    fixed_used_ += width_;
  } else if (type().kind == Type::Kind::kStruct) {
    for (ColumnBuilder& member : children_) member.AppendNull();
  } else {
    column_.list_ends.push_back(children_[0].rows());
  }
}

void ColumnBuilder::AppendNulls(uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) AppendNull();
}

void ColumnBuilder::CloseRow() {
  if (type().kind == Type::Kind::kList) column_.list_ends.push_back(children_[0].rows());
  Valid();
}

void ColumnBuilder::AppendFrom(const Column& column, uint32_t row) {
  if (column.IsNull(row)) return AppendNull();
  if (is_string_) return AppendString(column.String(row));
  char value[16] = {};
  std::memcpy(value,
              column.fixed.data() + (column.form == Column::Form::kConstant ? 0 : size_t{row} * width_),
              width_);
  AppendFixed(value);
}

void ColumnBuilder::AppendAll(const Column& column) {
  if (column.form == Column::Form::kAbsent) return AppendNulls(column.rows);
  for (uint32_t row = 0; row < column.rows; ++row) AppendFrom(column, row);
}

void ColumnBuilder::Truncate(uint32_t rows) {
  if (rows >= rows_) return;
  if (nulls_ > 0) {
    nulls_ = 0;
    for (uint32_t row = 0; row < rows; ++row) nulls_ += (column_.validity[row / 64] >> (row % 64) & 1) == 0;
    column_.validity.resize(nulls_ == 0 ? 0 : (rows + 63) / 64);
    if (nulls_ > 0 && rows % 64 != 0) column_.validity.back() &= (uint64_t{1} << (rows % 64)) - 1;
  }
  rows_ = rows;
  if (is_string_) {
    column_.ends.resize(rows);
    bytes_used_ = rows == 0 ? 0 : column_.ends.back();
  } else if (width_ > 0) {
    fixed_used_ = size_t{rows} * width_;
  } else if (type().kind == Type::Kind::kStruct) {
    for (ColumnBuilder& member : children_) member.Truncate(rows);
  } else {
    column_.list_ends.resize(rows);
    children_[0].Truncate(rows == 0 ? 0 : column_.list_ends.back());
  }
}

const Column& ColumnBuilder::View() {
  bool absent = rows_ == nulls_;
  column_.rows = rows_;
  column_.form = absent             ? Column::Form::kAbsent
                 : !type().IsFlat() ? Column::Form::kNested
                                    : Column::Form::kFlat;
  column_.fixed = std::string_view(column_.owned_fixed).substr(0, fixed_used_);
  column_.bytes = std::string_view(column_.owned_bytes).substr(0, bytes_used_);
  return column_;
}

Column ColumnBuilder::Take() {
  View();
  for (ColumnBuilder& child : children_) column_.children.push_back(child.Take());
  Column taken = std::move(column_);
  // Short strings move their bytes: the views follow.
  taken.fixed = std::string_view(taken.owned_fixed).substr(0, fixed_used_);
  taken.bytes = std::string_view(taken.owned_bytes).substr(0, bytes_used_);
  column_ = Column();
  column_.type = taken.type;
  fixed_used_ = bytes_used_ = 0;
  rows_ = nulls_ = 0;
  return taken;
}

void ColumnBuilder::Clear() {
  column_.validity.clear();
  column_.ends.clear();
  column_.list_ends.clear();
  for (ColumnBuilder& child : children_) child.Clear();
  fixed_used_ = bytes_used_ = 0;
  rows_ = nulls_ = 0;
}

}  // namespace millstream
