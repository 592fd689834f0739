// The `file` source: files of events, followed as they grow and rotate.
//
// Each pass looks at all files that the patterns name, in order. Plain NDJSON is read line by line as it
// grows; a line is taken once its end is there. All else is read from its beginning once it has stopped
// changing, and records that were taken before are left out; CSV may grow on after that, a JSON document or a
// compressed file that changes is another one. Receipts remember each file's place (file_place.h), so that a
// restart, a crash or a renaming neither loses nor doubles an event.
#include "base/text.h"
#include "sources/document_reader.h"
#include "sources/file_place.h"
#include "sources/glob.h"
#include "sources/line_reader.h"
#include "sources/sources.h"
#include "stage/make_kind.h"

namespace millstream {
namespace {

constexpr uint64_t kPollBytes = 16u << 20;  // then the runtime gets to look at a pause
constexpr int kIncarnations = 1000;         // contents that share an inode and a head
constexpr int64_t kQuietUs = 1'000'000;     // a document that has not changed for so long is whole

struct CsvSettings {
  std::string delimiter = ",", quote = "\"", null_text;
  bool header = true;
};

struct FileOptions {
  std::vector<std::string> path;
  bool follow = true;
  std::string order;
  std::string format;
  std::string compression;
  std::string records;
  CsvSettings csv;
};

Spec<CsvSettings> CsvSpec() {
  Spec<CsvSettings> spec("csv", "How CSV is written.");
  spec.Field("delimiter", &CsvSettings::delimiter, "Between fields.").Default(",");
  spec.Field("header", &CsvSettings::header, "The first line names the columns.").Default("true");
  spec.Field("quote", &CsvSettings::quote, "Around fields that hold a delimiter.").Default("\"");
  spec.Field("null", &CsvSettings::null_text, "The text that stands for null; by default an empty field.");
  return spec;
}

Spec<FileOptions> FileSpec() {
  Spec<FileOptions> spec("file",
                         "Reads events from files and follows them as they grow and rotate. An event's ce_id "
                         "is PATH#LINE (or the record's "
                         "number), by the path where its file was found first. Another content that is found "
                         "there later is PATH@2#LINE, and so on.");
  spec.Field("path", &FileOptions::path,
             "Files; * ? [a-z] stand for parts of a name, ** for folders. A list: each of them.")
      .Required()
      .Main();
  spec.Field("follow", &FileOptions::follow, "Read on where a file grows; false: each file once.")
      .Default("true");
  spec.Field("order", &FileOptions::order, "Which file comes first.").OneOf({"name", "time"}).Default("name");
  spec.Field("format", &FileOptions::format, "By the file's name, else ndjson.")
      .OneOf({"ndjson", "json", "csv"});
  spec.Field("compression", &FileOptions::compression, "By the file's name, else none.")
      .OneOf({"none", "gzip", "zstd"});
  spec.Field("records", &FileOptions::records,
             "JSON pointer to the events in a document; * for each element, e.g. /entry/*/resource.");
  spec.Nested("csv", &FileOptions::csv, CsvSpec(), "How CSV is written.");
  spec.Later("dms",
             "AWS DMS files are not read yet; use instead: aws s3 cp s3://BUCKET/KEY - | millstream ingest "
             "STREAM - --format csv");
  spec.Example("file: {path: \"in/*.ndjson.gz\"}");
  spec.Example("file: {path: [a.csv, b.csv], csv: {delimiter: \";\"}, order: time}");
  return spec;
}

RecordFormat FormatFor(const FileOptions& options, const std::string& path) {
  return options.format.empty() ? RecordFormatOf(path) : *ParseRecordFormat(options.format);
}

Result<CsvOptions> CsvOptionsOf(const CsvSettings& settings) {
  CsvOptions csv;
  FAIL_IF_ERROR(SetCsvOption(csv, "delimiter", settings.delimiter));
  FAIL_IF_ERROR(SetCsvOption(csv, "quote", settings.quote));
  csv.header = settings.header;
  csv.null = settings.null_text;
  return csv;
}

enum class Shape : uint8_t {
  kLines,  // plain NDJSON: place.sequence is a byte, place.tail lies before it
  kTable,  // plain CSV: place.sequence counts records, place.line is the file's size when all of it was read
  kDocument,  // the rest: as a table, but never grows
};

/// A file that is being read.
struct Followed {
  std::string path;
  std::string part;
  FilePlace place;
  std::unique_ptr<File> file;  // stays readable when the file is renamed or removed
  uint64_t size = 0;
  int64_t modified_us = 0;
  Shape shape = Shape::kLines;
  bool at_end = false;
  uint64_t pass = 0;  // the last that found it
};

class FileSourceStage final : public Source {
 public:
  FileSourceStage(FileOptions options, CsvOptions csv, const SourceContext& context)
      : options_(std::move(options)),
        directory_(context.project_directory),
        contract_(context.contract),
        csv_(std::move(csv)),
        fs_(*context.fs),
        clock_(*context.clock),
        taker_(*context.taker) {}

