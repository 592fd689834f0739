#include "sources/document_reader.h"

#include "event/json_scan.h"

namespace millstream {
namespace {

constexpr size_t kPieceBytes = 256u << 10;
constexpr size_t kInflatedBytes = 1u << 20;  // at a time

}  // namespace

DocumentReader::DocumentReader(File& file, uint64_t size, Compression compression, SplitOptions options)
    : file_(file), size_(size), splitter_(std::move(options)) {
  if (compression != Compression::kNone) inflater_ = Inflater::Make(compression);
}

Status DocumentReader::Feed() {
  if (raw_.empty() && inflated_.size() < kInflatedBytes && at_ < size_) {
    piece_.resize(std::min<uint64_t>(kPieceBytes, size_ - at_));
    ASSIGN_OR_RETURN(size_t got, file_.ReadAt(at_, piece_.data(), piece_.size()));
    if (got == 0) return Unavailable("it became shorter while it was read");
    at_ += got;
    raw_ = std::string_view(piece_).substr(0, got);
    if (!inflater_) {
      splitter_.Feed(raw_);
      raw_ = {};
      return OkStatus();
    }
  }
  // A full piece may leave more inside the inflater.
  bool drained = raw_.empty() && inflated_.size() < kInflatedBytes;
  if (!inflater_ || (drained && at_ >= size_)) {
    if (inflater_) RETURN_IF_ERROR(inflater_->Finish());
    splitter_.End();
    ended_ = true;
    return OkStatus();
  }
  inflated_.clear();
  RETURN_IF_ERROR(inflater_->Inflate(raw_, inflated_, kInflatedBytes));
  splitter_.Feed(inflated_);
  return OkStatus();
}

Result<std::optional<DocumentReader::Document>> DocumentReader::Next() {
  for (;;) {
    ASSIGN_OR_FAIL(std::optional<Record> next, splitter_.Next());
    if (next) {
      record_.assign(next->text);
      record_.append(kJsonPadding, '\0');
      return std::optional(Document{std::string_view(record_).substr(0, next->text.size()), next->line,
                                    std::move(next->fault)});
    }
    if (ended_) return std::optional<Document>();
    FAIL_IF_ERROR(Feed());
  }
}

}  // namespace millstream
