// CloudEvents 1.0: events of the JSON format and of HTTP's binary mode to envelope and data, and the way
// back.
//
// Place: floor 1. Used by pipeline/ingest (structured and batched bodies), server/ (binary mode, event
// feeds), cli/. `data` is kept byte for byte: a slice of the text. The extension attribute `partitionkey` is
// the partition key, `op` (c, u, d or r) the kind of change; the others stay together as one JSON object. An
// event without data has the data `null`. Threads: stateless. Ownership: a CloudEvent views the text that it
// was read from, and what had to be unescaped in itself; it may be moved. Failure: kInvalid says what is
// wrong with the event. kConflict: its data is not JSON (`data_base64`, another `datacontenttype`), for which
// HTTP answers 415.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "event/batch.h"
#include "event/envelope.h"

namespace millstream {

struct CloudEvent {
  Envelope envelope;
  std::string_view data;
  std::deque<std::string> keep;  // what the views point to where it is not in the text
};

/// One event of the JSON format ("structured mode"); checks the whole text.
Result<CloudEvent> ParseCloudEvent(std::string_view text);

using HeaderList = std::vector<std::pair<std::string_view, std::string_view>>;
/// An event of HTTP's binary mode: attributes from `ce-` headers, of any case and percent-encoded, data from
/// the body.
Result<CloudEvent> ReadCloudEventHeaders(const HeaderList& headers, std::string_view body);

/// True for application/json, text/json and types that end in +json, whatever their parameters.
bool IsJsonContentType(std::string_view content_type);

/// Writes events of a batch in the JSON format, with the extensions partition, offset and ingestedat. The
/// batch must outlive it.
class CloudEventWriter {
 public:
  /// `source` and `type` stand where an event has none; its id is then its position, its time the append
  /// stamp.
  static Result<CloudEventWriter> Make(EventBatch& batch, std::string source, std::string type);
  void Append(std::string& out, uint32_t row) const;

 private:
  EventBatch* batch_ = nullptr;
  std::string source_, type_;
  const Column* columns_[kAttributes] = {};
  const Column* data_ = nullptr;
};

}  // namespace millstream
