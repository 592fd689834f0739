// The `stream` sink: rows become events of another stream, exactly once: pipelines chain.
//
// The target's receipts hold how far each source partition has come (SEMANTICS, "Chains"), so the sink stores
// nothing itself. A row's visible columns become `data`, the ce_* columns that a filter names or computes the
// envelope. `ce_id` is made of the row's place unless the row has one, so that a repeated delivery makes the
// same event.
#include "base/text.h"
#include "event/json_scan.h"
#include "sinks/sinks.h"
#include "stage/make_kind.h"
#include "stage/row_text.h"

namespace millstream {
namespace {

struct StreamOptions {
  std::string name;
  std::vector<std::string> key;
  std::string type;
};

Spec<StreamOptions> StreamSpec() {
  Spec<StreamOptions> spec(
      "stream",
      "Appends rows to another stream of the project. Visible columns become `data` (a lone "
      "column `data` gives its value as it is); what a filter's SELECT names or computes as ce_id, "
      "ce_source, ce_type, ce_subject and ce_time becomes the envelope.");
  spec.Guarantee("exactly once: the target keeps the position with the events.");
  spec.Field("name", &StreamOptions::name, "The target.").Required().Main();
  spec.Field("key", &StreamOptions::key,
             "Columns whose values are the partition key; default: as the target says.");
  spec.Field("type", &StreamOptions::type, "ce_type of rows that have none; default: the target's name.");
  spec.Example("stream: paid_orders");
  spec.Example("stream: {name: paid_orders, key: customer, type: order.paid}");
  return spec;
}

bool IsEnvelope(const std::string& name) {
  return name == "ce_id" || name == "ce_source" || name == "ce_type" || name == "ce_subject" ||
         name == "ce_time";
}

/// Where the parts of an event stand in a row; -1 = nowhere.
struct EventColumns {
  int id = -1, source = -1, type = -1, subject = -1, time = -1, op = -1;
  int source_time = -1;  // the source event's ce_time
  int partition = -1, offset = -1, ordinal = -1;
  std::vector<uint32_t> key;
};

/// The texts of one event; views are made once all rows are there, for strings move as vectors grow.
struct EventText {
  std::string data, id, source, type, subject, key, op, extensions;
  std::optional<int64_t> time_us;
  bool has_source = false, has_subject = false, has_key = false, has_op = false;
  uint64_t offset = 0;
};

class StreamSinkStage final : public Sink {
 public:
  StreamSinkStage(StreamOptions options, const SinkContext& context)
      : options_(std::move(options)),
        pipeline_(fmt::format("{}.{}", context.pipeline, context.generation)),
        origin_(fmt::format("pipeline/{}/{}", pipeline_, context.id)),
        appender_(*context.appender),
        text_(RowText::Format::kNdjson) {}

  Result<std::map<uint32_t, uint64_t>> Open() override {
    FAIL_IF_ERROR(appender_.OpenTarget(options_.name));
    return appender_.Positions(origin_);
  }

  std::vector<std::string> WantedColumns() const override { return {"ce_time", "_op"}; }

  Status SetColumns(const std::vector<ColumnInfo>& columns, uint32_t visible) override {
    columns_ = {};
    std::vector<uint32_t> data;
    for (uint32_t i = 0; i < columns.size(); ++i) {
      const std::string& name = columns[i].name;
      if (i >= visible || IsEnvelope(name)) {
        if (i >= visible) SetReserved(name, static_cast<int>(i));
        if (i < visible || columns[i].selected) SetEnvelope(name, static_cast<int>(i));
      } else {
        data.push_back(i);
      }
    }
    if (columns_.time >= 0) {
      time_type_ = columns[static_cast<size_t>(columns_.time)].type;
      if (time_type_ != "VARCHAR" && time_type_ != "TIMESTAMP" && time_type_ != "TIMESTAMP WITH TIME ZONE")
        return Invalid("column ce_time is {}; a stream needs a timestamp, e.g. ce_time::TIMESTAMPTZ",
                       time_type_);
    }
    RETURN_IF_ERROR(FindKey(columns, visible));
    text_.SetColumns(columns, std::move(data));
    return OkStatus();
  }

  Status Deliver(const RowBatch& rows) override {
    std::vector<EventText> events;
    events.reserve(rows.rows());
    if (!rows.chunks.empty()) {
      JsonWriter writer = MakeJsonWriter(rows.chunks.front());
      for (const Chunk& chunk : rows.chunks)
        for (uint32_t row = 0; row < chunk.rows(); ++row)
          RETURN_IF_ERROR(MakeEvent(rows, writer, chunk, row, events.emplace_back()));
    }
    std::vector<StreamAppender::Row> appended;
    appended.reserve(events.size());
    for (const EventText& event : events) appended.push_back(ViewOf(event));
    return appender_.Append(origin_, rows.partition, appended, rows.next_offset);
  }

  /// Where a start would go on: what was delivered since may have a receipt in some of the target's
  /// partitions alone.
  std::optional<uint64_t> DurableOffset(uint32_t partition) override {
    return appender_.Position(origin_, partition);
  }

 private:
  void SetReserved(const std::string& name, int index) {
    if (name == "ce_time") columns_.source_time = index;
    if (name == "_op") columns_.op = index;
    if (name == "_partition") columns_.partition = index;
    if (name == "_offset") columns_.offset = index;
    if (name == "_ordinal") columns_.ordinal = index;
  }

