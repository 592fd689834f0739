#include "pipeline/stream_sequencer.h"

#include <xxhash.h>

#include "event/assembler.h"

namespace millstream {

KeySequencer::Key KeyOf(std::string_view key) { return XXH3_64bits(key.data(), key.size()); }

Result<StreamSequencer::Keys> KeysOf(EventBatch& batch) {
  ASSIGN_OR_FAIL(const Column* column, batch.AttributeColumn(Attribute::kKey));
  StreamSequencer::Keys keys;
  keys.reserve(batch.count());
  for (uint32_t row = 0; row < batch.count(); ++row)
    keys.push_back(KeyOf(column->IsNull(row) ? std::string_view() : column->String(row)));
  return keys;
}

Result<StreamSequencer::Keys> KeysOf(const EncodedBatch& batch) {
  if (batch.count == 0) return StreamSequencer::Keys();
  BatchPlace place;
  place.count = batch.count;
  ASSIGN_OR_FAIL(std::unique_ptr<EventBatch> opened, EventBatch::Open(place, batch.codec, batch.payload));
  return KeysOf(*opened);
}

void StreamSequencer::Append(uint32_t partition, EncodedBatch batch, AckMode mode, Partition::Done done) {
  {
    std::lock_guard lock(mutex_);  // held while it is queued: TurnOn looks at what was queued before it
    if (!is_on_) return stream_.partition(partition).Append(std::move(batch), mode, std::move(done));
  }
  auto keys = KeysOf(batch);
  if (!keys) return done(Fail(keys.error()));
  {
    std::unique_lock lock(mutex_);
    KeySequencer& machine = partitions_[partition];
    released_.wait(lock, [&] { return machine.MayQueue(*keys); });
    machine.Queue(*keys);
  }
  AppendQueued(partition, std::move(batch), mode, std::move(*keys), std::move(done));
}

void StreamSequencer::AppendQueued(uint32_t partition, EncodedBatch batch, AckMode mode, Keys keys,
                                   Partition::Done done) {
  auto landed = [self = shared_from_this(), partition, keys = std::move(keys),
                 done = std::move(done)](Result<Appended> appended) {
    self->With(partition, [&](KeySequencer& machine) {
      if (appended)
        machine.Land(keys, appended->first_offset);
      else
        machine.Fail(keys);
    });
    done(std::move(appended));
  };
  stream_.partition(partition).Append(std::move(batch), mode, std::move(landed));
}

Status StreamSequencer::TurnOn(bool quiet) {
  {
    std::lock_guard lock(mutex_);
    for (uint32_t p = 0; !is_on_ && p < stream_.partitions(); ++p)
      partitions_[p] = KeySequencer(quiet ? stream_.partition(p).bounds().end : UINT64_MAX);
    is_on_ = true;
  }
  for (uint32_t p = 0; p < stream_.partitions(); ++p) {  // what was queued unseen lies before this
    if (With(p, [](KeySequencer& machine) { return machine.floor(); }) != UINT64_MAX) continue;
    ASSIGN_OR_RETURN(Appended mark, stream_.partition(p).AppendAndWait(EncodeReceipts({})));
    With(p, [&](KeySequencer& machine) { machine.LowerFloor(mark.first_offset); });
  }
  return OkStatus();
}

Status StreamSequencer::LearnFrom(uint32_t partition, uint64_t from, const std::stop_token& stop) {
  uint64_t floor = With(partition, [](KeySequencer& machine) { return machine.floor(); });
  if (from >= floor) return OkStatus();
  std::unordered_map<Key, uint64_t> last;
  ASSIGN_OR_RETURN(auto reader, stream_.partition(partition).Read(from));
  while (true) {
    if (stop.stop_requested()) return Cancelled("the server is stopping");
    ASSIGN_OR_RETURN(std::unique_ptr<EventBatch> batch, reader->Next());
    if (batch == nullptr || batch->place().base_offset >= floor) break;
    ASSIGN_OR_RETURN(Keys keys, KeysOf(*batch));
    for (uint32_t row = 0; row < batch->count(); ++row) {
      uint64_t offset = batch->place().base_offset + row;
      if (offset >= from && offset < floor) last[keys[row]] = offset;
    }
    if (last.size() > KeySequencer::kMostKeys)
      return Exhausted("more than {} keys have events since offset {}", KeySequencer::kMostKeys, from);
  }
  return With(partition, [&](KeySequencer& machine) {
    if (machine.floor() != floor) return Unavailable("the keys changed meanwhile; send the command again");
    for (const auto& [key, offset] : last) machine.Learn(key, offset);
    machine.LowerFloor(from);
    return OkStatus();
  });
}

}  // namespace millstream