  Result<bool> Poll(std::stop_token stop) override { return Pass(stop, false); }
  Result<bool> Finish(std::stop_token stop) override { return Pass(stop, true); }

 private:
  Result<bool> Pass(std::stop_token stop, bool ending) {
    ++pass_;
    left_bytes_ = kPollBytes;
    ASSIGN_OR_FAIL(std::vector<FoundFile> found, Find());
    bool worked = false;
    for (const FoundFile& file : found) {
      auto followed = followed_.find(file.info.inode);
      if (followed != followed_.end()) followed->second.pass = pass_;
      if (left_bytes_ == 0 || stop.stop_requested()) continue;
      ASSIGN_OR_FAIL(bool did, Look(file, ending, stop));
      worked = worked || did;
    }
    ASSIGN_OR_FAIL(bool finished, FinishVanished(stop));
    return worked || finished;
  }

  Result<std::vector<FoundFile>> Find() const {
    std::vector<FoundFile> all;
    for (const std::string& pattern : options_.path) {
      ASSIGN_OR_FAIL(std::vector<FoundFile> some, Glob(fs_, directory_, pattern));
      all.insert(all.end(), some.begin(), some.end());
    }
    if (options_.order == "time")
      std::stable_sort(all.begin(), all.end(), [](const FoundFile& a, const FoundFile& b) {
        return a.info.modified_us < b.info.modified_us;
      });
    return all;
  }

  Result<bool> Look(const FoundFile& found, bool ending, std::stop_token stop) {
    auto known = followed_.find(found.info.inode);
    if (known != followed_.end()) {
      Followed& file = known->second;
      bool changed = file.size != found.info.size || file.modified_us != found.info.modified_us;
      if (file.at_end && !changed && !(ending && file.shape == Shape::kLines)) return false;
      if (changed && !IsQuiet(found, file.shape, ending)) return false;
      bool same = true;
      if (changed) {
        ASSIGN_OR_FAIL(same, IsSame(file, found.info.size, file.place));
      }
      if (!same) {
        followed_.erase(known);
        known = followed_.end();
      }
    }
    if (known == followed_.end()) {
      ASSIGN_OR_FAIL(std::optional<Followed> begun, Begin(found, ending));
      if (!begun) return false;
      known = followed_.insert_or_assign(found.info.inode, std::move(*begun)).first;
    }
    Followed& file = known->second;
    file.pass = pass_;
    file.path = found.path;
    file.size = found.info.size;
    file.modified_us = found.info.modified_us;
    file.at_end = file.place.done || (file.shape != Shape::kLines && file.place.line == file.size);
    if (file.at_end) return false;
    return file.shape == Shape::kLines ? ReadLines(file, ending, stop) : ReadRecords(file, ending, stop);
  }

  bool IsQuiet(const FoundFile& found, Shape shape, bool ending) const {
    return shape == Shape::kLines || ending || clock_.WallUs() - found.info.modified_us >= kQuietUs;
  }

  /// Whether what was read of a file is still its beginning.
  static Result<bool> IsSame(const Followed& file, uint64_t size, const FilePlace& place) {
    uint64_t read = file.shape == Shape::kLines ? place.sequence : place.line;
    if (size < read || (file.shape == Shape::kDocument && read > 0 && size != read)) return false;
    ASSIGN_OR_FAIL(uint64_t tail, HashTail(*file.file, read));
    return tail == place.tail;
  }

