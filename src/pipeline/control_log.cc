#include "pipeline/control_log.h"

#include "event/assembler.h"
#include "event/json_scan.h"

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
    for (uint32_t row = 0; row < batch->count(); ++row)
      FAIL_IF_ERROR(control->catalog_.Replay(data->String(row)));
  }
  return control;
}

Status ControlLog::Append(ControlEvent event) {
  std::lock_guard lock(mutex_);
  event.when_us = clock_.WallUs();
  if (event.kind == ControlKind::kStarted || event.kind == ControlKind::kStopped)
    event.program = MILLSTREAM_VERSION;
  std::string json = catalog_.Seal(event);
  json.reserve(json.size() + kJsonPadding);
  StreamShape shape = ControlShape();
  Assembler assembler(shape);
  if (auto rejection = assembler.Add(Envelope(), json))
    return Invalid("the configuration cannot be kept: {}", rejection->message);
  Catalog next = catalog_;
  RETURN_IF_ERROR(next.Replay(json));  // what no start would accept must not become durable
  ASSIGN_OR_RETURN(Appended appended, partition_.AppendAndWait(assembler.Finish(0, {})));
  (void)appended;
  catalog_ = std::move(next);
  return OkStatus();
}

Status ControlLog::Append(ControlKind kind, const std::string& name, const std::string& who) {
  ControlEvent event;
  event.kind = kind;
  event.name = name;
  event.who = who;
  return Append(std::move(event));
}

std::shared_ptr<const LetterBook> ControlLog::letters() const {
  std::lock_guard lock(mutex_);
  return catalog_.shared_letters();
}

Catalog ControlLog::catalog() const {
  std::lock_guard lock(mutex_);
  return catalog_;
}

}  // namespace millstream
