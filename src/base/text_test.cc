#include "base/text.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/random.h"

namespace millstream {
namespace {

TEST(TextTest, Durations) {
  EXPECT_EQ(ParseDurationUs("250ms").value(), 250'000);
  EXPECT_EQ(ParseDurationUs("30s").value(), 30'000'000);
  EXPECT_EQ(ParseDurationUs("5m").value(), 300'000'000);
  EXPECT_EQ(ParseDurationUs("24h").value(), 86'400'000'000);
  EXPECT_EQ(ParseDurationUs("30d").value(), 2'592'000'000'000);
  for (auto text :
       {"", "5", "m", "-5s", "5 s", "1.5s", "5sec", "99999999999999999999s", "9223372036854775807d"}) {
    auto parsed = ParseDurationUs(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code(), Code::kInvalid);
  }
}

TEST(TextTest, DurationsForPeople) {
  EXPECT_EQ(FormatDuration(0), "0 us");
  EXPECT_EQ(FormatDuration(999), "999 us");
  EXPECT_EQ(FormatDuration(3'000), "3 ms");
  EXPECT_EQ(FormatDuration(1'500), "1.5 ms");
  EXPECT_EQ(FormatDuration(412'300), "412 ms");
  EXPECT_EQ(FormatDuration(999'700), "1 s");
  EXPECT_EQ(FormatDuration(1'200'000), "1.2 s");
  EXPECT_EQ(FormatDuration(59'900'000), "1m");
  EXPECT_EQ(FormatDuration(65'000'000), "1m5s");
  EXPECT_EQ(FormatDuration((3 * 3600 + 12 * 60) * 1'000'000ll), "3h12m");
  EXPECT_EQ(FormatDuration(50 * 3600 * 1'000'000ll), "2d2h");
  EXPECT_EQ(FormatDuration(-3'000), "-3 ms");
  EXPECT_EQ(FormatDuration(std::numeric_limits<int64_t>::min())[0], '-');
}

TEST(TextTest, Bytes) {
  EXPECT_EQ(ParseBytes("512").value(), 512u);
  EXPECT_EQ(ParseBytes("64KiB").value(), 65'536u);
  EXPECT_EQ(ParseBytes("16MiB").value(), 16u << 20);
  EXPECT_EQ(ParseBytes("10GiB").value(), 10ull << 30);
  EXPECT_EQ(ParseBytes("16777215TiB").value(), 16'777'215ull << 40);
  for (auto text : {"", "KiB", "64KB", "64 KiB", "-1", "1.5MiB", "16777216TiB", "18446744073709551616"}) {
    EXPECT_FALSE(ParseBytes(text)) << text;
  }
}

TEST(TextTest, BytesForPeople) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1.0 KiB");
  EXPECT_EQ(FormatBytes(3'250'586), "3.1 MiB");
  EXPECT_EQ(FormatBytes(412ull << 20), "412 MiB");
  EXPECT_EQ(FormatBytes((1ull << 30) - 1), "1.0 GiB");
  EXPECT_EQ(FormatBytes(std::numeric_limits<uint64_t>::max()), "16 EiB");
}

TEST(TextTest, Shares) {
  EXPECT_DOUBLE_EQ(ParseShare("5%").value(), 0.05);
  EXPECT_DOUBLE_EQ(ParseShare("0.25%").value(), 0.0025);
  EXPECT_DOUBLE_EQ(ParseShare("100%").value(), 1);
  for (auto text : {"", "5", "%", "101%", "-1%", "1.%", ".5%", "1e1%", "nan%"})
    EXPECT_FALSE(ParseShare(text)) << text;
}

TEST(TextTest, Times) {
  EXPECT_EQ(ParseTimeUs("1970-01-01T00:00:00Z").value(), 0);
  EXPECT_EQ(ParseTimeUs("2026-11-22T10:00:00.5+01:00").value(), 1'795'338'000'500'000);
  EXPECT_EQ(ParseTimeUs("2026-11-22t09:00:00.500000999z").value(), 1'795'338'000'500'000);
  EXPECT_EQ(ParseTimeUs("2026-11-22 09:00:00.5Z").value(), 1'795'338'000'500'000);
  EXPECT_EQ(ParseTimeUs("1969-12-31T23:59:59.999999Z").value(), -1);
  EXPECT_EQ(ParseTimeUs("2016-12-31T23:59:60Z").value(), ParseTimeUs("2017-01-01T00:00:00Z").value());
  EXPECT_EQ(ParseTimeUs("2024-02-29T00:00:00-00:30").value(), ParseTimeUs("2024-02-29T00:30:00Z").value());
  for (auto text :
       {"", "2026-11-22", "2026-11-22T10:00:00", "2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z",
        "2026-11-22T24:00:00Z", "2026-11-22T10:60:00Z", "2026-11-22T10:00:61Z", "2026-11-22T10:00:00.Z",
        "2026-11-22T10:00:00+0100", "2026-11-22T10:00:00+24:00", "2026-11-22T10:00:00Zx", "2h"}) {
    EXPECT_FALSE(ParseTimeUs(text)) << text;
  }
}

TEST(TextTest, TimesAreWrittenAndReadBack) {
  EXPECT_EQ(FormatTime(0), "1970-01-01T00:00:00Z");
  EXPECT_EQ(FormatTime(1'795'338'000'500'000), "2026-11-22T09:00:00.5Z");
  EXPECT_EQ(FormatTime(1'795'338'000'123'456), "2026-11-22T09:00:00.123456Z");
  EXPECT_EQ(FormatTime(-1), "1969-12-31T23:59:59.999999Z");
  EXPECT_EQ(FormatTime(std::numeric_limits<int64_t>::max()), "9999-12-31T23:59:59.999999Z");
  EXPECT_EQ(FormatTime(std::numeric_limits<int64_t>::min()), "0000-01-01T00:00:00Z");
  uint64_t state = 1;
  for (int i = 0; i < 10'000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    int64_t us = static_cast<int64_t>(state >> 8) % 253'402'300'800'000'000 - 62'167'219'200'000'000;
    ASSERT_EQ(ParseTimeUs(FormatTime(us)).value(), us);
  }
}

TEST(TextTest, Counts) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1'000), "1,000");
  EXPECT_EQ(FormatCount(1'240'118), "1,240,118");
}

TEST(TextTest, Names) {
  for (auto name : {"a", "orders", "orders_2", "old_orders", "type", "date", "inputs"}) {
    EXPECT_TRUE(CheckName(name).ok()) << CheckName(name).message();
  }
  for (auto name : {"", "_control", "Orders", "2nd", "a-b", "a b", "ä", "select", "all", "analyse", "with",
                    "window", "table", "left", "join", "tablesample", "verbose", "input"}) {
    EXPECT_EQ(CheckName(name).code(), Code::kInvalid) << name;
  }
  EXPECT_TRUE(CheckName(std::string(63, 'a')).ok());
  EXPECT_FALSE(CheckName(std::string(64, 'a')).ok());
  EXPECT_NE(CheckName("select").message().find("word of SQL"), std::string::npos);
}

TEST(TextTest, SplitTrimHex) {
  EXPECT_EQ(Split("", ','), std::vector<std::string_view>({""}));
  EXPECT_EQ(Split("a,,b,", ','), std::vector<std::string_view>({"a", "", "b", ""}));
  EXPECT_EQ(Trim(" \t a b\r\n"), "a b");
  EXPECT_EQ(Trim(" \n"), "");
  EXPECT_EQ(Hex(std::string_view("\x00\xff\x1a", 3)), "00ff1a");
}

TEST(TextTest, JsonStrings) {
  auto json = [](std::string_view text) {
    std::string out;
    AppendJsonString(out, text);
    return out;
  };
  EXPECT_EQ(json(""), R"("")");
  EXPECT_EQ(json("a\"b\\c/\n\r\t\x01\x7f"), R"("a\"b\\c/\n\r\t\u0001\u007f")");
  EXPECT_EQ(json("ü€𝄞"), "\"ü€𝄞\"");
  for (auto bad : {"\xff", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80",
                   "\xe2\x82"}) {
    std::string out = json(bad);
    EXPECT_EQ(out.substr(0, 4), "\"\xEF\xBF\xBD") << out;
    EXPECT_EQ(out.size(), 2 + 3 * std::string_view(bad).size());
  }
  EXPECT_EQ(json("\xe2\x82z"), "\"\xEF\xBF\xBD\xEF\xBF\xBDz\"");
}

TEST(TextTest, CountsLinesAsALoopWould) {
  SeededRandom random(7);
  for (int round = 0; round < 2000; ++round) {
    // Long lines and short ones, many of them blank.
    std::string text;
    for (uint64_t size = random.Below(120); text.size() < size;) {
      text.append(random.Below(40), 'x');
      text += "\n\n\n \t\r\x01"[random.Below(8)];
    }
    LineCount expected;
    std::string_view rest = text;
    while (!rest.empty()) {
      std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(line.size() + 1, rest.size()));
      ++expected.lines;
      expected.full += line.find_first_not_of(" \t\r") != std::string_view::npos;
    }
    LineCount count = CountLines(text);
    ASSERT_EQ(count.lines, expected.lines) << text;
    ASSERT_EQ(count.full, expected.full) << text;
  }
}

}  // namespace
}  // namespace millstream
