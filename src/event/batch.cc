#include "event/batch.h"

#include <lz4.h>

#include <algorithm>

#include "event/column_codec.h"
#include "event/decode.h"
#include "event/json_cursor.h"
#include "event/payload.h"

namespace millstream {

struct EventBatch::Section {
  SectionEntry entry;
  FieldEntry field;             // kField
  std::unique_ptr<char[]> raw;  // decompressed, with padding for the JSON scanner
  std::unique_ptr<Column> column;
};

// A field's column that was decoded from the data.
struct EventBatch::Decoded {
  uint64_t fingerprint = 0;
  Column column;
};

EventBatch::EventBatch() = default;
EventBatch::~EventBatch() = default;

Result<std::unique_ptr<EventBatch>> EventBatch::Open(BatchPlace place, Codec codec, std::string payload) {
  std::unique_ptr<EventBatch> batch(new EventBatch());
  batch->place_ = std::move(place);
  batch->codec_ = codec;
  batch->payload_ = std::move(payload);
  if (Status status = batch->ReadSections(); !status.ok()) return Fail(std::move(status));
  return batch;
}

Status EventBatch::ReadSections() {
  if (count() > kBatchEventsMax)
    return Corrupt("a batch of {} events; at most {} are possible", count(), kBatchEventsMax);
  ASSIGN_OR_RETURN(std::vector<SectionEntry> entries, ReadDirectory(payload_));
  bool has_data = false;
  for (SectionEntry& entry : entries) {
    auto section = std::make_unique<Section>();
    section->entry = entry;
    if (entry.compressed && codec_ != Codec::kLz4) return Corrupt("a compressed section in a plain payload");
    switch (static_cast<SectionKind>(entry.kind)) {
      case SectionKind::kReceipts: {
        ASSIGN_OR_RETURN(std::string_view body, Raw(*section));
        ASSIGN_OR_RETURN(receipts_, ReadReceipts(body, count()));
        break;
      }
      case SectionKind::kStamps: {
        ASSIGN_OR_RETURN(std::string_view body, Raw(*section));
        ASSIGN_OR_RETURN(stamps_, ReadStamps(body, count()));
        break;
      }
      case SectionKind::kErased: {
        ASSIGN_OR_RETURN(std::string_view body, Raw(*section));
        if (body.size() != (count() + 7) / 8) return Corrupt("the payload's erased marks are damaged");
        erased_ = body;
        break;
      }
      case SectionKind::kAttribute:
        if (entry.extra.size() != 1 || static_cast<uint8_t>(entry.extra[0]) >= kAttributes) {
          return Corrupt("an attribute's entry in the payload's directory is damaged");
        }
        break;
      case SectionKind::kData:
        has_data = true;
        break;
      case SectionKind::kField: {
        ASSIGN_OR_RETURN(section->field, ReadFieldEntry(entry.extra));
        break;
      }
      default:
        break;  // a later version's: what we know stays readable
    }
    sections_.push_back(std::move(section));
  }
  if (count() > 0 && !has_data) return Corrupt("the payload has no data");
  return OkStatus();
}

Result<std::string_view> EventBatch::Raw(Section& section) {
  const SectionEntry& entry = section.entry;
  if (!entry.compressed) return entry.stored;
  if (section.raw == nullptr) {
    std::unique_ptr<char[]> raw(new char[entry.raw_bytes + kJsonPadding]);
    int size = LZ4_decompress_safe(entry.stored.data(), raw.get(), static_cast<int>(entry.stored.size()),
                                   static_cast<int>(entry.raw_bytes));
    if (size < 0 || static_cast<uint64_t>(size) != entry.raw_bytes) {
      return Fail(Corrupt("a section of kind {} does not decompress", entry.kind));
    }
    std::memset(raw.get() + entry.raw_bytes, 0, kJsonPadding);
    section.raw = std::move(raw);
    ++read_counts_.sections;
    read_counts_.bytes += entry.raw_bytes;
  }
  return std::string_view(section.raw.get(), entry.raw_bytes);
}

Result<const Column*> EventBatch::StoredColumn(Section& section, const Type& type) {
  if (section.column == nullptr) {
    ASSIGN_OR_FAIL(std::string_view body, Raw(section));
    auto column = std::make_unique<Column>();
    if (Status status = DecodeColumn(body, type, count(), *column); !status.ok()) {
      return Fail(
          status.Within(fmt::format("section of kind {} {}", section.entry.kind, section.field.name)));
    }
    section.column = std::move(column);
  }
  return section.column.get();
}

int64_t EventBatch::IngestedAtUs(uint32_t row) const {
  if (stamps_.empty()) return place_.ingested_at_us;
  auto after = std::upper_bound(stamps_.begin(), stamps_.end(), row,
                                [](uint32_t value, const StampRun& run) { return value < run.first_event; });
  return std::prev(after)->ingested_at_us;
}

bool EventBatch::Erased(uint32_t row) const {
  return !erased_.empty() && (static_cast<uint8_t>(erased_[row / 8]) >> (row % 8) & 1) != 0;
}

Result<const Column*> EventBatch::AttributeColumn(Attribute attribute) {
  for (auto& section : sections_) {
    const SectionEntry& entry = section->entry;
    if (static_cast<SectionKind>(entry.kind) != SectionKind::kAttribute) continue;
    if (static_cast<Attribute>(entry.extra[0]) == attribute) return AttributeSection(*section, attribute);
  }
  std::unique_ptr<Column>& absent = absent_[attribute == Attribute::kTime ? 1 : 0];
  if (absent == nullptr) {
    absent = std::make_unique<Column>();
    absent->type = AttributeType(attribute);
    absent->rows = count();
  }
  return absent.get();
}

Result<const Column*> EventBatch::AttributeSection(Section& section, Attribute attribute) {
  if (section.column != nullptr) return section.column.get();
  ASSIGN_OR_FAIL(std::string_view body, Raw(section));
  uint64_t target;
  if (!IsReference(body, &target)) return StoredColumn(section, AttributeType(attribute));
  bool sound = target < sections_.size() &&
               static_cast<SectionKind>(sections_[target]->entry.kind) == SectionKind::kField &&
               sections_[target]->field.type == AttributeType(attribute).ToString();
  if (!sound) return Fail(Corrupt("an attribute's reference to a field is damaged"));
  return StoredColumn(*sections_[target], AttributeType(attribute));
}

Result<const Column*> EventBatch::Data() {
  for (auto& section : sections_) {
    if (static_cast<SectionKind>(section->entry.kind) != SectionKind::kData) continue;
    Type json;
    json.kind = Type::Kind::kJson;
    return StoredColumn(*section, json);
  }
  return AttributeColumn(Attribute::kId);  // no events: any empty column
}

const Column* EventBatch::FindLoaded(uint64_t fingerprint) const {
  for (const auto& decoded : decoded_) {
    if (decoded->fingerprint == fingerprint) return &decoded->column;
  }
  return nullptr;
}

EventBatch::Section* EventBatch::FindSection(uint64_t fingerprint) {
  for (auto& section : sections_) {
    bool is_field = static_cast<SectionKind>(section->entry.kind) == SectionKind::kField;
    if (is_field && section->field.fingerprint == fingerprint) return section.get();
  }
  return nullptr;
}

Result<const Column*> EventBatch::FieldColumn(const Field& field) {
  uint64_t fingerprint = field.Fingerprint();
  if (Section* section = field.type.IsFlat() ? FindSection(fingerprint) : nullptr)
    return StoredColumn(*section, field.type);
  if (FindLoaded(fingerprint) == nullptr) FAIL_IF_ERROR(DecodeFromData({{&field, fingerprint}}));
  return FindLoaded(fingerprint);
}

Status EventBatch::LoadFields(const std::vector<const Field*>& fields) {
  std::vector<std::pair<const Field*, uint64_t>> lacking;
  for (const Field* field : fields) {
    uint64_t fingerprint = field->Fingerprint();
    bool stored = field->type.IsFlat() && FindSection(fingerprint) != nullptr;
    bool listed =
        std::any_of(lacking.begin(), lacking.end(), [&](auto& other) { return other.second == fingerprint; });
    if (!stored && !listed && FindLoaded(fingerprint) == nullptr) lacking.emplace_back(field, fingerprint);
  }
  return lacking.empty() ? OkStatus() : DecodeFromData(lacking);
}

Status EventBatch::DecodeFromData(const std::vector<std::pair<const Field*, uint64_t>>& fields) {
  struct Reading {
    Decoder decoder;
    ColumnBuilder builder;
    Scalar fallback;
    std::string keep;
  };
  ASSIGN_OR_RETURN(const Column* data, Data());
  std::vector<std::unique_ptr<Reading>> readings;
  std::vector<std::string> pointers;
  for (const auto& [field, fingerprint] : fields) {
    readings.push_back(
        std::make_unique<Reading>(Reading{Decoder(field->type), ColumnBuilder(field->type), {}, {}}));
    RETURN_IF_ERROR(DecodeDefault(*field, readings.back()->fallback, readings.back()->keep));
    pointers.push_back(field->pointer);
  }
  JsonFinder finder(std::move(pointers), kJsonDepthMax);
  std::vector<JsonValue> values;
  // Rows whose end is followed by enough of the data need no copy to be scanned.
  const char* safe_end =
      data->bytes.data() + (data->bytes.size() < kJsonPadding ? 0 : data->bytes.size() - kJsonPadding);
  for (uint32_t row = 0; row < count(); ++row) {
    if (Erased(row) || data->IsNull(row)) {
      for (auto& reading : readings) reading->builder.AppendNull();
      continue;
    }
    std::string_view text = data->String(row);
    auto error =
        text.data() + text.size() <= safe_end ? finder.FindPadded(text, values) : finder.Find(text, values);
    if (error) return Corrupt("the data of event {} is not JSON: {}", row, error->message);
    for (size_t i = 0; i < fields.size(); ++i) {
      Reading& reading = *readings[i];
      if (values[i].kind == JsonKind::kMissing) {
        reading.builder.Append(reading.fallback);
      } else if (auto failure = reading.decoder.Append(values[i], reading.builder)) {
        unconvertible_.push_back(
            {row, fields[i].first->name,
             fmt::format("{}{}: {}", fields[i].first->pointer, failure->path, failure->message)});
      }
    }
  }
  read_counts_.parsed_events += count();
  for (size_t i = 0; i < fields.size(); ++i) {
    auto decoded = std::make_unique<Decoded>();
    decoded->fingerprint = fields[i].second;
    decoded->column = readings[i]->builder.Take();
    decoded_.push_back(std::move(decoded));
  }
  return OkStatus();
}

}  // namespace millstream
