#include "pipeline/control_log.h"

#include "event/assembler.h"

namespace millstream {
namespace {

constexpr uint32_t kMaxEventBytes = 64 << 20;  // a whole project lies in one

StreamShape ControlShape() {
  StreamShape shape;
  shape.name = kControlStream;
  shape.max_event_bytes = kMaxEventBytes;
  return shape;
}

}  // namespace

Result<std::unique_ptr<ControlLog>> ControlLog::Open(Log& log, Clock& clock) {
  ASSIGN_OR_FAIL(Stream * stream, log.OpenStream(kControlStream, 1));
  auto control = std::unique_ptr<ControlLog>(new ControlLog(stream->partition(0), clock));
  ASSIGN_OR_FAIL(auto reader, stream->partition(0).Read(0));
  while (true) {
    ASSIGN_OR_FAIL(auto batch, reader->Next());
    if (batch == nullptr) break;
    ASSIGN_OR_FAIL(const Column* data, batch->Data());
    for (uint32_t row = 0; row < batch->count(); ++row) FAIL_IF_ERROR(control->catalog_.Replay(data->String(row)));
  }
  return control;
}

Status ControlLog::Append(const std::function<std::string(const Catalog&, int64_t)>& make) {
  std::lock_guard lock(mutex_);
  std::string event = make(catalog_, clock_.WallUs());
  StreamShape shape = ControlShape();
  Assembler assembler(shape);
  event.reserve(event.size() + 64);
  Envelope envelope;
  if (auto rejection = assembler.Add(envelope, event)) return Invalid("the configuration cannot be kept: {}", rejection->message);
  ASSIGN_OR_RETURN(Appended appended, partition_.AppendAndWait(assembler.Finish(0, {})));
  (void)appended;
  return catalog_.Replay(event);
}

Status ControlLog::AppendPlain(const std::string& kind, const std::string& item, const std::string& who) {
  return Append([&](const Catalog& catalog, int64_t now_us) { return catalog.PlainEvent(kind, item, who, now_us); });
}

Catalog ControlLog::catalog() const {
  std::lock_guard lock(mutex_);
  return catalog_;
}

}  // namespace millstream
