#include "event/position.h"

#include <fmt/format.h>

#include <charconv>

#include "base/text.h"

namespace millstream {
namespace {

template <typename T>
bool ParseDigits(std::string_view text, T& out) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

}  // namespace

std::string Position::ToString() const {
  std::string text = stream + "/";
  bool first = true;
  for (auto [partition, offset] : offsets) {
    text += fmt::format("{}{}:{}", first ? "" : ",", partition, offset);
    first = false;
  }
  return text;
}

Result<Position> ParsePosition(std::string_view text) {
  auto wrong = [&](std::string_view why) {
    return Fail(
        Invalid("'{}' is not a position: {}; expected STREAM/PARTITION:OFFSET[,PARTITION:OFFSET…], e.g. "
                "orders/0:17,1:9",
                text, why));
  };
  size_t slash = text.find('/');
  if (slash == text.npos) return wrong("it has no '/'");
  Position position;
  position.stream = std::string(text.substr(0, slash));
  if (position.stream.empty()) return wrong("it names no stream");
  for (std::string_view part : Split(text.substr(slash + 1), ',')) {
    size_t colon = part.find(':');
    uint32_t partition = 0;
    uint64_t offset = 0;
    if (colon == part.npos || !ParseDigits(part.substr(0, colon), partition) ||
        !ParseDigits(part.substr(colon + 1), offset)) {
      return wrong(fmt::format("'{}' is not PARTITION:OFFSET", part));
    }
    if (!position.offsets.emplace(partition, offset).second)
      return wrong(fmt::format("it names partition {} twice", partition));
  }
  return position;
}

}  // namespace millstream
