// Sandboxes: the isolated copies of a live Engine: made, found, dropped, expired.
//
// Place: floor 6; server/ puts them behind the header Millstream-Sandbox. Each lies in DATA/sandboxes/NAME
// and is an Engine of its own (query/sandbox.h). `_control` of the live Engine tells which there are: a
// create makes the whole folder durable and then appends `sandbox_created`; a drop appends `sandbox_dropped`
// and then removes the folder. So a crash leaves a whole sandbox or none, and the next start removes a folder
// that `_control` does not name.
// Threads: thread-safe. One thread looks after all: opens them after a start, measures, lets them expire.
// Bounds: `server.sandboxes` (count, disk, memory). Failure: one that does not open is `failed`, and can be
// dropped; the live Engine goes on.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/fault.h"
#include "query/sandbox.h"

namespace millstream {

struct SandboxRequest {
  static constexpr int64_t kExpiresUs = 7ll * 24 * 3600 * 1'000'000;

  std::string name;
  std::string as_of;                // a time, a duration ago, or a position; empty: now
  std::optional<Project> files;     // other definitions, loaded and without faults
  int64_t expires_us = kExpiresUs;  // from now
  uint64_t disk_bytes = 0;          // 0: server.sandboxes.disk
  bool allow_exec = false;
  std::string who;
};

class Sandboxes {
 public:
  /// `serves`: opens all of them by itself, and keeps them running; else only those that are used. Finishes
  /// what a crash left of creates and drops. The Engine must outlive it.
  Sandboxes(Engine& live, bool serves);
  ~Sandboxes();
  /// Ends the requests in them and closes them.
  void Stop();

  /// Whole and durable when it answers; its tables are made from then on. kInvalid, kNotFound, kConflict with
  /// what to do; `faults` gets those of `files`.
  Result<SandboxStatus> Create(SandboxRequest request, Faults& faults);
  /// Ends the requests in it and removes it. kNotFound names the nearest.
  Status Drop(const std::string& name, const std::string& who);
  std::vector<SandboxStatus> List();
  Result<SandboxStatus> Find(const std::string& name);
  /// To work in it; opened if it is not. kNotFound names the nearest; kUnavailable: it does not open.
  Result<std::shared_ptr<Sandbox>> Use(const std::string& name);
  /// The same if it is open already, without waiting; else null.
  std::shared_ptr<Sandbox> UseOpen(const std::string& name);
  /// kNotFound names the nearest.
  Status CheckExists(const std::string& name);

 private:
  struct Entry {
    SandboxRecord record;
    std::shared_ptr<Sandbox> open;
    std::string failure;   // why it does not open
    bool is_busy = false;  // being made or dropped
  };

  Status Recover();
  Status NotThere(const std::string& name) const;
  Status CheckRequest(const SandboxRequest& request) const;
  Result<std::shared_ptr<Sandbox>> Make(SandboxRequest& request, SandboxRecord& record, Faults& faults);
  Status Remove(const std::string& name, ControlKind kind, const std::string& who, const std::string& why);
  Status CloseAndRemove(const std::string& name, std::shared_ptr<Sandbox> open);
  static void WaitUntilUnused(const std::shared_ptr<Sandbox>& sandbox);
  SandboxStatus StatusOf(const Entry& entry) const;
  std::string FolderOf(const std::string& name) const;
  void Keep(const std::stop_token& stop);
  void EndExpired();

  Engine& live_;
  const bool serves_;
  std::mutex open_mutex_;  // held while one is opened; before `mutex_`
  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;
  std::condition_variable_any wake_;
  bool stopped_ = false;
  std::jthread keeper_;  // last: it uses the others
};

}  // namespace millstream
