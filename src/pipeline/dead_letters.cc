#include "pipeline/dead_letters.h"

#include <simdjson.h>

#include <boost/json.hpp>
#include <future>

#include "event/assembler.h"
#include "event/json_scan.h"

namespace millstream {
namespace {

/// Letters hold whole events of any form, base64 where they are not text.
StreamShape DeadShape(const std::string& name) {
  StreamShape shape;
  shape.name = name;
  shape.max_event_bytes = 512u << 20;
  return shape;
}

constexpr char kBase64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string Base64(std::string_view bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k)
      group = group << 8 | (i + k < bytes.size() ? static_cast<uint8_t>(bytes[i + k]) : 0);
    for (size_t k = 0; k < 4; ++k) out += i + k <= bytes.size() ? kBase64[group >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

std::string FromBase64(std::string_view text) {
  std::string out;
  uint32_t group = 0;
  int bits = 0;
  for (char c : text) {
    const char* at = std::strchr(kBase64, c);
    if (c == '=' || c == 0 || at == nullptr) break;
    group = group << 6 | static_cast<uint32_t>(at - kBase64);
    if ((bits += 6) >= 8) out += static_cast<char>(group >> (bits -= 8) & 0xff);
  }
  return out;
}

void AppendMember(std::string& out, std::string_view name, std::string_view value) {
  if (value.empty()) return;
  out += ",\"";
  out += name;
  out += "\":";
  AppendJsonString(out, value);
}

DeadLetter ParseLetter(std::string_view json) {
  DeadLetter letter;
  boost::json::error_code error;
  boost::json::value root = boost::json::parse(json, error);
  const boost::json::object* object = error ? nullptr : root.if_object();
  if (object == nullptr) {
    letter.reason = "the letter itself cannot be read";
    return letter;
  }
  auto text = [&](const char* name) -> std::string {
    const boost::json::value* value = object->if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->as_string()) : "";
  };
  auto number = [&](const char* name, int64_t missing) {
    const boost::json::value* value = object->if_contains(name);
    return value != nullptr && value->is_int64() ? value->as_int64() : missing;
  };
  letter.at = text("at");
  letter.code = text("code");
  letter.event = text("event");
  letter.path = text("path");
  letter.reason = text("reason");
  letter.data = object->contains("data_base64") ? FromBase64(text("data_base64")) : text("data");
  letter.pipeline = text("pipeline");
  letter.sink = text("sink");
  letter.filter = text("filter");
  letter.generation = static_cast<uint64_t>(number("generation", 0));
  letter.version = static_cast<uint64_t>(number("version", 0));
  letter.replay = static_cast<uint64_t>(number("replay", 0));
  letter.rebuild = static_cast<uint64_t>(number("rebuild", 0));
  if (object->contains("replay_of")) letter.replay_of = static_cast<uint64_t>(number("replay_of", 0));
  if (const boost::json::value* envelope = object->if_contains("envelope"))
    letter.envelope = boost::json::serialize(*envelope);
  letter.is_cloud_event = object->contains("is_cloud_event");
  letter.partition = number("partition", -1);
  letter.offset = number("offset", -1);
  return letter;
}

}  // namespace

std::string LetterOrigin(const std::string& pipeline, uint64_t generation, const std::string& sink) {
  return fmt::format("dead/{}.{}/{}", pipeline, generation, sink);
}

std::string DeadStreamName(const std::string& stream) { return "_dead_" + stream; }

std::string DeadLetter::ToJson(bool with_data, std::string_view state) const {
  std::string out = fmt::format("{{\"number\":{},\"time_us\":{}", number, time_us);
  AppendMember(out, "state", state);
  AppendMember(out, "at", at);
  AppendMember(out, "code", code);
  AppendMember(out, "event", event);
  AppendMember(out, "path", path);
  AppendMember(out, "reason", reason);
  AppendMember(out, "pipeline", pipeline);
  AppendMember(out, "filter", filter);
  AppendMember(out, "sink", sink);
  if (!pipeline.empty())
    fmt::format_to(std::back_inserter(out), ",\"generation\":{},\"version\":{}", generation, version);
  if (offset >= 0)
    fmt::format_to(std::back_inserter(out), ",\"partition\":{},\"offset\":{}", partition, offset);
  if (replay != 0) fmt::format_to(std::back_inserter(out), ",\"replay\":{}", replay);
  if (rebuild != 0) fmt::format_to(std::back_inserter(out), ",\"rebuild\":{}", rebuild);
  if (replay_of) fmt::format_to(std::back_inserter(out), ",\"replay_of\":{}", *replay_of);
  if (with_data) {
    if (!envelope.empty()) out += ",\"envelope\":" + envelope;
    if (is_cloud_event) out += ",\"is_cloud_event\":true";
    bool is_text = simdjson::validate_utf8(data.data(), data.size());
    AppendMember(out, is_text ? "data" : "data_base64", is_text ? data : Base64(data));
  }
  out += '}';
  return out;
}

Result<uint64_t> CollectedLetters::AppendAndWait(const std::string& /*stream*/,
                                                 const std::vector<DeadLetter>& letters,
                                                 Receipts /*receipts*/) {
  return Collect(letters, std::nullopt);
}

uint64_t CollectedLetters::Collect(const std::vector<DeadLetter>& letters, std::optional<uint64_t> numbers) {
  std::lock_guard lock(mutex_);
  const uint64_t first = numbers.value_or(count_);
  for (uint64_t i = 0; i < letters.size() && letters_.size() < limit_; ++i)
    letters_.push_back(letters[i]), letters_.back().number = first + i;
  count_ += letters.size();
  return first;
}

std::vector<DeadLetter> CollectedLetters::letters() const {
  std::lock_guard lock(mutex_);
  return letters_;
}

uint64_t CollectedLetters::count() const {
  std::lock_guard lock(mutex_);
  return count_;
}

DeadLetter RebuildLetters::Kept(DeadLetter letter) const {
  const std::string shadow = fmt::format("@{}", rebuild_);
  for (std::string* id : {&letter.sink, &letter.at})
    if (id->ends_with(shadow)) id->resize(id->size() - shadow.size());
  letter.rebuild = rebuild_;
  letter.version = 0;  // the cutover will give it a number
  return letter;
}

Result<uint64_t> RebuildLetters::AppendAndWait(const std::string& stream,
                                               const std::vector<DeadLetter>& letters, Receipts receipts) {
  std::vector<DeadLetter> kept;
  for (const DeadLetter& letter : letters) kept.push_back(Kept(letter));
  ASSIGN_OR_FAIL(uint64_t first, store_.AppendAndWait(stream, kept, std::move(receipts)));
  return Collect(kept, first);
}

Status DeadLetters::Open(const std::string& stream) {
  auto opened = log_.OpenStream(DeadStreamName(stream), 1);
  return opened ? OkStatus() : opened.error();
}

void DeadLetters::Append(const std::string& stream, const std::vector<DeadLetter>& letters, Receipts receipts,
                         std::function<void(Result<uint64_t>)> done) {
  Stream* target = log_.Find(DeadStreamName(stream));
  CHECK(target != nullptr);
  StreamShape shape = DeadShape(target->name());
  Assembler assembler(shape);
  for (const DeadLetter& letter : letters) {
    std::string json = letter.ToJson(true);
    json.reserve(json.size() + 64);
    Envelope envelope;
    envelope.type = letter.code;
    envelope.source = letter.at;
    auto rejection = assembler.Add(envelope, json);
    CHECK(!rejection);
  }
  target->partition(0).Append(assembler.Finish(0, std::move(receipts)), AckMode::kDurable,
                              [done = std::move(done)](Result<Appended> appended) {
                                if (!appended) return done(Fail(appended.error()));
                                done(appended->first_offset);
                              });
}

Result<uint64_t> DeadLetters::AppendAndWait(const std::string& stream, const std::vector<DeadLetter>& letters,
                                            Receipts receipts) {
  std::promise<Result<uint64_t>> promise;
  Append(stream, letters, std::move(receipts),
         [&](Result<uint64_t> first) { promise.set_value(std::move(first)); });
  return promise.get_future().get();
}

std::optional<Receipt> DeadLetters::FindReceipt(const std::string& stream, const std::string& origin,
                                                const std::string& part) const {
  Stream* target = log_.Find(DeadStreamName(stream));
  return target == nullptr ? std::nullopt : target->partition(0).FindReceipt(origin, part);
}

std::optional<uint64_t> DeadLetters::FindFirst(const std::string& stream, const std::string& origin,
                                               const std::string& part) const {
  Stream* target = log_.Find(DeadStreamName(stream));
  auto placed = target == nullptr ? std::nullopt : target->partition(0).FindPlacedReceipt(origin, part);
  return placed ? std::optional(placed->offset) : std::nullopt;
}

Status DeadLetters::Each(const std::string& stream, uint64_t from,
                         const std::function<bool(DeadLetter&)>& take) {
  Stream* dead = log_.Find(DeadStreamName(stream));
  if (dead == nullptr) return NotFound("no stream '{}'", stream);
  from = std::max(from, dead->partition(0).bounds().start);
  ASSIGN_OR_RETURN(auto reader, dead->partition(0).Read(from));
  while (true) {
    ASSIGN_OR_RETURN(auto batch, reader->Next());
    if (batch == nullptr) return OkStatus();
    ASSIGN_OR_RETURN(const Column* data, batch->Data());
    for (uint32_t row = 0; row < batch->count(); ++row) {
      uint64_t number = batch->place().base_offset + row;
      if (number < from) continue;
      DeadLetter letter = ParseLetter(data->String(row));
      letter.number = number;
      letter.time_us = batch->IngestedAtUs(row);
      if (!take(letter)) return OkStatus();
    }
  }
}

Result<uint64_t> DeadLetters::FirstSince(const std::string& stream, const Selection& selection) {
  Stream* dead = log_.Find(DeadStreamName(stream));
  if (dead == nullptr) return Fail(NotFound("no stream '{}'", stream));
  if (!selection.since_us) return dead->partition(0).bounds().start;
  return dead->partition(0).OffsetForTime(*selection.since_us);
}

bool DeadLetters::Selection::Takes(const DeadLetter& letter) const {
  return (code.empty() || letter.code == code) && (at.empty() || letter.at == at) &&
         (!since_us || letter.time_us >= *since_us) && (!wants || wants(letter.number));
}

Result<DeadLetters::Listing> DeadLetters::List(const std::string& stream, const Selection& selection) {
  Listing listing;
  ASSIGN_OR_FAIL(uint64_t from, FirstSince(stream, selection));
  listing.total = Count(stream);
  std::deque<DeadLetter> newest;
  FAIL_IF_ERROR(Each(stream, from, [&](DeadLetter& letter) {
    if (!selection.Takes(letter)) return true;
    letter.data.clear();
    newest.push_back(std::move(letter));
    if (newest.size() > selection.limit) newest.pop_front();
    return true;
  }));
  listing.letters.assign(std::make_move_iterator(newest.begin()), std::make_move_iterator(newest.end()));
  return listing;
}

Result<DeadLetter> DeadLetters::Get(const std::string& stream, uint64_t number) {
  Stream* dead = log_.Find(DeadStreamName(stream));
  if (dead == nullptr) return Fail(NotFound("no stream '{}'", stream));
  Bounds bounds = dead->partition(0).bounds();
  if (bounds.start == bounds.durable_end) return Fail(NotFound("stream '{}' has no dead letters", stream));
  if (number < bounds.start || number >= bounds.durable_end)
    return Fail(NotFound("no dead letter {} in stream '{}'; it has {} to {}", number, stream, bounds.start,
                         bounds.durable_end - 1));
  ASSIGN_OR_FAIL(auto reader, dead->partition(0).Read(number));
  ASSIGN_OR_FAIL(auto batch, reader->Next());
  if (batch == nullptr) return Fail(NotFound("no dead letter {} in stream '{}'", number, stream));
  ASSIGN_OR_FAIL(const Column* data, batch->Data());
  auto row = static_cast<uint32_t>(number - batch->place().base_offset);
  DeadLetter letter = ParseLetter(data->String(row));
  letter.number = number;
  letter.time_us = batch->IngestedAtUs(row);
  return letter;
}

Result<std::set<uint64_t>> DeadLetters::OffsetsOf(const std::string& stream, const DeadLetter& like,
                                                  uint64_t from) {
  std::set<uint64_t> offsets;
  if (log_.Find(DeadStreamName(stream)) == nullptr) return offsets;
  FAIL_IF_ERROR(Each(stream, 0, [&](DeadLetter& letter) {
    const bool counts = letter.rebuild == 0 ? letter.number >= like.number : letter.rebuild == like.rebuild;
    if (counts && letter.pipeline == like.pipeline && letter.generation == like.generation &&
        letter.sink == like.sink && letter.replay == like.replay && letter.partition == like.partition &&
        letter.offset >= static_cast<int64_t>(from))
      offsets.insert(static_cast<uint64_t>(letter.offset));
    return true;
  }));
  return offsets;
}

uint64_t DeadLetters::Count(const std::string& stream) const {
  Stream* dead = log_.Find(DeadStreamName(stream));
  if (dead == nullptr) return 0;
  Bounds bounds = dead->partition(0).bounds();
  return bounds.durable_end - bounds.start;
}

}  // namespace millstream
