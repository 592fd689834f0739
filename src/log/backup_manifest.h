// The text of a backup's manifest and where it lies. Place: floor 2, of backup.h alone. Stateless.
#pragma once

#include <string>
#include <string_view>

#include "log/backup.h"

namespace millstream {

std::string BackupManifestPath(const std::string& destination);
std::string EncodeManifest(const BackupManifest& manifest);
Result<BackupManifest> DecodeManifest(std::string_view text);

}  // namespace millstream
