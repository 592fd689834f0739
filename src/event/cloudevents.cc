#include "event/cloudevents.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>

#include "base/text.h"
#include "event/json_cursor.h"
#include "event/json_scan.h"
#include "event/literals.h"

namespace millstream {
namespace {

constexpr std::string_view kNull = "null";

bool IsAttributeName(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
  });
}

// Gathers attributes, whichever way they came, and checks them together.
class CloudEventReader {
 public:
  // `value` must live as long as the event, or come from Keep.
  Status Set(std::string_view name, std::string_view value) {
    if (name == "specversion") {
      has_version_ = true;
      if (value != "1.0") return Invalid("specversion is '{}'; only CloudEvents 1.0 is understood", value);
    } else if (name == "id") {
      event_.envelope.id = value;
    } else if (name == "source") {
      event_.envelope.source = value;
    } else if (name == "type") {
      event_.envelope.type = value;
    } else if (name == "subject") {
      event_.envelope.subject = value;
    } else if (name == "dataschema") {
      event_.envelope.dataschema = value;
    } else if (name == "time") {
      Result<int64_t> time = ParseTimeUs(value);
      if (!time) return Invalid("time: {}", time.error().message());
      event_.envelope.time_us = *time;
    } else if (name == "datacontenttype") {
      if (!IsJsonContentType(value))
        return Conflict("datacontenttype is '{}'; only JSON data is taken", value);
    } else if (name == "partitionkey") {
      event_.envelope.partition_key = value;
    } else if (name == "op" && (value == "c" || value == "u" || value == "d" || value == "r")) {
      event_.envelope.op = value;
    } else {
      std::string quoted;
      AppendJsonString(quoted, value);
      return SetExtension(name, quoted);
    }
    return OkStatus();
  }

  Status SetExtension(std::string_view name, std::string_view json) {
    if (!IsAttributeName(name)) {
      return Invalid("'{}' is not the name of an attribute: lower-case letters and digits only", name);
    }
    extensions_ += extensions_.empty() ? "{" : ",";
    AppendJsonString(extensions_, name);
    extensions_ += ':';
    extensions_ += json;
    return OkStatus();
  }

  std::string_view Keep(std::string text) { return event_.keep.emplace_back(std::move(text)); }

  Result<CloudEvent> Finish(std::string_view data) {
    if (!has_version_)
      return Fail(Invalid("specversion is missing; a CloudEvent has specversion, id, source and type"));
    for (auto [name, value] :
         {std::pair("id", &event_.envelope.id), std::pair("source", &event_.envelope.source),
          std::pair("type", &event_.envelope.type)}) {
      if (!*value)
        return Fail(Invalid("{} is missing; a CloudEvent has specversion, id, source and type", name));
      if ((*value)->empty()) return Fail(Invalid("{} is empty", name));
    }
    if (!extensions_.empty()) event_.envelope.extensions = Keep(extensions_ + "}");
    event_.data = data;
    return std::move(event_);
  }

 private:
  CloudEvent event_;
  std::string extensions_;
  bool has_version_ = false;
};

Status SetMember(CloudEventReader& reader, std::string_view name, std::string_view text) {
  JsonValue value = MakeJsonValue(text);
  switch (value.kind) {
    case JsonKind::kNull:
      return OkStatus();  // as if it were absent
    case JsonKind::kString: {
      std::string scratch;
      std::string_view plain = JsonStringValue(value, scratch);
      return reader.Set(name, value.escaped ? reader.Keep(std::string(plain)) : plain);
    }
    case JsonKind::kNumber:
    case JsonKind::kBoolean:
      break;
    default:
      return Invalid(
          "the attribute '{}' is an object or an array; attributes are strings, numbers and booleans", name);
  }
  for (std::string_view known : {"specversion", "id", "source", "type", "subject", "time", "dataschema",
                                 "datacontenttype", "partitionkey"}) {
    if (name == known) return Invalid("{} must be a string, not {}", name, text);
  }
  return reader.SetExtension(name, text);
}

// A header's value: quotes and backslashes taken away first, then percent-decoded (CloudEvents, HTTP
// binding 3.1.3.2).
std::string HeaderValue(std::string_view text) {
  text = Trim(text);
  std::string plain;
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') {
    for (size_t i = 1; i + 1 < text.size(); ++i) {
      if (text[i] == '\\' && i + 2 < text.size()) ++i;
      plain += text[i];
    }
  } else {
    plain = text;
  }
  std::string out;
  for (size_t i = 0; i < plain.size(); ++i) {
    int high = plain[i] == '%' && i + 2 < plain.size() ? HexDigit(plain[i + 1]) : -1;
    int low = high >= 0 ? HexDigit(plain[i + 2]) : -1;
    if (low < 0) {
      out += plain[i];
    } else {
      out += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  return out;
}

}  // namespace

