#include "log/backup.h"

#include <algorithm>
#include <set>

#include "base/crc32c.h"
#include "base/planted.h"
#include "log/backup_manifest.h"
#include "log/segment.h"

namespace millstream {
namespace {

constexpr int kCutsMax = 20;  // retention, merges and restarts may overtake a copy; each time it begins anew

bool IsDirectory(FileSystem& fs, const std::string& path) {
  auto info = fs.Stat(path);
  return info && info->is_directory;
}

/// CRC of the first `bytes` of a file; nothing if it is shorter.
Result<std::optional<uint32_t>> CrcOf(File& file, uint64_t bytes) {
  std::string buffer(kCopyBytes, '\0');
  uint32_t crc = 0;
  for (uint64_t at = 0; at < bytes;) {
    ASSIGN_OR_FAIL(size_t got, file.ReadAt(at, buffer.data(), std::min<uint64_t>(kCopyBytes, bytes - at)));
    if (got == 0) return std::optional<uint32_t>();
    crc = Crc32c(std::string_view(buffer).substr(0, got), crc);
    at += got;
  }
  return std::optional<uint32_t>(crc);
}

/// All files below a folder, relative to it.
Result<std::vector<std::string>> FilesBelow(FileSystem& fs, const std::string& folder) {
  std::vector<std::string> files;
  ASSIGN_OR_FAIL(std::vector<std::string> names, fs.List(folder));
  for (const std::string& name : names) {
    if (!IsDirectory(fs, folder + "/" + name)) {
      files.push_back(name);
      continue;
    }
    ASSIGN_OR_FAIL(std::vector<std::string> below, FilesBelow(fs, folder + "/" + name));
    for (const std::string& file : below) files.push_back(name + "/" + file);
  }
  return files;
}

/// Removes what the manifest does not name. Each folder that lost a file is synced.
Status RemoveOthers(FileSystem& fs, const std::string& log_directory, const BackupManifest& manifest) {
  std::set<std::string> named, folders;
  for (const auto& [name, file] : manifest.files) named.insert(file.stored);
  ASSIGN_OR_RETURN(std::vector<std::string> files, FilesBelow(fs, log_directory));
  for (const std::string& file : files) {
    if (named.contains(file)) continue;
    RETURN_IF_ERROR(fs.Remove(log_directory + "/" + file));
    folders.insert(DirectoryOf(log_directory + "/" + file));
  }
  for (const std::string& folder : folders) RETURN_IF_ERROR(fs.SyncDirectory(folder));
  return OkStatus();
}

/// The same events, whatever batches they lie in.
bool HoldTheSame(const SegmentFooter& a, const SegmentFooter& b) {
  return a.end_offset == b.end_offset && a.events == b.events && a.data_bytes == b.data_bytes &&
         a.first_us == b.first_us && a.max_us == b.max_us && a.last_epoch == b.last_epoch;
}

class Copier {
 public:
  Copier(FileSystem& fs, std::string source, const std::string& destination, BackupManifest known,
         const std::function<void(uint64_t)>& progress)
      : fs_(fs),
        source_(std::move(source)),
        log_(destination + "/log"),
        known_(std::move(known)),
        number_(known_.number + 1),
        progress_(progress) {}

  /// kConflict or kNotFound: the source changed under the copy; take another cut.
  Result<BackupManifest> Copy(const BackupCut& cut, Clock& clock) {
    ASSIGN_OR_FAIL(auto small, SmallFiles());
    std::vector<std::string> resting = StreamsIn(small);
    BackupManifest made{.number = number_, .taken_us = clock.WallUs()};
    ASSIGN_OR_FAIL(std::vector<BackupPart> parts, cut());
    // Their states change only at starts and stops; the cut must lie between two.
    ASSIGN_OR_FAIL(auto again, SmallFiles());
    if (small != again) return Fail(Conflict("the log was opened or closed meanwhile"));
    FAIL_IF_ERROR(AddResting(resting, parts));
    ASSIGN_OR_FAIL(Identity identity, DecodeIdentity(small.at("log.id")));
    uuid_ = identity.log;
    for (const auto& [name, content] : small) FAIL_IF_ERROR(CopySmall(name, content, made));
    for (const BackupPart& part : parts) FAIL_IF_ERROR(CopySegment(part, made));
    for (const std::string& folder : folders_) FAIL_IF_ERROR(fs_.SyncDirectory(folder));
    return made;
  }

  uint64_t copied_bytes() const { return copied_bytes_; }
  uint64_t copied_files() const { return copied_files_; }

