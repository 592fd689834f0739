// EventBatch on any payload: kCorrupt or values, never out of bounds. The first two bytes are the count and
// the codec.
#include "base/fuzz_target.h"
#include "event/batch.h"

FUZZ_TARGET(event_batch_fuzz, text) {
  using namespace millstream;
  if (text.size() < 2) return;
  static const std::vector<Field> fields = {*ParseField("id", "varchar"), *ParseField("n", "bigint"),
                                            *ParseField("e", "enum('a','b')"),
                                            *ParseField("l", "struct(x decimal(4,2))[]")};
  BatchPlace place;
  place.count = static_cast<uint8_t>(text[0]);
  auto batch =
      EventBatch::Open(place, text[1] % 2 == 0 ? Codec::kNone : Codec::kLz4, std::string(text.substr(2)));
  if (!batch) return;
  auto touch = [&](const Result<const Column*>& column) {
    if (!column || !(*column)->type.IsString()) return;
    for (uint32_t row = 0; row < place.count; ++row) {
      if (!(*column)->IsNull(row)) (*column)->String(row);
    }
  };
  for (const Field& field : fields) touch((*batch)->FieldColumn(field));
  for (int i = 0; i < kAttributes; ++i) touch((*batch)->AttributeColumn(static_cast<Attribute>(i)));
  touch((*batch)->Data());
}
