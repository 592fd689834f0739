// MergeBatches: many small batches into one, when a segment is sealed.
#include "event/batch.h"
#include "event/column_builder.h"
#include "event/payload.h"

namespace millstream {
namespace {

bool SameColumn(const Column& a, const Column& b) {
  return a.type == b.type && a.form == b.form && a.ends == b.ends && a.bytes == b.bytes &&
         a.fixed == b.fixed && a.validity == b.validity;
}

Status CheckAdjacent(const std::vector<EventBatch*>& batches) {
  uint64_t events = 0;
  for (size_t i = 0; i < batches.size(); ++i) {
    events += batches[i]->count();
    if (i == 0 || batches[i]->place().base_offset == batches[i - 1]->end_offset()) continue;
    return Invalid("batches that are merged must be adjacent: {} follows {}", batches[i]->place().base_offset,
                   batches[i - 1]->end_offset());
  }
  if (events > kBatchEventsMax) return Invalid("{} events are too many for one batch", events);
  return OkStatus();
}

// Stamps, receipts and erased marks, moved to where their events now are.
struct Marks {
  std::vector<StampRun> stamps;
  Receipts receipts;
  std::string erased;
};

Marks MergeMarks(const std::vector<EventBatch*>& batches, uint32_t count) {
  Marks marks;
  uint32_t first = 0;
  for (EventBatch* batch : batches) {
    std::vector<StampRun> runs = batch->stamps();
    if (runs.empty()) runs.push_back({0, batch->place().ingested_at_us});
    for (const StampRun& run : runs) {
      bool differs = marks.stamps.empty() || marks.stamps.back().ingested_at_us != run.ingested_at_us;
      if (batch->count() > 0 && differs)
        marks.stamps.push_back({first + run.first_event, run.ingested_at_us});
    }
    for (Receipt receipt : batch->receipts()) {
      receipt.first_event += first;
      marks.receipts.push_back(std::move(receipt));
    }
    for (uint32_t row = 0; row < batch->count(); ++row) {
      if (!batch->Erased(row)) continue;
      marks.erased.resize((count + 7) / 8);
      marks.erased[(first + row) / 8] =
          static_cast<char>(marks.erased[(first + row) / 8] | 1 << ((first + row) % 8));
    }
    first += batch->count();
  }
  return marks;
}

// A column over all batches; null if some event does not convert under the field.
Result<std::unique_ptr<ColumnBuilder>> MergeField(const std::vector<EventBatch*>& batches,
                                                  const Field& field) {
  auto builder = std::make_unique<ColumnBuilder>(field.type);
  for (EventBatch* batch : batches) {
    ASSIGN_OR_FAIL(const Column* column, batch->FieldColumn(field));
    for (const EventBatch::Unconvertible& event : batch->unconvertible()) {
      if (event.field == field.name) return nullptr;
    }
    builder->AppendAll(*column);
  }
  return builder;
}

}  // namespace

Result<EncodedBatch> MergeBatches(const std::vector<EventBatch*>& batches, const Contract& contract,
                                  Codec codec) {
  FAIL_IF_ERROR(CheckAdjacent(batches));
  BatchColumns columns;
  for (EventBatch* batch : batches) columns.count += batch->count();
  Marks marks = MergeMarks(batches, columns.count);
  columns.stamps = std::move(marks.stamps);
  columns.erased = std::move(marks.erased);
  columns.receipts = &marks.receipts;

  std::vector<const Field*> flat;
  for (const Field& field : contract.fields) {
    if (field.type.IsFlat()) flat.push_back(&field);
  }
  std::vector<std::unique_ptr<ColumnBuilder>> builders;  // keep what `columns` borrows
  if (columns.count >= kColumnsFromEvents) {
    for (EventBatch* batch : batches) FAIL_IF_ERROR(batch->LoadFields(flat));
    for (const Field* field : flat) {
      ASSIGN_OR_FAIL(std::unique_ptr<ColumnBuilder> builder, MergeField(batches, *field));
      if (builder == nullptr) continue;
      columns.fields.emplace_back(field, &builder->View());
      builders.push_back(std::move(builder));
    }
  }
  for (int i = 0; i < kAttributes; ++i) {
    auto attribute = static_cast<Attribute>(i);
    auto builder = std::make_unique<ColumnBuilder>(AttributeType(attribute));
    for (EventBatch* batch : batches) {
      ASSIGN_OR_FAIL(const Column* column, batch->AttributeColumn(attribute));
      builder->AppendAll(*column);
    }
    const Column& column = builder->View();
    if (column.form == Column::Form::kAbsent) continue;
    columns.attributes[i] = &column;
    for (size_t f = 0; f < columns.fields.size(); ++f) {
      if (SameColumn(column, *columns.fields[f].second)) columns.attribute_fields[i] = static_cast<int>(f);
    }
    builders.push_back(std::move(builder));
  }
  Type json;
  json.kind = Type::Kind::kJson;
  ColumnBuilder data(json);
  for (EventBatch* batch : batches) {
    if (batch->count() == 0) continue;
    ASSIGN_OR_FAIL(const Column* column, batch->Data());
    data.AppendAll(*column);
  }
  columns.data = &data.View();
  return EncodeBatch(columns, codec);
}

}  // namespace millstream
