// The `exec` filter: any program as a filter: one JSON line in, one JSON line out.
//
// A reply is an object (one row), an array of objects (as many rows) or null (none). The program runs on from
// batch to batch; when it ends it is started again with back-off. What it does outside is done at least once.
// An event at which it ends again and again, while it answers others, is at fault itself (kInvalid), so that
// the runtime finds it among its neighbours and sets it aside; a program that answers nothing is retried.
#include "base/child_process.h"
#include "base/text.h"
#include "event/json_scan.h"
#include "filters/filters.h"
#include "sql/chunk_builder.h"
#include "stage/make_kind.h"
#include "stage/row_text.h"

namespace millstream {
namespace {

constexpr int64_t kFirstRestartNs = 100'000'000;
constexpr int64_t kLastRestartNs = 10'000'000'000;
constexpr int kDeathsOfOneEvent = 3;
constexpr size_t kExcerptBytes = 120;

struct ExecOptions {
  std::vector<std::string> command;
  Duration timeout;
  NamedTexts output;
};

Spec<ExecOptions> ExecSpec() {
  Spec<ExecOptions> spec(
      "exec",
      "Passes rows through a program: each row is a JSON object on one line of its standard input "
      "(a lone column `data`: that value); the program answers each with one line on its standard "
      "output, an object, an array of objects (several rows) or null (none), and flushes it.");
  spec.Field("command", &ExecOptions::command,
             "The program and its arguments; it runs in the project folder.")
      .Required()
      .Main();
  spec.Field("timeout", &ExecOptions::timeout, "The longest wait for the next reply.").Default("10s");
  spec.Field("output", &ExecOptions::output,
             "NAME: TYPE of each column that the replies give; without it the reply is the column `data`.");
  spec.Example("exec: {command: [python3, score.py], output: {id: varchar, score: double}}");
  return spec;
}

std::string PointerOf(const std::string& name) {
  std::string pointer = "/";
  for (char c : name) {
    if (c == '~')
      pointer += "~0";
    else if (c == '/')
      pointer += "~1";
    else
      pointer += c;
  }
  return pointer;
}

/// The declared columns. A type that does not parse adds a fault at `node`'s `output`.
std::vector<Field> FieldsOf(const ExecOptions& options, const Node& node, const ParseContext& context) {
  std::vector<Field> fields;
  for (const auto& [name, text] : options.output) {
    Result<Type> type = ParseType(text);
    if (!type) {
      const Node* output = node.Find("output");
      const Node* at = output == nullptr ? nullptr : output->Find(name);
      context.faults->push_back(
          FaultAt(at == nullptr ? node : *at, context.At("output").At(name).path, type.error().message()));
      continue;
    }
    fields.push_back({name, *type, false, std::nullopt, "", PointerOf(name)});
  }
  if (options.output.empty()) {
    Type json;
    json.kind = Type::Kind::kJson;
    fields.push_back({"data", json, false, std::nullopt, "", ""});
  }
  return fields;
}

std::vector<ColumnInfo> ColumnsOf(const std::vector<Field>& fields) {
  std::vector<ColumnInfo> columns;
  for (const Field& field : fields) columns.push_back({field.name, ColumnTypeName(field.type)});
  return columns;
}

/// How many of these columns are the reserved ones at their end (row_batch.h).
size_t CountReserved(const std::vector<ColumnInfo>& columns) {
  size_t count = 0;
  auto next = std::rbegin(kReservedColumns);
  for (auto column = columns.rbegin(); column != columns.rend(); ++column, ++count) {
    next = std::find(next, std::rend(kReservedColumns), column->name);
    if (next == std::rend(kReservedColumns)) break;
    ++next;
  }
  return count;
}

std::string Excerpt(std::string_view text) {
  return fmt::format("{}{}", text.substr(0, kExcerptBytes), text.size() > kExcerptBytes ? "…" : "");
}

class ExecFilterStage final : public Filter {
 public:
  ExecFilterStage(ExecOptions options, std::vector<Field> fields, const FilterContext& context)
      : options_(std::move(options)),
        fields_(std::move(fields)),
        columns_(ColumnsOf(fields_)),
        directory_(context.project_directory),
        clock_(*context.clock) {}