  /// Opens a file and finds its place. Nothing if it is too early to tell which file it is.
  Result<std::optional<Followed>> Begin(const FoundFile& found, bool ending) {
    Followed file;
    file.shape = ShapeOf(found.path);
    if (found.info.size == 0 || !IsQuiet(found, file.shape, ending)) return std::optional<Followed>();
    Result<std::unique_ptr<File>> opened = fs_.Open(PathIn(directory_, found.path), OpenMode::kRead);
    if (!opened && opened.error().code() == Code::kNotFound) return std::optional<Followed>();
    if (!opened) return Fail(opened.error());
    file.file = std::move(*opened);
    int head_lines = file.shape == Shape::kLines ? 1 : file.shape == Shape::kTable ? 2 : 0;
    ASSIGN_OR_FAIL(std::optional<uint64_t> head, HashHead(*file.file, found.info.size, head_lines, ending));
    if (!head) return std::optional<Followed>();
    if (!names_) names_ = ContentNames(taker_.Positions());
    for (int number = 0; number < kIncarnations; ++number) {
      file.part = PartName(found.info.inode, *head, number);
      std::optional<std::string> stored = taker_.Position(file.part);
      if (!stored) break;
      std::optional<FilePlace> place = ParseFilePlace(*stored);
      if (!place) return Fail(Corrupt("{}: no place in a file: '{}'", found.path, *stored));
      ASSIGN_OR_FAIL(bool same, IsSame(file, found.info.size, *place));
      if (!same) continue;
      file.place = *place;
      // A version that stored no name took the path's.
      if (file.place.name.empty()) names_->Keep(file.part, found.path);
      break;
    }
    file.place.name = names_->Of(file.part, found.path);
    return std::optional<Followed>(std::move(file));
  }

  Compression CompressionFor(const std::string& path) const {
    return options_.compression.empty() ? CompressionOf(path) : *ParseCompression(options_.compression);
  }

  Shape ShapeOf(const std::string& path) const {
    bool plain = CompressionFor(path) == Compression::kNone && options_.records.empty();
    RecordFormat format = FormatFor(options_, path);
    if (plain && format == RecordFormat::kNdjson) return Shape::kLines;
    return plain && format == RecordFormat::kCsv ? Shape::kTable : Shape::kDocument;
  }

  /// `place`: its line, or the number of the record where several may stand on one. `fault`: as in
  /// SourceEvent.
  Status TakeOne(const Followed& file, std::string_view data, uint64_t place, uint64_t sequence,
                 std::string fault) {
    std::string at = fmt::format("{}#{}", file.place.name, place);
    SourceEvent event;
    event.envelope.id = at;
    event.envelope.subject = file.path;
    event.data = data;
    event.part = file.part;
    event.at = at;
    event.sequence = sequence;
    event.fault = std::move(fault);
    return taker_.Take(event);
  }

  Result<bool> ReadLines(Followed& file, bool ending, std::stop_token stop) {
    bool worked = false;
    file.at_end = false;
    while (left_bytes_ > 0 && !file.at_end && !stop.stop_requested()) {
      auto piece = LineReader::Read(*file.file, file.size, ending, file.place.sequence, file.place.line);
      if (!piece) return Forget(file, piece.error());
      file.at_end = !*piece;
      if (file.at_end) break;
      worked = true;
      left_bytes_ -= std::min(left_bytes_, (*piece)->end - file.place.sequence);
      Status taken = TakeLines(file, std::move(**piece));
      if (!taken.ok()) return Forget(file, taken);
    }
    // In the middle of a file nothing need be waited for: it goes on at the next look.
    Status committed = worked && file.at_end ? taker_.Commit() : OkStatus();
    if (!committed.ok()) return Forget(file, committed);
    return worked;
  }

  Status TakeLines(Followed& file, LinePiece piece) {
    file.place.sequence = piece.end;
    file.place.line = piece.lines;
    file.at_end = piece.end >= file.size;
    RETURN_IF_ERROR(SetPlace(file, piece.end, file.at_end && !options_.follow));
    return taker_.TakeLines({std::move(piece.bytes), piece.text, file.part, file.path, file.place.name,
                             piece.first_line, piece.begin, file.place.ToText()});
  }

  /// `read`: how much of the file the place speaks for.
  static Status SetPlace(Followed& file, uint64_t read, bool done) {
    ASSIGN_OR_RETURN(file.place.tail, HashTail(*file.file, read));
    file.place.done = done;
    return OkStatus();
  }

