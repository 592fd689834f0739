// Backup: a copy of a log's folder as it was at one moment, taken beside its writer and grown by later runs.
//
// Place: floor 2; `millstream log backup` copies, a start over the copy restores.
// Operation. DEST/backup.manifest is the truth: it names each file of the log with its length, its CRC32C and
// the name under which it is stored in DEST/log. A run copies what is new behind what the manifest names
// (sealed segments and small files under names that it does not use, a growing segment by appending), syncs,
// and replaces the manifest; only then what the old one alone named is removed. So a run that ends anywhere,
// also by a power cut, leaves the backup before it whole. A sealed segment is kept if its footer says that it
// holds the same events as the one stored, merged or not.
// The moment: the caller's `cut` gives all segments and how far each is durable, of all streams at once, so
// that no receipt, dead letter or boundary names an event that the backup does not have.
// Threads: one thread a destination; the source may be written, sealed, merged and thinned by retention
// meanwhile. Failure: kCorrupt names file and byte of damage in the source (nothing is replaced then);
// kConflict for a destination that is no backup.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file_system.h"
#include "event/batch.h"
#include "log/log.h"

namespace millstream {

/// A segment at the moment of the backup. `bytes`: how far it is durable.
struct BackupPart {
  std::string file;  // relative to the log's folder
  uint64_t bytes = 0;
  uint64_t end_offset = 0;
  bool sealed = false;
};
using BackupCut = std::function<Result<std::vector<BackupPart>>()>;

struct BackupFile {
  std::string stored{};  // its name below DEST/log; its key in the manifest is the name it is restored to
  uint64_t bytes = 0;
  uint32_t crc = 0;
  bool sealed = false;
};

struct BackupManifest {
  uint64_t number = 0;   // of the run that made it; 0: none was finished
  int64_t taken_us = 0;  // wall time of the moment that it holds
  std::map<std::string, BackupFile> files{};

  uint64_t bytes() const;
};

struct BackupReport {
  BackupManifest manifest;
  uint64_t copied_bytes = 0, copied_files = 0;
};

/// Copies the log in `log_directory` to `destination`. `progress` is told the bytes copied so far.
Result<BackupReport> BackUp(FileSystem& fs, Clock& clock, const std::string& log_directory,
                            const std::string& destination, const BackupCut& cut,
                            const std::function<void(uint64_t)>& progress);
/// Nothing where no backup is. kCorrupt for a manifest that is not what BackUp wrote.
Result<std::optional<BackupManifest>> ReadBackup(FileSystem& fs, const std::string& destination);
/// Reads every byte of a backup and holds it against the manifest.
Result<std::vector<LogDamage>> VerifyBackup(FileSystem& fs, const std::string& destination);
/// Makes a backup the log of a data folder: what the manifest names gets its name and length back, the rest
/// goes, and the manifest becomes `restored.manifest`. Nothing to do (and nothing answered) where no backup
/// is. May be repeated after a crash.
Result<std::optional<BackupManifest>> RestoreBackup(FileSystem& fs, const std::string& data_directory);

}  // namespace millstream