  Result<std::vector<ColumnInfo>> Describe(const std::vector<ColumnInfo>& input) override {
    std::vector<ColumnInfo> columns = columns_;
    columns.insert(columns.end(), input.end() - static_cast<ptrdiff_t>(CountReserved(input)), input.end());
    return columns;
  }

  Result<RowBatch> Process(RowBatch rows, std::stop_token stop) override {
    std::vector<Place> places = PlacesOf(rows);
    std::vector<std::string> replies;
    if (!places.empty()) FAIL_IF_ERROR(Ask(LinesOf(rows, places), places, rows.partition, stop, replies));

    ChunkBuilder builder(fields_, rows.visible);
    std::unordered_map<uint64_t, int32_t> ordinals;
    for (size_t i = 0; i < places.size(); ++i)
      FAIL_IF_ERROR(AddReply(replies[i], places[i], ordinals[places[i].offset], builder));

    std::vector<ColumnInfo> columns = columns_;
    columns.insert(columns.end(), rows.columns.begin() + rows.visible, rows.columns.end());
    // The builder reads the old chunks until Finish.
    std::vector<Chunk> chunks = builder.Finish();
    rows.columns = std::move(columns);
    rows.visible = static_cast<uint32_t>(columns_.size());
    rows.chunks = std::move(chunks);
    return rows;
  }

 private:
  struct Place {
    const Chunk* chunk;
    uint32_t row;
    uint64_t offset;
  };

  static std::vector<Place> PlacesOf(const RowBatch& rows) {
    std::vector<Place> places;
    if (rows.chunks.empty()) return places;
    int column = rows.Find("_offset");
    CHECK(column >= 0);
    for (const Chunk& chunk : rows.chunks)
      for (uint32_t row = 0; row < chunk.rows(); ++row)
        places.push_back({&chunk, row, OffsetOf(chunk, static_cast<uint32_t>(column), row)});
    return places;
  }

  static std::vector<std::string> LinesOf(const RowBatch& rows, const std::vector<Place>& places) {
    RowText text(RowText::Format::kNdjson);
    text.SetColumns(rows.columns, VisibleColumns(rows.visible));
    JsonWriter writer = MakeJsonWriter(rows.chunks.front());
    std::vector<std::string> lines(places.size());
    for (size_t i = 0; i < places.size(); ++i) {
      text.AppendRow(lines[i], writer, *places[i].chunk, places[i].row);
      lines[i] += '\n';
    }
    return lines;
  }

  Status Ask(const std::vector<std::string>& lines, const std::vector<Place>& places, uint32_t partition,
             std::stop_token stop, std::vector<std::string>& replies) {
    RETURN_IF_ERROR(Start());
    std::string all;
    for (const std::string& line : lines) all += line;
    Status status = child_->Exchange(all, lines.size(), options_.timeout.us, stop, replies);
    if (!replies.empty()) answered_line_ = lines[replies.size() - 1];
    if (status.ok()) {
      restart_wait_ns_ = 0;
      // Other events, the halves of a bisection among them, say nothing of the one that it died at.
      if (partition == death_partition_ && !places.empty() && places.front().offset <= death_offset_ &&
          death_offset_ <= places.back().offset)
        deaths_ = 0;
      return status;
    }
    child_.reset();
    ending_ = status.message();
    if (status.code() != Code::kUnavailable) return status;
    restart_wait_ns_ = std::clamp(restart_wait_ns_ * 2, kFirstRestartNs, kLastRestartNs);
    not_before_ns_ = clock_.MonotonicNs() + restart_wait_ns_;
    if (replies.size() >= places.size()) return status;
    return Judge(status, partition, places[replies.size()].offset, stop);
  }