bool IsJsonContentType(std::string_view content_type) {
  std::string type = Lower(Trim(content_type.substr(0, content_type.find(';'))));
  return type == "application/json" || type == "text/json" || type.ends_with("+json");
}

Result<CloudEvent> ParseCloudEvent(std::string_view text) {
  if (auto error = ValidateJson(text, kJsonDepthMax)) {
    return Fail(Invalid("not JSON: {} at byte {}", error->message, error->position));
  }
  auto members = JsonMembers(text);
  if (!members) return Fail(Invalid("a CloudEvent is a JSON object"));
  CloudEventReader reader;
  std::string_view data = kNull;
  for (size_t i = 0; i < members->size(); ++i) {
    const auto& [name, value] = (*members)[i];
    bool repeated = std::any_of(
        members->begin(), members->begin() + static_cast<ptrdiff_t>(i),
        [&, wanted = std::string_view(name)](const auto& other) { return other.first == wanted; });
    if (repeated) continue;  // the first of equal names wins
    if (name == "data") {
      data = value;
    } else if (name == "data_base64") {
      if (value != kNull) return Fail(Conflict("data_base64: only JSON data is taken, in `data`"));
    } else if (Status status = SetMember(reader, name, value); !status.ok()) {
      return Fail(std::move(status));
    }
  }
  return reader.Finish(data);
}

Result<CloudEvent> ReadCloudEventHeaders(const HeaderList& headers, std::string_view body) {
  CloudEventReader reader;
  for (const auto& [header, text] : headers) {
    std::string name = Lower(header);
    if (name == "content-type") {
      if (!IsJsonContentType(text))
        return Fail(Conflict("Content-Type is '{}'; only JSON data is taken", text));
    }
    if (!name.starts_with("ce-")) continue;
    std::string_view value = reader.Keep(HeaderValue(text));
    if (!simdjson::validate_utf8(value.data(), value.size()))
      return Fail(Invalid("the header {} is not UTF-8", header));
    if (Status status = reader.Set(std::string_view(name).substr(3), value); !status.ok())
      return Fail(std::move(status));
  }
  bool blank = body.find_first_not_of(" \t\r\n") == body.npos;
  return reader.Finish(blank ? kNull : body);
}

Result<CloudEventWriter> CloudEventWriter::Make(EventBatch& batch, std::string source, std::string type) {
  CloudEventWriter writer;
  writer.batch_ = &batch;
  writer.source_ = std::move(source), writer.type_ = std::move(type);
  for (int i = 0; i < kAttributes; ++i) {
    ASSIGN_OR_FAIL(writer.columns_[i], batch.AttributeColumn(static_cast<Attribute>(i)));
  }
  ASSIGN_OR_FAIL(writer.data_, batch.Data());
  return writer;
}

void CloudEventWriter::Append(std::string& out, uint32_t row) const {
  const BatchPlace& place = batch_->place();
  auto column = [&](Attribute attribute) { return columns_[static_cast<int>(attribute)]; };
  auto text = [&](const char* name, Attribute attribute, std::string_view fallback) {
    bool absent = column(attribute)->IsNull(row);
    if (absent && fallback.empty()) return;
    out += fmt::format(",\"{}\":", name);
    AppendJsonString(out, absent ? fallback : column(attribute)->String(row));
  };
  out += "{\"specversion\":\"1.0\"";
  text("id", Attribute::kId, fmt::format("{}/{}:{}", place.stream, place.partition, place.base_offset + row));
  text("source", Attribute::kSource, source_);
  text("type", Attribute::kType, type_);
  text("subject", Attribute::kSubject, "");
  const Column& time = *column(Attribute::kTime);
  out += fmt::format(",\"time\":\"{}\"",
                     FormatTime(time.IsNull(row) ? batch_->IngestedAtUs(row) : time.Fixed<int64_t>(row)));
  text("dataschema", Attribute::kDataschema, "");
  text("partitionkey", Attribute::kKey, "");
  text("op", Attribute::kOp, "");
  if (const Column& extensions = *column(Attribute::kExtensions); !extensions.IsNull(row)) {
    auto members = JsonMembers(extensions.String(row));
    for (size_t i = 0; members && i < members->size(); ++i) {
      const auto& [name, value] = (*members)[i];
      if (name == "partition" || name == "offset" || name == "ingestedat") continue;  // those of another log
      out += ',';
      AppendJsonString(out, name);
      out += ':';
      out += value;
    }
  }
  out += fmt::format(",\"partition\":{},\"offset\":{},\"ingestedat\":\"{}\"", place.partition,
                     place.base_offset + row, FormatTime(batch_->IngestedAtUs(row)));
  if (!batch_->Erased(row)) {
    out += ",\"datacontenttype\":\"application/json\",\"data\":";
    out += data_->String(row);
  }
  out += '}';
}

}  // namespace millstream
