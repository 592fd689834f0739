// The demo's files (examples/demo/), carried inside the binary.
//
// Place: floor 8.
#pragma once

#include <string_view>

namespace millstream {

std::string_view DemoProject();   // millstream.yaml
std::string_view DemoWebhooks();  // one CloudEvent a line
std::string_view DemoUsers();     // CSV

}  // namespace millstream
