#include "cli/splitter_feed.h"

#include "event/json_scan.h"

namespace millstream {
namespace {

constexpr size_t kReadBytes = 1 << 20;

class SplitterFeed final : public InputFeed {
 public:
  SplitterFeed(InputBytes bytes, uint64_t total, SplitOptions options, Compression compression, uint64_t skip)
      : bytes_(std::move(bytes)),
        total_(total),
        lines_(options.format == RecordFormat::kNdjson && options.records.empty()),
        by_line_(options.is_by_line()),
        splitter_(std::move(options)),
        inflater_(compression == Compression::kNone ? nullptr : Inflater::Make(compression)),
        skip_(skip) {}

  uint64_t total_bytes() const override { return total_; }

  Result<std::optional<FeedPiece>> Next() override {
    if (held_) {
      FeedPiece alone = std::move(held_->piece);
      std::string body = std::move(held_->body);
      held_.reset();
      return Close(std::move(alone), std::move(body));
    }
    FeedPiece piece;
    piece.format = lines_ ? BodyFormat::kNdjson : BodyFormat::kJson;
    std::string body;
    body.reserve(kPieceBytes + kReadBytes);
    if (!lines_) body = "[";
    while (body.size() < kPieceBytes) {
      ASSIGN_OR_FAIL(std::optional<Record> record, splitter_.Next());
      if (!record) {
        if (at_end_ || (piece.events > 0 && bytes_.is_stdin())) break;  // nobody waits for what has not come
        FAIL_IF_ERROR(ReadMore());
        continue;
      }
      uint64_t index = taken_++;
      if (index < skip_) continue;
      if (piece.events == 0) {
        piece.first_event = index;
        piece.first_line = PlaceOf(*record, index);
      }
      // One that is no JSON would spoil the array around it: it travels alone, as a line.
      if (!lines_ && (!record->fault.empty() || !Sound(record->text))) {
        FeedPiece alone;
        std::string text(record->text);
        std::replace(text.begin(), text.end(), '\n', ' ');
        alone.first_event = index;
        alone.first_line = PlaceOf(*record, index);
        alone.events = 1;
        if (piece.events == 0) return Close(std::move(alone), std::move(text));
        --taken_;
        auto closed = Close(std::move(piece), std::move(body));
        ++taken_;
        held_ = Held{std::move(alone), std::move(text)};
        return closed;
      }
      if (!lines_ && piece.events > 0) body += ',';
      body += record->text;
      if (lines_) body += '\n';
      ++piece.events;
    }
    if (piece.events == 0) return std::optional<FeedPiece>();
    return Close(std::move(piece), std::move(body));
  }

 private:
  struct Held {
    FeedPiece piece;
    std::string body;
  };

  /// What stands behind PATH# : its line, or its number where several may stand on one.
  uint64_t PlaceOf(const Record& record, uint64_t index) const { return by_line_ ? record.line : index + 1; }

  bool Sound(std::string_view text) {
    padded_.assign(text);
    padded_.append(kJsonPadding, '\0');
    return !ValidateJson(std::string_view(padded_.data(), text.size()));
  }

  Result<std::optional<FeedPiece>> Close(FeedPiece piece, std::string body) {
    if (piece.format == BodyFormat::kJson) body += ']';
    size_t size = body.size();
    body.append(kJsonPadding, '\0');
    auto owner = std::make_shared<const std::string>(std::move(body));
    piece.body = std::string_view(*owner).substr(0, size);
    piece.owner = std::move(owner);
    piece.position = fmt::format("{}", taken_);
    piece.bytes_read = read_;
    return std::optional(std::move(piece));
  }

  Status ReadMore() {
    buffer_.resize(kReadBytes);
    ASSIGN_OR_RETURN(size_t got, bytes_.Read(buffer_.data(), buffer_.size()));
    read_ += got;
    if (got == 0) {
      at_end_ = true;
      splitter_.End();
      return inflater_ ? inflater_->Finish() : OkStatus();
    }
    std::string_view bytes(buffer_.data(), got);
    if (!inflater_) {
      splitter_.Feed(bytes);
      return OkStatus();
    }
    std::string plain;
    while (true) {
      plain.clear();
      RETURN_IF_ERROR(inflater_->Inflate(bytes, plain, kReadBytes));
      splitter_.Feed(plain);
      if (bytes.empty() && plain.size() < kReadBytes) return OkStatus();
    }
  }

  InputBytes bytes_;
  const uint64_t total_;
  const bool lines_;    // comes out as NDJSON
  const bool by_line_;  // SplitOptions::is_by_line
  RecordSplitter splitter_;
  std::unique_ptr<Inflater> inflater_;
  const uint64_t skip_;
  std::string buffer_, padded_;
  std::optional<Held> held_;
  uint64_t taken_ = 0, read_ = 0;
  bool at_end_ = false;
};

}  // namespace

std::unique_ptr<InputFeed> MakeSplitterFeed(InputBytes bytes, uint64_t total, SplitOptions options,
                                            Compression compression, uint64_t skip) {
  return std::make_unique<SplitterFeed>(std::move(bytes), total, std::move(options), compression, skip);
}

}  // namespace millstream
