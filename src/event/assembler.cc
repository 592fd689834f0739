#include "event/assembler.h"

#include <fmt/format.h>

#include "base/text.h"
#include "event/decode.h"
#include "event/json_cursor.h"
#include "event/literals.h"
#include "event/payload.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace millstream {
namespace {

constexpr uint64_t kPartitionBytesMax = 1ull << 30;  // data gathered for one partition
constexpr int kNone = -1;

bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

std::string_view TrimJson(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

std::string Pointer(const std::string& pointer) {
  return pointer.empty() || pointer[0] == '/' ? pointer : "/" + pointer;
}

// Types whose usual form CheckFields decodes without asking the decoder.
enum class Shortcut : uint8_t { kDecoder, kVarchar, kDecimal, kTimestamp };

Shortcut ShortcutOf(const Type& type) {
  switch (type.kind) {
    case Type::Kind::kVarchar:
      return Shortcut::kVarchar;
    case Type::Kind::kDecimal:
      return Shortcut::kDecimal;
    case Type::Kind::kTimestamp:
    case Type::Kind::kTimestamptz:
      return Shortcut::kTimestamp;
    default:
      return Shortcut::kDecoder;
  }
}

// A contract field while one event is checked.
struct FieldReader {
  const Field* field;
  Decoder decoder;
  Scalar scalar, fallback;
  std::string scratch, keep;
  int column = kNone;                     // index among the stored columns; kNone: nested
  std::unique_ptr<ColumnBuilder> nested;  // where a nested value is decoded to be checked; thrown away
  Shortcut shortcut = Shortcut::kDecoder;
};

// An envelope attribute: given by the source, or taken from the data.
struct AttributeSource {
  int value = kNone;  // index of the data's value; kNone: not taken from the data
  FieldReader* field =
      nullptr;            // a contract field with the same pointer and a type that decodes to the same column
  Scalar scalar;          // of the present event, if its bit in `present` is set
  bool is_field = false;  // the data decides, and gives what it gives the field
  std::string scratch;
};

constexpr uint32_t Bit(int attribute) { return 1u << attribute; }
constexpr uint32_t Bit(Attribute attribute) { return Bit(static_cast<int>(attribute)); }

// What one partition gathered. An attribute's column follows late: it has no rows where no event had the
// attribute, or where all events so far had that of their field.
struct PartitionRows {
  ColumnBuilder data;
  std::vector<ColumnBuilder> fields;
  std::vector<ColumnBuilder> attributes;
  uint32_t follows_field = 0;  // a bit an attribute

  uint32_t count() const { return data.rows(); }
};

Type JsonType() {
  Type json;
  json.kind = Type::Kind::kJson;
  return json;
}

}  // namespace

struct Assembler::State {
  const StreamShape& shape;
  std::vector<std::unique_ptr<FieldReader>> readers;
  std::vector<const Field*> columns;  // flat fields
  std::array<AttributeSource, kAttributes> attributes;
  std::vector<int> from_data;   // attributes that are taken from one value of the data
  std::vector<int> key_values;  // of a key of several values
  uint32_t present = 0;         // a bit an attribute of the present event
  Decoder time_decoder{AttributeType(Attribute::kTime)};
  std::unique_ptr<JsonFinder> finder;
  std::vector<JsonValue> values;
  std::vector<PartitionRows> partitions;
  std::string staging;  // the event's text, padded for the scanner
  std::string key;
  uint32_t count = 0;
  uint64_t data_bytes = 0;
  uint32_t spread = 0;

