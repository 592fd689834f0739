#include "event/payload.h"

#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "base/text.h"
#include "event/assembler.h"
#include "event/column_builder.h"
#include "event/column_codec.h"

namespace millstream {
namespace {

// docs/log-format-payload.md, "An example".
TEST(PayloadTest, TheExampleOfTheFormatsPage) {
  StreamShape shape;
  shape.codec = Codec::kNone;
  Assembler assembler(shape);
  Envelope envelope;
  envelope.id = "x";
  ASSERT_FALSE(assembler.Add(envelope, " {\"a\":1}\n"));
  EncodedBatch batch = assembler.Finish(0, {});
  EXPECT_EQ(Hex(batch.payload),
            "01020400010003030500000909010078"
            "01007b2261223a317d");
  EXPECT_EQ(batch.payload_crc, Crc32c(batch.payload));
  EXPECT_EQ(batch.data_bytes, 7u);
}

TEST(PayloadTest, FingerprintIsThatOfTheFormatsPage) {
  // XXH3-64 of "7:/amount13:decimal(12,2)-1:v1" by the reference implementation (python3-xxhash).
  EXPECT_EQ(ParseField("amount", "decimal(12,2)")->Fingerprint(), 0x61b0ad98faf9f959ull);
}

std::vector<std::string> Forms(const Column& column) {
  std::string body;
  EncodeColumn(column, body);
  return {std::to_string(body[0]), std::to_string(body.size())};
}

TEST(ColumnCodecTest, ChoosesTheSmallestForm) {
  Type varchar, bigint, real;
  bigint.kind = Type::Kind::kBigint, real.kind = Type::Kind::kDouble;
  auto strings = [&](auto make, int rows) {
    ColumnBuilder builder(varchar);
    for (int i = 0; i < rows; ++i) builder.AppendString(make(i));
    return builder.Take();
  };
  auto numbers = [&](const Type& type, auto make, int rows) {
    ColumnBuilder builder(type);
    Scalar scalar;
    for (int i = 0; i < rows; ++i) scalar.Set(make(i)), builder.Append(scalar);
    return builder.Take();
  };
  EXPECT_EQ(Forms(strings([](int) { return "same"; }, 100)), (std::vector<std::string>{"1", "6"}));
  EXPECT_EQ(Forms(strings([](int i) { return "k" + std::to_string(i % 3); }, 100))[0], "3");
  EXPECT_EQ(Forms(strings([](int i) { return "k" + std::to_string(i % 1000); }, 5000))[0], "3");
  EXPECT_EQ(Forms(strings([](int i) { return "k" + std::to_string(i); }, 5000))[0], "2");
  EXPECT_EQ(Forms(numbers(
                bigint, [](int) { return int64_t{7}; }, 100)),
            (std::vector<std::string>{"1", "10"}));
  EXPECT_EQ(Forms(numbers(
                bigint, [](int i) { return INT64_MIN + i; }, 100)),
            (std::vector<std::string>{"5", "111"}));
  EXPECT_EQ(Forms(numbers(
                bigint, [](int i) { return i % 2 == 0 ? INT64_MIN : INT64_MAX; }, 100))[0],
            "2");
  EXPECT_EQ(Forms(numbers(
                real, [](int i) { return static_cast<double>(i); }, 100))[0],
            "2");
}

TEST(ColumnCodecTest, EveryTypeAndFormComesBack) {
  for (const char* text : {"boolean",      "tinyint",      "smallint",      "integer",       "bigint",
                           "usmallint",    "ubigint",      "hugeint",       "float",         "double",
                           "decimal(3,1)", "decimal(9,0)", "decimal(18,0)", "decimal(38,0)", "date",
                           "timestamptz",  "uuid",         "enum('a','b')", "varchar",       "blob"}) {
    Type type = *ParseType(text);
    for (int variety : {1, 2, 300, 70'000}) {
      for (int nulls : {0, 3}) {
        ColumnBuilder builder(type);
        for (int i = 0; i < 3000; ++i) {
          Scalar scalar;
          uint64_t value = static_cast<uint64_t>(i) * 2654435761u % static_cast<uint64_t>(variety);
          if (type.kind == Type::Kind::kBoolean || type.kind == Type::Kind::kEnum) value %= 2;
          std::string string = std::to_string(value);
          if (type.IsString())
            scalar.SetString(string);
          else
            scalar.Set<uint64_t>(variety == 2 ? 0 - (value % 2) * (type.kind != Type::Kind::kBoolean &&
                                                                   type.kind != Type::Kind::kEnum)
                                              : value);
          if (nulls > 0 && i % nulls == 0) scalar.is_null = true;
          builder.Append(scalar);
        }
        Column column = builder.Take();
        std::string body;
        EncodeColumn(column, body);
        Column back;
        Status status = DecodeColumn(body, type, 3000, back);
        ASSERT_TRUE(status.ok()) << text << status.message();
        ColumnBuilder again(type);
        again.AppendAll(back);
        const Column& flat = again.View();
        EXPECT_EQ(flat.fixed, column.fixed) << text << " " << variety;
        EXPECT_EQ(flat.bytes, column.bytes) << text;
        EXPECT_EQ(flat.ends, column.ends) << text;
        EXPECT_EQ(flat.validity, column.validity) << text;
      }
    }
  }
}

}  // namespace
}  // namespace millstream
