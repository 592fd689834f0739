#include "log/disk_log.h"

#include <algorithm>

#include "base/thread.h"

namespace millstream {
namespace {

constexpr uint32_t kPartitionsMax = 4096;
constexpr char kTrashPrefix[] = ".removed-";  // no stream's name begins with a dot

Uuid MakeUuid(Random& random) {
  Uuid uuid;
  for (size_t i = 0; i < uuid.size(); i += 8) {
    uint64_t bits = random.Next64();
    std::memcpy(uuid.data() + i, &bits, sizeof bits);
  }
  uuid[6] = static_cast<uint8_t>((uuid[6] & 0x0f) | 0x40);  // version 4, RFC 9562
  uuid[8] = static_cast<uint8_t>((uuid[8] & 0x3f) | 0x80);
  return uuid;
}

// Reads an identity file, or makes it if it is not there.
Result<Identity> ReadOrMakeIdentity(FileSystem& fs, const std::string& path, const Identity& made) {
  Result<std::string> bytes = ReadFile(fs, path);
  if (bytes) {
    Result<Identity> identity = DecodeIdentity(*bytes);
    if (!identity) return Fail(DamagedAt(path, 0, identity.error()));
    return identity;
  }
  if (bytes.error().code() != Code::kNotFound) return Fail(bytes.error());
  FAIL_IF_ERROR(WriteFileDurably(fs, path, EncodeIdentity(made)));
  return made;
}

Result<std::unique_ptr<LogContext>> MakeContext(FileSystem& fs, Clock& clock, Random& random,
                                                std::string directory, LogOptions options,
                                                std::function<void(Status)> on_fatal) {
  FAIL_IF_ERROR(fs.CreateDirectories(directory));
  auto context = std::make_unique<LogContext>(fs, clock, std::move(directory), options, std::move(on_fatal));
  ASSIGN_OR_FAIL(Identity identity,
                 ReadOrMakeIdentity(fs, context->directory + "/log.id", {.log = MakeUuid(random)}));
  context->uuid = identity.log;
  ASSIGN_OR_FAIL(std::vector<std::string> names, fs.List(context->directory));
  for (const std::string& name : names)
    if (name.starts_with(kTrashPrefix)) FAIL_IF_ERROR(fs.RemoveAll(context->directory + "/" + name));
  // A process that ended between a rename and its sync has left names that the disk may not have.
  FAIL_IF_ERROR(fs.SyncDirectory(context->directory));
  // A full disk must not keep the log from being read.
  Status reserve = context->disk.MakeReserve();
  if (!reserve.ok() && reserve.code() != Code::kExhausted) return millstream::Fail(reserve);
  return context;
}

}  // namespace

Result<std::unique_ptr<Log>> Log::Open(FileSystem& fs, Clock& clock, Random& random, std::string directory,
                                       LogOptions options, std::function<void(Status)> on_fatal) {
  ASSIGN_OR_FAIL(auto context,
                 MakeContext(fs, clock, random, std::move(directory), options, std::move(on_fatal)));
  return std::make_unique<DiskLog>(std::move(context));
}

Result<std::unique_ptr<DiskLog>> DiskLog::OpenStepped(FileSystem& fs, Clock& clock, Random& random,
                                                      std::string directory, LogOptions options,
                                                      std::function<void(Status)> on_fatal,
                                                      std::function<void(DiskPartition&)> on_queued) {
  options.merge_in_background = false;
  ASSIGN_OR_FAIL(auto context,
                 MakeContext(fs, clock, random, std::move(directory), options, std::move(on_fatal)));
  context->on_queued = std::move(on_queued);
  return std::make_unique<DiskLog>(std::move(context));
}

DiskLog::DiskLog(std::unique_ptr<LogContext> context) : context_(std::move(context)) {
  if (context_->options.merge_in_background) {
    merger_ = std::jthread([this](const std::stop_token& stop) { RunMerger(stop); });
  }
}

DiskLog::~DiskLog() { StopMerger(); }

Result<Stream*> DiskLog::OpenStream(const std::string& name, uint32_t partitions) {
  std::lock_guard lock(mutex_);
  if (closed_) return Fail(Cancelled("the log is closed"));
  auto found = streams_.find(name);
  if (found == streams_.end()) {
    ASSIGN_OR_FAIL(std::unique_ptr<DiskStream> made, MakeStream(name, partitions));
    found = streams_.emplace(name, std::move(made)).first;
  }
  Stream* stream = found->second.get();
  if (stream->partitions() != partitions) {
    return Fail(Conflict("stream {} has {} partitions, not {}", name, stream->partitions(), partitions));
  }
  return stream;
}

Result<std::unique_ptr<DiskStream>> DiskLog::MakeStream(const std::string& name, uint32_t partitions) {
  if (name.empty() || name.find('/') != std::string::npos || name[0] == '.') {
    return Fail(Invalid("'{}' is no stream's name", name));
  }
  if (partitions == 0 || partitions > kPartitionsMax) {
    return Fail(Invalid("stream {}: {} partitions; 1 to {} are possible", name, partitions, kPartitionsMax));
  }
  const std::string directory = context_->directory + "/" + name;
  FAIL_IF_ERROR(context_->fs.CreateDirectories(directory));
  ASSIGN_OR_FAIL(Identity identity, ReadOrMakeIdentity(context_->fs, directory + "/stream.id",
                                                       {.partitions = partitions, .log = context_->uuid}));
  if (identity.log != context_->uuid)
    return Fail(DamagedAt(directory + "/stream.id", 0, Corrupt("a stream of another log")));
  if (identity.partitions != partitions) {
    return Fail(Conflict("stream {} has {} partitions, not {}", name, identity.partitions, partitions));
  }
  FAIL_IF_ERROR(context_->fs.SyncDirectory(directory));
  std::vector<std::unique_ptr<DiskPartition>> made;
  for (uint32_t i = 0; i < partitions; ++i) {
    std::string folder = fmt::format("{}/{}", directory, i);
    auto receipts = std::make_unique<ReceiptIndex>(context_->key_receipts);
    Result<RecoveredPartition> recovered = RecoverPartition(*context_, folder, name, i, *receipts);
    if (!recovered) {
      if (recovered.error().code() == Code::kCorrupt) {
        recovery_.damage.push_back(DamageOf(recovered.error(), context_->directory));
      }
      return Fail(recovered.error());
    }
    recovery_.truncated_bytes += recovered->truncated_bytes;
    recovery_.unclean |= recovered->unclean;
    context_->stamper.Observe(recovered->max_us);
    made.push_back(std::make_unique<DiskPartition>(*context_, folder, name, i, std::move(receipts),
                                                   std::move(*recovered)));
    made.back()->SetOnSealed([this] {
      std::lock_guard lock(merger_mutex_);
      merger_has_work_ = true;
      merger_changed_.notify_one();
    });
  }
  return std::make_unique<DiskStream>(*context_, name, std::move(made));
}

Stream* DiskLog::Find(const std::string& name) {
  std::lock_guard lock(mutex_);
  auto found = streams_.find(name);
  return found == streams_.end() ? nullptr : found->second.get();
}

Status DiskLog::RemoveStream(const std::string& name) {
  std::unique_lock lock(mutex_);
  if (closed_) return Cancelled("the log is closed");
  if (auto found = streams_.find(name); found != streams_.end()) {
    removed_.push_back(std::move(found->second));
    streams_.erase(found);
    DiskStream& stream = *removed_.back();
    for (uint32_t i = 0; i < stream.partitions(); ++i) RETURN_IF_ERROR(stream.partition(i).Close(true));
  }
  const std::string directory = context_->directory + "/" + name;
  if (!context_->fs.Exists(directory)) return OkStatus();
  const std::string trash = fmt::format("{}/{}{}", context_->directory, kTrashPrefix, name);
  if (context_->fs.Exists(trash)) RETURN_IF_ERROR(context_->fs.RemoveAll(trash));
  RETURN_IF_ERROR(context_->fs.Rename(directory, trash));
  RETURN_IF_ERROR(context_->fs.SyncDirectory(context_->directory));
  lock.unlock();  // deleting may take a while
  return context_->fs.RemoveAll(trash);
}

std::vector<DiskStream*> DiskLog::AllStreams() const {
  std::lock_guard lock(mutex_);
  std::vector<DiskStream*> all;
  for (const auto& [name, stream] : streams_) all.push_back(stream.get());
  return all;
}

std::vector<Stream*> DiskLog::streams() {
  std::vector<DiskStream*> all = AllStreams();
  return {all.begin(), all.end()};
}

std::vector<PartitionSegments> DiskLog::SegmentsNow() {
  std::vector<PartitionSegments> all;
  std::vector<const PartitionView*> views;
  for (DiskStream* stream : AllStreams()) {
    for (uint32_t i = 0; i < stream->partitions(); ++i) {
      all.push_back({.stream = stream->name(), .partition = i});
      views.push_back(&stream->partition(i).view());
    }
  }
  std::vector<std::vector<SegmentInfo>> segments = PartitionView::DescribeAll(views);
  for (size_t i = 0; i < all.size(); ++i) all[i].segments = std::move(segments[i]);
  return all;
}

Status DiskLog::Retain() {
  for (DiskStream* stream : AllStreams()) RETURN_IF_ERROR(stream->Retain());
  Status reserve = context_->disk.MakeReserve();
  return reserve.code() == Code::kExhausted ? OkStatus() : reserve;
}

Status DiskLog::SealAll() {
  for (DiskStream* stream : AllStreams()) {
    for (uint32_t i = 0; i < stream->partitions(); ++i) RETURN_IF_ERROR(stream->partition(i).Roll());
  }
  return OkStatus();
}

Status DiskLog::MergeSealed() {
  for (DiskStream* stream : AllStreams()) RETURN_IF_ERROR(stream->Merge({}));
  return OkStatus();
}

void DiskLog::RunMerger(const std::stop_token& stop) {
  NameThread("merge");
  LetOthersFirst();
  while (!stop.stop_requested()) {
    {
      std::unique_lock lock(merger_mutex_);
      // The time limit finds what a former process left and what waited for a layout.
      merger_changed_.wait_for(lock, stop, std::chrono::seconds(1), [this] { return merger_has_work_; });
      merger_has_work_ = false;
    }
    for (DiskStream* stream : AllStreams()) {
      if (stop.stop_requested()) return;
      // A stream that failed says so itself: the segment stays as it was, and readers of it report what is
      // wrong with it.
      (void)stream->Merge(stop);
    }
  }
}

void DiskLog::StopMerger() {
  if (!merger_.joinable()) return;
  merger_.request_stop();
  merger_.join();
}

Status DiskLog::Close() {
  StopMerger();
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  Status first;
  for (DiskStream* stream : AllStreams()) {
    for (uint32_t i = 0; i < stream->partitions(); ++i) {
      Status status = stream->partition(i).Close(true);
      if (first.ok()) first = status;
    }
  }
  return first;
}

}  // namespace millstream
