// SHA-256, for the hash of a project's files and the chain of `_control`.
//
// Place: floor 4. Stateless.
#pragma once

#include <string>
#include <string_view>

namespace millstream {

/// 64 hex digits.
std::string Sha256Hex(std::string_view bytes);

}  // namespace millstream
