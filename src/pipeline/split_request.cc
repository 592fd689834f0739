// StreamIngest::Split: the events of a request, by the format of its body.
#include "event/cloudevents.h"
#include "event/json_scan.h"
#include "pipeline/gatherer.h"

namespace millstream {

void StreamIngest::Split(const IngestRequest& request, Gatherer& gatherer) {
  PreparedIngest& prepared = gatherer.prepared();
  const uint64_t first = request.origin ? request.origin->first : 0;
  const bool in_bytes = request.origin && request.origin->in_bytes;
  std::string_view body = request.body;
  auto add = [&](const Envelope& envelope, std::string_view data, uint64_t line) {
    uint64_t reached = in_bytes ? request.body.size() - body.size() : prepared.events + 1;
    Gatherer::Place place{prepared.events, line, request.origin ? first + reached : 0, {}};
    if (auto rejection = gatherer.Add(envelope, data, place))
      gatherer.Quarantine(place, data, &envelope, std::move(*rejection));
  };
  // An event of a file has the file as its subject and its place as its id where nothing else is given.
  Envelope own = request.envelope;
  const bool id_is_place = !request.subject.empty() && !own.id;
  if (!request.subject.empty() && !own.subject) own.subject = request.subject;
  auto add_own = [&](std::string_view data, uint64_t line) {
    if (id_is_place) own.id = gatherer.IdOf(line);
    add(own, data, line);
  };
  auto refuse = [&](Status status) { prepared.refusal = IngestRefusal{std::move(status), {}}; };
  switch (request.format) {
    case BodyFormat::kNdjson: {
      uint64_t line = request.first_line;
      while (!body.empty()) {
        size_t end = body.find('\n');
        std::string_view text = body.substr(0, end);
        body.remove_prefix(end == std::string_view::npos ? body.size() : end + 1);
        if (!text.empty() && text.back() == '\r') text.remove_suffix(1);
        if (text.find_first_not_of(" \t\r") != std::string_view::npos) add_own(text, line);
        ++line;
      }
      return;
    }
    case BodyFormat::kCloudEventBinary:
      add_own(body, 0);
      return;
    case BodyFormat::kJson: {
      size_t begin = body.find_first_not_of(" \t\r\n");
      if (begin == std::string_view::npos || body[begin] != '[') {
        if (begin != std::string_view::npos) add_own(body, 0);
        return;
      }
      if (auto error = ValidateJson(body, config_.shape.max_depth + 1))
        return refuse(
            Invalid("the body is not a JSON array: {} at byte {}", error->message, error->position));
      uint64_t line = request.subject.empty() ? 0 : request.first_line;
      std::vector<std::string_view> elements = JsonElements(body).value_or(std::vector<std::string_view>{});
      for (std::string_view element : elements) {
        add_own(element, line);
        if (line > 0) ++line;
      }
      return;
    }
    case BodyFormat::kCloudEvent:
    case BodyFormat::kCloudEventBatch: {
      std::vector<std::string_view> elements{body};
      if (request.format == BodyFormat::kCloudEventBatch) {
        if (auto error = ValidateJson(body, config_.shape.max_depth + 2))
          return refuse(Invalid("the body is not a JSON array of CloudEvents: {} at byte {}", error->message,
                                error->position));
        auto found = JsonElements(body);
        if (!found) return refuse(Invalid("a CloudEvents batch is a JSON array"));
        elements = std::move(*found);
      }
      for (std::string_view element : elements) {
        auto event = ParseCloudEvent(element);
        if (event) {
          add(event->envelope, event->data, 0);
        } else if (event.error().code() == Code::kInvalid &&
                   (request.format == BodyFormat::kCloudEventBatch || !config_.reject)) {
          Gatherer::Place place{prepared.events++, 0, 0, {}};
          gatherer.Quarantine(place, element, nullptr, {"json", "", event.error().message()});
        } else {
          return refuse(event.error());
        }
      }
      return;
    }
  }
}

}  // namespace millstream
