#include "server/inflate.h"

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

namespace millstream {
namespace {

std::string Gzip(std::string_view bytes) {
  z_stream stream{};
  CHECK(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&stream, bytes.size()), 0);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(out.size() - stream.avail_out);
  deflateEnd(&stream);
  return out;
}

std::string Zstd(std::string_view bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), 0);
  out.resize(ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 3));
  return out;
}

std::string Sample(size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += std::to_string(text.size() * 7919) + ",";
  text.resize(bytes);
  return text;
}

TEST(InflateTest, ThereAndBack) {
  for (size_t size : {0, 1, 1000, 256 << 10, 1'000'000}) {
    std::string text = Sample(size);
    auto gzip = Inflate("gzip", Gzip(text), 2'000'000);
    ASSERT_TRUE(gzip) << size << gzip.error().message();
    EXPECT_EQ(gzip->view(), text);
    auto zstd = Inflate("zstd", Zstd(text), 2'000'000);
    ASSERT_TRUE(zstd) << size << zstd.error().message();
    EXPECT_EQ(zstd->view(), text);
    for (size_t i = 0; i < BodyBuffer::kTail && size > 0; ++i) EXPECT_EQ(zstd->view().data()[size + i], 0);
  }
}

TEST(InflateTest, SeveralMembersAreOneBody) {
  EXPECT_EQ(Inflate("gzip", Gzip("abc") + Gzip("") + Gzip("def"), 100)->view(), "abcdef");
  EXPECT_EQ(Inflate("zstd", Zstd("abc") + Zstd("def"), 100)->view(), "abcdef");
}

TEST(InflateTest, BombsAreStoppedEarly) {
  std::string zeros(200 << 20, 0);
  for (auto [encoding, bytes] : {std::pair("gzip", Gzip(zeros)), std::pair("zstd", Zstd(zeros))}) {
    auto result = Inflate(encoding, bytes, 1 << 20);
    ASSERT_FALSE(result) << encoding;
    EXPECT_EQ(result.error().code(), Code::kExhausted);
  }
  EXPECT_TRUE(Inflate("gzip", Gzip(zeros.substr(0, 1000)), 1000));
  EXPECT_FALSE(Inflate("gzip", Gzip(zeros.substr(0, 1001)), 1000));
}

TEST(InflateTest, BrokenBytesAreToldFromWholeOnes) {
  std::string text = Sample(10'000);
  for (auto [encoding, bytes] : {std::pair("gzip", Gzip(text)), std::pair("zstd", Zstd(text))}) {
    for (std::string broken : {bytes.substr(0, bytes.size() - 1), bytes.substr(0, bytes.size() / 2), std::string("not compressed"), bytes + "x"}) {
      auto result = Inflate(encoding, broken, 1 << 20);
      ASSERT_FALSE(result) << encoding;
      EXPECT_EQ(result.error().code(), Code::kInvalid);
    }
  }
  EXPECT_EQ(Inflate("br", "x", 100).error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace millstream