 private:
  /// `log.id`, each `stream.id` and each `state`, with their content.
  Result<std::map<std::string, std::string>> SmallFiles() {
    std::map<std::string, std::string> small;
    auto take = [&](const std::string& name) -> Status {
      Result<std::string> content = ReadFile(fs_, source_ + "/" + name);
      if (content) small[name] = std::move(*content);
      return content || content.error().code() == Code::kNotFound ? OkStatus() : content.error();
    };
    FAIL_IF_ERROR(take("log.id"));
    if (small.empty()) return Fail(NotFound("there is no log in {} yet", source_));
    ASSIGN_OR_FAIL(std::vector<std::string> names, fs_.List(source_));
    for (const std::string& stream : names) {
      if (stream.starts_with('.') || !IsDirectory(fs_, source_ + "/" + stream)) continue;
      FAIL_IF_ERROR(take(stream + "/stream.id"));
      ASSIGN_OR_FAIL(std::vector<std::string> partitions, fs_.List(source_ + "/" + stream));
      for (const std::string& partition : partitions)
        if (IsDirectory(fs_, fmt::format("{}/{}/{}", source_, stream, partition)))
          FAIL_IF_ERROR(take(fmt::format("{}/{}/state", stream, partition)));
    }
    return small;
  }

  static std::vector<std::string> StreamsIn(const std::map<std::string, std::string>& small) {
    std::vector<std::string> streams;
    for (const auto& [name, content] : small)
      if (name.ends_with("/stream.id")) streams.push_back(DirectoryOf(name));
    return streams;
  }

  /// Streams that nobody has open (removed from the project, say): their files do not change.
  Status AddResting(const std::vector<std::string>& streams, std::vector<BackupPart>& parts) {
    std::set<std::string> open;
    for (const BackupPart& part : parts) open.insert(part.file.substr(0, part.file.find('/')));
    for (const std::string& stream : streams) {
      if (open.contains(stream)) continue;
      ASSIGN_OR_RETURN(std::vector<std::string> files, FilesBelow(fs_, source_ + "/" + stream));
      for (const std::string& file : files) {
        if (!file.ends_with(".seg")) continue;
        const std::string name = stream + "/" + file;
        ASSIGN_OR_RETURN(FileInfo info, fs_.Stat(source_ + "/" + name));
        parts.push_back({.file = name, .bytes = info.size, .end_offset = UINT64_MAX});
      }
    }
    return OkStatus();
  }

  const BackupFile* Known(const std::string& name) const {
    auto found = known_.files.find(name);
    return found == known_.files.end() ? nullptr : &found->second;
  }

  /// Where the next content of a file goes: never over what the last manifest names.
  std::string NewName(const std::string& name) const {
    return Known(name) == nullptr || IsPlanted(Planted::backup_in_place)
               ? name
               : fmt::format("{}.b{}", name, number_);
  }

  void Keep(const std::string& name, const BackupFile& file, BackupManifest& made) {
    known_.files[name] = made.files[name] = file;
  }

  Status CopySmall(const std::string& name, const std::string& content, BackupManifest& made) {
    const BackupFile* known = Known(name);
    const uint32_t crc = Crc32c(content);
    if (known != nullptr && known->crc == crc && known->bytes == content.size() &&
        fs_.Exists(log_ + "/" + known->stored)) {
      Keep(name, *known, made);
      return OkStatus();
    }
    BackupFile file{.stored = NewName(name), .bytes = content.size(), .crc = crc, .sealed = true};
    ASSIGN_OR_RETURN(std::unique_ptr<File> to, OpenStored(file.stored, 0));
    RETURN_IF_ERROR(to->WriteAt(0, content));
    RETURN_IF_ERROR(to->Sync());
    Count(content.size());
    ++copied_files_;
    Keep(name, file, made);
    return OkStatus();
  }

  Result<std::unique_ptr<File>> OpenStored(const std::string& stored, uint64_t length) {
    const std::string path = log_ + "/" + stored, folder = DirectoryOf(path);
    if (!fs_.Exists(folder)) FAIL_IF_ERROR(fs_.CreateDirectories(folder));
    folders_.insert(folder);
    ASSIGN_OR_FAIL(std::unique_ptr<File> file, fs_.Open(path, OpenMode::kCreate));
    FAIL_IF_ERROR(file->Truncate(length));
    return file;
  }

