// The `stdout` sink: rows as lines on standard output, for pipes and for looking at.
#include <unistd.h>

#include <cerrno>

#include "sinks/counted_offsets.h"
#include "sinks/sinks.h"
#include "stage/make_kind.h"
#include "stage/row_text.h"

namespace millstream {
namespace {

struct StdoutOptions {
  std::string format;
};

Spec<StdoutOptions> StdoutSpec() {
  Spec<StdoutOptions> spec("stdout", "Writes rows as lines on standard output.");
  spec.Guarantee("at least once: after a crash the last second's rows may come again.");
  spec.Field("format", &StdoutOptions::format, "How rows are written.")
      .OneOf({"ndjson", "csv"})
      .Default("ndjson")
      .Main();
  spec.Example("stdout:");
  spec.Example("stdout: csv");
  return spec;
}

Status WriteAll(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Unavailable("standard output: {}", std::strerror(errno));
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return OkStatus();
}

class StdoutSinkStage final : public Sink {
 public:
  StdoutSinkStage(const StdoutOptions& options, const SinkContext& context)
      : text_(options.format == "csv" ? RowText::Format::kCsv : RowText::Format::kNdjson),
        offsets_(context) {}

  Result<std::map<uint32_t, uint64_t>> Open() override { return offsets_.Open(); }

  Status SetColumns(const std::vector<ColumnInfo>& columns, uint32_t visible) override {
    text_.SetColumns(columns, VisibleColumns(visible));
    return OkStatus();
  }

  Status Deliver(const RowBatch& rows) override {
    std::string lines;
    text_.AppendLines(lines, rows, offsets_.Next(rows.partition), nullptr);
    std::string header = text_.Header();
    if (!lines.empty() && header != written_header_) {
      lines.insert(0, header);
      written_header_ = header;
    }
    RETURN_IF_ERROR(WriteAll(STDOUT_FILENO, lines));
    return offsets_.Advance(rows.partition, rows.next_offset);
  }

  std::optional<uint64_t> DurableOffset(uint32_t partition) override { return offsets_.Durable(partition); }
  Status Close() override { return offsets_.Close(); }

 private:
  RowText text_;
  CountedOffsets offsets_;
  std::string written_header_;
};

}  // namespace

SinkKind StdoutSink() {
  return MakeSinkKind(
      StdoutSpec(), [](const StdoutOptions&) { return std::string(); },
      [](StdoutOptions options, const SinkContext& context) -> Result<std::unique_ptr<Sink>> {
        return std::make_unique<StdoutSinkStage>(options, context);
      });
}

}  // namespace millstream
