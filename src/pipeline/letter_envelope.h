// LetterEnvelope: an event's attributes in its dead letter, so that it can be sent again as it came.
//
// Place: floor 5. JSON with CloudEvents' names; what the event did not give is left out. Values; one thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "event/batch.h"
#include "event/envelope.h"

namespace millstream {

/// `{"id":"a","type":"order.placed"}`, with `extensions` as an object in it; "" if nothing is given.
std::string EnvelopeJson(const Envelope& envelope);
/// The attributes of a gathered event; views into the batch.
Result<Envelope> EnvelopeOf(EventBatch& batch, uint32_t row);

class LetterEnvelope {
 public:
  /// Of what EnvelopeJson wrote. `replay_of`, STREAM/NUMBER of the letter, becomes an extension attribute.
  LetterEnvelope(std::string_view json, const std::string& replay_of);
  /// Views into this.
  Envelope view() const;

 private:
  std::optional<std::string> id_, source_, type_, subject_, dataschema_, partition_key_, op_;
  std::optional<int64_t> time_us_;
  std::string extensions_;
};

/// `extensions`, a JSON object or "", with the attribute `replayof`.
std::string WithReplayOf(std::string_view extensions, const std::string& replay_of);

}  // namespace millstream
