#include "event/payload.h"

#include <lz4.h>

#include "base/crc32c.h"
#include "event/column_codec.h"
#include "event/wire.h"

namespace millstream {
namespace {

constexpr uint8_t kCompressed = 1;
constexpr size_t kCompressMin = 64;  // shorter sections stay plain
constexpr uint64_t kSectionsMax = 1 << 16;

class PayloadWriter {
 public:
  explicit PayloadWriter(Codec codec) : codec_(codec) {}

  /// Ends the section whose bytes the caller has appended to body().
  void Add(SectionKind kind, std::string_view extra) {
    size_t at = bodies_.size();
    bool compressed = codec_ == Codec::kLz4 && body_.size() >= kCompressMin && Compress();
    if (!compressed) bodies_ += body_;
    directory_ += static_cast<char>(kind);
    directory_ += static_cast<char>(compressed ? kCompressed : 0);
    PutText(directory_, extra);
    PutVarint(directory_, body_.size());
    PutVarint(directory_, bodies_.size() - at);
    ++sections_;
    body_.clear();
  }

  std::string& body() { return body_; }
  uint32_t sections() const { return sections_; }

  std::string Finish() {
    std::string payload;
    payload.reserve(directory_.size() + bodies_.size() + 8);
    payload += static_cast<char>(kPayloadVersion);
    PutVarint(payload, sections_);
    payload += directory_;
    payload += bodies_;
    return payload;
  }

 private:
  // Compresses the body to the end of bodies_; false, and nothing is added, if that saves less than an
  // eighth.
  bool Compress() {
    size_t worth = body_.size() - body_.size() / 8;
    std::unique_ptr<char[]> compressed(new char[worth]);
    int size = LZ4_compress_default(body_.data(), compressed.get(), static_cast<int>(body_.size()),
                                    static_cast<int>(worth));
    if (size > 0) bodies_.append(compressed.get(), static_cast<size_t>(size));
    return size > 0;
  }

