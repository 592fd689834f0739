#include "server/inflate.h"

#include <zlib.h>
#include <zstd.h>

#include "base/text.h"

namespace millstream {
namespace {

constexpr size_t kStepBytes = 256 << 10;
constexpr int kGzipWindowBits = 15 + 16;
constexpr int kZstdWindowLogMax = 27;  // 128 MiB, what the zstd tool takes by default

Status TooLarge(uint64_t max_bytes) { return Exhausted("the body inflates to more than {} (limits: inflated); send it in pieces", FormatBytes(max_bytes)); }

Result<BodyBuffer> InflateGzip(std::string_view bytes, uint64_t max_bytes) {
  z_stream stream{};
  if (inflateInit2(&stream, kGzipWindowBits) != Z_OK) return Fail(Exhausted("out of memory"));
  std::unique_ptr<z_stream, int (*)(z_stream*)> end(&stream, inflateEnd);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  BodyBuffer out;
  int result = Z_OK;
  while (result != Z_STREAM_END || stream.avail_in > 0) {
    if (result == Z_STREAM_END && inflateReset(&stream) != Z_OK) return Fail(Internal("inflateReset"));
    stream.next_out = reinterpret_cast<Bytef*>(out.Prepare(kStepBytes));
    stream.avail_out = kStepBytes;
    result = inflate(&stream, Z_NO_FLUSH);
    if (result != Z_OK && result != Z_STREAM_END)
      return Fail(Invalid("the body is not whole gzip: {}", stream.msg != nullptr ? stream.msg : "it ends too early"));
    out.Commit(kStepBytes - stream.avail_out);
    if (out.size() > max_bytes) return Fail(TooLarge(max_bytes));
  }
  return out;
}

Result<BodyBuffer> InflateZstd(std::string_view bytes, uint64_t max_bytes) {
  std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(), ZSTD_freeDCtx);
  if (!context) return Fail(Exhausted("out of memory"));
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kZstdWindowLogMax);
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  BodyBuffer out;
  size_t hint = 1;
  while (true) {
    ZSTD_outBuffer to{out.Prepare(kStepBytes), kStepBytes, 0};
    hint = ZSTD_decompressStream(context.get(), &to, &in);
    if (ZSTD_isError(hint)) return Fail(Invalid("the body is not zstd: {}", ZSTD_getErrorName(hint)));
    out.Commit(to.pos);
    if (out.size() > max_bytes) return Fail(TooLarge(max_bytes));
    if (in.pos == in.size && to.pos < kStepBytes) break;
  }
  if (hint != 0) return Fail(Invalid("the body is not whole zstd: it ends too early"));
  return out;
}

}  // namespace

bool KnowsEncoding(std::string_view encoding) {
  return encoding.empty() || encoding == "identity" || encoding == "gzip" || encoding == "x-gzip" || encoding == "zstd";
}

Result<BodyBuffer> Inflate(std::string_view encoding, std::string_view bytes, uint64_t max_bytes) {
  if (encoding == "gzip" || encoding == "x-gzip") return InflateGzip(bytes, max_bytes);
  if (encoding == "zstd") return InflateZstd(bytes, max_bytes);
  if (!KnowsEncoding(encoding)) return Fail(NotFound("Content-Encoding '{}' is not known; use gzip or zstd", encoding));
  return BodyBuffer(bytes);
}

}  // namespace millstream