  Status Mark(Followed& file, uint64_t read, bool done) {
    RETURN_IF_ERROR(SetPlace(file, read, done));
    return taker_.Mark(file.part, file.place.ToText());
  }

  Result<bool> ReadRecords(Followed& file, bool ending, std::stop_token stop) {
    uint64_t size = file.size;
    if (file.shape == Shape::kTable && !ending) {
      ASSIGN_OR_FAIL(size, EndOfLastLine(*file.file, file.size));
    }
    Status status = TakeRecords(file, size, stop);
    if (status.ok()) {
      file.at_end = true;
      file.place.line = size;
      status = Mark(file, size, file.shape == Shape::kDocument || !options_.follow);
    }
    if (status.ok()) status = taker_.Commit();
    if (!status.ok()) return Forget(file, status);
    return true;
  }

  Status TakeRecords(Followed& file, uint64_t size, std::stop_token stop) {
    SplitOptions split;
    split.format = FormatFor(options_, file.path);
    split.records = options_.records;
    split.csv = csv_;
    split.contract = contract_;
    DocumentReader reader(*file.file, size, CompressionFor(file.path), split);
    uint64_t taken = file.place.sequence;
    for (uint64_t record = 1;; ++record) {
      if (stop.stop_requested()) return Cancelled("stopped");
      Result<std::optional<DocumentReader::Document>> next = reader.Next();
      if (!next && next.error().code() != Code::kInvalid) return next.error();
      if (next && !*next) return OkStatus();
      if (record > taken) {
        RETURN_IF_ERROR(TakeRecord(file, next, record, split.is_by_line()));
        file.place.sequence = record;
        file.place.line = 0;
        RETURN_IF_ERROR(Mark(file, 0, false));
      }
      if (!next) return OkStatus();
    }
  }

  /// What cannot be read becomes a dead letter that says why, and nothing else waits.
  Status TakeRecord(const Followed& file, Result<std::optional<DocumentReader::Document>>& next,
                    uint64_t record, bool by_line) {
    if (!next) return TakeOne(file, "", record, record, next.error().message());
    DocumentReader::Document& document = **next;
    return TakeOne(file, document.data, by_line ? document.line : record, record, std::move(document.fault));
  }

  /// After a failure what was taken and not stored must be taken again: places are asked for anew.
  tl::unexpected<Status> Forget(const Followed& file, const Status& status) {
    Status told = status.Within(file.path);
    followed_.clear();
    return Fail(std::move(told));
  }

  /// Files that were renamed out of the patterns or removed are read to their end.
  Result<bool> FinishVanished(std::stop_token stop) {
    bool worked = false;
    for (auto it = followed_.begin(); it != followed_.end();) {
      Followed& file = it->second;
      if (file.pass == pass_ || left_bytes_ == 0 || stop.stop_requested()) {
        ++it;
        continue;
      }
      ASSIGN_OR_FAIL(file.size, file.file->Size());
      if (file.shape == Shape::kLines && file.size > file.place.sequence) {
        ASSIGN_OR_FAIL(bool did, ReadLines(file, true, stop));
        worked = worked || did;
        if (!file.at_end) return true;
      }
      it = followed_.erase(it);
    }
    return worked;
  }

  const FileOptions options_;
  const std::string directory_;
  const Contract contract_;
  const CsvOptions csv_;
  FileSystem& fs_;
  Clock& clock_;
  EventTaker& taker_;
  std::map<uint64_t, Followed> followed_;  // by inode
  std::optional<ContentNames> names_;      // from the first file on
  uint64_t pass_ = 0;
  uint64_t left_bytes_ = 0;
};

}  // namespace

SourceKind FileSource() {
  return MakeSourceKind(
      FileSpec(),
      [](FileOptions options, const SourceContext& context) -> Result<std::unique_ptr<Source>> {
        ASSIGN_OR_FAIL(CsvOptions csv, CsvOptionsOf(options.csv));
        return std::make_unique<FileSourceStage>(std::move(options), std::move(csv), context);
      },
      [](const FileOptions& options, const Node& node, const ParseContext& context) {
        Result<CsvOptions> csv = CsvOptionsOf(options.csv);
        if (!csv) context.faults->push_back(FaultAt(node, context.At("csv").path, csv.error().message()));
      });
}

}  // namespace millstream