  Status CopySegment(const BackupPart& part, BackupManifest& made) {
    const bool resting = part.end_offset == UINT64_MAX;
    const std::string path = source_ + "/" + part.file;
    ASSIGN_OR_RETURN(std::unique_ptr<File> from, fs_.Open(path, OpenMode::kRead));
    ASSIGN_OR_RETURN(uint64_t size, from->Size());
    const BackupFile* known = Known(part.file);
    BackupFile file{.bytes = part.bytes, .sealed = part.sealed};
    uint64_t batches_end = part.bytes;
    if (part.sealed) {
      ASSIGN_OR_RETURN(SegmentFooter footer, ReadFooter(*from, path, uuid_, true));
      if (footer.end_offset != part.end_offset) return Conflict("{} was replaced", path);
      file.bytes = size;
      batches_end = footer.body_position;
      if (known != nullptr && known->sealed && StoredHolds(*known, footer)) {
        Keep(part.file, *known, made);
        return OkStatus();
      }
    } else if (size < part.bytes) {
      return Conflict("{} has {} bytes, not {}", path, size, part.bytes);
    }
    ASSIGN_OR_RETURN(uint64_t begin, StoredPart(*from, known, file.bytes));
    file.stored = begin > 0 ? known->stored : NewName(part.file);
    file.crc = begin > 0 ? known->crc : 0;
    if (!resting) {
      Status sound = CheckBatches(*from, path, begin, batches_end, part.sealed);
      // A growing segment may have been sealed and merged since the cut, which the next one shows.
      if (!part.sealed && sound.code() == Code::kCorrupt) return Conflict("{}", sound.message());
      RETURN_IF_ERROR(sound);
    }
    if (begin < file.bytes || begin == 0) {
      RETURN_IF_ERROR(CopyBytes(*from, begin, file));
      ++copied_files_;
    }
    Keep(part.file, file, made);
    return OkStatus();
  }

  /// True if the stored segment is whole, as far as its length and its footer tell, and holds the same
  /// events.
  bool StoredHolds(const BackupFile& known, const SegmentFooter& footer) {
    const std::string path = log_ + "/" + known.stored;
    auto file = fs_.Open(path, OpenMode::kRead);
    if (!file) return false;
    auto size = (*file)->Size();
    if (!size || *size != known.bytes) return false;
    auto stored = ReadFooter(**file, path, uuid_, false);
    return stored && HoldTheSame(*stored, footer);
  }

  /// How many bytes of a file that grows are stored already, by their CRC; 0: none that may be kept.
  Result<uint64_t> StoredPart(File& from, const BackupFile* known, uint64_t bytes) {
    if (known == nullptr || known->sealed || known->bytes > bytes) return uint64_t{0};
    auto stored = fs_.Stat(log_ + "/" + known->stored);
    if (!stored || stored->size < known->bytes) return uint64_t{0};
    ASSIGN_OR_FAIL(std::optional<uint32_t> crc, CrcOf(from, known->bytes));
    return crc == known->crc ? known->bytes : 0;
  }

  /// Every batch from `begin` (0: from the first) to `end`, which a batch must end at.
  Status CheckBatches(File& from, const std::string& path, uint64_t begin, uint64_t end, bool sealed) {
    ASSIGN_OR_RETURN(SegmentHeader header, ReadSegmentHeader(from, path, uuid_));
    if (!sealed && (header.flags & SegmentHeader::kMerged) != 0) return Conflict("{} was merged", path);
    SegmentCursor cursor(from, path, uuid_, std::max<uint64_t>(begin, header.header_bytes), end);
    while (true) {
      ASSIGN_OR_RETURN(std::optional<BatchHeader> batch, cursor.Header());
      if (!batch) return OkStatus();
      RETURN_IF_ERROR(cursor.CheckPayload(*batch));
      cursor.Skip(*batch);
    }
  }

  Status CopyBytes(File& from, uint64_t begin, BackupFile& file) {
    ASSIGN_OR_RETURN(std::unique_ptr<File> to, OpenStored(file.stored, begin));
    std::string buffer(kCopyBytes, '\0');
    for (uint64_t at = begin; at < file.bytes;) {
      ASSIGN_OR_RETURN(size_t got,
                       from.ReadAt(at, buffer.data(), std::min<uint64_t>(kCopyBytes, file.bytes - at)));
      if (got == 0) return Conflict("a file became shorter");
      std::string_view bytes = std::string_view(buffer).substr(0, got);
      RETURN_IF_ERROR(to->WriteAt(at, bytes));
      file.crc = Crc32c(bytes, file.crc);
      at += got;
      Count(got);
    }
    return to->Sync();
  }

  void Count(uint64_t bytes) {
    copied_bytes_ += bytes;
    if (progress_) progress_(copied_bytes_);
  }

