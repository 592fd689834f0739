#include "base/memory_file_system.h"

#include <algorithm>

namespace millstream {
namespace {
constexpr uint64_t kSector = 512;
}  // namespace

class MemoryFile final : public File {
 public:
  MemoryFile(MemoryFileSystem& fs, std::shared_ptr<MemoryFileSystem::Node> node, std::string path,
             uint64_t generation)
      : fs_(fs), node_(std::move(node)), path_(std::move(path)), generation_(generation) {}

  Result<size_t> ReadAt(uint64_t offset, char* to, size_t size) override {
    std::lock_guard lock(fs_.mutex_);
    FAIL_IF_ERROR(Enter(FileCall::kRead, false));
    if (offset >= node_->data.size()) return 0;
    return node_->data.copy(to, size, offset);
  }

  Status WriteAt(uint64_t offset, std::span<const std::string_view> parts) override {
    std::lock_guard lock(fs_.mutex_);
    std::string bytes;
    for (std::string_view part : parts) bytes += part;
    Status status = Enter(FileCall::kWrite, true);
    if (generation_ != fs_.generation_) return status;
    size_t size = status.ok() ? bytes.size() : bytes.size() / 2;
    uint64_t growth = offset + size > node_->data.size() ? offset + size - node_->data.size() : 0;
    uint64_t used = fs_.UsedBytes();
    uint64_t room = fs_.capacity_bytes_ > used ? fs_.capacity_bytes_ - used : 0;
    if (growth > room) {
      if (status.ok()) status = Exhausted("{}: write: no space left", path_);
      size -= std::min<uint64_t>(size, growth - room);
    }
    if (size > 0) {
      uint64_t old_size = node_->data.size();
      if (offset + size > old_size) node_->data.resize(offset + size);
      node_->data.replace(offset, size, bytes, 0, size);
      node_->MarkDirty(std::min(offset, old_size), offset + size);
    }
    return status;
  }

  Status Sync() override {
    std::lock_guard lock(fs_.mutex_);
    RETURN_IF_ERROR(Enter(FileCall::kSync, true));
    node_->synced.resize(node_->data.size());
    for (uint64_t sector : node_->dirty) {
      uint64_t begin = sector * kSector;
      if (begin >= node_->data.size()) continue;
      uint64_t size = std::min(kSector, node_->data.size() - begin);
      node_->synced.replace(begin, size, node_->data, begin, size);
    }
    node_->dirty.clear();
    return OkStatus();
  }

  Status Truncate(uint64_t size) override {
    std::lock_guard lock(fs_.mutex_);
    RETURN_IF_ERROR(Enter(FileCall::kTruncate, true));
    uint64_t old_size = node_->data.size();
    node_->data.resize(size);
    node_->MarkDirty(std::min(size, old_size), std::max(size, old_size));
    return OkStatus();
  }

  Status Reserve(uint64_t size) override {
    std::lock_guard lock(fs_.mutex_);
    RETURN_IF_ERROR(Enter(FileCall::kReserve, false));
    uint64_t growth = size > node_->data.size() ? size - node_->data.size() : 0;
    if (fs_.UsedBytes() + growth > fs_.capacity_bytes_)
      return Exhausted("{}: fallocate: no space left", path_);
    return OkStatus();
  }

  Result<uint64_t> Size() override {
    std::lock_guard lock(fs_.mutex_);
    return node_->data.size();
  }

 private:
  Status Enter(FileCall call, bool changes) {
    if (generation_ != fs_.generation_) return IoError("{}: the file was open during a crash", path_);
    return fs_.Enter(call, changes);
  }

