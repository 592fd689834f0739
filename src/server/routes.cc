#include "server/routes.h"

#include <charconv>

#include "base/text.h"

namespace millstream {

void AddAllRoutes(Router& router, Services& services) {
  AddIngestRoutes(router, services);
  AddFeedRoutes(router, services);
  AddQueryRoutes(router, services);
  AddCatalogRoutes(router, services);
  AddTapRoutes(router, services);
  AddOperationRoutes(router, services);
}

Result<uint64_t> NumberParameter(const HttpRequest& request, std::string_view name, uint64_t missing) {
  const std::string* text = request.Query(name);
  if (text == nullptr || text->empty()) return missing;
  uint64_t number = 0;
  auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number);
  if (error != std::errc() || end != text->data() + text->size()) return Fail(Invalid("{}={}: expected a number", name, *text));
  return number;
}

Result<std::map<uint32_t, uint64_t>> ResolvePlace(Engine& engine, Stream& stream, const std::string& text, bool inclusive) {
  std::map<uint32_t, uint64_t> offsets;
  if (text.find('/') != std::string::npos) {
    ASSIGN_OR_FAIL(Position position, ParsePosition(text));
    if (position.stream != stream.name()) return Fail(Invalid("the position {} is not one of stream '{}'", text, stream.name()));
    for (const auto& [partition, offset] : position.offsets) {
      if (partition >= stream.partitions()) return Fail(Invalid("stream '{}' has {} partitions; {} names partition {}", stream.name(), stream.partitions(), text, partition));
      offsets[partition] = offset + (inclusive ? 1 : 0);
    }
    return offsets;
  }
  std::optional<int64_t> time_us;
  if (text != "earliest" && text != "latest") {
    auto ago = ParseDurationUs(text);
    auto time = ParseTimeUs(text);
    if (!ago && !time) return Fail(Invalid("'{}': expected earliest, latest, a position ({}/0:17), a time (RFC 3339) or a duration ago (2h)", text, stream.name()));
    time_us = time ? *time : engine.clock().WallUs() - *ago;
  }
  for (uint32_t p = 0; p < stream.partitions(); ++p) {
    Bounds bounds = stream.partition(p).bounds();
    offsets[p] = text == "latest" ? bounds.durable_end : bounds.start;
    if (!time_us) continue;
    ASSIGN_OR_FAIL(offsets[p], stream.partition(p).OffsetForTime(*time_us));
  }
  return offsets;
}

}  // namespace millstream
