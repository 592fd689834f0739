#include "sql/vector_fill.h"

namespace millstream {
namespace {

// Bytes kept of a 16-byte string_t whose text has a given length (4 of them are the length itself).
constexpr auto kInlineMasks = [] {
  std::array<std::array<uint8_t, 12>, 13> masks{};
  for (size_t length = 0; length <= 12; ++length)
    for (size_t i = 0; i < length; ++i) masks[length][i] = 0xff;
  return masks;
}();

// `readable` says that 12 bytes may be read at `data`, whatever the length.
inline void StoreString(duckdb_string_t* out, const char* data, uint32_t length, bool readable) {
  if (length > 12) {
    out->value.pointer.length = length;
    std::memcpy(out->value.pointer.prefix, data, 4);
    out->value.pointer.ptr = const_cast<char*>(data);
    return;
  }
  if (readable) [[likely]] {
    uint64_t low, low_mask;
    uint32_t high, high_mask;
    std::memcpy(&low, data, 8);
    std::memcpy(&high, data + 8, 4);
    std::memcpy(&low_mask, kInlineMasks[length].data(), 8);
    std::memcpy(&high_mask, kInlineMasks[length].data() + 8, 4);
    low &= low_mask;
    high &= high_mask;
    out->value.inlined.length = length;
    std::memcpy(out->value.inlined.inlined, &low, 8);
    std::memcpy(out->value.inlined.inlined + 8, &high, 4);
    return;
  }
  std::memset(out, 0, sizeof *out);
  out->value.inlined.length = length;
  if (length > 0) std::memcpy(out->value.inlined.inlined, data, length);
}

void FillStrings(duckdb_string_t* out, const Column& column, uint32_t begin, uint32_t count) {
  const char* bytes = column.bytes.data();
  const uint32_t* ends = column.ends.data();
  size_t size = column.bytes.size();
  uint32_t start = begin == 0 ? 0 : ends[begin - 1];
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t end = ends[begin + i];
    StoreString(out + i, bytes + start, end - start, start + 12 <= size);
    start = end;
  }
}

template <typename T>
void FillSame(void* out, const char* value, uint32_t count) {
  T same;
  std::memcpy(&same, value, sizeof(T));
  for (uint32_t i = 0; i < count; ++i) std::memcpy(static_cast<char*>(out) + i * sizeof(T), &same, sizeof(T));
}

void FillConstant(char* out, const Column& column, uint32_t width, uint32_t count) {
  const char* value = column.fixed.data();
  switch (width) {
    case 1:
      return FillSame<uint8_t>(out, value, count);
    case 2:
      return FillSame<uint16_t>(out, value, count);
    case 4:
      return FillSame<uint32_t>(out, value, count);
    case 8:
      return FillSame<uint64_t>(out, value, count);
    default:
      return FillSame<unsigned __int128>(out, value, count);
  }
}

bool AllValid(const std::vector<uint64_t>& mask, uint32_t begin, uint32_t count) {
  for (uint32_t at = begin, end = begin + count; at < end;) {
    uint32_t bit = at & 63, bits = std::min(64 - bit, end - at);
    uint64_t wanted = (bits == 64 ? ~0ull : (1ull << bits) - 1) << bit;
    if ((mask[at >> 6] & wanted) != wanted) return false;
    at += bits;
  }
  return true;
}

void FillValidity(duckdb_vector vector, idx_t at, const Column& column, uint32_t begin, uint32_t count) {
  uint64_t* mask = duckdb_vector_get_validity(vector);
  bool valid = column.validity.empty() || AllValid(column.validity, begin, count);
  // A vector without a mask, or a fresh part of one, is all valid.
  if (valid) return;
  if (mask == nullptr) {
    duckdb_vector_ensure_validity_writable(vector);
    mask = duckdb_vector_get_validity(vector);
  }
  CopyBits(mask, at, column.validity.data(), begin, count);
}

void FillList(duckdb_vector vector, idx_t at, const Column& column, uint32_t begin, uint32_t count) {
  uint32_t first = begin == 0 ? 0 : column.list_ends[begin - 1];
  uint32_t last = count == 0 ? first : column.list_ends[begin + count - 1];
  idx_t size = duckdb_list_vector_get_size(vector);
  duckdb_list_vector_reserve(vector, size + (last - first));  // before any pointer is taken
  auto* entries = static_cast<duckdb_list_entry*>(duckdb_vector_get_data(vector)) + at;
  uint32_t start = first;
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t end = column.list_ends[begin + i];
    entries[i] = {size + (start - first), end - start};
    start = end;
  }
  const Column& elements = column.children[0];
  std::vector<duckdb_string_t> dictionary;
  if (elements.form == Column::Form::kDictionary) dictionary = MakeEntries(elements);
  FillVector(duckdb_list_vector_get_child(vector), size, elements, first, last - first, dictionary);
  duckdb_list_vector_set_size(vector, size + (last - first));
}

}  // namespace