  Status Start() {
    if (child_) return OkStatus();
    int64_t wait_ns = not_before_ns_ - clock_.MonotonicNs();
    if (wait_ns > 0) return Unavailable("{}; it is started again in {} ms", ending_, wait_ns / 1'000'000 + 1);
    auto child = ChildProcess::Start(options_.command, directory_, clock_);
    if (!child) {
      not_before_ns_ = clock_.MonotonicNs() + kLastRestartNs;
      ending_ = child.error().message();
      return child.error();
    }
    child_ = std::move(*child);
    return OkStatus();
  }

  /// The program has ended before it answered the event at `offset`. Whose fault is it?
  Status Judge(const Status& ending, uint32_t partition, uint64_t offset, std::stop_token stop) {
    bool same = deaths_ > 0 && death_partition_ == partition && death_offset_ == offset;
    deaths_ = same ? deaths_ + 1 : 1;
    death_partition_ = partition;
    death_offset_ = offset;
    if (deaths_ < kDeathsOfOneEvent || answered_line_.empty()) return ending;
    auto child = ChildProcess::Start(options_.command, directory_, clock_);
    if (!child) return ending;
    std::vector<std::string> replies;
    if (!(*child)->Exchange(answered_line_, 1, options_.timeout.us, stop, replies).ok()) return ending;
    child_ = std::move(*child);
    restart_wait_ns_ = 0;
    return Invalid("{}; it has ended {} times at this event and answers another", ending.message(), deaths_);
  }

  Status AddReply(const std::string& reply, const Place& place, int32_t& ordinal,
                  ChunkBuilder& builder) const {
    if (auto error = ValidateJson(reply))
      return Invalid("{} answered what is no JSON ({}): {}", options_.command[0], error->message,
                     Excerpt(reply));
    JsonValue value = MakeJsonValue(Trim(reply));
    if (value.kind == JsonKind::kNull) return OkStatus();
    std::vector<std::string_view> rows = {value.text};
    if (value.kind == JsonKind::kArray) rows = *JsonElements(value.text);
    for (std::string_view row : rows) {
      if (row.empty() || row[0] != '{')
        return Invalid("{} answered neither an object, nor an array of objects, nor null: {}",
                       options_.command[0], Excerpt(reply));
      Status status = builder.Add(row, *place.chunk, place.row, ordinal);
      if (!status.ok()) return status.Within("reply of " + options_.command[0]);
      ++ordinal;
    }
    return OkStatus();
  }

  const ExecOptions options_;
  const std::vector<Field> fields_;
  const std::vector<ColumnInfo> columns_;
  const std::string directory_;
  Clock& clock_;
  std::unique_ptr<ChildProcess> child_;
  int64_t restart_wait_ns_ = 0, not_before_ns_ = 0;
  std::string ending_;         // why the last one is of no more use, or could not be started
  std::string answered_line_;  // the last that was answered, with its end
  int deaths_ = 0;             // one after another at the event below
  uint32_t death_partition_ = 0;
  uint64_t death_offset_ = 0;
};

}  // namespace

FilterKind ExecFilter() {
  FilterKind kind = MakeFilterKind(
      ExecSpec(),
      [](ExecOptions options, const FilterContext& context) -> Result<std::unique_ptr<Filter>> {
        Faults faults;
        std::vector<Field> fields = FieldsOf(options, Node(), ParseContext{"", "", &faults});
        if (!faults.empty()) return Fail(Invalid("{}", faults.front().message));
        if (options.command.empty()) return Fail(Invalid("exec needs a command"));
        return std::make_unique<ExecFilterStage>(std::move(options), std::move(fields), context);
      },
      [](const ExecOptions& options, const Node& node, const ParseContext& context) {
        FieldsOf(options, node, context);
      });
  kind.output = [](const Node& node) {
    Faults faults;
    ParseContext context{"", "", &faults};
    ExecOptions options = ExecSpec().Parse(node, context);
    return options.output.empty() ? std::vector<ColumnInfo>() : ColumnsOf(FieldsOf(options, node, context));
  };
  return kind;
}

}  // namespace millstream
