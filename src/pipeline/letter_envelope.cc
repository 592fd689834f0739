#include "pipeline/letter_envelope.h"

#include <boost/json.hpp>

#include "base/text.h"

namespace millstream {

std::string EnvelopeJson(const Envelope& envelope) {
  std::string out;
  auto name = [&](std::string_view text) {
    out += out.empty() ? '{' : ',';
    AppendJsonString(out, text);
    out += ':';
  };
  auto text = [&](std::string_view attribute, const std::optional<std::string_view>& value) {
    if (!value) return;
    name(attribute);
    AppendJsonString(out, *value);
  };
  text("id", envelope.id);
  text("source", envelope.source);
  text("type", envelope.type);
  text("subject", envelope.subject);
  text("dataschema", envelope.dataschema);
  text("partitionkey", envelope.partition_key);
  text("op", envelope.op);
  if (envelope.time_us) text("time", FormatTime(*envelope.time_us));
  if (envelope.extensions) {
    name("extensions");
    out += *envelope.extensions;
  }
  if (!out.empty()) out += '}';
  return out;
}

Result<Envelope> EnvelopeOf(EventBatch& batch, uint32_t row) {
  Envelope envelope;
  const std::pair<Attribute, std::optional<std::string_view>*> texts[] = {
      {Attribute::kId, &envelope.id},
      {Attribute::kSource, &envelope.source},
      {Attribute::kType, &envelope.type},
      {Attribute::kSubject, &envelope.subject},
      {Attribute::kKey, &envelope.partition_key},
      {Attribute::kDataschema, &envelope.dataschema},
      {Attribute::kOp, &envelope.op},
      {Attribute::kExtensions, &envelope.extensions}};
  for (const auto& [attribute, to] : texts) {
    ASSIGN_OR_FAIL(const Column* column, batch.AttributeColumn(attribute));
    if (!column->IsNull(row)) *to = column->String(row);
  }
  ASSIGN_OR_FAIL(const Column* time, batch.AttributeColumn(Attribute::kTime));
  if (!time->IsNull(row)) envelope.time_us = time->Fixed<int64_t>(row);
  return envelope;
}

LetterEnvelope::LetterEnvelope(std::string_view json, const std::string& replay_of) {
  boost::json::error_code error;
  boost::json::value root = boost::json::parse(json.empty() ? std::string_view("{}") : json, error);
  const boost::json::object* object = error ? nullptr : root.if_object();
  auto text = [&](const char* name) -> std::optional<std::string> {
    const boost::json::value* value = object == nullptr ? nullptr : object->if_contains(name);
    return value != nullptr && value->is_string() ? std::optional(std::string(value->as_string()))
                                                  : std::nullopt;
  };
  id_ = text("id"), source_ = text("source"), type_ = text("type"), subject_ = text("subject");
  dataschema_ = text("dataschema"), partition_key_ = text("partitionkey"), op_ = text("op");
  if (auto time = text("time"))
    if (auto us = ParseTimeUs(*time)) time_us_ = *us;
  const boost::json::value* extensions = object == nullptr ? nullptr : object->if_contains("extensions");
  boost::json::object others;
  if (extensions != nullptr && extensions->is_object()) others = extensions->as_object();
  others.erase("replayof");  // of an earlier replay
  extensions_ = WithReplayOf(boost::json::serialize(others), replay_of);
}

Envelope LetterEnvelope::view() const {
  Envelope envelope;
  envelope.id = id_, envelope.source = source_, envelope.type = type_, envelope.subject = subject_;
  envelope.dataschema = dataschema_, envelope.partition_key = partition_key_, envelope.op = op_;
  envelope.time_us = time_us_;
  envelope.extensions = extensions_;
  return envelope;
}

std::string WithReplayOf(std::string_view extensions, const std::string& replay_of) {
  std::string out(extensions.empty() ? std::string_view("{}") : extensions);
  out.pop_back();
  if (out.size() > 1) out += ',';
  out += "\"replayof\":";
  AppendJsonString(out, replay_of);
  return out + '}';
}

}  // namespace millstream
