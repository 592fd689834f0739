#include "catalog/sandbox.h"

#include "base/text.h"
#include "catalog/replay.h"

namespace millstream {

std::string SandboxRecord::ToJson() const {
  std::string out = "{\"as_of\":";
  AppendJsonString(out, as_of);
  out += ",\"ends\":{";
  std::string_view separator;
  for (const auto& [stream, offsets] : ends) {
    out += std::exchange(separator, ",");
    AppendJsonString(out, stream);
    out += ':';
    AppendOffsets(out, offsets);
  }
  return out + fmt::format("}},\"expires\":\"{}\",\"disk\":{},\"files\":{},\"allow_exec\":{}}}",
                           FormatTime(expires_us), disk_bytes, with_files, allow_exec);
}

Result<SandboxRecord> SandboxRecord::FromNode(const Node& node) {
  SandboxRecord record;
  auto text = [&](std::string_view name) {
    const Node* member = node.Find(name);
    return member == nullptr ? std::string() : member->scalar;
  };
  record.as_of = text("as_of");
  if (const Node* ends = node.Find("ends"))
    for (const auto& [stream, offsets] : ends->members) {
      ASSIGN_OR_FAIL(record.ends[stream], ReadOffsets(&offsets));
    }
  auto expires = ParseTimeUs(text("expires"));
  if (!expires) return Fail(Corrupt("a sandbox that does not say when it expires"));
  record.expires_us = *expires;
  ASSIGN_OR_FAIL(record.disk_bytes, ReadNumber(text("disk")));
  record.with_files = text("files") == "true";
  record.allow_exec = text("allow_exec") == "true";
  return record;
}

}  // namespace millstream
