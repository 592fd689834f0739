// The manifest of a backup: lines of text, so that any tool can read it.
//
//   millstream-backup 1
//   number N
//   taken MICROSECONDS
//   file CRC32C BYTES sealed|open STORED NAME
//   end CRC32C                                   of all lines above
#include "log/backup_manifest.h"

#include "base/crc32c.h"
#include "base/text.h"

namespace millstream {
namespace {

constexpr std::string_view kTitle = "millstream-backup 1";

template <typename Number>
bool Read(std::string_view word, Number& number, int base = 10) {
  auto read = ParseNumber<Number>(word, base);
  if (read) number = *read;
  return read.has_value();
}

bool ReadLine(const std::vector<std::string_view>& words, BackupManifest& manifest) {
  if (words.size() == 2 && words[0] == "number") return Read(words[1], manifest.number);
  if (words.size() == 2 && words[0] == "taken") return Read(words[1], manifest.taken_us);
  if (words.size() != 6 || words[0] != "file") return false;
  BackupFile file{.stored = std::string(words[4]), .sealed = words[3] == "sealed"};
  if (!Read(words[1], file.crc, 16) || !Read(words[2], file.bytes)) return false;
  return manifest.files.emplace(words[5], std::move(file)).second;
}

}  // namespace

uint64_t BackupManifest::bytes() const {
  uint64_t bytes = 0;
  for (const auto& [name, file] : files) bytes += file.bytes;
  return bytes;
}

std::string BackupManifestPath(const std::string& destination) { return destination + "/backup.manifest"; }

std::string EncodeManifest(const BackupManifest& manifest) {
  std::string text = fmt::format("{}\nnumber {}\ntaken {}\n", kTitle, manifest.number, manifest.taken_us);
  for (const auto& [name, file] : manifest.files)
    text += fmt::format("file {:08x} {} {} {} {}\n", file.crc, file.bytes, file.sealed ? "sealed" : "open",
                        file.stored, name);
  return text + fmt::format("end {:08x}\n", Crc32c(text));
}

Result<BackupManifest> DecodeManifest(std::string_view text) {
  size_t last = text.rfind("\nend ");
  uint32_t crc = 0;
  if (last == std::string_view::npos || !text.starts_with(kTitle) || !text.ends_with('\n') ||
      !Read(text.substr(last + 5, text.size() - last - 6), crc, 16) ||
      Crc32c(text.substr(0, last + 1)) != crc)
    return Fail(Corrupt("this is no manifest of a backup, or it was changed"));
  BackupManifest manifest;
  for (std::string_view line : Split(text.substr(kTitle.size() + 1, last - kTitle.size()), '\n'))
    if (!line.empty() && !ReadLine(Split(line, ' '), manifest))
      return Fail(Corrupt("a line that no manifest has: '{}'", line));
  return manifest;
}

Result<std::optional<BackupManifest>> ReadBackup(FileSystem& fs, const std::string& destination) {
  Result<std::string> text = ReadFile(fs, BackupManifestPath(destination));
  if (!text && text.error().code() == Code::kNotFound) return std::optional<BackupManifest>();
  if (!text) return Fail(text.error());
  auto manifest = DecodeManifest(*text);
  if (!manifest) return Fail(manifest.error().Within(BackupManifestPath(destination)));
  return std::optional<BackupManifest>(std::move(*manifest));
}

}  // namespace millstream
