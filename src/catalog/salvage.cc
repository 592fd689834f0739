#include "catalog/salvage.h"

#include <vector>

#include "base/text.h"
#include "stage/node.h"

namespace millstream {
namespace {

constexpr size_t kPartsMax = 1000;

struct Part {
  std::string name;
  size_t key = 0;             // line of the outermost key
  size_t begin = 0, end = 0;  // lines of the part
};

bool IsBlank(std::string_view line) {
  const size_t at = line.find_first_not_of(" \t\r");
  return at == std::string_view::npos || line[at] == '#';
}

std::string NameIn(std::string_view line) { return std::string(Trim(line.substr(0, line.find(':')))); }

// `&name` where a value may begin.
bool HasAnchor(std::string_view text) {
  for (size_t at = text.find('&'); at != std::string_view::npos; at = text.find('&', at + 1)) {
    const bool begins = at > 0 && std::string_view(" \n[{,").find(text[at - 1]) != std::string_view::npos;
    if (begins && at + 1 < text.size() && std::isalnum(static_cast<unsigned char>(text[at + 1]))) return true;
  }
  return false;
}

// The parts under one outermost key, whose lines are [begin, end).
void AddParts(const std::vector<std::string_view>& lines, size_t begin, size_t end,
              std::vector<Part>& parts) {
  const std::string section = NameIn(lines[begin]);
  size_t first = begin + 1;
  while (first < end && IsBlank(lines[first])) ++first;
  const size_t indent = first < end ? lines[first].find_first_not_of(' ') : 0;
  if (indent == 0 || lines[first][indent] == '\t' || lines[first][indent] == '-') {
    parts.push_back({section, begin, begin, end});
    return;
  }
  for (size_t line = first; line < end; ++line) {
    if (line > first && (IsBlank(lines[line]) || lines[line].find_first_not_of(' ') != indent)) {
      ++parts.back().end;
    } else {
      parts.push_back({section + "." + NameIn(lines[line]), begin, line, line + 1});
    }
  }
}

std::string Joined(const std::vector<std::string_view>& lines, const std::vector<bool>& kept) {
  std::string text;
  for (size_t line = 0; line < lines.size(); ++line) {
    if (kept[line]) text += lines[line];
    text += '\n';
  }
  return text;
}

}  // namespace

std::optional<Salvaged> Salvage(std::string_view text, const std::string& file) {
  if (HasAnchor(text)) return std::nullopt;
  const std::vector<std::string_view> lines = Split(text, '\n');
  std::vector<size_t> keys;
  for (size_t line = 0; line < lines.size(); ++line) {
    if (IsBlank(lines[line]) || lines[line][0] == ' ' || lines[line][0] == '\t') continue;
    const bool is_key = std::isalpha(static_cast<unsigned char>(lines[line][0])) &&
                        lines[line].find(':') != std::string_view::npos;
    if (is_key) keys.push_back(line);
    if (keys.empty()) return std::nullopt;
  }
  std::vector<Part> parts;
  for (size_t i = 0; i < keys.size(); ++i)
    AddParts(lines, keys[i], i + 1 < keys.size() ? keys[i + 1] : lines.size(), parts);
  if (parts.size() > kPartsMax) return std::nullopt;
  Salvaged salvaged;
  std::vector<bool> kept(lines.size(), true);
  for (const Part& part : parts) {
    std::vector<bool> alone(lines.size(), false);
    alone[part.key] = true;
    std::fill(alone.begin() + static_cast<long>(part.begin), alone.begin() + static_cast<long>(part.end),
              true);
    Faults faults;
    if (ParseYaml(Joined(lines, alone), file, faults).kind != Node::Kind::kNull) continue;
    salvaged.unread.insert(part.name);
    salvaged.faults.insert(salvaged.faults.end(), faults.begin(), faults.end());
    std::fill(kept.begin() + static_cast<long>(part.begin), kept.begin() + static_cast<long>(part.end),
              false);
  }
  if (salvaged.unread.empty()) return std::nullopt;
  salvaged.text = Joined(lines, kept);
  return salvaged;
}

}  // namespace millstream
