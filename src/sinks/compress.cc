#include "sinks/compress.h"

#include <zlib.h>
#include <zstd.h>

namespace millstream {
namespace {

Result<std::string> Gzip(std::string_view bytes) {
  z_stream stream{};
  constexpr int kGzipWindow = 15 + 16;  // zlib: 16 more asks for the gzip wrapper
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) != Z_OK)
    return Fail(Exhausted("no memory to compress {} bytes", bytes.size()));
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  int answer = deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  if (answer != Z_STREAM_END) return Fail(Internal("gzip of {} bytes answered {}", bytes.size(), answer));
  return out;
}

Result<std::string> Zstd(std::string_view bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  size_t size = ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), ZSTD_CLEVEL_DEFAULT);
  if (ZSTD_isError(size)) return Fail(Exhausted("zstd: {}", ZSTD_getErrorName(size)));
  out.resize(size);
  return out;
}

}  // namespace

Compression CompressionOf(std::string_view option, std::string_view path) {
  if (option == "gzip" || (option.empty() && path.ends_with(".gz"))) return Compression::kGzip;
  if (option == "zstd" || (option.empty() && path.ends_with(".zst"))) return Compression::kZstd;
  return Compression::kNone;
}

Result<std::string> Compress(std::string_view bytes, Compression compression) {
  if (compression == Compression::kGzip) return Gzip(bytes);
  if (compression == Compression::kZstd) return Zstd(bytes);
  return std::string(bytes);
}

}  // namespace millstream
