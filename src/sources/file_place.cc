#include "sources/file_place.h"

#include <xxhash.h>

#include <charconv>

#include "base/text.h"

namespace millstream {
namespace {

constexpr uint64_t kHeadBytes = 64u << 10;
constexpr uint64_t kTailBytes = 256;

uint64_t Hash(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

bool ReadNumber(std::string_view text, uint64_t& value, int base = 10) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::string FilePlace::ToText() const {
  return fmt::format("{} {} {:016x} {} {}", sequence, line, tail, done ? "done" : "open", name);
}

std::optional<FilePlace> ParseFilePlace(const std::string& text) {
  std::vector<std::string_view> words = Split(text, ' ');
  // A version that stored no name left "open" out too.
  if (words.size() < 3 || (words.size() == 4 && words[3] != "done")) return std::nullopt;
  FilePlace place;
  place.done = words.size() > 3 && words[3] == "done";
  if (words.size() > 4) {
    if (!place.done && words[3] != "open") return std::nullopt;
    place.name = text.substr(static_cast<size_t>(words[4].data() - text.data()));
  }
  bool right = ReadNumber(words[0], place.sequence) && ReadNumber(words[1], place.line) &&
               ReadNumber(words[2], place.tail, 16);
  return right ? std::optional(place) : std::nullopt;
}

ContentNames::ContentNames(const std::vector<std::pair<std::string, std::string>>& positions) {
  for (const auto& [part, position] : positions) {
    std::optional<FilePlace> place = ParseFilePlace(position);
    if (place && !place->name.empty()) Keep(part, place->name);
  }
}

void ContentNames::Keep(const std::string& part, const std::string& name) {
  by_part_[part] = name;
  taken_.insert(name);
}

const std::string& ContentNames::Of(const std::string& part, const std::string& path) {
  auto known = by_part_.find(part);
  if (known != by_part_.end()) return known->second;
  std::string name;
  do {
    uint64_t number = ++contents_[path];
    name = number == 1 ? path : fmt::format("{}@{}", path, number);
  } while (!taken_.insert(name).second);
  return by_part_[part] = std::move(name);
}

Result<std::optional<uint64_t>> HashHead(File& file, uint64_t size, int lines, bool complete) {
  std::string head(std::min(size, kHeadBytes), '\0');
  ASSIGN_OR_FAIL(size_t got, file.ReadAt(0, head.data(), head.size()));
  head.resize(got);
  size_t end = 0;
  for (int i = 0; i < lines; ++i) {
    size_t newline = head.find('\n', end);
    if (newline == std::string::npos) {
      if (!complete && head.size() < kHeadBytes) return std::optional<uint64_t>();
      end = head.size();
      break;
    }
    end = newline + 1;
  }
  if (lines > 0) head.resize(end);
  return std::optional<uint64_t>(Hash(head));
}

Result<uint64_t> EndOfLastLine(File& file, uint64_t size) {
  std::string piece;
  for (uint64_t end = size; end > 0;) {
    uint64_t begin = end > kHeadBytes ? end - kHeadBytes : 0;
    piece.resize(end - begin);
    ASSIGN_OR_FAIL(size_t got, file.ReadAt(begin, piece.data(), piece.size()));
    size_t newline = std::string_view(piece).substr(0, got).rfind('\n');
    if (newline != std::string::npos) return begin + newline + 1;
    end = begin;
  }
  return uint64_t{0};
}

Result<uint64_t> HashTail(File& file, uint64_t offset) {
  std::string tail(std::min(offset, kTailBytes), '\0');
  ASSIGN_OR_FAIL(size_t got, file.ReadAt(offset - tail.size(), tail.data(), tail.size()));
  tail.resize(got);
  return Hash(tail);
}

std::string PartName(uint64_t inode, uint64_t head, int number) {
  return fmt::format("{}-{:016x}-{}", inode, head, number);
}

}  // namespace millstream
