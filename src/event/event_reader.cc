#include "event/event_reader.h"

#include <fmt/format.h>

#include "base/text.h"
#include "event/json_cursor.h"
#include "event/literals.h"
#include "event/payload.h"

namespace millstream {
namespace {

std::string_view TrimJson(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

std::string Pointer(const std::string& pointer) {
  return pointer.empty() || pointer[0] == '/' ? pointer : "/" + pointer;
}

FieldReader::Shortcut ShortcutOf(const Type& type) {
  switch (type.kind) {
    case Type::Kind::kVarchar:
      return FieldReader::Shortcut::kVarchar;
    case Type::Kind::kDecimal:
      return FieldReader::Shortcut::kDecimal;
    case Type::Kind::kTimestamp:
    case Type::Kind::kTimestamptz:
      return FieldReader::Shortcut::kTimestamp;
    default:
      return FieldReader::Shortcut::kDecoder;
  }
}

// The usual text of a usual type. False: the decoder has to look at it.
bool DecodeUsual(FieldReader& reader, const JsonValue& value) {
  bool plain_string = value.kind == JsonKind::kString && !value.escaped;
  std::string_view inside = plain_string ? value.text.substr(1, value.text.size() - 2) : std::string_view();
  switch (reader.shortcut) {
    case FieldReader::Shortcut::kVarchar:
      if (plain_string) reader.scalar.SetString(inside);
      return plain_string;
    case FieldReader::Shortcut::kDecimal: {
      Int128 number;
      const Type& type = reader.field->type;
      if (value.kind != JsonKind::kNumber || !ParseDecimal(value.text, type.width, type.scale, number))
        return false;
      reader.scalar.Set(number);
      return true;
    }
    case FieldReader::Shortcut::kTimestamp: {
      int64_t us;
      if (!plain_string || !ParseTimestamp(inside, us)) return false;
      reader.scalar.Set(us);
      return true;
    }
    case FieldReader::Shortcut::kDecoder:
      break;
  }
  return false;
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

}  // namespace

EventReader::EventReader(const StreamShape& shape)
    : shape_(shape), time_decoder_(AttributeType(Attribute::kTime)) {
  std::vector<std::string> pointers;
  for (const Field& field : shape.contract.fields) AddField(field, pointers);
  AddAttribute(Attribute::kId, shape.id_from, pointers);
  AddAttribute(Attribute::kSource, shape.source_from, pointers);
  AddAttribute(Attribute::kType, shape.type_from, pointers);
  AddAttribute(Attribute::kSubject, shape.subject_from, pointers);
  AddAttribute(Attribute::kTime, shape.time_from, pointers);
  if (shape.key.size() == 1) AddAttribute(Attribute::kKey, shape.key[0], pointers);
  for (size_t i = 0; shape.key.size() > 1 && i < shape.key.size(); ++i) {
    key_values_.push_back(static_cast<int>(pointers.size()));
    pointers.push_back(Pointer(shape.key[i]));
  }
  finder_ = std::make_unique<JsonFinder>(std::move(pointers), shape.max_depth);
}

void EventReader::AddField(const Field& field, std::vector<std::string>& pointers) {
  auto reader = std::make_unique<FieldReader>(
      FieldReader{&field, Decoder(field.type), {}, {}, {}, {}, -1, nullptr, ShortcutOf(field.type)});
  // ParseField has checked the default; a contract that was made otherwise loses one that does not convert.
  if (!DecodeDefault(field, reader->fallback, reader->keep).ok()) reader->fallback = Scalar();
  if (field.type.IsFlat()) {
    reader->column = static_cast<int>(flat_fields_.size());
    flat_fields_.push_back(&field);
  } else {
    reader->nested = std::make_unique<ColumnBuilder>(field.type);
  }
  fields_.push_back(std::move(reader));
  pointers.push_back(field.pointer);
}

void EventReader::AddAttribute(Attribute attribute, const std::string& from,
                               std::vector<std::string>& pointers) {
  if (from.empty()) return;
  std::string pointer = Pointer(from);
  AttributeReader& source = attributes_[static_cast<int>(attribute)];
  source.value = static_cast<int>(pointers.size());
  from_data_.push_back(static_cast<int>(attribute));
  for (const auto& reader : fields_) {
    if (reader->field->pointer != pointer || reader->field->type != AttributeType(attribute)) continue;
    source.field = reader.get();
    field_attributes_ |= Bit(attribute);
  }
  pointers.push_back(std::move(pointer));
}

void EventReader::Stage(std::string_view data) {
  if (staging_.size() < data.size() + kJsonPadding) staging_.resize(2 * data.size() + kJsonPadding);
  std::memcpy(staging_.data(), data.data(), data.size());
  std::memset(staging_.data() + data.size(), 0, kJsonPadding);
  text_ = std::string_view(staging_.data(), data.size());
}

std::optional<Rejection> EventReader::Read(const Envelope& envelope, std::string_view data) {
  data = TrimJson(data);
  if (data.size() > shape_.max_event_bytes) {
    return Rejection{"size", "",
                     fmt::format("{} bytes; the limit is {}", FormatCount(data.size()),
                                 FormatCount(shape_.max_event_bytes))};
  }
  Stage(data);
  if (auto error = finder_->FindPadded(text_, values_)) {
    return Rejection{error->code, "", fmt::format("{} at byte {}", error->message, error->position)};
  }
  auto rejection = CheckFields();
  if (auto another = ReadAttributes(envelope)) Rejection::Add(rejection, std::move(*another));
  return rejection;
}

std::optional<Rejection> EventReader::CheckFields() {
  std::optional<Rejection> first;
  for (size_t i = 0; i < fields_.size(); ++i) {
    FieldReader& reader = *fields_[i];
    const JsonValue& value = values_[i];
    if (DecodeUsual(reader, value)) continue;
    const Field& field = *reader.field;
    bool is_null;
    if (value.kind == JsonKind::kMissing) {
      reader.scalar = reader.fallback;
      is_null = reader.scalar.is_null;
    } else if (reader.nested == nullptr) {
      if (!reader.decoder.Decode(value, reader.scalar, reader.scratch)) {
        if (!Rejection::Add(first, {"contract", field.pointer, reader.decoder.Describe(value)})) break;
        continue;
      }
      is_null = reader.scalar.is_null;
    } else {
      reader.nested->Clear();
      if (auto error = reader.decoder.Append(value, *reader.nested)) {
        if (!Rejection::Add(first, {"contract", field.pointer + error->path, error->message})) break;
        continue;
      }
      is_null = value.kind == JsonKind::kNull;
    }
    if (is_null && field.not_null) {
      const char* what = value.kind == JsonKind::kMissing ? "is missing" : "is null";
      Rejection rejection{"contract", field.pointer,
                          fmt::format("{} {}, but the contract says not null", field.name, what)};
      if (!Rejection::Add(first, std::move(rejection))) break;
    }
  }
  return first;
}

std::optional<Rejection> EventReader::ReadAttributes(const Envelope& envelope) {
  present_ = 0;
  for (int attribute : from_data_) {
    if (static_cast<Attribute>(attribute) == Attribute::kTime && envelope.time_us) continue;
    if (auto rejection = ReadFromData(static_cast<Attribute>(attribute))) return rejection;
  }
  if (!key_values_.empty()) ReadKeyOfSeveral();
  ReadGiven(envelope);
  return std::nullopt;
}

std::optional<Rejection> EventReader::ReadFromData(Attribute attribute) {
  AttributeReader& source = attributes_[static_cast<int>(attribute)];
  const JsonValue& value = values_[source.value];
  source.is_field = source.field != nullptr;
  if (source.is_field) {
    // Decoded already. A default is the field's, not the attribute's.
    if (value.kind == JsonKind::kMissing || source.field->scalar.is_null) return std::nullopt;
    source.scalar = source.field->scalar;
  } else if (attribute == Attribute::kTime) {
    if (!time_decoder_.Decode(value, source.scalar, source.scratch)) {
      return Rejection{"contract", Pointer(shape_.time_from),
                       time_decoder_.Describe(value) + ", which ce_time must be"};
    }
    if (source.scalar.is_null) return std::nullopt;
  } else if (auto text = AttributeText(value, source.scratch)) {
    source.scalar.SetString(*text);
  } else if (attribute == Attribute::kKey && value.kind >= JsonKind::kArray) {
    source.scalar.SetString(value.text);
  } else {
    return std::nullopt;
  }
  present_ |= Bit(attribute);
  return std::nullopt;
}

void EventReader::ReadKeyOfSeveral() {
  AttributeReader& source = attributes_[static_cast<int>(Attribute::kKey)];
  bool any = false;
  key_.assign(1, '[');
  for (int index : key_values_) {
    const JsonValue& value = values_[index];
    if (key_.size() > 1) key_ += ',';
    any |= value.kind != JsonKind::kMissing && value.kind != JsonKind::kNull;
    if (value.kind == JsonKind::kString) {
      AppendJsonString(key_, JsonStringValue(value, source.scratch));
    } else if (value.kind == JsonKind::kMissing) {
      key_ += "null";
    } else {
      key_ += value.text;
    }
  }
  key_ += ']';
  if (any) Give(Attribute::kKey, key_);
}

void EventReader::Give(Attribute attribute, std::string_view text) {
  AttributeReader& source = attributes_[static_cast<int>(attribute)];
  source.scalar.SetString(text);
  source.is_field = false;
  present_ |= Bit(attribute);
}

// What the source gives goes before what the data says; only the data's key goes before the partition key.
void EventReader::ReadGiven(const Envelope& envelope) {
  if (envelope.id) Give(Attribute::kId, *envelope.id);
  if (envelope.source) Give(Attribute::kSource, *envelope.source);
  if (envelope.type) Give(Attribute::kType, *envelope.type);
  if (envelope.subject) Give(Attribute::kSubject, *envelope.subject);
  if (envelope.dataschema) Give(Attribute::kDataschema, *envelope.dataschema);
  if (envelope.extensions) Give(Attribute::kExtensions, *envelope.extensions);
  if (envelope.op) Give(Attribute::kOp, *envelope.op);
  if (envelope.partition_key && (present_ & Bit(Attribute::kKey)) == 0)
    Give(Attribute::kKey, *envelope.partition_key);
  if (!envelope.time_us) return;
  AttributeReader& time = attributes_[static_cast<int>(Attribute::kTime)];
  time.scalar.Set(*envelope.time_us);
  time.is_field = false;
  present_ |= Bit(Attribute::kTime);
}

}  // namespace millstream
