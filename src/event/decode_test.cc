#include "event/decode.h"

#include <gtest/gtest.h>

#include <cmath>

#include "event/literals.h"
#include "event/position.h"

namespace millstream {
namespace {

Type MustParse(std::string_view text) { return *ParseType(text); }

// A flat value as text; "refused" where it does not convert.
std::string Decode(std::string_view type_text, std::string_view json) {
  Decoder decoder(MustParse(type_text));
  Scalar out;
  std::string scratch;
  if (!decoder.Decode(MakeJsonValue(json), out, scratch)) return "refused";
  if (out.is_null) return "NULL";
  const Type& type = decoder.type();
  if (type.IsString()) return std::string(out.string);
  auto load = [&]<typename T>(T value) {
    std::memcpy(&value, out.fixed, sizeof(T));
    return value;
  };
  switch (type.kind) {
    case Type::Kind::kDecimal: {
      uint32_t width = type.FixedBytes();
      Int128 value = width == 2   ? load(int16_t{})
                     : width == 4 ? load(int32_t{})
                     : width == 8 ? load(int64_t{})
                                  : load(Int128{});
      return FormatDecimal(value, type.scale);
    }
    case Type::Kind::kHugeint:
      return FormatDecimal(load(Int128{}), 0);
    case Type::Kind::kUuid:
      return FormatUuid(out.fixed);
    case Type::Kind::kDouble:
      return fmt::format("{}", load(double{}));
    case Type::Kind::kFloat:
      return fmt::format("{}", load(float{}));
    case Type::Kind::kUbigint:
      return std::to_string(load(uint64_t{}));
    case Type::Kind::kDate:
      return FormatDate(load(int32_t{}));
    default:
      break;
  }
  switch (type.FixedBytes()) {
    case 1:
      return std::to_string(type.kind == Type::Kind::kTinyint ? load(int8_t{}) : load(uint8_t{}));
    case 2:
      return std::to_string(load(int16_t{}));
    case 4:
      return std::to_string(load(int32_t{}));
    default:
      return std::to_string(load(int64_t{}));
  }
}

TEST(DecodeTest, Integers) {
  EXPECT_EQ(Decode("tinyint", "-128"), "-128");
  EXPECT_EQ(Decode("tinyint", "128"), "refused");
  EXPECT_EQ(Decode("utinyint", "-1"), "refused");
  EXPECT_EQ(Decode("utinyint", "-0"), "0");
  EXPECT_EQ(Decode("bigint", "9223372036854775807"), "9223372036854775807");
  EXPECT_EQ(Decode("bigint", "-9223372036854775808"), "-9223372036854775808");
  EXPECT_EQ(Decode("bigint", "9223372036854775808"), "refused");
  EXPECT_EQ(Decode("ubigint", "18446744073709551615"), "18446744073709551615");
  EXPECT_EQ(Decode("ubigint", "18446744073709551616"), "refused");
  EXPECT_EQ(Decode("hugeint", "170141183460469231731687303715884105727"),
            "170141183460469231731687303715884105727");
  EXPECT_EQ(Decode("hugeint", "-170141183460469231731687303715884105728"),
            "-170141183460469231731687303715884105728");
  EXPECT_EQ(Decode("hugeint", "170141183460469231731687303715884105728"), "refused");
  EXPECT_EQ(Decode("integer", "1e3"), "1000");
  EXPECT_EQ(Decode("integer", "1.50e1"), "15");
  EXPECT_EQ(Decode("integer", "10.0"), "10");
  EXPECT_EQ(Decode("integer", "1.5"), "refused");
  EXPECT_EQ(Decode("integer", "1e-1"), "refused");
  EXPECT_EQ(Decode("integer", "1e999999999999"), "refused");
  EXPECT_EQ(Decode("integer", "0e999999999999"), "0");
  EXPECT_EQ(Decode("integer", "\"42\""), "42");
  EXPECT_EQ(Decode("integer", "\" 42 \""), "42");
  EXPECT_EQ(Decode("integer", "\"4\\u0032\""), "42");
  EXPECT_EQ(Decode("integer", "\"\""), "refused");
  EXPECT_EQ(Decode("integer", "\"-\""), "refused");
  EXPECT_EQ(Decode("integer", "true"), "refused");
  EXPECT_EQ(Decode("integer", "[1]"), "refused");
  EXPECT_EQ(Decode("integer", "null"), "NULL");
}

TEST(DecodeTest, DecimalsAreExact) {
  EXPECT_EQ(Decode("decimal(12,2)", "131.29"), "131.29");
  EXPECT_EQ(Decode("decimal(12,2)", "-0.01"), "-0.01");
  EXPECT_EQ(Decode("decimal(12,2)", "9999999999.99"), "9999999999.99");
  EXPECT_EQ(Decode("decimal(12,2)", "10000000000"), "refused");
  EXPECT_EQ(Decode("decimal(12,2)", "1.005"), "refused");
  EXPECT_EQ(Decode("decimal(12,2)", "1.500"), "1.50");
  EXPECT_EQ(Decode("decimal(12,2)", "1.5e-1"), "0.15");
  EXPECT_EQ(Decode("decimal(12,2)", "1E2"), "100.00");
  EXPECT_EQ(Decode("decimal(12,2)", "000"), "0.00");
  EXPECT_EQ(Decode("decimal(4,2)", "99.99"), "99.99");
  EXPECT_EQ(Decode("decimal(4,2)", "100"), "refused");
  EXPECT_EQ(Decode("decimal(9,0)", "-999999999"), "-999999999");
  EXPECT_EQ(Decode("decimal(18,18)", "0.123456789012345678"), "0.123456789012345678");
  EXPECT_EQ(Decode("decimal(18,4)", "123456789012345678"), "refused");
  EXPECT_EQ(Decode("decimal(38,10)", "1234567890123456789012345678.0123456789"),
            "1234567890123456789012345678.0123456789");
  EXPECT_EQ(Decode("decimal(38,0)", "-99999999999999999999999999999999999999"),
            "-99999999999999999999999999999999999999");
  EXPECT_EQ(Decode("decimal(38,0)", "100000000000000000000000000000000000000"), "refused");
  EXPECT_EQ(Decode("decimal(38,38)", "0.00000000000000000000000000000000000001"),
            "0.00000000000000000000000000000000000001");
  EXPECT_EQ(Decode("decimal(12,2)", "\"abc\""), "refused");
  EXPECT_EQ(Decode("decimal(12,2)", "\"12.5\""), "12.50");
  EXPECT_EQ(Decode("decimal(12,2)", "0.000000000000000000000000000000000000000000000000"), "0.00");
}

// Every value of a small range, against integer arithmetic.
TEST(DecodeTest, DecimalsAgainstArithmetic) {
  for (int cents = -12'345; cents <= 12'345; ++cents) {
    std::string text =
        fmt::format("{}{}.{:02}", cents < 0 ? "-" : "", std::abs(cents) / 100, std::abs(cents) % 100);
    Int128 value;
    ASSERT_TRUE(ParseDecimal(text, 12, 2, value)) << text;
    ASSERT_EQ(static_cast<int64_t>(value), cents);
    ASSERT_TRUE(ParseDecimal(text + "0e0", 30, 5, value)) << text;
    ASSERT_EQ(static_cast<int64_t>(value), cents * 1000);
    ASSERT_TRUE(ParseInteger(text + "e2", INT64_MIN, INT64_MAX, value)) << text;
    ASSERT_EQ(static_cast<int64_t>(value), cents);
    ASSERT_EQ(ParseInteger(text, INT64_MIN, INT64_MAX, value), cents % 100 == 0) << text;
  }
}

TEST(DecodeTest, FloatsAndBooleans) {
  EXPECT_EQ(Decode("double", "0.1"), "0.1");
  EXPECT_EQ(Decode("double", "-1.7976931348623157e308"), "-1.7976931348623157e+308");
  EXPECT_EQ(Decode("double", "1e309"), "refused");
  EXPECT_EQ(Decode("double", "1e-400"), "0");
  EXPECT_EQ(Decode("double", "1" + std::string(400, '0') + "e-1"), "refused");
  EXPECT_EQ(Decode("double", "-0.0" + std::string(400, '0') + "1e1"), "-0");
  EXPECT_EQ(Decode("double", "0.0" + std::string(400, '0') + "1"), "0");
  EXPECT_EQ(Decode("double", "12345678901234567890"), "1.2345678901234567e+19");
  EXPECT_EQ(Decode("double", "\"NaN\""), "nan");
  EXPECT_EQ(Decode("double", "\"-inf\""), "-inf");
  EXPECT_EQ(Decode("double", "\"x\""), "refused");
  EXPECT_EQ(Decode("float", "0.1"), "0.1");
  EXPECT_EQ(Decode("float", "1e39"), "refused");
  EXPECT_EQ(Decode("boolean", "true"), "1");
  EXPECT_EQ(Decode("boolean", "false"), "0");
  EXPECT_EQ(Decode("boolean", "\"Yes\""), "1");
  EXPECT_EQ(Decode("boolean", "1"), "1");
  EXPECT_EQ(Decode("boolean", "2"), "refused");
}

TEST(DecodeTest, Texts) {
  EXPECT_EQ(Decode("varchar", "\"a\\n\\u00e9\""), "a\n\xc3\xa9");
  EXPECT_EQ(Decode("varchar", "1.50"), "1.50");
  EXPECT_EQ(Decode("varchar", "true"), "true");
  EXPECT_EQ(Decode("varchar", "{}"), "refused");
  EXPECT_EQ(Decode("json", "{\"a\" : [1]}"), "{\"a\" : [1]}");
  EXPECT_EQ(Decode("json", "\"x\""), "\"x\"");
  EXPECT_EQ(Decode("json", "null"), "NULL");
  EXPECT_EQ(Decode("enum('a','b')", "\"b\""), "1");
  EXPECT_EQ(Decode("enum('a','b')", "\"B\""), "refused");
  EXPECT_EQ(Decode("enum('a','b')", "1"), "refused");
  EXPECT_EQ(Decode("enum('a','b','c','d','e','f','g','h','i','j')", "\"j\""), "9");
  EXPECT_EQ(Decode("blob", "\"aGk=\""), "hi");
  EXPECT_EQ(Decode("blob", "\"aG\\u006b=\""), "hi");
  EXPECT_EQ(Decode("blob", "\"aGk\""), "refused");
  EXPECT_EQ(Decode("blob", "\"a=k=\""), "refused");
  EXPECT_EQ(Decode("uuid", "\"01234567-89AB-cdef-0123-456789abcdef\""),
            "01234567-89ab-cdef-0123-456789abcdef");
  EXPECT_EQ(Decode("uuid", "\"0123456789abcdef0123456789abcdef\""), "01234567-89ab-cdef-0123-456789abcdef");
  EXPECT_EQ(Decode("uuid", "\"01234567-89ab-cdef-0123-456789abcdeg\""), "refused");
  EXPECT_EQ(Decode("uuid", "\"01234567x89ab-cdef-0123-456789abcdef\""), "refused");
}

TEST(DecodeTest, UuidIsDuckDbsFlippedHugeint) {
  char bytes[16];
  ASSERT_TRUE(ParseUuid("80000000-0000-0000-0000-000000000001", bytes));
  Int128 value;
  std::memcpy(&value, bytes, 16);
  EXPECT_EQ(static_cast<int64_t>(value), 1);
}

TEST(DecodeTest, Times) {
  EXPECT_EQ(Decode("timestamptz", "\"1970-01-01T00:00:00Z\""), "0");
  EXPECT_EQ(Decode("timestamptz", "\"2026-11-21T23:54:56.134Z\""), "1795305296134000");
  EXPECT_EQ(Decode("timestamptz", "\"2026-11-22T00:54:56.134+01:00\""), "1795305296134000");
  EXPECT_EQ(Decode("timestamptz", "\"2026-11-21 23:54:56\""), "1795305296000000");
  EXPECT_EQ(Decode("timestamp", "\"2026-11-21t22:54:56.000001999-0100\""), "1795305296000001");
  EXPECT_EQ(Decode("timestamptz", "\"2016-12-31T23:59:60Z\""), "1483228800000000");
  EXPECT_EQ(Decode("timestamptz", "\"1969-12-31T23:59:59.5Z\""), "-500000");
  EXPECT_EQ(Decode("timestamptz", "\"0000-03-01T00:00:00Z\""), "-62162035200000000");
  for (const char* wrong :
       {"\"2026-02-29T00:00:00Z\"", "\"2026-13-01T00:00:00Z\"", "\"2026-00-01T00:00:00Z\"",
        "\"2026-11-21T24:00:00Z\"", "\"2026-11-21T23:60:00Z\"", "\"2026-11-21T23:54:61Z\"",
        "\"2026-11-21T23:54:56.Z\"", "\"2026-11-21T23:54:56+25:00\"", "\"2026-11-21T23:54:56ZZ\"",
        "\"2026-11-21T23:54\"", "\"2026-11-2aT23:54:56Z\"", "\"2026/11/21T23:54:56Z\"", "1795305296",
        "\"\""}) {
    EXPECT_EQ(Decode("timestamptz", wrong), "refused") << wrong;
  }
  EXPECT_EQ(Decode("date", "\"2024-02-29\""), "2024-02-29");
  EXPECT_EQ(Decode("date", "\"1969-12-31\""), "1969-12-31");
  EXPECT_EQ(Decode("date", "\"2023-02-29\""), "refused");
  EXPECT_EQ(Decode("time", "\"23:59:59.999999\""), "86399999999");
  EXPECT_EQ(Decode("time", "\"24:00:00\""), "refused");
}

TEST(DecodeTest, EveryDayOfTheCalendar) {
  int32_t expected = -719528;  // 0000-01-01
  for (int year = 0; year < 10'000; ++year) {
    for (int month = 1; month <= 12; ++month) {
      for (int day = 1; day <= 31; day += day < 27 ? 26 : 1) {
        int32_t days;
        bool valid = ParseDate(fmt::format("{:04}-{:02}-{:02}", year, month, day), days);
        if (!valid) {
          EXPECT_GE(day, 29);
          break;
        }
        ASSERT_EQ(days, expected) << year << "-" << month << "-" << day;
        expected += day < 27 ? 26 : 1;
      }
    }
  }
}

TEST(DecodeTest, NestedValues) {
  Type type = MustParse("struct(sku varchar, parts struct(x integer)[])[]");
  Decoder decoder(type);
  ColumnBuilder builder(type);
  EXPECT_FALSE(decoder.Append(MakeJsonValue(R"([{"sku":"a","parts":[{"x":1},null]},null])"), builder));
  EXPECT_FALSE(decoder.Append(MakeJsonValue("null"), builder));
  auto error = decoder.Append(MakeJsonValue(R"([{"sku":"b","parts":[{"x":1},{"x":"q"}]}])"), builder);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->path, "/0/parts/1/x");
  EXPECT_EQ(error->message, "\"q\" is not integer");
  EXPECT_EQ(decoder.Append(MakeJsonValue("{}"), builder)->message,
            "{} is not struct(sku varchar, parts struct(x integer)[])[]");
  EXPECT_FALSE(decoder.Append(MakeJsonValue("[]"), builder));
  EXPECT_FALSE(decoder.Append(MakeJsonValue(R"([{"sku":"c"}])"), builder));
  Column column = builder.Take();
  EXPECT_EQ(column.rows, 6u);
  EXPECT_EQ(column.list_ends, (std::vector<uint32_t>{2, 2, 2, 2, 2, 3}));
  EXPECT_TRUE(column.IsNull(1) && column.IsNull(2) && column.IsNull(3) && !column.IsNull(4));
  const Column& element = column.children[0];
  ASSERT_EQ(element.rows, 3u);
  EXPECT_TRUE(element.IsNull(1));
  EXPECT_TRUE(element.children[0].IsNull(1)) << "a NULL struct's members are NULL";
  EXPECT_EQ(element.children[0].String(2), "c");
  EXPECT_EQ(element.children[1].list_ends, (std::vector<uint32_t>{2, 2, 2}));
  EXPECT_EQ(element.children[1].children[0].children[0].rows, 2u);
}

TEST(DecodeTest, DescribesBriefly) {
  EXPECT_EQ(Decoder(MustParse("decimal(12,2)")).Describe(MakeJsonValue("\"abc\"")),
            "\"abc\" is not decimal(12,2)");
  std::string message =
      Decoder(MustParse("date")).Describe(MakeJsonValue("\"" + std::string(58, 'x') + "\xc3\xa9tail\""));
  EXPECT_EQ(message, "\"" + std::string(58, 'x') + "… is not date");
}

TEST(PositionTest, ThereAndBack) {
  auto position = ParsePosition("orders/0:17,1:9");
  ASSERT_TRUE(position);
  EXPECT_EQ(position->stream, "orders");
  EXPECT_EQ(position->offsets, (std::map<uint32_t, uint64_t>{{0, 17}, {1, 9}}));
  EXPECT_EQ(position->ToString(), "orders/0:17,1:9");
  for (const char* wrong :
       {"", "orders", "orders/", "/0:1", "orders/0", "orders/0:", "orders/a:1", "orders/0:1,",
        "orders/0:1,0:2", "orders/0:-1", "orders/0:18446744073709551616"}) {
    EXPECT_FALSE(ParsePosition(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace millstream