  void SetEnvelope(const std::string& name, int index) {
    if (name == "ce_id") columns_.id = index;
    if (name == "ce_source") columns_.source = index;
    if (name == "ce_type") columns_.type = index;
    if (name == "ce_subject") columns_.subject = index;
    if (name == "ce_time") columns_.time = index;
  }

  Status FindKey(const std::vector<ColumnInfo>& columns, uint32_t visible) {
    for (const std::string& name : options_.key) {
      std::vector<std::string> names;
      for (uint32_t i = 0; i < visible; ++i) {
        names.push_back(columns[i].name);
        if (columns[i].name == name) columns_.key.push_back(i);
      }
      if (columns_.key.empty() || columns[columns_.key.back()].name != name) {
        std::string nearest = Nearest(name, names);
        return Invalid("no column '{}' for the key of stream {}{}", name, options_.name,
                       nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
      }
    }
    return OkStatus();
  }

  /// A column's value as plain text; false if it is NULL or there is no such column.
  static bool ReadText(const JsonWriter& writer, const Chunk& chunk, int column, uint32_t row,
                       std::string& to) {
    if (column < 0 || chunk.IsNull(static_cast<uint32_t>(column), row)) return false;
    writer.AppendText(to, chunk, static_cast<uint32_t>(column), row);
    return true;
  }

  Status MakeEvent(const RowBatch& rows, const JsonWriter& writer, const Chunk& chunk, uint32_t row,
                   EventText& event) const {
    event.offset = OffsetOf(chunk, static_cast<uint32_t>(columns_.offset), row);
    auto ordinal = static_cast<const int32_t*>(chunk.data(static_cast<uint32_t>(columns_.ordinal)))[row];
    auto partition = static_cast<const int32_t*>(chunk.data(static_cast<uint32_t>(columns_.partition)))[row];
    text_.AppendRow(event.data, writer, chunk, row);
    event.data.reserve(event.data.size() + kJsonPadding);
    if (!ReadText(writer, chunk, columns_.id, row, event.id))
      event.id = fmt::format("{}/{}-{}-{}-{}", pipeline_, partition, rows.epoch, event.offset, ordinal);
    if (!ReadText(writer, chunk, columns_.type, row, event.type))
      event.type = options_.type.empty() ? options_.name : options_.type;
    event.has_source = ReadText(writer, chunk, columns_.source, row, event.source);
    event.has_subject = ReadText(writer, chunk, columns_.subject, row, event.subject);
    event.has_op = ReadText(writer, chunk, columns_.op, row, event.op);
    event.has_key = ReadKey(writer, chunk, row, event.key);
    event.extensions = "{\"causationid\":";
    AppendJsonString(event.extensions, fmt::format("{}/{}:{}", rows.stream, partition, event.offset));
    event.extensions += '}';
    return ReadTime(chunk, row, event.time_us);
  }

  bool ReadKey(const JsonWriter& writer, const Chunk& chunk, uint32_t row, std::string& to) const {
    if (columns_.key.size() == 1) return ReadText(writer, chunk, static_cast<int>(columns_.key[0]), row, to);
    for (uint32_t column : columns_.key) {
      to += to.empty() ? '[' : ',';
      writer.Append(to, chunk, column, row);
    }
    if (!to.empty()) to += ']';
    return !to.empty();
  }

  Status ReadTime(const Chunk& chunk, uint32_t row, std::optional<int64_t>& time_us) const {
    bool own = columns_.time >= 0 && !chunk.IsNull(static_cast<uint32_t>(columns_.time), row);
    if (own && time_type_ == "VARCHAR") {
      std::string_view text = chunk.String(static_cast<uint32_t>(columns_.time), row);
      Result<int64_t> parsed = ParseTimeUs(text);
      if (!parsed) return Invalid("ce_time \"{}\" is no time: {}", text, parsed.error().message());
      time_us = *parsed;
    } else if (int column = own ? columns_.time : columns_.source_time;
               column >= 0 && !chunk.IsNull(static_cast<uint32_t>(column), row)) {
      time_us = chunk.Int64(static_cast<uint32_t>(column), row);
    }
    return OkStatus();
  }

  static StreamAppender::Row ViewOf(const EventText& event) {
    StreamAppender::Row row;
    row.data = event.data;
    row.source_offset = event.offset;
    row.envelope.id = event.id;
    row.envelope.type = event.type;
    row.envelope.extensions = event.extensions;
    row.envelope.time_us = event.time_us;
    if (event.has_source) row.envelope.source = event.source;
    if (event.has_subject) row.envelope.subject = event.subject;
    if (event.has_key) row.envelope.partition_key = event.key;
    if (event.has_op) row.envelope.op = event.op;
    return row;
  }

  StreamOptions options_;
  std::string pipeline_;
  std::string origin_;
  StreamAppender& appender_;
  RowText text_;
  EventColumns columns_;
  std::string time_type_;
};

}  // namespace

SinkKind StreamSink() {
  return MakeSinkKind(
      StreamSpec(), [](const StreamOptions& options) { return options.name; },
      [](StreamOptions options, const SinkContext& context) -> Result<std::unique_ptr<Sink>> {
        if (context.appender == nullptr) return Fail(Internal("a stream sink needs an appender"));
        return std::make_unique<StreamSinkStage>(std::move(options), context);
      });
}

}  // namespace millstream