  explicit State(const StreamShape& s) : shape(s) {
    std::vector<std::string> pointers;
    for (const Field& field : shape.contract.fields) {
      auto reader = std::make_unique<FieldReader>(
          FieldReader{&field, Decoder(field.type), {}, {}, {}, {}, kNone, nullptr, ShortcutOf(field.type)});
      // ParseField has checked the default; a contract that was made otherwise loses one that does not
      // convert.
      if (!DecodeDefault(field, reader->fallback, reader->keep).ok()) reader->fallback = Scalar();
      if (field.type.IsFlat()) {
        reader->column = static_cast<int>(columns.size());
        columns.push_back(&field);
      } else {
        reader->nested = std::make_unique<ColumnBuilder>(field.type);
      }
      readers.push_back(std::move(reader));
      pointers.push_back(field.pointer);
    }
    AddAttribute(Attribute::kId, shape.id_from, pointers);
    AddAttribute(Attribute::kSource, shape.source_from, pointers);
    AddAttribute(Attribute::kType, shape.type_from, pointers);
    AddAttribute(Attribute::kSubject, shape.subject_from, pointers);
    AddAttribute(Attribute::kTime, shape.time_from, pointers);
    if (shape.key.size() == 1) AddAttribute(Attribute::kKey, shape.key[0], pointers);
    for (size_t i = 0; shape.key.size() > 1 && i < shape.key.size(); ++i) {
      key_values.push_back(static_cast<int>(pointers.size()));
      pointers.push_back(Pointer(shape.key[i]));
    }
    finder = std::make_unique<JsonFinder>(std::move(pointers), shape.max_depth);
    for (uint32_t i = 0; i < shape.partitions; ++i) partitions.push_back(MakeRows());
  }

  FieldReader* FieldOf(const std::string& pointer, Attribute attribute) const {
    for (const auto& reader : readers) {
      if (reader->field->pointer == pointer && reader->field->type == AttributeType(attribute))
        return reader.get();
    }
    return nullptr;
  }

  void AddAttribute(Attribute attribute, const std::string& from, std::vector<std::string>& pointers) {
    if (from.empty()) return;
    AttributeSource& source = attributes[static_cast<int>(attribute)];
    from_data.push_back(static_cast<int>(attribute));
    source.value = static_cast<int>(pointers.size());
    source.field = FieldOf(Pointer(from), attribute);
    pointers.push_back(Pointer(from));
  }

  PartitionRows MakeRows() const {
    PartitionRows rows{ColumnBuilder(JsonType()), {}, {}, 0};
    for (const Field* field : columns) rows.fields.emplace_back(field->type);
    for (int i = 0; i < kAttributes; ++i) {
      rows.attributes.emplace_back(AttributeType(static_cast<Attribute>(i)));
      if (attributes[i].field != nullptr) rows.follows_field |= Bit(i);
    }
    return rows;
  }

