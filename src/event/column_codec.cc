#include "event/column_codec.h"

#include <algorithm>
#include <limits>

#include "event/wire.h"

namespace millstream {
namespace {

constexpr uint8_t kHasValidity = 1;
constexpr uint32_t kDictionaryMax = 4096;
constexpr size_t kDictionaryBytesMax = 64;   // of a value on average: LZ4 does better with long ones
constexpr uint32_t kDictionaryProbe = 2048;  // rows after which half of them must be repetitions

void PutHead(std::string& out, ColumnForm form, const Column& column) {
  out += static_cast<char>(form);
  out += static_cast<char>(column.validity.empty() ? 0 : kHasValidity);
  if (column.validity.empty()) return;
  out.append(reinterpret_cast<const char*>(column.validity.data()), (column.rows + 7) / 8);
}

template <typename T>
void PutLengthsAs(std::string& out, const std::vector<uint32_t>& ends) {
  size_t at = out.size();
  out.resize(at + ends.size() * sizeof(T));
  char* to = out.data() + at;
  uint32_t begin = 0;
  for (uint32_t end : ends) {
    T length = static_cast<T>(end - begin);
    std::memcpy(to, &length, sizeof(T));
    to += sizeof(T);
    begin = end;
  }
}

void PutLengths(std::string& out, const std::vector<uint32_t>& ends) {
  uint32_t shortest = UINT32_MAX, longest = 0, begin = 0;
  for (uint32_t end : ends) {
    shortest = std::min(shortest, end - begin);
    longest = std::max(longest, end - begin);
    begin = end;
  }
  if (shortest >= longest) {
    out += '\0';
    PutFixed<uint32_t>(out, longest);
  } else if (longest <= 0xFF) {
    out += '\1';
    PutLengthsAs<uint8_t>(out, ends);
  } else if (longest <= 0xFFFF) {
    out += '\2';
    PutLengthsAs<uint16_t>(out, ends);
  } else {
    out += '\4';
    PutLengthsAs<uint32_t>(out, ends);
  }
}

// Gives each distinct string of a column a code, or gives up early.
class Dictionary {
 public:
  bool Build(const Column& column) {
    codes_.resize(column.rows);
    table_.assign(kSlots, 0);
    for (uint32_t row = 0; row < column.rows; ++row) {
      if (column.IsNull(row)) continue;
      if (!Add(column.String(row), codes_[row])) return false;
      if (row == kDictionaryProbe && ends_.size() > kDictionaryProbe / 2) return false;
    }
    return ends_.size() * 2 <= column.rows;
  }

  void Write(const Column& column, std::string& out) const {
    PutHead(out, ColumnForm::kDictionary, column);
    PutFixed<uint16_t>(out, static_cast<uint16_t>(ends_.size()));
    PutLengths(out, ends_);
    out += bytes_;
    if (ends_.size() <= 256) {
      size_t at = out.size();
      out.resize(at + codes_.size());
      for (size_t i = 0; i < codes_.size(); ++i) out[at + i] = static_cast<char>(codes_[i]);
    } else {
      out.append(reinterpret_cast<const char*>(codes_.data()), codes_.size() * sizeof(uint16_t));
    }
  }

 private:
  static constexpr uint32_t kSlots = 4 * kDictionaryMax;

  std::string_view Entry(uint32_t code) const {
    uint32_t begin = code == 0 ? 0 : ends_[code - 1];
    return std::string_view(bytes_).substr(begin, ends_[code] - begin);
  }

  bool Add(std::string_view value, uint16_t& code) {
    uint64_t head = 0, tail = 0;
    if (value.size() >= 8) {
      std::memcpy(&head, value.data(), 8);
      std::memcpy(&tail, value.data() + value.size() - 8, 8);
    } else {
      std::memcpy(&head, value.data(), value.size());
    }
    uint64_t mixed = (head ^ (tail * 0x9E3779B97F4A7C15ull) ^ value.size()) * 0xD6E8FEB86659FD93ull;
    for (uint64_t slot = mixed >> 40;; ++slot) {
      uint16_t& entry = table_[slot & (kSlots - 1)];
      if (entry == 0) {
        if (ends_.size() == kDictionaryMax) return false;
        bytes_ += value;
        ends_.push_back(static_cast<uint32_t>(bytes_.size()));
        entry = static_cast<uint16_t>(ends_.size());
        code = static_cast<uint16_t>(entry - 1);
        return true;
      }
      if (Entry(entry - 1u) == value) {
        code = static_cast<uint16_t>(entry - 1);
        return true;
      }
    }
  }

