#include "event/batch.h"

#include <gtest/gtest.h>

#include <random>

#include "event/assembler.h"

namespace millstream {
namespace {

Field MakeField(const char* name, const char* text) {
  Result<Field> field = ParseField(name, text);
  EXPECT_TRUE(field) << (field ? "" : field.error().message());
  return *field;
}

StreamShape OrdersShape() {
  StreamShape shape;
  shape.name = "orders";
  shape.contract.fields = {MakeField("id", "varchar not null"),
                           MakeField("type", "enum('placed','paid') default 'placed'"),
                           MakeField("customer", "varchar"),
                           MakeField("amount", "decimal(12,2)"),
                           MakeField("ts", "timestamptz"),
                           MakeField("paid", "boolean"),
                           MakeField("lines", "struct(sku varchar, qty integer)[]")};
  shape.key = {"/customer"};
  shape.id_from = "/id", shape.time_from = "/ts";
  return shape;
}

std::string Order(int i) {
  std::string text =
      fmt::format(R"({{"id":"e{}","amount":{}.{:02},"extra":[{}])", i, i * 37 % 1000, i % 100, i);
  if (i % 3 != 0) text += fmt::format(R"(,"type":"{}")", i % 3 == 1 ? "placed" : "paid");
  if (i % 5 != 0) text += fmt::format(R"(,"customer":"c\u00e9{}")", i % 17);
  if (i % 7 != 0) text += fmt::format(R"(,"ts":"2026-11-22T10:{:02}:{:02}.5Z")", i / 60 % 60, i % 60);
  if (i % 11 == 0) text += R"(,"paid":true)";
  if (i % 2 == 0) text += fmt::format(R"(,"lines":[{{"sku":"s{}","qty":{}}},{{"sku":null}}])", i % 4, i);
  return text + "}";
}

std::unique_ptr<EventBatch> Open(const EncodedBatch& encoded, uint64_t base_offset = 0, int64_t stamp = 7) {
  BatchPlace place;
  place.stream = "orders";
  place.base_offset = base_offset;
  place.count = encoded.count;
  place.ingested_at_us = stamp;
  auto batch = EventBatch::Open(place, encoded.codec, encoded.payload);
  EXPECT_TRUE(batch) << (batch ? "" : batch.error().message());
  return batch ? std::move(*batch) : nullptr;
}

// Every value of a column as text, whatever its form.
std::string Text(const Column& column, uint32_t row) {
  if (column.IsNull(row)) return "NULL";
  if (column.type.kind == Type::Kind::kList) {
    std::string text = "[";
    for (uint32_t i = row == 0 ? 0 : column.list_ends[row - 1]; i < column.list_ends[row]; ++i) {
      text += Text(column.children[0], i) + ";";
    }
    return text + "]";
  }
  if (column.type.kind == Type::Kind::kStruct) {
    std::string text = "(";
    for (const Column& child : column.children) text += Text(child, row) + ",";
    return text + ")";
  }
  if (column.type.IsString()) return "'" + std::string(column.String(row)) + "'";
  switch (column.type.FixedBytes()) {
    case 1:
      return std::to_string(column.Fixed<int8_t>(row));
    case 2:
      return std::to_string(column.Fixed<int16_t>(row));
    case 4:
      return std::to_string(column.Fixed<int32_t>(row));
    case 8:
      return std::to_string(column.Fixed<int64_t>(row));
    default:
      return std::to_string(column.Fixed<int64_t>(row * 2)) + "/" +
             std::to_string(column.Fixed<int64_t>(row * 2 + 1));
  }
}

// All that a batch says, a line an event.
std::vector<std::string> Lines(EventBatch& batch, const Contract& contract) {
  std::vector<std::string> lines(batch.count());
  for (uint32_t row = 0; row < batch.count(); ++row) {
    lines[row] =
        std::to_string(batch.place().base_offset + row) + "@" + std::to_string(batch.IngestedAtUs(row));
  }
  auto add = [&](const char* name, const Result<const Column*>& column) {
    ASSERT_TRUE(column) << column.error().message();
    ASSERT_EQ((*column)->rows, batch.count());
    for (uint32_t row = 0; row < batch.count(); ++row)
      lines[row] += std::string(" ") + name + "=" + Text(**column, row);
  };
  for (const Field& field : contract.fields) add(field.name.c_str(), batch.FieldColumn(field));
  for (int i = 0; i < kAttributes; ++i)
    add(std::to_string(i).c_str(), batch.AttributeColumn(static_cast<Attribute>(i)));
  add("data", batch.Data());
  return lines;
}

EncodedBatch Encode(const StreamShape& shape, int begin, int end, Receipts receipts = {}) {
  Assembler assembler(shape);
  for (int i = begin; i < end; ++i) {
    Envelope envelope;
    std::string subject = "s" + std::to_string(i);
    if (i % 13 == 0) envelope.subject = subject;
    if (i == 40) envelope.id = "given";
    auto rejection = assembler.Add(envelope, Order(i));
    EXPECT_FALSE(rejection) << Order(i) << rejection->message;
  }
  return assembler.Finish(0, std::move(receipts));
}

TEST(BatchTest, ReadsBackWhatWasAdded) {
  StreamShape shape = OrdersShape();
  EncodedBatch encoded = Encode(shape, 0, 100);
  auto batch = Open(encoded);
  std::vector<std::string> lines = Lines(*batch, shape.contract);
  EXPECT_EQ(lines[4],
            "4@7 id='e4' type=0 customer='c\xc3\xa9"
            "4' amount=14804 ts=1795341604500000 paid=NULL "
            "lines=[('s0',4,);(NULL,NULL,);] 0='e4' 1=NULL 2=NULL 3=NULL 4=1795341604500000 5=NULL 6=NULL "
            "7='c\xc3\xa9"
            "4' 8=NULL data='" +
                Order(4) + "'");
  EXPECT_NE(lines[39].find("3='s39'"), std::string::npos);
  EXPECT_NE(lines[40].find(" 0='given'"), std::string::npos);
  EXPECT_NE(lines[41].find(" 0='e41'"), std::string::npos);
  EXPECT_NE(lines[3].find("type=0"), std::string::npos) << "the default";
  EXPECT_EQ(batch->read_counts().parsed_events, 100u) << "the list is nested";
  EXPECT_TRUE(batch->unconvertible().empty());
}

TEST(BatchTest, FlatColumnsNeedNoParsing) {
  StreamShape shape = OrdersShape();
  shape.contract.fields.pop_back();
  auto batch = Open(Encode(shape, 0, 1000));
  Lines(*batch, shape.contract);
  EXPECT_EQ(batch->read_counts().parsed_events, 0u);
  auto small = Open(Encode(shape, 0, 15));
  Lines(*small, shape.contract);
  EXPECT_GT(small->read_counts().parsed_events, 0u);
}

TEST(BatchTest, AChangedFieldIsDecodedFromTheData) {
  StreamShape shape = OrdersShape();
  auto batch = Open(Encode(shape, 0, 64));
  Field wider = MakeField("amount", "decimal(18,4)");
  Field wrong = MakeField("id", "integer");
  Field renamed = MakeField("who", "varchar default 'nobody'");
  renamed.pointer = "/customer";
  ASSERT_TRUE(batch->LoadFields({&wider, &wrong, &renamed}).ok());
  EXPECT_EQ(batch->read_counts().parsed_events, 64u);
  EXPECT_EQ((*batch->FieldColumn(wider))->Fixed<int64_t>(4), 1480400);
  EXPECT_EQ((*batch->FieldColumn(renamed))->String(5), "nobody");
  EXPECT_TRUE((*batch->FieldColumn(wrong))->IsNull(3));
  ASSERT_EQ(batch->unconvertible().size(), 64u);
  EXPECT_EQ(batch->unconvertible()[3].row, 3u);
  EXPECT_EQ(batch->unconvertible()[3].reason, "/id: \"e3\" is not integer");
}

// SEMANTICS, 1: any cut of the events into batches, merged or not, gives the same.
TEST(BatchTest, AnyCutGivesTheSameColumns) {
  StreamShape shape = OrdersShape();
  std::vector<std::string> whole = Lines(*Open(Encode(shape, 0, 200)), shape.contract);
  std::mt19937 random(3);
  for (int round = 0; round < 40; ++round) {
    shape.codec = round % 4 == 0 ? Codec::kNone : Codec::kLz4;
    std::vector<std::unique_ptr<EventBatch>> batches;
    std::vector<EventBatch*> pointers;
    std::vector<std::string> cut;
    int longest = 1 << (random() % 8);
    for (int begin = 0; begin < 200;) {
      int end = std::min<int>(200, begin + 1 + static_cast<int>(random() % longest));
      Receipts receipts = {{"source/s", "0", std::to_string(end), 0, UINT32_MAX}};
      batches.push_back(Open(Encode(shape, begin, end, receipts), begin));
      pointers.push_back(batches.back().get());
      for (std::string& line : Lines(*batches.back(), shape.contract)) cut.push_back(std::move(line));
      begin = end;
    }
    ASSERT_EQ(cut, whole);
    auto merged = MergeBatches(pointers, shape.contract, shape.codec);
    ASSERT_TRUE(merged) << merged.error().message();
    auto one = Open(*merged, 0, 99);
    ASSERT_EQ(Lines(*one, shape.contract), whole);
    ASSERT_EQ(one->receipts().size(), batches.size());
    for (size_t i = 0; i < batches.size(); ++i) {
      EXPECT_EQ(one->receipts()[i].first_event, batches[i]->place().base_offset);
      EXPECT_EQ(one->receipts()[i].events, batches[i]->count());
    }
    EXPECT_EQ(one->stamps(), (std::vector<StampRun>{{0, 7}}));
  }
}

TEST(BatchTest, MergingKeepsStampsAndRefusesGaps) {
  StreamShape shape = OrdersShape();
  auto a = Open(Encode(shape, 0, 3), 10, 100), b = Open(Encode(shape, 3, 5), 13, 200),
       c = Open(Encode(shape, 5, 6), 16, 300);
  auto merged = MergeBatches({a.get(), b.get()}, shape.contract, Codec::kLz4);
  ASSERT_TRUE(merged);
  auto one = Open(*merged, 10, 100);
  EXPECT_EQ(one->stamps(), (std::vector<StampRun>{{0, 100}, {3, 200}}));
  EXPECT_EQ(one->IngestedAtUs(2), 100);
  EXPECT_EQ(one->IngestedAtUs(4), 200);
  EXPECT_FALSE(MergeBatches({a.get(), c.get()}, shape.contract, Codec::kLz4));
}

TEST(BatchTest, ReceiptsAlone) {
  Receipts receipts = {{"pipeline/p.1/stream:x", "3", "99", 0, 0}, {"key/orders", "00ff", "abc", 0, 0}};
  EncodedBatch encoded = EncodeReceipts(receipts);
  EXPECT_EQ(encoded.count, 0u);
  auto batch = Open(encoded);
  EXPECT_EQ(batch->receipts(), receipts);
  EXPECT_EQ((*batch->Data())->rows, 0u);
}

TEST(BatchTest, DamageIsNeverACrash) {
  StreamShape shape = OrdersShape();
  std::mt19937 random(11);
  for (int count : {0, 1, 20, 300}) {
    for (Codec codec : {Codec::kNone, Codec::kLz4}) {
      shape.codec = codec;
      EncodedBatch encoded = Encode(shape, 0, count, {{"source/s", "0", "1", 0, UINT32_MAX}});
      for (int round = 0; round < 3000; ++round) {
        std::string payload = encoded.payload;
        for (uint32_t edits = 1 + random() % 4; edits > 0; --edits) {
          payload[random() % std::min<size_t>(payload.size(), round % 2 == 0 ? 150 : payload.size())] =
              static_cast<char>(random());
        }
        if (round % 5 == 0) payload.resize(random() % payload.size());
        BatchPlace place;
        place.count = round % 7 == 0 ? random() % 1000 : encoded.count;
        auto batch = EventBatch::Open(place, codec, payload);
        if (!batch) {
          EXPECT_EQ(batch.error().code(), Code::kCorrupt);
          continue;
        }
        for (const Field& field : shape.contract.fields) {
          auto column = (*batch)->FieldColumn(field);
          for (uint32_t row = 0; column && row < place.count; ++row) Text(**column, row);
        }
        for (int i = 0; i < kAttributes; ++i) {
          auto column = (*batch)->AttributeColumn(static_cast<Attribute>(i));
          for (uint32_t row = 0; column && row < place.count; ++row) Text(**column, row);
        }
      }
    }
  }
}

}  // namespace
}  // namespace millstream