  Codec codec_;
  std::string directory_, bodies_, body_;
  uint32_t sections_ = 0;
};

void WriteReceipts(const Receipts& receipts, uint32_t count, std::string& out) {
  PutVarint(out, receipts.size());
  for (const Receipt& receipt : receipts) {
    bool all = receipt.events == UINT32_MAX;
    PutText(out, receipt.origin);
    PutText(out, receipt.part);
    PutText(out, receipt.position);
    PutVarint(out, all ? 0 : receipt.first_event);
    PutVarint(out, all ? count : receipt.events);
  }
}

std::string FieldExtra(const Field& field) {
  std::string extra;
  PutFixed<uint64_t>(extra, field.Fingerprint());
  PutText(extra, field.name);
  PutText(extra, field.type.ToString());
  return extra;
}

Type MakeType(Type::Kind kind) {
  Type type;
  type.kind = kind;
  return type;
}

}  // namespace

const Type& AttributeType(Attribute attribute) {
  static const Type kVarchar = MakeType(Type::Kind::kVarchar);
  static const Type kTimestamptz = MakeType(Type::Kind::kTimestamptz);
  return attribute == Attribute::kTime ? kTimestamptz : kVarchar;
}

EncodedBatch EncodeBatch(const BatchColumns& columns, Codec codec) {
  PayloadWriter writer(codec);
  if (columns.receipts != nullptr && !columns.receipts->empty()) {
    WriteReceipts(*columns.receipts, columns.count, writer.body());
    writer.Add(SectionKind::kReceipts, "");
  }
  if (!columns.stamps.empty()) {
    PutVarint(writer.body(), columns.stamps.size());
    for (const StampRun& run : columns.stamps) {
      PutVarint(writer.body(), run.first_event);
      PutFixed<int64_t>(writer.body(), run.ingested_at_us);
    }
    writer.Add(SectionKind::kStamps, "");
  }
  if (!columns.erased.empty()) {
    writer.body() = columns.erased;
    writer.Add(SectionKind::kErased, "");
  }
  uint32_t first_field = writer.sections();
  for (const auto& [field, column] : columns.fields) {
    EncodeColumn(*column, writer.body());
    writer.Add(SectionKind::kField, FieldExtra(*field));
  }
  for (int i = 0; i < kAttributes; ++i) {
    if (columns.attributes[i] == nullptr && columns.attribute_fields[i] < 0) continue;
    if (columns.attribute_fields[i] >= 0) {
      EncodeReference(first_field + static_cast<uint32_t>(columns.attribute_fields[i]), writer.body());
    } else {
      EncodeColumn(*columns.attributes[i], writer.body());
    }
    char attribute = static_cast<char>(i);
    writer.Add(SectionKind::kAttribute, std::string_view(&attribute, 1));
  }
  EncodedBatch batch;
  if (columns.receipts != nullptr) batch.receipts = *columns.receipts;
  for (Receipt& receipt : batch.receipts) {
    if (receipt.events == UINT32_MAX) receipt.first_event = 0, receipt.events = columns.count;
  }
  if (columns.count > 0) {
    EncodeColumn(*columns.data, writer.body());
    writer.Add(SectionKind::kData, "");
    batch.data_bytes = columns.data->bytes.size();
  }
  batch.count = columns.count;
  batch.codec = codec;
  batch.payload = writer.Finish();
  batch.payload_crc = Crc32c(batch.payload);
  return batch;
}

EncodedBatch EncodeReceipts(Receipts receipts) {
  BatchColumns columns;
  columns.receipts = &receipts;
  return EncodeBatch(columns, Codec::kNone);
}

Result<std::vector<SectionEntry>> ReadDirectory(std::string_view payload) {
  ByteReader reader(payload);
  auto version = reader.Fixed<uint8_t>();
  if (!reader.ok() || version != kPayloadVersion) {
    return Fail(Corrupt("the payload has version {}; this program reads {}", version, kPayloadVersion));
  }
  uint64_t count = reader.Varint();
  if (!reader.ok() || count > kSectionsMax || count > payload.size()) {
    return Fail(Corrupt("the payload's directory is damaged"));
  }
  std::vector<SectionEntry> entries(count);
  std::vector<uint64_t> stored(count);
  for (uint64_t i = 0; i < count; ++i) {
    SectionEntry& entry = entries[i];
    entry.kind = reader.Fixed<uint8_t>();
    auto flags = reader.Fixed<uint8_t>();
    entry.compressed = flags == kCompressed;
    entry.extra = reader.Text();
    entry.raw_bytes = reader.Varint();
    stored[i] = reader.Varint();
    bool sound = reader.ok() && flags <= kCompressed && entry.raw_bytes <= kSectionBytesMax;
    if (!entry.compressed) sound = sound && entry.raw_bytes == stored[i];
    // LZ4 gives at most 255 bytes for one.
    if (entry.compressed) sound = sound && entry.raw_bytes / 256 <= stored[i];
    if (!sound) return Fail(Corrupt("entry {} of the payload's directory is damaged", i));
  }
  for (uint64_t i = 0; i < count; ++i) entries[i].stored = reader.Bytes(stored[i]);
  if (!reader.ok() || !reader.rest().empty()) return Fail(Corrupt("the payload's sections do not fill it"));
  return entries;
}

Result<FieldEntry> ReadFieldEntry(std::string_view extra) {
  ByteReader reader(extra);
  FieldEntry entry;
  entry.fingerprint = reader.Fixed<uint64_t>();
  entry.name = reader.Text();
  entry.type = reader.Text();
  if (!reader.ok()) return Fail(Corrupt("a field's entry in the payload's directory is damaged"));
  return entry;
}

Result<Receipts> ReadReceipts(std::string_view body, uint32_t count) {
  ByteReader reader(body);
  uint64_t receipts = reader.Varint();
  if (receipts > body.size()) return Fail(Corrupt("the payload's receipts are damaged"));
  Receipts result(receipts);
  for (Receipt& receipt : result) {
    receipt.origin = reader.Text();
    receipt.part = reader.Text();
    receipt.position = reader.Text();
    uint64_t first = reader.Varint(), events = reader.Varint();
    if (!reader.ok() || first > count || events > count - first) {
      return Fail(Corrupt("the payload's receipts are damaged"));
    }
    receipt.first_event = static_cast<uint32_t>(first), receipt.events = static_cast<uint32_t>(events);
  }
  if (!reader.ok() || !reader.rest().empty()) return Fail(Corrupt("the payload's receipts are damaged"));
  return result;
}

Result<std::vector<StampRun>> ReadStamps(std::string_view body, uint32_t count) {
  ByteReader reader(body);
  uint64_t runs = reader.Varint();
  if (!reader.ok() || runs == 0 || runs > count || runs > body.size())
    return Fail(Corrupt("the payload's stamps are damaged"));
  std::vector<StampRun> result(runs);
  uint64_t least = 0;
  for (StampRun& run : result) {
    uint64_t first = reader.Varint();
    run.ingested_at_us = reader.Fixed<int64_t>();
    if (!reader.ok() || first < least || first >= count || (least == 0 && first != 0)) {
      return Fail(Corrupt("the payload's stamps are damaged"));
    }
    run.first_event = static_cast<uint32_t>(first);
    least = first + 1;
  }
  if (!reader.rest().empty()) return Fail(Corrupt("the payload's stamps are damaged"));
  return result;
}

}  // namespace millstream
