// EventBatch on any payload: kCorrupt or values, never out of bounds. The first two bytes are the count and
// the codec.
#include "event/batch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millstream;
  if (size < 2) return 0;
  static const std::vector<Field> fields = {*ParseField("id", "varchar"), *ParseField("n", "bigint"),
                                            *ParseField("e", "enum('a','b')"),
                                            *ParseField("l", "struct(x decimal(4,2))[]")};
  BatchPlace place;
  place.count = data[0];
  std::string payload(reinterpret_cast<const char*>(data) + 2, size - 2);
  auto batch = EventBatch::Open(place, data[1] % 2 == 0 ? Codec::kNone : Codec::kLz4, std::move(payload));
  if (!batch) return 0;
  auto touch = [&](const Result<const Column*>& column) {
    if (!column || !(*column)->type.IsString()) return;
    for (uint32_t row = 0; row < place.count; ++row) {
      if (!(*column)->IsNull(row)) (*column)->String(row);
    }
  };
  for (const Field& field : fields) touch((*batch)->FieldColumn(field));
  for (int i = 0; i < kAttributes; ++i) touch((*batch)->AttributeColumn(static_cast<Attribute>(i)));
  touch((*batch)->Data());
  return 0;
}
