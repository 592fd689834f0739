#include "query/sandboxes.h"

#include <chrono>

#include "base/text.h"
#include "query/sandbox_maker.h"
#include "stage/isolated.h"

namespace millstream {
namespace {

constexpr auto kLookEvery = std::chrono::milliseconds(200);
constexpr auto kUnusedPoll = std::chrono::milliseconds(5);
constexpr auto kUnusedWaitMax = std::chrono::seconds(60);  // longer than requests that heed a stop take
constexpr int64_t kExpiresUsMax = 366ll * 24 * 3600 * 1'000'000;
constexpr uint64_t kDiskBytesMin = 16ull << 20;  // tables without a row take some

/// Closes it, unless a request in it did not end (kUnavailable).
Status Close(std::shared_ptr<Sandbox> sandbox) {
  if (sandbox == nullptr || sandbox.use_count() == 1) return OkStatus();
  // It must not go under the request, nor be closed by it: it stays as it is until the process ends.
  (void)new std::shared_ptr<Sandbox>(std::move(sandbox));
  return Unavailable("a request in the sandbox does not end; what is left of it goes at the next start");
}

}  // namespace

Sandboxes::Sandboxes(Engine& live, bool serves) : live_(live), serves_(serves) {
  const Catalog catalog = live_.catalog();
  for (const auto& [name, record] : catalog.sandboxes()) entries_[name].record = record;
  if (live_.read_only()) return;
  if (Status status = Recover(); !status.ok())
    for (auto& [name, entry] : entries_) entry.failure = status.message();
  keeper_ = std::jthread([this](const std::stop_token& stop) { Keep(stop); });
}

Sandboxes::~Sandboxes() { Stop(); }

std::string Sandboxes::FolderOf(const std::string& name) const {
  return live_.sandboxes_directory() + "/" + name;
}

/// Folders that `_control` does not name go; names without a folder (a backup has none) are dropped.
Status Sandboxes::Recover() {
  const std::string all = live_.sandboxes_directory();
  std::vector<std::string> folders;
  if (live_.fs().Exists(all)) {
    ASSIGN_OR_RETURN(folders, live_.fs().List(all));
  }
  for (const std::string& name : folders)
    if (!entries_.contains(name)) RETURN_IF_ERROR(live_.fs().RemoveAll(all + "/" + name));
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    if (std::find(folders.begin(), folders.end(), entry->first) != folders.end()) {
      ++entry;
      continue;
    }
    RETURN_IF_ERROR(live_.RecordSandbox(ControlKind::kSandboxDropped, entry->second.record, "millstream",
                                        "its folder is not there"));
    entry = entries_.erase(entry);
  }
  return OkStatus();
}

void Sandboxes::Stop() {
  if (keeper_.joinable()) {
    keeper_.request_stop();
    keeper_.join();
  }
  std::map<std::string, Entry> entries;
  {
    std::lock_guard open(open_mutex_);
    std::lock_guard lock(mutex_);
    stopped_ = true;
    entries.swap(entries_);
  }
  for (auto& [name, entry] : entries)
    if (entry.open) entry.open->AskToStop();
  for (auto& [name, entry] : entries) {
    WaitUntilUnused(entry.open);
    (void)Close(std::move(entry.open));  // what is durable stays so
  }
}

