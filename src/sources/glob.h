// Glob: the files that a pattern names now.
//
// Place: floor 4, sources/ only. Stateless. `*`, `?` and `[a-z]` stand for parts of one name (not for a
// leading dot), `**` for any number of folders. Failure: kIo, kUnavailable from the disk; what is missing is
// no error.
#pragma once

#include <string>
#include <vector>

#include "base/file_system.h"

namespace millstream {

struct FoundFile {
  std::string path;  // as the pattern gives it: relative patterns give relative paths
  FileInfo info;
};

/// Files (no folders) in the order of their paths. Relative patterns start at `directory`.
Result<std::vector<FoundFile>> Glob(FileSystem& fs, const std::string& directory, const std::string& pattern);

}  // namespace millstream
