#include "sources/glob.h"

#include <fnmatch.h>

#include "base/text.h"

namespace millstream {
namespace {

constexpr int kDepthMax = 32;  // folders that `**` goes down: a link may lead back up

class Expansion {
 public:
  Expansion(FileSystem& fs, const std::string& directory, const std::string& pattern)
      : fs_(fs), directory_(pattern.starts_with('/') ? "" : directory), pattern_(pattern) {
    for (std::string_view part : Split(pattern_, '/'))
      if (!part.empty() && part != ".") parts_.emplace_back(part);
  }

  Result<std::vector<FoundFile>> Run() {
    FAIL_IF_ERROR(Walk(pattern_.starts_with('/') ? "/" : "", 0, 0));
    std::sort(found_.begin(), found_.end(),
              [](const FoundFile& a, const FoundFile& b) { return a.path < b.path; });
    auto same = [](const FoundFile& a, const FoundFile& b) { return a.path == b.path; };
    found_.erase(std::unique(found_.begin(), found_.end(), same), found_.end());
    return std::move(found_);
  }

 private:
  std::string OnDisk(const std::string& path) const {
    if (directory_.empty()) return path.empty() ? "." : path;
    return path.empty() ? directory_ : directory_ + "/" + path;
  }

  static bool IsMissing(const Status& status) {
    return status.code() == Code::kNotFound || status.message().find("Not a directory") != std::string::npos;
  }

  // `path`: what is settled so far, with its slash at the end; `part`: the next part of the pattern.
  Status Walk(const std::string& path, size_t part, int depth) {
    if (part == parts_.size()) return OkStatus();
    const std::string& name = parts_[part];
    if (name.find_first_of("*?[") == std::string::npos) return Enter(path + name, part, depth);
    std::string folder = path.ends_with('/') && path.size() > 1 ? path.substr(0, path.size() - 1) : path;
    Result<std::vector<std::string>> names = fs_.List(OnDisk(folder));
    if (!names) return IsMissing(names.error()) ? OkStatus() : names.error();
    if (name == "**") RETURN_IF_ERROR(Walk(path, part + 1, depth));
    for (const std::string& entry : *names) {
      if (name == "**") {
        if (entry.starts_with('.') || depth >= kDepthMax) continue;
        Result<FileInfo> info = fs_.Stat(OnDisk(path + entry));
        if (info && info->is_directory) RETURN_IF_ERROR(Walk(path + entry + "/", part, depth + 1));
      } else if (::fnmatch(name.c_str(), entry.c_str(), FNM_PERIOD) == 0) {
        RETURN_IF_ERROR(Enter(path + entry, part, depth));
      }
    }
    return OkStatus();
  }

  Status Enter(const std::string& path, size_t part, int depth) {
    Result<FileInfo> info = fs_.Stat(OnDisk(path));
    if (!info) return IsMissing(info.error()) ? OkStatus() : info.error();
    if (info->is_directory) return part + 1 < parts_.size() ? Walk(path + "/", part + 1, depth) : OkStatus();
    if (part + 1 == parts_.size()) found_.push_back({path, *info});
    return OkStatus();
  }

  FileSystem& fs_;
  const std::string directory_, pattern_;
  std::vector<std::string> parts_;
  std::vector<FoundFile> found_;
};

}  // namespace

Result<std::vector<FoundFile>> Glob(FileSystem& fs, const std::string& directory,
                                    const std::string& pattern) {
  return Expansion(fs, directory, pattern).Run();
}

}  // namespace millstream