  FileSystem& fs_;
  const std::string source_, log_;
  BackupManifest known_;  // what DEST holds: the last manifest, and what this run has copied
  const uint64_t number_;
  const std::function<void(uint64_t)>& progress_;
  Uuid uuid_{};
  std::set<std::string> folders_;
  uint64_t copied_bytes_ = 0, copied_files_ = 0;
};

/// The last manifest of a destination; an empty one, already written, for a new destination.
Result<BackupManifest> OpenDestination(FileSystem& fs, const std::string& destination) {
  ASSIGN_OR_FAIL(std::optional<BackupManifest> found, ReadBackup(fs, destination));
  if (found) return std::move(*found);
  if (fs.Exists(destination + "/log"))
    return Fail(
        Conflict("{} is a data folder, or a backup that was restored; name another folder", destination));
  FAIL_IF_ERROR(fs.CreateDirectories(destination));
  BackupManifest none;
  FAIL_IF_ERROR(WriteFileDurably(fs, BackupManifestPath(destination), EncodeManifest(none)));
  FAIL_IF_ERROR(fs.CreateDirectories(destination + "/log"));
  return none;
}

}  // namespace

Result<BackupReport> BackUp(FileSystem& fs, Clock& clock, const std::string& log_directory,
                            const std::string& destination, const BackupCut& cut,
                            const std::function<void(uint64_t)>& progress) {
  ASSIGN_OR_FAIL(BackupManifest known, OpenDestination(fs, destination));
  Copier copier(fs, log_directory, destination, std::move(known), progress);
  Result<BackupManifest> made = copier.Copy(cut, clock);
  for (int cuts = 1; !made && cuts < kCutsMax; ++cuts) {
    if (made.error().code() != Code::kConflict && made.error().code() != Code::kNotFound) break;
    made = copier.Copy(cut, clock);
  }
  if (!made) return Fail(made.error());
  FAIL_IF_ERROR(WriteFileDurably(fs, BackupManifestPath(destination), EncodeManifest(*made)));
  FAIL_IF_ERROR(RemoveOthers(fs, destination + "/log", *made));
  return BackupReport{std::move(*made), copier.copied_bytes(), copier.copied_files()};
}

Result<std::vector<LogDamage>> VerifyBackup(FileSystem& fs, const std::string& destination) {
  ASSIGN_OR_FAIL(std::optional<BackupManifest> manifest, ReadBackup(fs, destination));
  if (!manifest || manifest->number == 0)
    return Fail(NotFound("there is no finished backup in {}", destination));
  std::vector<LogDamage> damage;
  for (const auto& [name, expected] : manifest->files) {
    auto file = fs.Open(destination + "/log/" + expected.stored, OpenMode::kRead);
    if (!file && file.error().code() != Code::kNotFound) return Fail(file.error());
    std::optional<uint32_t> crc;
    uint64_t size = 0;
    if (file) {
      ASSIGN_OR_FAIL(size, (*file)->Size());
      ASSIGN_OR_FAIL(crc, CrcOf(**file, expected.bytes));
    }
    if (!file) {
      damage.push_back({expected.stored, 0, "the file is missing"});
    } else if (!crc) {
      damage.push_back({expected.stored, size, fmt::format("{} bytes, not {}", size, expected.bytes)});
    } else if (*crc != expected.crc) {
      damage.push_back({expected.stored, 0, "CRC does not match the manifest"});
    }
  }
  return damage;
}

Result<std::optional<BackupManifest>> RestoreBackup(FileSystem& fs, const std::string& data_directory) {
  ASSIGN_OR_FAIL(std::optional<BackupManifest> manifest, ReadBackup(fs, data_directory));
  if (!manifest) return manifest;
  if (manifest->number == 0)
    return Fail(Invalid("{} holds a first backup that was not finished; back up again", data_directory));
  const std::string log = data_directory + "/log";
  std::set<std::string> folders;
  for (auto& [name, file] : manifest->files) {
    const std::string path = log + "/" + name;
    if (file.stored != name && fs.Exists(log + "/" + file.stored))
      FAIL_IF_ERROR(fs.Rename(log + "/" + file.stored, path));
    file.stored = name;
    folders.insert(DirectoryOf(path));
    auto info = fs.Stat(path);
    if (!info || info->size < file.bytes)
      return Fail(Corrupt("{}: the backup should have {} bytes of it, but has {}", path, file.bytes,
                          info ? info->size : 0));
    if (info->size == file.bytes) continue;
    ASSIGN_OR_FAIL(std::unique_ptr<File> longer, fs.Open(path, OpenMode::kReadWrite));
    FAIL_IF_ERROR(longer->Truncate(file.bytes));
    FAIL_IF_ERROR(longer->Sync());
  }
  for (const std::string& folder : folders) FAIL_IF_ERROR(fs.SyncDirectory(folder));
  FAIL_IF_ERROR(RemoveOthers(fs, log, *manifest));
  FAIL_IF_ERROR(fs.Rename(BackupManifestPath(data_directory), data_directory + "/restored.manifest"));
  FAIL_IF_ERROR(fs.SyncDirectory(data_directory));
  return manifest;
}

}  // namespace millstream