  MemoryFileSystem& fs_;
  const std::shared_ptr<MemoryFileSystem::Node> node_;
  const std::string path_;
  const uint64_t generation_;
};

void MemoryFileSystem::Node::MarkDirty(uint64_t begin, uint64_t end) {
  for (uint64_t sector = begin / kSector; sector * kSector < end; ++sector) dirty.insert(sector);
}

void MemoryFileSystem::FailAt(FileCall call, int nth, Status status, bool forever) {
  std::lock_guard lock(mutex_);
  faults_[static_cast<size_t>(call)] = {nth, forever, std::move(status)};
}

void MemoryFileSystem::StopFailing() {
  std::lock_guard lock(mutex_);
  faults_ = {};
}

void MemoryFileSystem::PowerOffAt(uint64_t nth) {
  std::lock_guard lock(mutex_);
  power_off_at_ = changes_ + nth;
}

bool MemoryFileSystem::powered_off() const {
  std::lock_guard lock(mutex_);
  return powered_off_;
}

uint64_t MemoryFileSystem::changes() const {
  std::lock_guard lock(mutex_);
  return changes_;
}

void MemoryFileSystem::SetCapacity(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  capacity_bytes_ = bytes;
}

Status MemoryFileSystem::Enter(FileCall call, bool changes) {
  if (powered_off_) return IoError("the power is off");
  if (changes && observer_) observer_();
  if (changes && ++changes_ == power_off_at_) {
    powered_off_ = true;
    return IoError("the power went off");
  }
  Fault& fault = faults_[static_cast<size_t>(call)];
  if (fault.calls_left > 0 && --fault.calls_left == 0) {
    if (fault.forever) fault.calls_left = 1;
    return fault.status;
  }
  return OkStatus();
}

void MemoryFileSystem::Apply(const Change& change, std::map<std::string, NodePtr>& entries) {
  for (const auto& [path, node] : change.entries) {
    if (node) {
      entries[path] = node;
    } else {
      entries.erase(path);
    }
  }
}

void MemoryFileSystem::Record(Change change) {
  Apply(change, entries_);
  pending_.push_back(std::move(change));
}

uint64_t MemoryFileSystem::UsedBytes() const {
  uint64_t used = 0;
  for (const auto& [path, node] : entries_) used += node->data.size();
  return used;
}

void MemoryFileSystem::ObserveChanges(std::function<void()> observer) {
  std::lock_guard lock(mutex_);
  observer_ = std::move(observer);
}

std::unique_ptr<MemoryFileSystem> MemoryFileSystem::Clone() const {
  std::lock_guard lock(mutex_);
  auto clone = std::make_unique<MemoryFileSystem>(capacity_bytes_);
  clone->next_inode_ = next_inode_;
  std::map<NodePtr, NodePtr> copies;  // one file may have several entries
  auto copy = [&](const NodePtr& node) {
    if (!node) return node;
    NodePtr& made = copies[node];
    if (!made) made = std::make_shared<Node>(*node);
    return made;
  };
  for (const auto& [path, node] : entries_) clone->entries_[path] = copy(node);
  for (const auto& [path, node] : durable_) clone->durable_[path] = copy(node);
  for (const Change& change : pending_) {
    Change& made = clone->pending_.emplace_back(Change{{}, change.directory});
    for (const auto& [path, node] : change.entries) made.entries.emplace_back(path, copy(node));
  }
  return clone;
}

void MemoryFileSystem::Node::Lose(SeededRandom& random, Survivors survivors) {
  const uint64_t old_size = synced.size(), new_size = data.size();
  uint64_t size = survivors == Survivors::kAll ? new_size : old_size;
  if (survivors == Survivors::kAny || survivors == Survivors::kPrefix) {
    if (random.Below(2) == 0) size = new_size;
    if (new_size > old_size && random.Below(2) == 0) {
      size = std::min(new_size, (old_size + random.Below(new_size - old_size + 1)) / kSector * kSector);
      size = std::max(size, old_size);
    }
  }
  std::string content = synced;
  content.resize(std::max(old_size, new_size));
  uint64_t kept = survivors == Survivors::kNone     ? 0
                  : survivors == Survivors::kPrefix ? random.Below(dirty.size() + 1)
                                                    : dirty.size();
  for (uint64_t sector : dirty) {
    if (kept-- == 0) break;
    uint64_t begin = sector * kSector;
    if (begin >= new_size || (survivors == Survivors::kAny && random.Below(2) == 0)) continue;
    uint64_t bytes = std::min(kSector, new_size - begin);
    content.replace(begin, bytes, data, begin, bytes);
  }
  content.resize(size);
  data = synced = std::move(content);
  dirty.clear();
}

void MemoryFileSystem::Crash(uint64_t seed, Survivors survivors) {
  std::lock_guard lock(mutex_);
  SeededRandom random(seed);
  uint64_t kept = survivors == Survivors::kAll    ? pending_.size()
                  : survivors == Survivors::kNone ? 0
                                                  : random.Below(pending_.size() + 1);
  for (uint64_t i = 0; i < kept; ++i) Apply(pending_[i], durable_);
  pending_.clear();
  entries_ = durable_;
  for (auto& [path, node] : entries_) node->Lose(random, survivors);
  ++generation_;
  power_off_at_ = 0;
  powered_off_ = false;
  faults_ = {};
}

void MemoryFileSystem::FlipBit(const std::string& path, uint64_t byte, int bit) {
  std::lock_guard lock(mutex_);
  auto found = entries_.find(path);
  CHECK(found != entries_.end() && byte < found->second->data.size());
  found->second->data[byte] = static_cast<char>(found->second->data[byte] ^ 1 << bit);
  if (byte < found->second->synced.size()) found->second->synced[byte] = found->second->data[byte];
}

Result<std::unique_ptr<File>> MemoryFileSystem::Open(const std::string& path, OpenMode mode) {
  std::lock_guard lock(mutex_);
  auto found = entries_.find(path);
  const bool make = found == entries_.end() && mode == OpenMode::kCreate;
  FAIL_IF_ERROR(Enter(FileCall::kOpen, make));
  if (found == entries_.end() && !make) return Fail(NotFound("{}: open: no such file", path));
  if (make) {
    auto folder = entries_.find(DirectoryOf(path));
    if (folder == entries_.end() || !folder->second->is_directory)
      return Fail(NotFound("{}: open: no such folder", path));
    auto node = std::make_shared<Node>();
    node->inode = next_inode_++;
    Record({{{path, node}}, DirectoryOf(path)});
    return std::make_unique<MemoryFile>(*this, node, path, generation_);
  }
  return std::make_unique<MemoryFile>(*this, found->second, path, generation_);
}

Result<FileInfo> MemoryFileSystem::Stat(const std::string& path) {
  std::lock_guard lock(mutex_);
  if (powered_off_) return Fail(IoError("{}: stat: the power is off", path));
  auto found = entries_.find(path);
  if (found == entries_.end()) return Fail(NotFound("{}: stat: no such file", path));
  const Node& node = *found->second;
  return FileInfo{
      .size = node.data.size(), .inode = node.inode, .modified_us = 0, .is_directory = node.is_directory};
}

Result<std::vector<std::string>> MemoryFileSystem::List(const std::string& directory) {
  std::lock_guard lock(mutex_);
  if (powered_off_) return Fail(IoError("{}: list: the power is off", directory));
  if (!entries_.contains(directory)) return Fail(NotFound("{}: list: no such folder", directory));
  std::vector<std::string> names;
  for (const auto& [path, node] : entries_) {
    if (path != directory && DirectoryOf(path) == directory)
      names.push_back(path.substr(directory.size() + 1));
  }
  std::sort(names.begin(), names.end());
  return names;
}

Status MemoryFileSystem::CreateDirectories(const std::string& path) {
  std::lock_guard lock(mutex_);
  for (size_t slash = 0; slash != std::string::npos;) {
    slash = path.find('/', slash + 1);
    std::string part = path.substr(0, slash);
    auto found = entries_.find(part);
    if (found != entries_.end() && !found->second->is_directory)
      return Conflict("{}: is a file, not a folder", part);
    if (found != entries_.end()) continue;
    RETURN_IF_ERROR(Enter(FileCall::kCreateDirectories, true));
    auto node = std::make_shared<Node>();
    node->inode = next_inode_++;
    node->is_directory = true;
    entries_[part] = durable_[part] = node;
  }
  return OkStatus();
}

Status MemoryFileSystem::Rename(const std::string& from, const std::string& to) {
  std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(Enter(FileCall::kRename, true));
  auto found = entries_.find(from);
  if (found == entries_.end()) return NotFound("{}: rename: no such file", from);
  Record({{{to, found->second}, {from, nullptr}}, DirectoryOf(to)});
  return OkStatus();
}

Status MemoryFileSystem::Remove(const std::string& path) {
  std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(Enter(FileCall::kRemove, true));
  if (!entries_.contains(path)) return NotFound("{}: remove: no such file", path);
  Record({{{path, nullptr}}, DirectoryOf(path)});
  return OkStatus();
}

Status MemoryFileSystem::RemoveAll(const std::string& path) {
  std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(Enter(FileCall::kRemove, true));
  Change change{{}, DirectoryOf(path)};
  for (const auto& [entry, node] : entries_) {
    if (entry == path || entry.starts_with(path + "/")) change.entries.emplace_back(entry, nullptr);
  }
  Record(std::move(change));
  return OkStatus();
}

Status MemoryFileSystem::SyncDirectory(const std::string& path) {
  std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(Enter(FileCall::kSyncDirectory, true));
  if (!entries_.contains(path)) return NotFound("{}: fsync: no such folder", path);
  std::vector<Change> later;
  for (Change& change : pending_) {
    if (change.directory == path) {
      Apply(change, durable_);
    } else {
      later.push_back(std::move(change));
    }
  }
  pending_ = std::move(later);
  return OkStatus();
}

Result<DiskSpace> MemoryFileSystem::Space(const std::string&) {
  std::lock_guard lock(mutex_);
  uint64_t used = UsedBytes();
  return DiskSpace{.total_bytes = capacity_bytes_,
                   .free_bytes = capacity_bytes_ > used ? capacity_bytes_ - used : 0};
}

}  // namespace millstream