duckdb_string_t MakeDuckString(std::string_view text) {
  duckdb_string_t out;
  StoreString(&out, text.data(), static_cast<uint32_t>(text.size()), false);
  return out;
}

std::vector<duckdb_string_t> MakeEntries(const Column& column) {
  std::vector<duckdb_string_t> entries(column.ends.size());
  FillStrings(entries.data(), column, 0, static_cast<uint32_t>(entries.size()));
  return entries;
}

void CopyBits(uint64_t* target, uint64_t target_at, const uint64_t* source, uint64_t source_at,
              uint64_t count) {
  if (((target_at | source_at) & 63) == 0) {
    std::memcpy(target + (target_at >> 6), source + (source_at >> 6), count >> 6 << 3);
    uint64_t done = count & ~63ull;
    target_at += done, source_at += done, count -= done;
  }
  while (count > 0) {
    uint64_t bit = target_at & 63, from = source_at & 63;
    uint64_t bits = std::min({64 - bit, 64 - from, count});
    uint64_t ones = bits == 64 ? ~0ull : (1ull << bits) - 1;
    uint64_t value = source[source_at >> 6] >> from & ones;
    uint64_t& word = target[target_at >> 6];
    word = (word & ~(ones << bit)) | value << bit;
    target_at += bits, source_at += bits, count -= bits;
  }
}

void FillNulls(duckdb_vector vector, idx_t at, const Type& type, uint32_t count) {
  duckdb_vector_ensure_validity_writable(vector);
  uint64_t* mask = duckdb_vector_get_validity(vector);
  for (idx_t row = at; row < at + count; ++row) mask[row >> 6] &= ~(1ull << (row & 63));
  if (type.kind == Type::Kind::kList)
    std::memset(static_cast<duckdb_list_entry*>(duckdb_vector_get_data(vector)) + at, 0,
                count * sizeof(duckdb_list_entry));
  if (type.kind == Type::Kind::kStruct)
    for (size_t i = 0; i < type.children.size(); ++i)
      FillNulls(duckdb_struct_vector_get_child(vector, i), at, type.children[i].type, count);
}

void FillVector(duckdb_vector vector, idx_t at, const Column& column, uint32_t begin, uint32_t count,
                const std::vector<duckdb_string_t>& entries) {
  if (count == 0) return;
  if (column.form == Column::Form::kAbsent) return FillNulls(vector, at, column.type, count);
  if (column.form == Column::Form::kNested) {
    if (column.type.kind == Type::Kind::kList) {
      FillList(vector, at, column, begin, count);
    } else {
      for (size_t i = 0; i < column.children.size(); ++i) {
        const Column& child = column.children[i];
        std::vector<duckdb_string_t> dictionary;
        if (child.form == Column::Form::kDictionary) dictionary = MakeEntries(child);
        FillVector(duckdb_struct_vector_get_child(vector, i), at, child, begin, count, dictionary);
      }
    }
  } else if (column.type.IsString()) {
    auto* out = static_cast<duckdb_string_t*>(duckdb_vector_get_data(vector)) + at;
    if (column.form == Column::Form::kFlat) {
      FillStrings(out, column, begin, count);
    } else if (column.form == Column::Form::kDictionary) {
      const uint16_t* codes = column.codes.data() + begin;
      for (uint32_t i = 0; i < count; ++i) out[i] = entries[codes[i]];
    } else {
      std::fill_n(out, count, MakeDuckString(column.String(0)));
    }
  } else {
    uint32_t width = column.type.FixedBytes();
    char* out = static_cast<char*>(duckdb_vector_get_data(vector)) + at * width;
    if (column.form == Column::Form::kConstant) {
      FillConstant(out, column, width, count);
    } else {
      std::memcpy(out, column.fixed.data() + static_cast<size_t>(begin) * width,
                  static_cast<size_t>(count) * width);
    }
  }
  FillValidity(vector, at, column, begin, count);
}

}  // namespace millstream
