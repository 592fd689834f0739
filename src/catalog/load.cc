// LoadProject, ParseProject: files into a tree, the tree into a Project.

#include "base/file_system.h"
#include "base/text.h"
#include "catalog/digest.h"
#include "catalog/loader.h"
#include "catalog/salvage.h"

namespace millstream {
namespace {

constexpr const char* kProjectFile = "millstream.yaml";
constexpr uint64_t kMaxFileBytes = 16 << 20;

// Puts the text of `.sql` files where their paths stand.
class SqlFiles {
 public:
  SqlFiles(FileSystem& fs, Project& project, Faults& faults) : fs_(fs), project_(project), faults_(faults) {}

  void InlineAll(std::map<std::string, std::string>& texts) {
    InlineCommands(texts);
    Node* pipelines = Member(project_.root, "pipelines");
    if (pipelines == nullptr) return;
    for (auto& [name, pipeline] : pipelines->members) {
      Node* filters = Member(pipeline, "filters");
      if (filters == nullptr) continue;
      for (Node& item : filters->items) {
        for (auto& [filter, value] : item.members) {
          std::string path = "pipelines." + name + ".filters." + filter;
          Node* sql = value.kind == Node::Kind::kMap ? Member(value, "sql") : &value;
          if (sql != nullptr) Inline(*sql, path, texts);
        }
      }
    }
  }

 private:
  static Node* Member(Node& node, std::string_view name) {
    for (auto& [key, value] : node.members)
      if (key == name) return &value;
    return nullptr;
  }

  void InlineCommands(std::map<std::string, std::string>& texts) {
    Node* commands = Member(project_.root, "commands");
    if (commands == nullptr) return;
    for (auto& [name, command] : commands->members) {
      std::string path = "commands." + name;
      if (Node* require = Member(command, "require"))
        for (Node& rule : require->items)
          for (auto& [message, sql] : rule.members) Inline(sql, path + ".require", texts);
      if (Node* emit = Member(command, "emit"))
        for (auto& [stream, sql] : emit->members) Inline(sql, path + ".emit." + stream, texts);
    }
  }

  void Inline(Node& node, const std::string& yaml_path, std::map<std::string, std::string>& texts) {
    if (!node.IsScalar() || !node.scalar.ends_with(".sql")) return;
    if (node.scalar.find_first_of(" \t\n") != std::string::npos) return;
    std::string file = node.scalar;
    std::string full = file.front() == '/' ? file : project_.directory + "/" + file;
    auto text = ReadFile(fs_, full, kMaxFileBytes);
    if (!text) {
      Fault fault = FaultAt(node, yaml_path, text.error().message());
      if (text.error().code() == Code::kNotFound) {
        fault.message = fmt::format("no file '{}'", file);
        fault.hint = NearestFile(file);
      }
      faults_.push_back(std::move(fault));
      // Not a path any longer, and no second fault about its SQL.
      node.scalar = "SELECT * FROM input";
      return;
    }
    std::string content = *text;
    if (content.starts_with("\xEF\xBB\xBF")) content.erase(0, 3);
    int key_line = node.key_line, key_column = node.key_column;
    node = FileNode(content, file);
    node.key_line = key_line, node.key_column = key_column;
    texts.emplace(file, std::move(*text));
  }

  std::string NearestFile(const std::string& file) {
    std::string folder = DirectoryOf(file);
    auto names = fs_.List(folder.starts_with('/') ? folder : project_.directory + "/" + folder);
    if (!names) return fmt::format("there is no folder '{}'", folder);
    std::vector<std::string> paths;
    for (const std::string& name : *names)
      if (name.ends_with(".sql")) paths.push_back(folder == "." ? name : folder + "/" + name);
    return HintOf(file, paths, "files");
  }

  FileSystem& fs_;
  Project& project_;
  Faults& faults_;
};

std::string HashOf(const std::map<std::string, std::string>& texts) {
  std::string all;
  for (const auto& [file, text] : texts) all += fmt::format("{}\n{}\n{}", file, text.size(), text);
  return Sha256Hex(all);
}

// Parts that are no YAML do not hide what is wrong with the others.
Node ReadYaml(const std::string& text, Faults& faults, std::set<std::string>& unread) {
  Faults of_all;
  Node root = ParseYaml(text, kProjectFile, of_all);
  if (root.kind == Node::Kind::kNull && !of_all.empty()) {
    if (auto salvaged = Salvage(text, kProjectFile)) {
      of_all = std::move(salvaged->faults);
      unread = std::move(salvaged->unread);
      root = ParseYaml(salvaged->text, kProjectFile, of_all);
    }
  }
  faults.insert(faults.end(), of_all.begin(), of_all.end());
  return root;
}

}  // namespace

void SortFaults(Faults& faults, size_t begin) {
  auto rank = [](const Fault& fault) {
    return std::make_tuple(fault.file != kProjectFile, std::string_view(fault.file), fault.line,
                           fault.column);
  };
  std::stable_sort(faults.begin() + static_cast<std::ptrdiff_t>(begin), faults.end(),
                   [&](const Fault& a, const Fault& b) { return rank(a) < rank(b); });
}

Project LoadProject(FileSystem& fs, const std::string& directory, const Registry& registry, Faults& faults) {
  Project project;
  project.directory = directory;
  auto text = ReadFile(fs, directory + "/" + kProjectFile, kMaxFileBytes);
  if (!text) {
    Fault fault;
    fault.file = kProjectFile;
    fault.message = text.error().message();
    if (text.error().code() == Code::kNotFound) {
      bool yml = fs.Exists(directory + "/millstream.yml");
      fault.message = fmt::format("there is no {} in {}", kProjectFile, directory);
      fault.hint = yml ? "rename millstream.yml" : "'millstream init DIR' makes a project; -C DIR names one";
    }
    faults.push_back(std::move(fault));
    project.sound = false;
    return project;
  }
  std::map<std::string, std::string> texts;
  size_t faults_before = faults.size();
  project.root = ReadYaml(*text, faults, project.unread);
  texts.emplace(kProjectFile, std::move(*text));
  if (project.root.kind == Node::Kind::kMap) {
    SqlFiles(fs, project, faults).InlineAll(texts);
    Loader(project, registry, faults).Load();
  } else if (faults.size() == faults_before) {
    Loader(project, registry, faults).Load();
  }
  project.files.push_back(kProjectFile);
  for (const auto& [file, unused] : texts)
    if (file != kProjectFile) project.files.push_back(file);
  project.hash = HashOf(texts);
  project.sound = faults.size() == faults_before;
  SortFaults(faults, faults_before);
  return project;
}

Project ParseProject(const Node& root, const std::string& directory, const Registry& registry,
                     Faults& faults) {
  Project project;
  project.directory = directory;
  project.root = root;
  Loader(project, registry, faults).Load();
  return project;
}

}  // namespace millstream
