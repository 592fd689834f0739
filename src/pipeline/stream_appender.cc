#include "pipeline/stream_appender.h"

#include <charconv>
#include <set>

#include "base/fault.h"

namespace millstream {
namespace {

uint64_t PositionIn(const Receipt& receipt) {
  uint64_t next = 0;
  std::from_chars(receipt.position.data(), receipt.position.data() + receipt.position.size(), next);
  return next;
}

}  // namespace

Status EngineAppender::OpenTarget(const std::string& stream) {
  name_ = stream;
  if (find_(stream) != nullptr) return OkStatus();
  std::string nearest = Nearest(stream, names_());
  return NotFound("no stream '{}'{}", stream,
                  nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
}

Result<std::map<uint32_t, uint64_t>> EngineAppender::Positions(const std::string& origin) {
  std::shared_ptr<StreamIngest> target = find_(name_);
  if (target == nullptr) return Fail(NotFound("no stream '{}'", name_));
  // A source partition stands where the least of the target's partitions has a receipt for it.
  std::set<std::string> parts;
  for (uint32_t p = 0; p < target->stream().partitions(); ++p)
    for (const Receipt& receipt : target->stream().partition(p).FindReceipts(origin))
      parts.insert(receipt.part);
  std::map<uint32_t, uint64_t> positions;
  for (const std::string& part : parts) {
    uint32_t partition = 0;
    std::from_chars(part.data(), part.data() + part.size(), partition);
    if (auto receipt = target->FindOrigin(origin, part)) positions[partition] = PositionIn(*receipt);
  }
  return positions;
}

uint64_t EngineAppender::Position(const std::string& origin, uint32_t part) {
  std::shared_ptr<StreamIngest> target = find_(name_);
  auto receipt = target ? target->FindOrigin(origin, fmt::format("{}", part)) : std::nullopt;
  return receipt ? PositionIn(*receipt) : 0;
}

Status EngineAppender::Append(const std::string& origin, uint32_t part, const std::vector<Row>& rows,
                              uint64_t next) {
  // Found anew each time: a changed contract is another way in.
  std::shared_ptr<StreamIngest> target = find_(name_);
  if (target == nullptr) return Unavailable("stream '{}' is not there any more", name_);
  OriginWriter writer(*target, origin);
  std::string part_text = fmt::format("{}", part);
  for (const Row& row : rows) {
    // Offsets begin at 0 and sequences at 1: a receipt of position `next` covers every offset below it.
    auto rejection = writer.Add(part_text, row.envelope, row.data, row.source_offset + 1, "", false);
    if (rejection)
      return Invalid("stream '{}' refuses the row: {}{}{}", target->config().shape.name, rejection->path,
                     rejection->path.empty() ? "" : ": ", rejection->message);
  }
  auto answer = writer.Commit(part_text, fmt::format("{}", next), false, true);
  return answer ? OkStatus() : answer.error().status;
}

}  // namespace millstream
