// The `file` sink: rows as lines of a file, exactly once.
//
// A delivery is one write, one sync and one new sidecar (rotated_file.h). With compression it is one gzip
// member or zstd frame. A file is closed before the delivery that follows the one that filled it.
#include "sinks/compress.h"
#include "sinks/rotated_file.h"
#include "sinks/sinks.h"
#include "stage/make_kind.h"
#include "stage/row_text.h"

namespace millstream {
namespace {

struct RotateOptions {
  ByteSize size;   // 0: no bound
  Duration every;  // 0: no bound
};

struct FileOptions {
  std::string path;
  std::string format;
  std::string compression;
  RotateOptions rotate;
};

Spec<RotateOptions> RotateSpec() {
  Spec<RotateOptions> spec("rotate", "When the file is closed and a new one begun.");
  spec.Field("size", &RotateOptions::size, "Once it has this size.");
  spec.Field("every", &RotateOptions::every, "Once its first row is this old, with the next rows that come.");
  return spec;
}

Spec<FileOptions> FileSpec() {
  Spec<FileOptions> spec(
      "file",
      "Writes rows as lines of a file. A lone column `data` gives its value as it is. Closed "
      "files are called NAME.FIRSTOFFSET.EXT (of several partitions: "
      "NAME.PARTITION-FIRSTOFFSET.EXT) and never change again.");
  spec.Guarantee(
      "exactly once: the file's length and the offsets are stored together, and what a crash left beyond "
      "them is cut.");
  spec.Field("path", &FileOptions::path, "The file, relative to the project folder.").Required().Main();
  spec.Field("format", &FileOptions::format,
             "How rows are written; by the path's ending (.csv), else ndjson.")
      .OneOf({"ndjson", "csv"});
  spec.Field("compression", &FileOptions::compression, "By the path's ending (.gz, .zst), else none.")
      .OneOf({"none", "gzip", "zstd"});
  spec.Nested("rotate", &FileOptions::rotate, RotateSpec(), "When the file is closed and a new one begun.");
  spec.Example("file: out/revenue.ndjson");
  spec.Example("file: {path: out/revenue.csv.gz, rotate: {size: 64MiB, every: 1h}}");
  return spec;
}

RowText::Format FormatOf(const FileOptions& options) {
  if (options.format == "csv") return RowText::Format::kCsv;
  bool named_csv = options.path.ends_with(".csv") || options.path.ends_with(".csv.gz") ||
                   options.path.ends_with(".csv.zst");
  return options.format.empty() && named_csv ? RowText::Format::kCsv : RowText::Format::kNdjson;
}

class FileSinkStage final : public Sink {
 public:
  FileSinkStage(FileOptions options, const SinkContext& context)
      : options_(std::move(options)),
        compression_(CompressionOf(options_.compression, options_.path)),
        clock_(*context.clock),
        text_(FormatOf(options_)),
        file_(*context.fs, {PathIn(context.project_directory, options_.path), options_.path,
                            SinkStatePath(context), context.generation, context.partitions == 1}) {}

  Result<std::map<uint32_t, uint64_t>> Open() override {
    FAIL_IF_ERROR(file_.Recover());
    return file_.state().offsets;
  }

  Status SetColumns(const std::vector<ColumnInfo>& columns, uint32_t visible) override {
    text_.SetColumns(columns, VisibleColumns(visible));
    return OkStatus();
  }

  Status Deliver(const RowBatch& rows) override {
    RETURN_IF_ERROR(file_.Recover());
    auto stored = file_.state().offsets.find(rows.partition);
    bool is_new = stored == file_.state().offsets.end();
    uint64_t from = is_new ? 0 : stored->second;
    if (!is_new && from >= rows.next_offset) return OkStatus();

    RotatedFile::First first;
    first.wall_us = clock_.WallUs();
    first.header = text_.Header();
    std::string lines;
    text_.AppendLines(lines, rows, from, &first.offset);
    if (lines.empty()) return file_.Append("", rows.partition, rows.next_offset, first, false);

    bool rotate = MustRotate(first);
    if (rotate || !file_.state().has_rows) lines.insert(0, first.header);
    ASSIGN_OR_RETURN(std::string bytes, Compress(lines, compression_));
    return file_.Append(bytes, rows.partition, rows.next_offset, first, rotate);
  }

  std::optional<uint64_t> DurableOffset(uint32_t partition) override {
    auto stored = file_.state().offsets.find(partition);
    return stored == file_.state().offsets.end() ? 0 : stored->second;
  }

 private:
  bool MustRotate(const RotatedFile::First& now) const {
    const SinkState& state = file_.state();
    if (!state.has_rows) return false;
    if (state.header != now.header) return true;  // a CSV file has one header
    if (options_.rotate.size.bytes > 0 && state.length >= options_.rotate.size.bytes) return true;
    return options_.rotate.every.us > 0 && now.wall_us - state.opened_us >= options_.rotate.every.us;
  }

  FileOptions options_;
  Compression compression_;
  Clock& clock_;
  RowText text_;
  RotatedFile file_;
};

}  // namespace

SinkKind FileSink() {
  return MakeSinkKind(
      FileSpec(), [](const FileOptions& options) { return options.path; },
      [](FileOptions options, const SinkContext& context) -> Result<std::unique_ptr<Sink>> {
        return std::make_unique<FileSinkStage>(std::move(options), context);
      });
}

}  // namespace millstream