  std::vector<uint16_t> codes_, table_;  // the table holds code + 1; 0 = free
  std::vector<uint32_t> ends_;
  std::string bytes_;
};

bool AllStringsEqual(const Column& column) {
  std::string_view first = column.String(0);
  if (column.bytes.size() != first.size() * column.rows) return false;
  for (uint32_t row = 1; row < column.rows; ++row) {
    if (column.String(row) != first) return false;
  }
  return true;
}

void EncodeStrings(const Column& column, std::string& out) {
  if (column.validity.empty() && AllStringsEqual(column)) {
    PutHead(out, ColumnForm::kConstant, column);
    out += column.String(0);
    return;
  }
  if (column.rows >= 4 && column.bytes.size() <= column.rows * kDictionaryBytesMax) {
    Dictionary dictionary;
    if (dictionary.Build(column)) return dictionary.Write(column, out);
  }
  PutHead(out, ColumnForm::kFlat, column);
  PutLengths(out, column.ends);
  out += column.bytes;
}

template <typename T>
T LoadAt(std::string_view bytes, size_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

template <typename T, typename Offset>
void PutOffsets(std::string& out, const Column& column, T base) {
  size_t at = out.size();
  out.resize(at + column.rows * sizeof(Offset));
  char* to = out.data() + at;
  for (uint32_t row = 0; row < column.rows; ++row) {
    auto offset = static_cast<Offset>(static_cast<uint64_t>(LoadAt<T>(column.fixed, row)) -
                                      static_cast<uint64_t>(base));
    std::memcpy(to + row * sizeof(Offset), &offset, sizeof(Offset));
  }
}

// Integers as differences from the smallest, in fewer bytes. NULLs become whatever their zero gives: the
// reader clears them.
template <typename T>
bool EncodePacked(const Column& column, std::string& out) {
  T lowest = std::numeric_limits<T>::max(), highest = std::numeric_limits<T>::min();
  for (uint32_t row = 0; row < column.rows; ++row) {
    if (!column.validity.empty() && column.IsNull(row)) continue;
    T value = LoadAt<T>(column.fixed, row);
    lowest = std::min(lowest, value);
    highest = std::max(highest, value);
  }
  uint64_t range = static_cast<uint64_t>(highest) - static_cast<uint64_t>(lowest);
  uint8_t width = range <= 0xFF ? 1 : range <= 0xFFFF ? 2 : range <= 0xFFFFFFFF ? 4 : 8;
  if (width >= sizeof(T)) return false;
  PutHead(out, ColumnForm::kPacked, column);
  PutFixed<int64_t>(out, static_cast<int64_t>(lowest));
  out += static_cast<char>(width);
  if (width == 1) PutOffsets<T, uint8_t>(out, column, lowest);
  if (width == 2) PutOffsets<T, uint16_t>(out, column, lowest);
  if (width == 4) PutOffsets<T, uint32_t>(out, column, lowest);
  return true;
}

bool IsFloating(const Type& type) {
  return type.kind == Type::Kind::kFloat || type.kind == Type::Kind::kDouble;
}

void EncodeFixed(const Column& column, std::string& out) {
  size_t width = column.type.FixedBytes();
  bool constant = column.validity.empty() && std::memcmp(column.fixed.data(), column.fixed.data() + width,
                                                         column.fixed.size() - width) == 0;
  if (constant) {
    PutHead(out, ColumnForm::kConstant, column);
    out += column.fixed.substr(0, width);
    return;
  }
  if (!IsFloating(column.type)) {
    if (width == 2 && EncodePacked<int16_t>(column, out)) return;
    if (width == 4 && EncodePacked<int32_t>(column, out)) return;
    if (width == 8 && EncodePacked<int64_t>(column, out)) return;
  }
  PutHead(out, ColumnForm::kFlat, column);
  out += column.fixed;
}

// ---- decoding

bool ReadValidity(ByteReader& reader, uint32_t rows, Column& column) {
  std::string_view bits = reader.Bytes((rows + 7) / 8);
  if (!reader.ok()) return false;
  column.validity.assign((rows + 63) / 64, 0);
  std::memcpy(column.validity.data(), bits.data(), bits.size());
  return true;
}

template <typename T>
bool ReadEndsAs(ByteReader& reader, uint32_t count, std::vector<uint32_t>& ends) {
  std::string_view lengths = reader.Bytes(uint64_t{count} * sizeof(T));
  if (!reader.ok()) return false;
  ends.resize(count);
  uint64_t end = 0;
  for (uint32_t i = 0; i < count; ++i) {
    end += LoadAt<T>(lengths, i);
    ends[i] = static_cast<uint32_t>(end);
  }
  return end <= UINT32_MAX;
}

bool ReadEnds(ByteReader& reader, uint32_t count, std::vector<uint32_t>& ends) {
  switch (reader.Fixed<uint8_t>()) {
    case 0: {
      auto length = reader.Fixed<uint32_t>();
      if (!reader.ok() || uint64_t{length} * count > UINT32_MAX) return false;
      ends.resize(count);
      for (uint32_t i = 0; i < count; ++i) ends[i] = (i + 1) * length;
      return true;
    }
    case 1:
      return ReadEndsAs<uint8_t>(reader, count, ends);
    case 2:
      return ReadEndsAs<uint16_t>(reader, count, ends);
    case 4:
      return ReadEndsAs<uint32_t>(reader, count, ends);
    default:
      return false;
  }
}

bool ReadCodes(ByteReader& reader, uint32_t rows, uint32_t entries, Column& column) {
  column.codes.resize(rows);
  uint32_t highest = 0;
  if (entries <= 256) {
    std::string_view codes = reader.Bytes(rows);
    if (!reader.ok()) return false;
    for (uint32_t row = 0; row < rows; ++row) {
      column.codes[row] = static_cast<uint8_t>(codes[row]);
      highest = std::max<uint32_t>(highest, column.codes[row]);
    }
  } else {
    std::string_view codes = reader.Bytes(uint64_t{rows} * 2);
    if (!reader.ok()) return false;
    std::memcpy(column.codes.data(), codes.data(), codes.size());
    for (uint16_t code : column.codes) highest = std::max<uint32_t>(highest, code);
  }
  return highest < entries;
}

bool ReadStrings(ByteReader& reader, ColumnForm form, uint32_t rows, Column& column) {
  switch (form) {
    case ColumnForm::kConstant:
      column.form = Column::Form::kConstant;
      column.ends.assign(1, static_cast<uint32_t>(reader.rest().size()));
      column.bytes = reader.Bytes(reader.rest().size());
      return true;
    case ColumnForm::kFlat: {
      column.form = Column::Form::kFlat;
      if (!ReadEnds(reader, rows, column.ends)) return false;
      column.bytes = reader.Bytes(column.ends.back());
      return true;
    }
    case ColumnForm::kDictionary: {
      column.form = Column::Form::kDictionary;
      uint32_t entries = reader.Fixed<uint16_t>();
      if (entries == 0 || !ReadEnds(reader, entries, column.ends)) return false;
      column.bytes = reader.Bytes(column.ends.back());
      return ReadCodes(reader, rows, entries, column);
    }
    default:
      return false;
  }
}

template <typename T, typename Offset>
bool UnpackAs(ByteReader& reader, uint32_t rows, int64_t base, Column& column) {
  std::string_view offsets = reader.Bytes(uint64_t{rows} * sizeof(Offset));
  if (!reader.ok()) return false;
  column.owned_fixed.resize(
      std::max<size_t>(uint64_t{rows} * sizeof(T), 32));  // never a short string: views must survive a move
  for (uint32_t row = 0; row < rows; ++row) {
    auto value = static_cast<T>(static_cast<uint64_t>(base) + LoadAt<Offset>(offsets, row));
    std::memcpy(column.owned_fixed.data() + row * sizeof(T), &value, sizeof(T));
  }
  if (!column.validity.empty()) {
    for (uint32_t row = 0; row < rows; ++row) {
      if (column.IsNull(row)) std::memset(column.owned_fixed.data() + row * sizeof(T), 0, sizeof(T));
    }
  }
  column.fixed = std::string_view(column.owned_fixed).substr(0, uint64_t{rows} * sizeof(T));
  return true;
}

template <typename T>
bool Unpack(ByteReader& reader, uint32_t rows, Column& column) {
  auto base = reader.Fixed<int64_t>();
  switch (reader.Fixed<uint8_t>()) {
    case 1:
      return UnpackAs<T, uint8_t>(reader, rows, base, column);
    case 2:
      return UnpackAs<T, uint16_t>(reader, rows, base, column);
    case 4:
      return UnpackAs<T, uint32_t>(reader, rows, base, column);
    default:
      return false;
  }
}

bool ReadFixed(ByteReader& reader, ColumnForm form, uint32_t rows, Column& column) {
  uint32_t width = column.type.FixedBytes();
  column.form = form == ColumnForm::kConstant ? Column::Form::kConstant : Column::Form::kFlat;
  switch (form) {
    case ColumnForm::kConstant:
      column.fixed = reader.Bytes(width);
      return true;
    case ColumnForm::kFlat:
      column.fixed = reader.Bytes(uint64_t{rows} * width);
      return true;
    case ColumnForm::kPacked:
      if (width == 2) return Unpack<int16_t>(reader, rows, column);
      if (width == 4) return Unpack<int32_t>(reader, rows, column);
      return width == 8 && Unpack<int64_t>(reader, rows, column);
    default:
      return false;
  }
}

// Values that DuckDB must never see: a symbol beyond the enum's last, a boolean that is neither.
bool InRange(const Column& column, uint32_t rows) {
  uint64_t limit;
  if (column.type.kind == Type::Kind::kBoolean)
    limit = 2;
  else if (column.type.kind == Type::Kind::kEnum)
    limit = column.type.symbols.size();
  else
    return true;
  uint32_t width = column.type.FixedBytes();
  uint32_t values = column.form == Column::Form::kConstant ? 1 : rows;
  for (uint32_t i = 0; i < values; ++i) {
    uint32_t value = 0;
    std::memcpy(&value, column.fixed.data() + size_t{i} * width, width);
    if (value >= limit) return false;
  }
  return true;
}

}  // namespace

void EncodeColumn(const Column& column, std::string& out) {
  CHECK(column.type.IsFlat());
  if (column.form == Column::Form::kAbsent || column.rows == 0) {
    out += static_cast<char>(ColumnForm::kAbsent);
    out += '\0';
    return;
  }
  CHECK(column.form == Column::Form::kFlat);
  if (column.type.IsString())
    EncodeStrings(column, out);
  else
    EncodeFixed(column, out);
}

void EncodeReference(uint32_t section, std::string& out) {
  out += static_cast<char>(ColumnForm::kReference);
  out += '\0';
  PutVarint(out, section);
}

bool IsReference(std::string_view body, uint64_t* section) {
  if (body.empty() || static_cast<ColumnForm>(body[0]) != ColumnForm::kReference) return false;
  ByteReader reader(body.substr(std::min<size_t>(2, body.size())));
  *section = reader.Varint();
  return true;
}

Status DecodeColumn(std::string_view body, const Type& type, uint32_t rows, Column& column) {
  column = Column();
  column.type = type;
  column.rows = rows;
  ByteReader reader(body);
  auto form = static_cast<ColumnForm>(reader.Fixed<uint8_t>());
  auto flags = reader.Fixed<uint8_t>();
  if (!reader.ok() || flags > kHasValidity) return Corrupt("a column's head is damaged");
  if (form == ColumnForm::kAbsent || rows == 0) return OkStatus();
  if (flags == kHasValidity && (form == ColumnForm::kConstant || !ReadValidity(reader, rows, column))) {
    return Corrupt("a column's validity is damaged");
  }
  bool sound =
      type.IsString() ? ReadStrings(reader, form, rows, column) : ReadFixed(reader, form, rows, column);
  if (!sound || !reader.ok() || !reader.rest().empty() || !InRange(column, rows)) {
    return Corrupt("a column of {} in form {} is damaged", type.ToString(), static_cast<int>(form));
  }
  return OkStatus();
}

}  // namespace millstream
