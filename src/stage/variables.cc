// ResolveVariables: `${env:X}`, `${env:X:-default}`, `${file:PATH}`.
#include <cstdlib>

#include "base/file_system.h"
#include "base/text.h"
#include "stage/node.h"

namespace millstream {
namespace {

constexpr uint64_t kMaxFileBytes = 1 << 20;

Result<std::string> Resolve(std::string_view name, const std::string& project_directory) {
  if (name.starts_with("env:")) {
    name.remove_prefix(4);
    size_t split = name.find(":-");
    std::string variable(name.substr(0, split));
    if (variable.empty()) return Fail(Invalid("'${{env:}}' names no variable; expected '${{env:NAME}}'"));
    const char* value = std::getenv(variable.c_str());
    if (value != nullptr) return std::string(value);
    if (split != std::string_view::npos) return std::string(name.substr(split + 2));
    return Fail(Invalid("environment variable {} is not set; set it, or give a default: '${{env:{}:-…}}'",
                        variable, variable));
  }
  if (name.starts_with("file:")) {
    std::string path(name.substr(5));
    if (path.empty()) return Fail(Invalid("'${{file:}}' names no file; expected '${{file:PATH}}'"));
    PosixFileSystem fs;
    std::string full = path.front() == '/' ? path : project_directory + "/" + path;
    auto content = ReadFile(fs, full, kMaxFileBytes);
    if (!content) return Fail(Invalid("file {} cannot be read: {}", path, content.error().message()));
    while (content->ends_with('\n') || content->ends_with('\r')) content->pop_back();
    return *content;
  }
  std::string shown(name.substr(0, name.find(':')));
  return Fail(Invalid("unknown variable '${{{}}}'; expected '${{env:NAME}}' or '${{file:PATH}}'", shown));
}

}  // namespace

Result<std::string> ResolveVariables(std::string_view text, const std::string& project_directory) {
  std::string out;
  while (true) {
    size_t begin = text.find("${");
    out += text.substr(0, begin);
    if (begin == std::string_view::npos) return out;
    size_t end = text.find('}', begin);
    if (end == std::string_view::npos) return Fail(Invalid("'${{' without '}}'"));
    ASSIGN_OR_FAIL(std::string value, Resolve(text.substr(begin + 2, end - begin - 2), project_directory));
    out += value;
    text.remove_prefix(end + 1);
  }
}

}  // namespace millstream