Status Sandboxes::NotThere(const std::string& name) const {
  std::vector<std::string> names;
  for (const auto& [each, entry] : entries_)
    if (!entry.is_busy) names.push_back(each);
  std::string nearest = Nearest(name, names);
  return NotFound("no sandbox '{}'{}", name,
                  nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
}

Status Sandboxes::CheckExists(const std::string& name) {
  std::lock_guard lock(mutex_);
  auto entry = entries_.find(name);
  bool is_there = entry != entries_.end() && !entry->second.is_busy &&
                  entry->second.record.expires_us > live_.clock().WallUs();
  return is_there ? OkStatus() : NotThere(name);
}

std::shared_ptr<Sandbox> Sandboxes::UseOpen(const std::string& name) {
  std::lock_guard lock(mutex_);
  auto entry = entries_.find(name);
  return entry == entries_.end() || entry->second.is_busy ? nullptr : entry->second.open;
}

Result<std::shared_ptr<Sandbox>> Sandboxes::Use(const std::string& name) {
  FAIL_IF_ERROR(CheckExists(name));
  if (auto open = UseOpen(name)) return open;
  std::lock_guard opening(open_mutex_);
  SandboxRecord record;
  {
    std::lock_guard lock(mutex_);
    auto entry = entries_.find(name);
    if (entry == entries_.end() || entry->second.is_busy) return Fail(NotThere(name));
    if (entry->second.open) return entry->second.open;
    if (!entry->second.failure.empty())
      return Fail(Unavailable("sandbox {} does not open ({}); drop it and make another", name,
                              entry->second.failure));
    record = entry->second.record;
  }
  auto opened = Sandbox::Open(live_, {.record = record, .directory = FolderOf(name)});
  std::lock_guard lock(mutex_);
  auto entry = entries_.find(name);
  // A drop that came meanwhile waits for `open_mutex_`, and finds it open.
  if (entry == entries_.end()) return Fail(NotThere(name));
  if (!opened) {
    entry->second.failure = opened.error().message();
    return Fail(Unavailable("{}; drop it and make another", opened.error().message()));
  }
  return entry->second.open = std::move(*opened);
}

Status Sandboxes::CheckRequest(const SandboxRequest& request) const {
  if (live_.read_only()) return Invalid("this Engine only reads");
  RETURN_IF_ERROR(CheckName(request.name));
  if (request.expires_us <= 0 || request.expires_us > kExpiresUsMax)
    return Invalid("expires: expected a time of up to a year, e.g. 7d");
  if (request.disk_bytes != 0 && request.disk_bytes < kDiskBytesMin)
    return Invalid("disk: at least {}", FormatBytes(kDiskBytesMin));
  if (entries_.contains(request.name))
    return Conflict("there is a sandbox '{0}' already; `millstream sandbox drop {0}` removes it",
                    request.name);
  const uint32_t most = live_.project()->server.sandboxes.count;
  if (entries_.size() >= most)
    return Conflict("there are {} sandboxes, and no more may be (server.sandboxes.count); drop one",
                    entries_.size());
  return OkStatus();
}

Result<SandboxStatus> Sandboxes::Create(SandboxRequest request, Faults& faults) {
  SandboxRecord record;
  record.name = request.name, record.as_of = request.as_of, record.who = request.who;
  record.with_files = request.files.has_value(), record.allow_exec = request.allow_exec;
  record.created_us = live_.clock().WallUs();
  record.expires_us = record.created_us + request.expires_us;
  record.disk_bytes =
      request.disk_bytes != 0 ? request.disk_bytes : live_.project()->server.sandboxes.disk_bytes;
  {
    std::lock_guard lock(mutex_);
    if (stopped_) return Fail(Unavailable("the server stops"));
    FAIL_IF_ERROR(CheckRequest(request));
    if (Status room = live_.CheckRoom(); !room.ok())
      return Fail(Exhausted("{}; nothing is copied", room.message()));
    entries_[request.name] = {.record = record, .open = nullptr, .failure = {}, .is_busy = true};
  }
  auto made = Make(request, record, faults);
  std::lock_guard lock(mutex_);
  if (!made || stopped_) {
    entries_.erase(request.name);
    return Fail(made ? Unavailable("the server stops") : made.error());
  }
  Entry& entry = entries_[request.name];
  const Catalog catalog = live_.catalog();
  entry.record = catalog.sandboxes().at(request.name);  // with the time of its event
  entry.open = std::move(*made);
  entry.is_busy = false;
  return StatusOf(entry);
}

Result<std::shared_ptr<Sandbox>> Sandboxes::Make(SandboxRequest& request, SandboxRecord& record,
                                                 Faults& faults) {
  if (request.files) {
    FAIL_IF_ERROR(CheckPrograms(*request.files, record));
    Faults warnings;
    CheckProject(*request.files, live_.registry(), faults, warnings, {.workers = live_.sql_workers()});
    if (!faults.empty())
      return Fail(Invalid("{} fault{} in the files", faults.size(), faults.size() == 1 ? "" : "s"));
  }
  const std::string folder = FolderOf(record.name);
  auto discard = [&](const Status& why) -> Result<std::shared_ptr<Sandbox>> {
    if (live_.fs().Exists(folder)) FAIL_IF_ERROR(live_.fs().RemoveAll(folder));
    return Fail(why);
  };
  const Registry isolated = Isolated(live_.registry(), record.allow_exec, {});
  auto made = MakeSandbox(live_, folder, request.files ? &*request.files : nullptr, isolated, record);
  if (!made) return discard(made.error());
  Sandbox::Options options{.record = record, .directory = folder};
  options.files = std::move(request.files);
  options.starts = std::move(made->starts);
  auto open = Sandbox::Open(live_, std::move(options));
  if (!open) return discard(open.error());
  Status recorded = live_.RecordSandbox(ControlKind::kSandboxCreated, record, record.who);
  if (recorded.ok()) return std::move(*open);
  (*open)->Discard();
  open->reset();
  return discard(recorded);
}

Status Sandboxes::Drop(const std::string& name, const std::string& who) {
  return Remove(name, ControlKind::kSandboxDropped, who, "");
}

Status Sandboxes::Remove(const std::string& name, ControlKind kind, const std::string& who,
                         const std::string& why) {
  if (live_.read_only()) return Invalid("this Engine only reads");
  std::shared_ptr<Sandbox> open;
  SandboxRecord record;
  {
    std::lock_guard opening(open_mutex_);  // one that is being opened is dropped once it is
    std::lock_guard lock(mutex_);
    auto entry = entries_.find(name);
    if (entry == entries_.end() || stopped_) return NotThere(name);
    if (entry->second.is_busy) return Conflict("sandbox {} is being made or dropped", name);
    entry->second.is_busy = true;
    open = entry->second.open;
    record = entry->second.record;
  }
  Status recorded = live_.RecordSandbox(kind, record, who, why);
  if (!recorded.ok()) {
    std::lock_guard lock(mutex_);
    if (auto entry = entries_.find(name); entry != entries_.end()) entry->second.is_busy = false;
    return recorded;
  }
  {
    std::lock_guard lock(mutex_);
    if (auto entry = entries_.find(name); entry != entries_.end()) entry->second.open.reset();
  }
  Status removed = CloseAndRemove(name, std::move(open));
  std::lock_guard lock(mutex_);
  entries_.erase(name);
  return removed;  // what is left of it goes at the next start
}

Status Sandboxes::CloseAndRemove(const std::string& name, std::shared_ptr<Sandbox> open) {
  if (open) {
    open->AskToStop();
    open->Discard();
    WaitUntilUnused(open);
    RETURN_IF_ERROR(Close(std::move(open)));
  }
  if (!live_.fs().Exists(FolderOf(name))) return OkStatus();
  RETURN_IF_ERROR(live_.fs().RemoveAll(FolderOf(name)));
  return live_.fs().SyncDirectory(live_.sandboxes_directory());
}

/// Requests hold a sandbox while they are answered; all of them end when it is asked to stop, or at their
/// deadline. Nobody takes it any more.
void Sandboxes::WaitUntilUnused(const std::shared_ptr<Sandbox>& sandbox) {
  const auto until = std::chrono::steady_clock::now() + kUnusedWaitMax;
  while (sandbox && sandbox.use_count() > 1 && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(kUnusedPoll);
  std::atomic_thread_fence(std::memory_order_acquire);
}

SandboxStatus Sandboxes::StatusOf(const Entry& entry) const {
  SandboxStatus status;
  if (entry.open) {
    status = entry.open->status();
  } else {
    status.disk_bytes = OwnBytes(FolderOf(entry.record.name));
    status.state = !entry.failure.empty() ? "failed" : serves_ ? "starting" : "stopped";
    status.reason = entry.failure;
  }
  status.record = entry.record;
  return status;
}

std::vector<SandboxStatus> Sandboxes::List() {
  std::vector<SandboxStatus> list;
  std::lock_guard lock(mutex_);
  for (const auto& [name, entry] : entries_)
    if (!entry.is_busy) list.push_back(StatusOf(entry));
  return list;
}

Result<SandboxStatus> Sandboxes::Find(const std::string& name) {
  std::lock_guard lock(mutex_);
  auto entry = entries_.find(name);
  if (entry == entries_.end() || entry->second.is_busy) return Fail(NotThere(name));
  return StatusOf(entry->second);
}

void Sandboxes::EndExpired() {
  std::vector<std::string> expired;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [name, entry] : entries_)
      if (!entry.is_busy && entry.record.expires_us <= live_.clock().WallUs()) expired.push_back(name);
  }
  for (const std::string& name : expired)
    (void)Remove(name, ControlKind::kSandboxExpired, "millstream", "");  // else the next look does it
}

void Sandboxes::Keep(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    EndExpired();
    std::vector<std::string> names;
    {
      std::lock_guard lock(mutex_);
      for (const auto& [name, entry] : entries_) names.push_back(name);
    }
    for (const std::string& name : names) {
      if (stop.stop_requested()) return;
      std::shared_ptr<Sandbox> sandbox = UseOpen(name);
      if (sandbox == nullptr && serves_)
        if (auto opened = Use(name)) sandbox = std::move(*opened);
      if (sandbox) sandbox->Look();
    }
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, stop, kLookEvery, [] { return false; });
  }
}

}  // namespace millstream
