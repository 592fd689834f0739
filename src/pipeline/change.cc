#include "pipeline/change.h"

#include "pipeline/object_text.h"

namespace millstream {

std::string PlannedChange::pipeline() const {
  constexpr std::string_view kPrefix = "pipelines.";
  if (!what.path.starts_with(kPrefix)) return "";
  return what.path.substr(kPrefix.size(), what.path.find('.', kPrefix.size()) - kPrefix.size());
}

std::string ChangePlan::ToJson() const {
  std::string out;
  {
    ObjectText object(out);
    if (is_applied)
      object.Number("version", version);
    else
      object.Text("plan", hash).Number("base_version", base_version);
    if (replay != 0) object.Number("replay", replay);
    if (!refused.empty()) object.Number("held", refused.size());
    if (!rebuild.empty())
      object.Array("rebuild", rebuild, [&](const std::string& table) { AppendJsonString(out, table); });
    object.Array("changes", changes, [&](const PlannedChange& planned) {
      ObjectText change(out);
      change.Text("path", planned.what.path)
          .Text("change", planned.what.change)
          .Text("how", planned.what.how);
      if (planned.events) change.Number("events", *planned.events);
      if (planned.seconds) change.Rate("seconds", *planned.seconds);
      if (!planned.from.empty()) change.Text("from", planned.from).Number("held_us", planned.held_us);
      change.Text("note", planned.what.note);
    });
  }
  return out;
}

}  // namespace millstream