  std::optional<Rejection> CheckFields();
  std::optional<Rejection> ReadAttributes(const Envelope& envelope);
  std::optional<Rejection> ReadFromData(Attribute attribute);
  void ReadGiven(const Envelope& envelope);
  void ReadKeyOfSeveral();
  void Give(Attribute attribute, std::string_view text);
  uint32_t ChoosePartition();
  void AppendAttributes(PartitionRows& rows);
  void FollowNoLonger(PartitionRows& rows, int index);
  BatchColumns ColumnsOf(PartitionRows& rows, const Receipts* receipts);
};

Assembler::Assembler(const StreamShape& shape) : state_(std::make_unique<State>(shape)) {}
Assembler::~Assembler() = default;

// The usual text of a usual type. False: the decoder has to look at it.
bool DecodeUsual(FieldReader& reader, const JsonValue& value) {
  bool plain_string = value.kind == JsonKind::kString && !value.escaped;
  std::string_view inside = plain_string ? value.text.substr(1, value.text.size() - 2) : std::string_view();
  switch (reader.shortcut) {
    case Shortcut::kVarchar:
      if (plain_string) reader.scalar.SetString(inside);
      return plain_string;
    case Shortcut::kDecimal: {
      Int128 number;
      const Type& type = reader.field->type;
      if (value.kind != JsonKind::kNumber || !ParseDecimal(value.text, type.width, type.scale, number))
        return false;
      reader.scalar.Set(number);
      return true;
    }
    case Shortcut::kTimestamp: {
      int64_t us;
      if (!plain_string || !ParseTimestamp(inside, us)) return false;
      reader.scalar.Set(us);
      return true;
    }
    case Shortcut::kDecoder:
      break;
  }
  return false;
}

std::optional<Rejection> Assembler::State::CheckFields() {
  for (size_t i = 0; i < readers.size(); ++i) {
    FieldReader& reader = *readers[i];
    const JsonValue& value = values[i];
    if (DecodeUsual(reader, value)) continue;
    const Field& field = *reader.field;
    bool is_null;
    if (value.kind == JsonKind::kMissing) {
      reader.scalar = reader.fallback;
      is_null = reader.scalar.is_null;
    } else if (reader.nested == nullptr) {
      if (!reader.decoder.Decode(value, reader.scalar, reader.scratch)) {
        return Rejection{"contract", field.pointer, reader.decoder.Describe(value)};
      }
      is_null = reader.scalar.is_null;
    } else {
      reader.nested->Clear();
      if (auto error = reader.decoder.Append(value, *reader.nested)) {
        return Rejection{"contract", field.pointer + error->path, error->message};
      }
      is_null = value.kind == JsonKind::kNull;
    }
    if (is_null && field.not_null) {
      const char* what = value.kind == JsonKind::kMissing ? "is missing" : "is null";
      return Rejection{"contract", field.pointer,
                       fmt::format("{} {}, but the contract says not null", field.name, what)};
    }
  }
  return std::nullopt;
}

// The text of an attribute in the data; nothing where it is missing, null, an object or an array.
std::optional<std::string_view> AttributeText(const JsonValue& value, std::string& scratch) {
  switch (value.kind) {
    case JsonKind::kString:
      return JsonStringValue(value, scratch);
    case JsonKind::kNumber:
    case JsonKind::kBoolean:
      return value.text;
    default:
      return std::nullopt;
  }
}

std::optional<Rejection> Assembler::State::ReadAttributes(const Envelope& envelope) {
  present = 0;
  for (int attribute : from_data) {
    if (static_cast<Attribute>(attribute) == Attribute::kTime && envelope.time_us) continue;
    if (auto rejection = ReadFromData(static_cast<Attribute>(attribute))) return rejection;
  }
  if (!key_values.empty()) ReadKeyOfSeveral();
  ReadGiven(envelope);
  return std::nullopt;
}

std::optional<Rejection> Assembler::State::ReadFromData(Attribute attribute) {
  AttributeSource& source = attributes[static_cast<int>(attribute)];
  const JsonValue& value = values[source.value];
  source.is_field = source.field != nullptr;
  if (source.is_field) {
    // Decoded already. A default is the field's, not the attribute's.
    if (value.kind == JsonKind::kMissing || source.field->scalar.is_null) return std::nullopt;
    source.scalar = source.field->scalar;
  } else if (attribute == Attribute::kTime) {
    if (!time_decoder.Decode(value, source.scalar, source.scratch)) {
      return Rejection{"contract", Pointer(shape.time_from),
                       time_decoder.Describe(value) + ", which ce_time must be"};
    }
    if (source.scalar.is_null) return std::nullopt;
  } else if (auto text = AttributeText(value, source.scratch)) {
    source.scalar.SetString(*text);
  } else if (attribute == Attribute::kKey && value.kind >= JsonKind::kArray) {
    source.scalar.SetString(value.text);
  } else {
    return std::nullopt;
  }
  present |= Bit(attribute);
  return std::nullopt;
}

void Assembler::State::ReadKeyOfSeveral() {
  AttributeSource& source = attributes[static_cast<int>(Attribute::kKey)];
  bool any = false;
  key.assign(1, '[');
  for (int index : key_values) {
    const JsonValue& value = values[index];
    if (key.size() > 1) key += ',';
    any |= value.kind != JsonKind::kMissing && value.kind != JsonKind::kNull;
    if (value.kind == JsonKind::kString) {
      AppendJsonString(key, JsonStringValue(value, source.scratch));
    } else if (value.kind == JsonKind::kMissing) {
      key += "null";
    } else {
      key += value.text;
    }
  }
  key += ']';
  if (any) Give(Attribute::kKey, key);
}

void Assembler::State::Give(Attribute attribute, std::string_view text) {
  AttributeSource& source = attributes[static_cast<int>(attribute)];
  source.scalar.SetString(text);
  source.is_field = false;
  present |= Bit(attribute);
}

// What the source gives goes before what the data says; only the data's key goes before the partition key.
void Assembler::State::ReadGiven(const Envelope& envelope) {
  if (envelope.id) Give(Attribute::kId, *envelope.id);
  if (envelope.source) Give(Attribute::kSource, *envelope.source);
  if (envelope.type) Give(Attribute::kType, *envelope.type);
  if (envelope.subject) Give(Attribute::kSubject, *envelope.subject);
  if (envelope.dataschema) Give(Attribute::kDataschema, *envelope.dataschema);
  if (envelope.extensions) Give(Attribute::kExtensions, *envelope.extensions);
  if (envelope.op) Give(Attribute::kOp, *envelope.op);
  if (envelope.partition_key && (present & Bit(Attribute::kKey)) == 0)
    Give(Attribute::kKey, *envelope.partition_key);
  if (!envelope.time_us) return;
  AttributeSource& time = attributes[static_cast<int>(Attribute::kTime)];
  time.scalar.Set(*envelope.time_us);
  time.is_field = false;
  present |= Bit(Attribute::kTime);
}

uint32_t Assembler::State::ChoosePartition() {
  if (shape.partitions == 1) return 0;
  for (Attribute attribute : {Attribute::kKey, Attribute::kId}) {
    if ((present & Bit(attribute)) == 0) continue;
    return PartitionOf(attributes[static_cast<int>(attribute)].scalar.string, shape.partitions);
  }
  return spread;
}

// From here on the attribute differs from its field: its column gets the rows that it did not need so far.
void Assembler::State::FollowNoLonger(PartitionRows& rows, int index) {
  rows.follows_field &= ~Bit(index);
  const Column& field = rows.fields[attributes[index].field->column].View();
  ColumnBuilder& column = rows.attributes[index];
  for (uint32_t row = 0; row < rows.count(); ++row) column.AppendFrom(field, row);
}

void Assembler::State::AppendAttributes(PartitionRows& rows) {
  for (uint32_t left = present | rows.follows_field; left != 0; left &= left - 1) {
    int index = __builtin_ctz(left);
    AttributeSource& source = attributes[index];
    bool is_null = (present & Bit(index)) == 0;
    if ((rows.follows_field & Bit(index)) != 0) {
      bool field_is_null = source.field->scalar.is_null;
      if (is_null == field_is_null && (is_null || source.is_field)) continue;
      FollowNoLonger(rows, index);
    }
    if (is_null) continue;
    ColumnBuilder& column = rows.attributes[index];
    if (column.rows() < rows.count()) column.AppendNulls(rows.count() - column.rows());
    column.Append(source.scalar);
  }
}

std::optional<Rejection> Assembler::Add(const Envelope& envelope, std::string_view data,
                                        uint32_t* partition) {
  State& s = *state_;
  data = TrimJson(data);
  if (data.size() > s.shape.max_event_bytes) {
    return Rejection{"size", "",
                     fmt::format("{} bytes; the limit is {}", FormatCount(data.size()),
                                 FormatCount(s.shape.max_event_bytes))};
  }
  if (s.staging.size() < data.size() + kJsonPadding) s.staging.resize(2 * data.size() + kJsonPadding);
  std::memcpy(s.staging.data(), data.data(), data.size());
  std::memset(s.staging.data() + data.size(), 0, kJsonPadding);
  std::string_view text(s.staging.data(), data.size());
  if (auto error = s.finder->FindPadded(text, s.values)) {
    return Rejection{error->code, "", fmt::format("{} at byte {}", error->message, error->position)};
  }
  if (auto rejection = s.CheckFields()) return rejection;
  if (auto rejection = s.ReadAttributes(envelope)) return rejection;
  uint32_t chosen = s.ChoosePartition();
  PartitionRows& rows = s.partitions[chosen];
  if (rows.data.bytes() + data.size() > kPartitionBytesMax || rows.count() == kBatchEventsMax) {
    return Rejection{"size", "", "the batch is full"};
  }
  s.AppendAttributes(rows);
  for (auto& reader : s.readers) {
    if (reader->column != kNone) rows.fields[reader->column].Append(reader->scalar);
  }
  rows.data.AppendString(text);
  ++s.count;
  s.data_bytes += text.size();
  if (partition != nullptr) *partition = chosen;
  return std::nullopt;
}

uint32_t Assembler::count() const { return state_->count; }
uint64_t Assembler::data_bytes() const { return state_->data_bytes; }
uint32_t Assembler::count(uint32_t partition) const { return state_->partitions[partition].count(); }

BatchColumns Assembler::State::ColumnsOf(PartitionRows& rows, const Receipts* receipts) {
  BatchColumns result;
  result.count = rows.count();
  result.receipts = receipts;
  result.data = &rows.data.View();
  bool with_columns = result.count >= kColumnsFromEvents;
  for (size_t i = 0; with_columns && i < columns.size(); ++i) {
    result.fields.emplace_back(columns[i], &rows.fields[i].View());
  }
  for (int i = 0; i < kAttributes; ++i) {
    bool follows = (rows.follows_field & Bit(i)) != 0;
    if (follows && with_columns) {
      bool absent = rows.fields[attributes[i].field->column].View().form == Column::Form::kAbsent;
      if (!absent) result.attribute_fields[i] = attributes[i].field->column;
      continue;
    }
    if (follows) {
      result.attributes[i] = &rows.fields[attributes[i].field->column].View();
    } else if (rows.attributes[i].rows() > 0) {
      rows.attributes[i].AppendNulls(result.count - rows.attributes[i].rows());
      result.attributes[i] = &rows.attributes[i].View();
    }
    if (result.attributes[i] != nullptr && result.attributes[i]->form == Column::Form::kAbsent)
      result.attributes[i] = nullptr;
  }
  return result;
}

Result<std::unique_ptr<EventBatch>> Assembler::Preview(uint32_t partition) {
  EncodedBatch batch = EncodeBatch(state_->ColumnsOf(state_->partitions[partition], nullptr), Codec::kNone);
  BatchPlace place;
  place.stream = state_->shape.name;
  place.partition = partition;
  place.count = batch.count;
  return EventBatch::Open(std::move(place), batch.codec, std::move(batch.payload));
}

void Assembler::Remove(uint32_t partition, const std::vector<uint32_t>& rows) {
  if (rows.empty()) return;
  State& s = *state_;
  PartitionRows& old = s.partitions[partition];
  PartitionRows kept = s.MakeRows();
  auto copy = [&](ColumnBuilder& from, ColumnBuilder& to) {
    const Column& column = from.View();
    size_t next = 0;
    for (uint32_t row = 0; row < column.rows; ++row) {
      if (next < rows.size() && rows[next] == row)
        ++next;
      else
        to.AppendFrom(column, row);
    }
  };
  copy(old.data, kept.data);
  for (size_t i = 0; i < old.fields.size(); ++i) copy(old.fields[i], kept.fields[i]);
  for (int i = 0; i < kAttributes; ++i) copy(old.attributes[i], kept.attributes[i]);
  kept.follows_field = old.follows_field;
  s.count -= old.count() - kept.count();
  s.data_bytes -= old.data.bytes() - kept.data.bytes();
  old = std::move(kept);
}

std::string_view Assembler::DataOf(uint32_t partition, uint32_t row) const {
  return state_->partitions[partition].data.View().String(row);
}

EncodedBatch Assembler::Finish(uint32_t partition, Receipts receipts) {
  State& s = *state_;
  PartitionRows& rows = s.partitions[partition];
  EncodedBatch batch = EncodeBatch(s.ColumnsOf(rows, &receipts), s.shape.codec);
  s.count -= rows.count();
  s.data_bytes -= rows.data.bytes();
  if (rows.count() > 0 && partition == s.spread) s.spread = (s.spread + 1) % s.shape.partitions;
  rows.data.Clear();
  for (ColumnBuilder& field : rows.fields) field.Clear();
  rows.follows_field = 0;
  for (int i = 0; i < kAttributes; ++i) {
    rows.attributes[i].Clear();
    if (s.attributes[i].field != nullptr) rows.follows_field |= Bit(i);
  }
  return batch;
}

uint32_t PartitionOf(std::string_view key, uint32_t partitions) {
  return static_cast<uint32_t>(XXH3_64bits(key.data(), key.size()) % partitions);
}

}  // namespace millstream
