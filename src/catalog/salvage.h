// Salvage: what of a project's file can be read though some of its parts are no YAML.
//
// Place: floor 4; used by LoadProject. A part is one definition: what stands under a name, under one of the
// outermost keys. Each is parsed by itself, with its lines where they were. Stateless.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/fault.h"

namespace millstream {

struct Salvaged {
  std::string text;              // the file with blank lines in place of the parts that are at fault
  std::set<std::string> unread;  // "streams.orders", or "streams" where none of it could be told apart
  Faults faults;                 // of these parts
};

/// Nothing: no part is at fault by itself, or the parts cannot be told apart (anchors reach over them).
std::optional<Salvaged> Salvage(std::string_view text, const std::string& file);

}  // namespace millstream
