#include "sql/key_set.h"

#include <bit>

#include "sql/duckdb_face.h"
#include "sql/row_buffer.h"

namespace millstream {

struct KeySet::State : HashSet {
  std::shared_ptr<HashSets> registry;
  uint64_t id = 0;
};

std::unique_ptr<KeySet> KeySet::Make(Database& database) {
  auto state = std::make_shared<State>();
  state->registry = database.state_->hash_sets;
  state->id = state->registry->Add(state);
  return std::unique_ptr<KeySet>(new KeySet(std::move(state)));
}

KeySet::~KeySet() { state_->registry->Remove(state_->id); }

std::string KeySet::Sql(const std::string& hash) const {
  return fmt::format("_among({}, {})", state_->id, hash);
}

std::string KeySet::Among(const std::string& recent) const {
  return RowBuffer::Narrow(recent, "among", fmt::format("{}", state_->id));
}

void KeySet::Set(std::span<const uint64_t> hashes) {
  std::vector<uint64_t>& places = state_->places;
  places.assign(std::bit_ceil(4 * hashes.size() + 4), 0);
  state_->has_zero = false;
  for (uint64_t hash : hashes) {
    if (hash == 0) state_->has_zero = true;
    size_t at = hash & (places.size() - 1);
    while (places[at] != 0 && places[at] != hash) at = (at + 1) & (places.size() - 1);
    places[at] = hash;
  }
}

}  // namespace millstream
