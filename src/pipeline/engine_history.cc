// What `_control` tells of the past.
#include "pipeline/engine_state.h"

namespace millstream {

Result<std::vector<ControlEvent>> Engine::History() {
  ASSIGN_OR_FAIL(auto reader, state_->log->Find(kControlStream)->partition(0).Read(0));
  std::vector<ControlEvent> events;
  while (true) {
    ASSIGN_OR_FAIL(auto batch, reader->Next());
    if (batch == nullptr) return events;
    ASSIGN_OR_FAIL(const Column* data, batch->Data());
    for (uint32_t row = 0; row < batch->count(); ++row) {
      ASSIGN_OR_FAIL(ControlEvent event, ParseControlEvent(data->String(row)));
      events.push_back(std::move(event));
    }
  }
}

Result<Node> Engine::DefinitionsOf(uint64_t version) {
  ASSIGN_OR_FAIL(std::vector<ControlEvent> events, History());
  for (ControlEvent& event : events)
    if (event.kind == ControlKind::kApply && event.version == version) return std::move(event.root);
  return Fail(NotFound("there is no version {}; `millstream history` lists them", version));
}

}  // namespace millstream
