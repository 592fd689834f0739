#include "sinks/rotated_file.h"

#include "base/planted.h"

namespace millstream {
namespace {

/// A path without its compression and format endings, and these endings: "out", ".ndjson.gz".
std::pair<std::string, std::string> SplitEnding(const std::string& path) {
  size_t base = path.rfind('/') == std::string::npos ? 0 : path.rfind('/') + 1;
  size_t end = path.size();
  for (std::string_view compressed : {".gz", ".zst"})
    if (path.ends_with(compressed)) end = path.size() - compressed.size();
  size_t dot = path.substr(0, end).rfind('.');
  if (dot == std::string::npos || dot <= base) dot = end;
  return {path.substr(0, dot), path.substr(dot)};
}

}  // namespace

std::string RotatedFile::FinalPath() const {
  auto [stem, ending] = SplitEnding(place_.path);
  if (place_.one_partition) return fmt::format("{}.{}{}", stem, state_.first_offset, ending);
  return fmt::format("{}.{}-{}{}", stem, state_.first_partition, state_.first_offset, ending);
}

Status RotatedFile::Recover() {
  if (recovered_) return OkStatus();
  file_.reset();
  ASSIGN_OR_RETURN(std::optional<SinkState> stored, LoadSinkState(fs_, place_.state_path));
  Result<FileInfo> info = fs_.Stat(place_.path);
  if (!info && info.error().code() != Code::kNotFound) return info.error();
  const FileInfo* found = info ? &*info : nullptr;
  if (!stored) {
    if (found != nullptr && found->size > 0)
      return Conflict("{} holds {} bytes that this sink has not written; move it away or give another path",
                      place_.path, found->size);
    state_ = SinkState();
    RETURN_IF_ERROR(Start());
  } else {
    if (stored->name != place_.name)
      return Conflict("this sink has written to {} so far; give it another name, or that path again",
                      stored->name);
    // A former call may have replaced the sidecar and then failed to sync its folder.
    RETURN_IF_ERROR(fs_.SyncDirectory(DirectoryOf(place_.state_path)));
    state_ = std::move(*stored);
    RETURN_IF_ERROR(RecoverFile(found));
  }
  recovered_ = true;
  return OkStatus();
}

Status RotatedFile::RecoverFile(const FileInfo* found) {
  if (found == nullptr || found->inode != state_.inode) {
    bool other_is_empty = found == nullptr || found->size == 0;
    if (state_.length == 0 && other_is_empty) return Start();
    Result<FileInfo> closed = state_.has_rows ? fs_.Stat(FinalPath()) : Fail(NotFound("never rotated"));
    if (closed && closed->inode == state_.inode && closed->size == state_.length && other_is_empty)
      return Start();
    return Corrupt(
        "{} is {}: this sink stored {} bytes of it; put it back, or remove it and {} to write all anew",
        place_.path, found == nullptr ? "missing" : "another file than the one written", state_.length,
        place_.state_path);
  }
  if (found->size < state_.length)
    return Corrupt("{} has {} bytes, but {} were stored; put it back, or remove it and {} to write all anew",
                   place_.path, found->size, state_.length, place_.state_path);
  ASSIGN_OR_RETURN(file_, fs_.Open(place_.path, OpenMode::kReadWrite));
  if (IsPlanted(Planted::dup_on_retry)) state_.length = found->size;
  if (found->size == state_.length) return OkStatus();
  RETURN_IF_ERROR(file_->Truncate(state_.length));
  return file_->Sync();
}

Status RotatedFile::Start() {
  RETURN_IF_ERROR(fs_.CreateDirectories(DirectoryOf(place_.path)));
  RETURN_IF_ERROR(fs_.CreateDirectories(DirectoryOf(place_.state_path)));
  ASSIGN_OR_RETURN(file_, fs_.Open(place_.path, OpenMode::kCreate));
  RETURN_IF_ERROR(file_->Sync());
  RETURN_IF_ERROR(fs_.SyncDirectory(DirectoryOf(place_.path)));
  ASSIGN_OR_RETURN(FileInfo info, fs_.Stat(place_.path));
  SinkState next;
  next.generation = place_.generation;
  next.offsets = state_.offsets;
  next.name = place_.name;
  next.inode = info.inode;
  RETURN_IF_ERROR(StoreSinkState(fs_, place_.state_path, next));
  state_ = std::move(next);
  return OkStatus();
}

Status RotatedFile::Rotate() {
  std::string final_path = FinalPath();
  if (fs_.Exists(final_path))
    return Conflict("{} exists already, so {} cannot be closed under this name; move it away", final_path,
                    place_.path);
  file_.reset();
  RETURN_IF_ERROR(fs_.Rename(place_.path, final_path));
  RETURN_IF_ERROR(fs_.SyncDirectory(DirectoryOf(place_.path)));
  return Start();
}

Status RotatedFile::Append(std::string_view bytes, uint32_t partition, uint64_t next, const First& first,
                           bool rotate) {
  CHECK(recovered_);
  Status status = AppendOnce(bytes, partition, next, first, rotate);
  if (!status.ok()) recovered_ = false;
  return status;
}

Status RotatedFile::AppendOnce(std::string_view bytes, uint32_t partition, uint64_t next, const First& first,
                               bool rotate) {
  if (rotate && state_.has_rows) RETURN_IF_ERROR(Rotate());
  SinkState grown = state_;
  grown.offsets[partition] = next;
  if (IsPlanted(Planted::offset_before_rows)) {
    grown.length += bytes.size();
    RETURN_IF_ERROR(StoreSinkState(fs_, place_.state_path, grown));
    grown.length -= bytes.size();
  }
  if (!bytes.empty()) {
    RETURN_IF_ERROR(file_->WriteAt(state_.length, bytes));
    RETURN_IF_ERROR(file_->Sync());
    grown.length += bytes.size();
    if (!grown.has_rows) {
      grown.has_rows = true;
      grown.first_partition = partition;
      grown.first_offset = first.offset;
      grown.opened_us = first.wall_us;
      grown.header = first.header;
    }
  }
  RETURN_IF_ERROR(StoreSinkState(fs_, place_.state_path, grown));
  state_ = std::move(grown);
  return OkStatus();
}

}  // namespace millstream
