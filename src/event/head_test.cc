// The head of a batch reads as the batch does, up to its end.
#include "event/head.h"

#include <gtest/gtest.h>

#include "event/assembler.h"

namespace millstream {
namespace {

std::unique_ptr<EventBatch> Open(const EncodedBatch& encoded, int64_t stamp, uint64_t base_offset = 0) {
  BatchPlace place;
  place.stream = "orders";
  place.base_offset = base_offset;
  place.count = encoded.count;
  place.ingested_at_us = stamp;
  auto batch = EventBatch::Open(place, encoded.codec, encoded.payload);
  EXPECT_TRUE(batch.has_value());
  return batch ? std::move(*batch) : nullptr;
}

StreamShape Shape() {
  StreamShape shape;
  shape.name = "orders";
  for (auto [name, type] : {std::pair("id", "varchar not null"), {"n", "bigint"}}) {
    auto field = ParseField(name, type);
    EXPECT_TRUE(field.has_value());
    shape.contract.fields.push_back(*field);
  }
  shape.id_from = "/id";
  return shape;
}

EncodedBatch Numbered(const StreamShape& shape, int first, int count) {
  Assembler assembler(shape);
  for (int n = first; n < first + count; ++n) {
    std::string text =
        n % 3 == 0 ? fmt::format(R"({{"id":"e{}"}})", n) : fmt::format(R"({{"id":"e{0}","n":{0}}})", n);
    text.reserve(text.size() + 64);
    Envelope envelope;
    if (n % 2 == 0) envelope.subject = "even";
    EXPECT_FALSE(assembler.Add(envelope, text).has_value());
  }
  return assembler.Finish(0, {});
}

TEST(HeadOf, ReadsAsTheBatchDoes) {
  const StreamShape shape = Shape();
  auto one = Open(Numbered(shape, 0, 30), 1000), other = Open(Numbered(shape, 30, 30), 2000, 30);
  auto merged = MergeBatches({one.get(), other.get()}, shape.contract, Codec::kLz4);
  ASSERT_TRUE(merged.has_value());
  for (uint32_t count : {1u, 29u, 30u, 31u, 60u}) {
    auto whole = Open(*merged, 1000);
    const Receipts receipts{{"file/a", "part", "17", 0, count, 0}};
    auto head = HeadOf(*whole, count, receipts, Codec::kLz4);
    ASSERT_TRUE(head.has_value()) << count;
    ASSERT_EQ(head->count, count);
    auto read = Open(*head, 1000);
    ASSERT_EQ(read->receipts().size(), 1u);
    EXPECT_EQ(read->receipts()[0].events, count);
    uint64_t bytes = 0;
    for (uint32_t row = 0; row < count; ++row) {
      EXPECT_EQ((*read->Data())->String(row), (*whole->Data())->String(row));
      bytes += (*read->Data())->String(row).size();
      EXPECT_EQ(read->IngestedAtUs(row), row < 30 ? 1000 : 2000);
      const Column *id = *read->AttributeColumn(Attribute::kId),
                   *subject = *read->AttributeColumn(Attribute::kSubject);
      EXPECT_EQ(id->String(row), fmt::format("e{}", row));
      EXPECT_EQ(subject->IsNull(row), row % 2 != 0);
      const Column* n = *read->FieldColumn(shape.contract.fields[1]);
      EXPECT_EQ(n->IsNull(row), row % 3 == 0);
      if (row % 3 != 0) {
        EXPECT_EQ(n->Fixed<int64_t>(row), row);
      }
    }
    EXPECT_EQ(head->data_bytes, bytes);
  }
}

}  // namespace
}  // namespace millstream
