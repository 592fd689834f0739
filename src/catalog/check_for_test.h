// Projects in real folders, and what CheckProject says of them.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "catalog/kinds_for_test.h"
#include "catalog/project.h"

namespace millstream {

using Files = std::map<std::string, std::string>;

class ProjectFolder {
 public:
  explicit ProjectFolder(const Files& files) {
    char name[] = "/tmp/millstream_check_XXXXXX";
    path_ = ::mkdtemp(name);
    for (const auto& [file, text] : files) {
      std::filesystem::path path = std::filesystem::path(path_) / file;
      std::filesystem::create_directories(path.parent_path());
      std::ofstream(path) << text;
    }
  }
  ~ProjectFolder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct Checked {
  Project project;
  std::string faults, warnings;
};

inline Checked Check(const Files& files) {
  ProjectFolder folder(files);
  PosixFileSystem fs;
  Faults faults, warnings;
  Checked checked;
  Registry registry = TestKinds();
  checked.project = LoadProject(fs, folder.path(), registry, faults);
  CheckProject(checked.project, registry, faults, warnings);
  for (const Fault& fault : faults) checked.faults += fault.ToString() + "\n";
  for (const Fault& fault : warnings) checked.warnings += fault.ToString() + "\n";
  return checked;
}

inline std::string FaultsOf(const std::string& yaml) { return Check({{"millstream.yaml", yaml}}).faults; }

inline const std::string kOrders =
    "streams:\n  orders:\n    key: customer\n    partitions: 2\n    contract:\n      id: varchar not null\n"
    "      customer: varchar\n      amount: decimal(12,2) check (amount >= 0)\n      status: "
    "enum('open','paid')\n"
    "  paid: {}\n";  // 10 lines

inline std::string WithPipeline(const std::string& pipeline) {
  return kOrders + "pipelines:\n  p:\n    from: orders\n" + pipeline;
}

}  // namespace millstream
