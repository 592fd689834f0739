#include "base/fault.h"

#include <fmt/format.h>

#include <algorithm>

namespace millstream {
namespace {

constexpr size_t kNameMax = 256;  // names longer than this have no nearest

// The line below `excerpt`: tabs stay tabs and a UTF-8 character is one column, so that the caret stands
// under its text.
std::string CaretLine(const std::string& excerpt, size_t start, size_t length) {
  auto is_continuation = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; };
  std::string line;
  for (size_t i = 0; i < start; ++i) {
    if (!is_continuation(excerpt[i])) line += excerpt[i] == '\t' ? '\t' : ' ';
  }
  line += '^';
  for (size_t i = start + 1; i < std::min(start + length, excerpt.size()); ++i) {
    if (!is_continuation(excerpt[i])) line += '~';
  }
  return line;
}

std::string Lower(const std::string& text) {
  std::string lower = text;
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return lower;
}

// Optimal string alignment (Damerau-Levenshtein in which no part is edited twice): insert, delete, replace,
// swap neighbours.
size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> before(b.size() + 1), previous(b.size() + 1), current(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) previous[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    current[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t replaced = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      current[j] = std::min({previous[j] + 1, current[j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        current[j] = std::min(current[j], before[j - 2] + 1);
      }
    }
    std::swap(before, previous);
    std::swap(previous, current);
  }
  return previous[b.size()];
}

}  // namespace

std::string Fault::ToString() const {
  std::string text;
  if (!file.empty()) {
    text += file + ":";
    if (line > 0) text += fmt::format("{}:", line);
    if (line > 0 && column > 0) text += fmt::format("{}:", column);
    text += " ";
  } else if (index >= 0) {
    text += fmt::format("event {}: ", index);
  }
  if (!path.empty()) text += path + ": ";
  text += message;
  if (!hint.empty()) {
    text += "; " + hint;
  } else if (!expected.empty()) {
    text += "; expected " + expected;
  }
  if (excerpt.empty()) return text;
  text += "\n    " + excerpt;
  if (caret_start >= 0 && static_cast<size_t>(caret_start) <= excerpt.size()) {
    text += "\n    " + CaretLine(excerpt, static_cast<size_t>(caret_start),
                                 static_cast<size_t>(std::max(caret_length, 1)));
  }
  return text;
}

std::string Nearest(const std::string& name, const std::vector<std::string>& candidates) {
  if (name.empty() || name.size() > kNameMax) return "";
  std::string lower = Lower(name);
  // A name of which nothing remains is not near, however short it is.
  size_t limit = std::min(std::max<size_t>(2, name.size() / 3), name.size() - 1);
  const std::string* nearest = nullptr;
  size_t nearest_distance = limit + 1;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > name.size() + limit || name.size() > candidate.size() + limit) continue;
    size_t distance = EditDistance(lower, Lower(candidate));
    if (distance < nearest_distance && distance < std::max<size_t>(candidate.size(), 1)) {
      nearest = &candidate;
      nearest_distance = distance;
    }
  }
  return nearest ? *nearest : "";
}

}  // namespace millstream
