// What `millstream schema`, `millstream help KIND` and the reference docs print, from the same declarations
// that parse.
//
// Place: floor 4. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "stage/stage.h"

namespace millstream {

/// The JSON Schema of millstream.yaml (draft 2020-12), one document.
std::string ProjectSchema(const Registry& registry);
/// The YAML reference: every section and every kind of source, filter and sink.
std::string ReferenceMarkdown(const Registry& registry);
/// Help for a section ("streams") or a kind of source, filter or sink; all of them where several have that
/// name. For a kind of a later version: what to do instead. Nothing for an unknown name.
std::optional<std::string> HelpFor(const Registry& registry, const std::string& kind);
/// Names that HelpFor knows: for a hint at the nearest.
std::vector<std::string> HelpTopics(const Registry& registry);

}  // namespace millstream
