#include "event/record_splitter.h"

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <random>

#include "event/decompress.h"
#include "event/json_scan.h"

namespace millstream {
namespace {

// Records as "LINE:TEXT", fed in chunks of `chunk` bytes; an error as its message.
std::vector<std::string> Split(SplitOptions options, std::string_view input, size_t chunk) {
  std::vector<std::string> lines;
  RecordSplitter splitter(std::move(options));
  size_t at = 0;
  for (;;) {
    auto record = splitter.Next();
    if (!record) {
      lines.push_back("error: " + record.error().message());
      return lines;
    }
    if (*record) {
      EXPECT_EQ((*record)->index, lines.size());
      std::string line = fmt::format("{}:{}", (*record)->line, (*record)->text);
      if (!(*record)->fault.empty()) line += " !" + (*record)->fault;
      lines.push_back(line);
    } else if (at < input.size()) {
      splitter.Feed(input.substr(at, chunk));
      at += chunk;
      if (at >= input.size()) splitter.End();
    } else {
      splitter.End();
      auto last = splitter.Next();
      EXPECT_TRUE(last && !*last);
      return lines;
    }
  }
}

void Expect(SplitOptions options, std::string_view input, const std::vector<std::string>& expected) {
  for (size_t chunk : {size_t{1}, size_t{2}, size_t{7}, size_t{1000}}) {
    EXPECT_EQ(Split(options, input, chunk), expected) << input << " in chunks of " << chunk;
  }
}

SplitOptions Format(RecordFormat format, std::string records = "") {
  SplitOptions options;
  options.format = format;
  options.records = std::move(records);
  return options;
}

TEST(RecordSplitterTest, Ndjson) {
  Expect(Format(RecordFormat::kNdjson), "\xEF\xBB\xBF{\"a\":1}\r\n\n  \n {\"b\":\"x\"} \nbad",
         {"1:{\"a\":1}", "4:{\"b\":\"x\"}", "5:bad"});
  Expect(Format(RecordFormat::kNdjson), "", {});
  Expect(Format(RecordFormat::kNdjson), "1\n", {"1:1"});
}

TEST(RecordSplitterTest, JsonArraysAndValues) {
  SplitOptions json = Format(RecordFormat::kJson);
  Expect(json, "[{\"a\":[1,2]},\n \"x,]\\\"\" , 3,\ntrue,[[]],null]",
         {"1:{\"a\":[1,2]}", "2:\"x,]\\\"\"", "2:3", "3:true", "3:[[]]", "3:null"});
  Expect(json, " [ ] \n", {});
  Expect(json, "{\n\"a\":1\n}\n{\"b\":2}{\"c\":3} 4",
         {"1:{\n\"a\":1\n}", "4:{\"b\":2}", "4:{\"c\":3}", "4:4"});
  Expect(json, "\xEF\xBB\xBF[1]", {"1:1"});
  Expect(json, "[1\n 2]", {"1:1", "error: line 2: expected ',' or ']' after an element of the array"});
  Expect(json, "[1,", {"1:1", "error: line 1: the array is not closed"});
  Expect(json, "[1,]", {"1:1", "error: line 1: expected a value at ']'"});
  Expect(json, "[{\"a\":1", {"error: line 1: the text ends inside a value that begins here"});
  Expect(json, "[1] 2", {"1:1", "error: line 1: text follows the end of the array"});
  Expect(json, "[,1]", {"error: line 1: expected a value at ','"});
}

TEST(RecordSplitterTest, RecordsOfADocument) {
  SplitOptions json = Format(RecordFormat::kJson, "/entry/*/resource");
  Expect(json, "{\"entry\":[{\"resource\":{\"id\":1}},{},\n{\"resource\":2}]}", {"1:{\"id\":1}", "1:2"});
  Expect(json, "{\"entry\":\n[}", {"error: line 2: not JSON: expected a value"});
  // Several documents after each other, and an array as one.
  Expect(json, "{\"entry\":[{\"resource\":\n1}]}\n{\"entry\":[{\"resource\":2}]}{\n]",
         {"1:1", "3:2", "error: line 4: not JSON: expected a name in quotes"});
  Expect(Format(RecordFormat::kJson, "/*/r"), "[{\"r\":1},\n{\"r\":2}]\n[{\"r\":3}]", {"1:1", "1:2", "3:3"});
  Expect(Format(RecordFormat::kNdjson, "/r/*"), "{\"r\":[1,2]}\n{\"x\":0}\n{]\n{\"r\":[3]}",
         {"1:1", "1:2", "3:{] !expected a name in quotes at byte 1", "4:3"});
}

TEST(RecordSplitterTest, Csv) {
  SplitOptions csv = Format(RecordFormat::kCsv);
  for (auto [name, type] : {std::pair("n", "bigint"), std::pair("d", "decimal(10,2)"),
                            std::pair("b", "boolean"), std::pair("j", "json")}) {
    csv.contract.fields.push_back(*ParseField(name, type));
  }
  Expect(csv, "n,d,name,b,j\r\n007,1.50,\"x, \"\"y\"\"\nz\",TRUE,\"{\"\"a\"\":1}\"\r\n\n-5,,\"\",maybe,{\n",
         {R"(2:{"n":"007","d":1.50,"name":"x, \"y\"\nz","b":true,"j":{"a":1}})",
          R"(5:{"n":-5,"d":null,"name":"","b":"maybe","j":"{"})"});
  Expect(csv, "n,d\n1\n2,3,4\n5,6",
         {"2:1 !line 2 has 1 fields; the header has 2", "3:2,3,4 !line 3 has 3 fields; the header has 2",
          "4:{\"n\":5,\"d\":6}"});
  Expect(csv, "n\n\"a\"b\n1\n", {"2:\"a\"b !line 2: text follows a closing quote", "3:{\"n\":1}"});
  Expect(csv, "n\n\"a\n1\n", {"2:\"a\n1\n !line 2: a quote is not closed"});
  SplitOptions plain = Format(RecordFormat::kCsv);
  ASSERT_TRUE(SetCsvOption(plain.csv, "header", "false").ok());
  ASSERT_TRUE(SetCsvOption(plain.csv, "delimiter", ";").ok());
  ASSERT_TRUE(SetCsvOption(plain.csv, "quote", "'").ok());
  ASSERT_TRUE(SetCsvOption(plain.csv, "null", "NA").ok());
  Expect(plain, "1;'a;b';NA;", {R"(1:{"column0":"1","column1":"a;b","column2":null,"column3":""})"});
  EXPECT_FALSE(SetCsvOption(plain.csv, "quotes", "'").ok());
  EXPECT_FALSE(SetCsvOption(plain.csv, "delimiter", "ab").ok());
}

TEST(RecordSplitterTest, BoundsMemory) {
  for (RecordFormat format : {RecordFormat::kNdjson, RecordFormat::kJson, RecordFormat::kCsv}) {
    SplitOptions options = Format(format);
    options.max_record_bytes = 1000;
    RecordSplitter splitter(options);
    Status status;
    for (int i = 0; i < 100 && status.ok(); ++i) {
      splitter.Feed(std::string(100, i == 0 ? '"' : 'x'));
      auto record = splitter.Next();
      if (!record) status = record.error();
    }
    EXPECT_EQ(status.code(), Code::kInvalid) << static_cast<int>(format);
  }
}

std::string Gzip(std::string_view text) {
  z_stream stream = {};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(compressBound(text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string Zstd(std::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 1));
  return out;
}

TEST(InflaterTest, InflatesAnyChunks) {
  std::string text;
  for (int i = 0; i < 50'000; ++i) text += std::to_string(i * 7919);
  for (Compression compression : {Compression::kNone, Compression::kGzip, Compression::kZstd}) {
    auto pack = [&](std::string_view part) {
      return compression == Compression::kGzip   ? Gzip(part)
             : compression == Compression::kZstd ? Zstd(part)
                                                 : std::string(part);
    };
    std::string packed =
        pack(std::string_view(text).substr(0, 1000)) + pack(std::string_view(text).substr(1000));
    EXPECT_EQ(*InflateAll(compression, packed, text.size()), text);
    EXPECT_EQ(InflateAll(compression, packed, text.size() - 1).error().code(), Code::kExhausted);
    EXPECT_EQ(*InflateAll(compression, "", 10), "");
    for (size_t chunk : {size_t{1}, size_t{13}, size_t{4096}}) {
      auto inflater = Inflater::Make(compression);
      std::string out;
      for (size_t at = 0; at < packed.size(); at += chunk) {
        std::string_view in = std::string_view(packed).substr(at, chunk);
        size_t before;
        do {
          before = out.size();
          ASSERT_TRUE(inflater->Inflate(in, out, 100).ok());
        } while (!in.empty() || out.size() == before + 100);
      }
      EXPECT_EQ(out, text);
      EXPECT_TRUE(inflater->Finish().ok());
    }
    if (compression == Compression::kNone) continue;
    EXPECT_EQ(InflateAll(compression, std::string_view(packed).substr(0, packed.size() - 9), text.size())
                  .error()
                  .code(),
              Code::kInvalid);
    packed[packed.size() / 2] = static_cast<char>(packed[packed.size() / 2] ^ 0x55);
    packed[4] = static_cast<char>(packed[4] ^ 0xFF);
    EXPECT_FALSE(InflateAll(compression, packed, text.size() * 2));
  }
}

TEST(InflaterTest, Names) {
  EXPECT_EQ(CompressionOf("a.ndjson.gz"), Compression::kGzip);
  EXPECT_EQ(CompressionOf("a.zst"), Compression::kZstd);
  EXPECT_EQ(*ParseCompression("gzip"), Compression::kGzip);
  EXPECT_FALSE(ParseCompression("br"));
  EXPECT_EQ(CompressionOfBytes(Gzip("{}")), Compression::kGzip);
  EXPECT_EQ(CompressionOfBytes(Zstd("{}")), Compression::kZstd);
  EXPECT_EQ(CompressionOfBytes("{\"id\":1}"), Compression::kNone);
  EXPECT_EQ(CompressionOfBytes("\x1F"), Compression::kNone);
  EXPECT_EQ(RecordFormatOf("x/a.csv.gz"), RecordFormat::kCsv);
  EXPECT_EQ(RecordFormatOf("a.json"), RecordFormat::kJson);
  EXPECT_EQ(RecordFormatOf("a.log"), RecordFormat::kNdjson);
}

}  // namespace
}  // namespace millstream
