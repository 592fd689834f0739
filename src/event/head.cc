#include "event/head.h"

#include "event/column_builder.h"
#include "event/payload.h"

namespace millstream {
namespace {

ColumnBuilder FirstRows(const Column& column, const Type& type, uint32_t count) {
  ColumnBuilder builder(type);
  for (uint32_t row = 0; row < count; ++row) builder.AppendFrom(column, row);
  return builder;
}

}  // namespace

Result<EncodedBatch> HeadOf(EventBatch& batch, uint32_t count, const Receipts& receipts, Codec codec) {
  BatchColumns columns;
  columns.count = count;
  columns.receipts = &receipts;
  for (const StampRun& run : batch.stamps())
    if (run.first_event < count) columns.stamps.push_back(run);
  for (uint32_t row = 0; row < count; ++row) {
    if (!batch.Erased(row)) continue;
    columns.erased.resize((count + 7) / 8);
    columns.erased[row / 8] = static_cast<char>(columns.erased[row / 8] | 1 << (row % 8));
  }
  std::vector<std::unique_ptr<ColumnBuilder>> builders;  // keep what `columns` borrows
  auto take = [&](const Column& column, const Type& type) {
    builders.push_back(std::make_unique<ColumnBuilder>(FirstRows(column, type, count)));
    return &builders.back()->View();
  };
  for (int i = 0; i < kAttributes; ++i) {
    auto attribute = static_cast<Attribute>(i);
    ASSIGN_OR_FAIL(const Column* column, batch.AttributeColumn(attribute));
    if (column->form == Column::Form::kAbsent) continue;
    const Column* head = take(*column, AttributeType(attribute));
    if (head->form != Column::Form::kAbsent) columns.attributes[i] = head;
  }
  Type json;
  json.kind = Type::Kind::kJson;
  ASSIGN_OR_FAIL(const Column* data, batch.Data());
  columns.data = take(*data, json);
  return EncodeBatch(columns, codec);
}

}  // namespace millstream
