#include "event/assembler.h"

#include "event/event_reader.h"
#include "event/payload.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace millstream {
namespace {

constexpr uint64_t kPartitionBytesMax = 1ull << 30;  // data gathered for one partition

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
  EventReader reader;
  std::vector<PartitionRows> partitions;
  uint32_t count = 0;
  uint64_t data_bytes = 0;
  uint32_t spread = 0;  // where events without key and id go

  explicit State(const StreamShape& s) : shape(s), reader(s) {
    for (uint32_t i = 0; i < shape.partitions; ++i) partitions.push_back(MakeRows());
  }

  PartitionRows MakeRows() const {
    PartitionRows rows{ColumnBuilder(JsonType()), {}, {}, reader.field_attributes()};
    for (const Field* field : reader.flat_fields()) rows.fields.emplace_back(field->type);
    for (int i = 0; i < kAttributes; ++i)
      rows.attributes.emplace_back(AttributeType(static_cast<Attribute>(i)));
    return rows;
  }

  uint32_t ChoosePartition();
  void AppendAttributes(PartitionRows& rows);
  void FollowNoLonger(PartitionRows& rows, int index);
  BatchColumns ColumnsOf(PartitionRows& rows, const Receipts* receipts);
};

bool Rejection::Add(std::optional<Rejection>& first, Rejection another) {
  if (!first) {
    first = std::move(another);
    return true;
  }
  first->others.push_back(std::move(another));
  return first->others.size() + 1 < kMost;
}

Assembler::Assembler(const StreamShape& shape) : state_(std::make_unique<State>(shape)) {}
Assembler::~Assembler() = default;

uint32_t Assembler::State::ChoosePartition() {
  if (shape.partitions == 1) return 0;
  for (Attribute attribute : {Attribute::kKey, Attribute::kId}) {
    if ((reader.present() & EventReader::Bit(attribute)) == 0) continue;
    return PartitionOf(reader.attribute(static_cast<int>(attribute)).scalar.string, shape.partitions);
  }
  return spread;
}

// From here on the attribute differs from its field: its column gets the rows that it did not need so far.
void Assembler::State::FollowNoLonger(PartitionRows& rows, int index) {
  rows.follows_field &= ~EventReader::Bit(index);
  const Column& field = rows.fields[reader.attribute(index).field->column].View();
  ColumnBuilder& column = rows.attributes[index];
  for (uint32_t row = 0; row < rows.count(); ++row) column.AppendFrom(field, row);
}

void Assembler::State::AppendAttributes(PartitionRows& rows) {
  for (uint32_t left = reader.present() | rows.follows_field; left != 0; left &= left - 1) {
    int index = __builtin_ctz(left);
    const AttributeReader& source = reader.attribute(index);
    bool is_null = (reader.present() & EventReader::Bit(index)) == 0;
    if ((rows.follows_field & EventReader::Bit(index)) != 0) {
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
  if (auto rejection = s.reader.Read(envelope, data)) return rejection;
  std::string_view text = s.reader.text();
  uint32_t chosen = s.ChoosePartition();
  PartitionRows& rows = s.partitions[chosen];
  if (rows.data.bytes() + text.size() > kPartitionBytesMax || rows.count() == kBatchEventsMax) {
    return Rejection{"size", "", "the batch is full"};
  }
  s.AppendAttributes(rows);
  for (const auto& field : s.reader.fields()) {
    if (field->column >= 0) rows.fields[field->column].Append(field->scalar);
  }
  rows.data.AppendString(text);
  ++s.count;
  s.data_bytes += text.size();
  if (partition != nullptr) *partition = chosen;
  return std::nullopt;
}

void Assembler::SpreadTo(uint32_t partition) { state_->spread = partition % state_->shape.partitions; }
uint32_t Assembler::count() const { return state_->count; }
uint64_t Assembler::data_bytes() const { return state_->data_bytes; }
uint32_t Assembler::count(uint32_t partition) const { return state_->partitions[partition].count(); }

BatchColumns Assembler::State::ColumnsOf(PartitionRows& rows, const Receipts* receipts) {
  BatchColumns result;
  result.count = rows.count();
  result.receipts = receipts;
  result.data = &rows.data.View();
  bool with_columns = result.count >= kColumnsFromEvents;
  for (size_t i = 0; with_columns && i < reader.flat_fields().size(); ++i) {
    result.fields.emplace_back(reader.flat_fields()[i], &rows.fields[i].View());
  }
  for (int i = 0; i < kAttributes; ++i) {
    bool follows = (rows.follows_field & EventReader::Bit(i)) != 0;
    if (follows && with_columns) {
      bool absent = rows.fields[reader.attribute(i).field->column].View().form == Column::Form::kAbsent;
      if (!absent) result.attribute_fields[i] = reader.attribute(i).field->column;
      continue;
    }
    if (follows) {
      result.attributes[i] = &rows.fields[reader.attribute(i).field->column].View();
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
  for (ColumnBuilder& attribute : rows.attributes) attribute.Clear();
  rows.follows_field = s.reader.field_attributes();
  return batch;
}

uint32_t PartitionOf(std::string_view key, uint32_t partitions) {
  return static_cast<uint32_t>(XXH3_64bits(key.data(), key.size()) % partitions);
}

}  // namespace millstream
