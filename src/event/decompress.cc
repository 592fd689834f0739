#include "event/decompress.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>

#include "base/text.h"

namespace millstream {
namespace {

constexpr size_t kStepBytes = 256 << 10;
constexpr int kGzipWindow = 15 + 16;   // zlib: a gzip header is expected
constexpr int kZstdWindowLogMax = 27;  // 128 MiB, zstd's own default

// Counts what came out against the bound.
class Bound {
 public:
  explicit Bound(uint64_t max_bytes) : left_(max_bytes) {}
  /// How much may be asked for: one more byte than is left, to tell "exactly full" from "too much".
  size_t Room(size_t most) const {
    return static_cast<size_t>(std::min<uint64_t>(most, left_ == UINT64_MAX ? left_ : left_ + 1));
  }
  Status Take(size_t bytes) {
    if (bytes > left_) return Exhausted("more than the allowed bytes come out when inflated");
    if (left_ != UINT64_MAX) left_ -= bytes;
    return OkStatus();
  }

 private:
  uint64_t left_;
};

class PlainInflater final : public Inflater {
 public:
  explicit PlainInflater(uint64_t max_bytes) : bound_(max_bytes) {}
  Status Inflate(std::string_view& in, std::string& out, size_t most) override {
    size_t taken = std::min(in.size(), most);
    RETURN_IF_ERROR(bound_.Take(taken));
    out += in.substr(0, taken);
    in.remove_prefix(taken);
    return OkStatus();
  }
  Status Finish() const override { return OkStatus(); }

 private:
  Bound bound_;
};

class GzipInflater final : public Inflater {
 public:
  explicit GzipInflater(uint64_t max_bytes) : bound_(max_bytes) {
    CHECK(inflateInit2(&stream_, kGzipWindow) == Z_OK);
  }
  ~GzipInflater() override { inflateEnd(&stream_); }

  Status Inflate(std::string_view& in, std::string& out, size_t most) override {
    size_t begin = out.size();
    size_t room = bound_.Room(most);
    out.resize(begin + room);
    size_t made = 0;
    Status status;
    while (made < room) {
      if (between_members_) {
        if (in.empty()) break;
        if (inflateReset(&stream_) != Z_OK) status = Internal("zlib: inflateReset failed");
        between_members_ = false;
      }
      size_t offered = std::min<size_t>(in.size(), UINT32_MAX);
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
      stream_.avail_in = static_cast<uInt>(offered);
      stream_.next_out = reinterpret_cast<Bytef*>(out.data() + begin + made);
      size_t space = std::min<size_t>(room - made, UINT32_MAX);
      stream_.avail_out = static_cast<uInt>(space);
      int code = inflate(&stream_, Z_NO_FLUSH);
      in.remove_prefix(offered - stream_.avail_in);
      started_ = started_ || offered > stream_.avail_in;
      made += space - stream_.avail_out;
      if (code == Z_STREAM_END) {
        between_members_ = true;
      } else if (code == Z_BUF_ERROR || (code == Z_OK && in.empty() && stream_.avail_out > 0)) {
        break;  // wants more input
      } else if (code != Z_OK) {
        status = Invalid("not sound gzip: {}", stream_.msg != nullptr ? stream_.msg : "damaged");
        break;
      }
    }
    out.resize(begin + made);
    RETURN_IF_ERROR(status);
    return bound_.Take(made);
  }

  Status Finish() const override {
    return between_members_ || !started_ ? OkStatus() : Invalid("the gzip stream breaks off in the middle");
  }

 private:
  z_stream stream_ = {};
  Bound bound_;
  bool between_members_ = false;
  bool started_ = false;
};

class ZstdInflater final : public Inflater {
 public:
  explicit ZstdInflater(uint64_t max_bytes) : stream_(ZSTD_createDStream()), bound_(max_bytes) {
    CHECK(stream_ != nullptr);
    ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, kZstdWindowLogMax);
  }
  ~ZstdInflater() override { ZSTD_freeDStream(stream_); }

  Status Inflate(std::string_view& in, std::string& out, size_t most) override {
    size_t begin = out.size();
    size_t room = bound_.Room(most);
    out.resize(begin + room);
    ZSTD_outBuffer to{out.data() + begin, room, 0};
    Status status;
    while (to.pos < to.size) {
      ZSTD_inBuffer from{in.data(), in.size(), 0};
      size_t before = to.pos;
      size_t code = ZSTD_decompressStream(stream_, &to, &from);
      if (ZSTD_isError(code)) {
        status = Invalid("not sound zstd: {}", ZSTD_getErrorName(code));
        break;
      }
      in.remove_prefix(from.pos);
      if (from.pos > 0 || to.pos > before) inside_ = code != 0;
      if (from.pos == 0 && to.pos == before) break;  // wants more input
    }
    out.resize(begin + to.pos);
    RETURN_IF_ERROR(status);
    return bound_.Take(to.pos);
  }

  Status Finish() const override {
    return inside_ ? Invalid("the zstd stream breaks off in the middle") : OkStatus();
  }

 private:
  ZSTD_DStream* stream_;
  Bound bound_;
  bool inside_ = false;
};

}  // namespace

Result<Compression> ParseCompression(std::string_view name) {
  if (name == "none" || name == "identity") return Compression::kNone;
  if (name == "gzip" || name == "x-gzip") return Compression::kGzip;
  if (name == "zstd") return Compression::kZstd;
  return Fail(Invalid("'{}' is no compression that is known; expected gzip, zstd or none", name));
}

Compression CompressionOf(std::string_view path) {
  if (path.ends_with(".gz")) return Compression::kGzip;
  if (path.ends_with(".zst") || path.ends_with(".zstd")) return Compression::kZstd;
  return Compression::kNone;
}

Compression CompressionOfBytes(std::string_view head) {
  if (head.starts_with("\x1F\x8B")) return Compression::kGzip;          // RFC 1952, 2.3.1
  if (head.starts_with("\x28\xB5\x2F\xFD")) return Compression::kZstd;  // RFC 8878, 3.1.1
  return Compression::kNone;
}

std::unique_ptr<Inflater> Inflater::Make(Compression compression, uint64_t max_bytes) {
  switch (compression) {
    case Compression::kGzip:
      return std::make_unique<GzipInflater>(max_bytes);
    case Compression::kZstd:
      return std::make_unique<ZstdInflater>(max_bytes);
    case Compression::kNone:
      break;
  }
  return std::make_unique<PlainInflater>(max_bytes);
}

Result<std::string> InflateAll(Compression compression, std::string_view in, uint64_t max_bytes) {
  auto inflater = Inflater::Make(compression, max_bytes);
  std::string out;
  for (;;) {
    size_t before = out.size();
    FAIL_IF_ERROR(inflater->Inflate(in, out, kStepBytes));
    if (in.empty() && out.size() < before + kStepBytes) break;
  }
  FAIL_IF_ERROR(inflater->Finish());
  return out;
}

}  // namespace millstream
