#include "pipeline/parallel_ingest.h"

#include "base/thread.h"

namespace millstream {
namespace {

constexpr size_t kThreadsMax = 4;
constexpr size_t kBytesMax = 12 << 20;
constexpr size_t kPieceBytesMin = 64 << 10;  // as which a smaller piece counts

}  // namespace

void ParallelIngest::Totals::Add(const IngestAnswer& answer) {
  accepted += answer.accepted;
  quarantined += answer.quarantined;
  duplicates += answer.duplicates;
  if (!answer.position.stream.empty()) position.stream = answer.position.stream;
  for (const auto& [partition, offset] : answer.position.offsets) {
    uint64_t& last = position.offsets[partition];
    last = std::max(last, offset);
  }
}

ParallelIngest::ParallelIngest(std::shared_ptr<StreamIngest> ingest) : ingest_(std::move(ingest)) {
  size_t threads = std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kThreadsMax);
  for (size_t i = 0; i < threads; ++i)
    threads_.emplace_back([this] {
      NameThread("ingest");
      Prepare();
    });
}

ParallelIngest::~ParallelIngest() {
  (void)Finish();
  std::lock_guard lock(mutex_);
  closing_ = true;
  changed_.notify_all();
}

ParallelIngest::Totals ParallelIngest::totals() const {
  std::lock_guard lock(mutex_);
  return totals_;
}

Status ParallelIngest::Send(IngestRequest request, std::shared_ptr<const void> body) {
  auto piece = std::make_shared<Piece>();
  piece->bytes = std::max(request.body.size(), kPieceBytesMin);
  piece->request = std::move(request);
  piece->body = std::move(body);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !failure_.ok() || bytes_ == 0 || bytes_ + piece->bytes <= kBytesMax; });
  RETURN_IF_ERROR(failure_);
  bytes_ += piece->bytes;
  pieces_.push_back(std::move(piece));
  changed_.notify_all();
  return OkStatus();
}

Status ParallelIngest::Finish() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return pieces_.empty() && commits_ == 0; });
  if (!failure_.ok()) order_ = std::make_shared<IngestOrder>();
  return std::exchange(failure_, OkStatus());
}

void ParallelIngest::Prepare() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return closing_ || taken_ < pieces_.size(); });
    if (taken_ == pieces_.size()) return;
    std::shared_ptr<Piece> piece = pieces_[taken_++];
    if (failure_.ok()) {
      lock.unlock();
      piece->prepared = ingest_->Prepare(piece->request);
      piece->body.reset();
      lock.lock();
    }
    piece->ready = true;
    CommitReady(lock);
  }
}

void ParallelIngest::CommitReady(std::unique_lock<std::mutex>& lock) {
  if (committing_) return;
  committing_ = true;
  while (!pieces_.empty() && pieces_.front()->ready) {
    std::shared_ptr<Piece> piece = std::move(pieces_.front());
    pieces_.pop_front();
    --taken_;
    if (!failure_.ok()) {
      bytes_ -= piece->bytes;
      continue;
    }
    ++commits_;
    piece->prepared->order = order_;
    lock.unlock();
    ingest_->Commit(std::move(piece->prepared),
                    [this, piece](tl::expected<IngestAnswer, IngestRefusal> answer) {
                      Answer(*piece, std::move(answer));
                    });
    lock.lock();
  }
  committing_ = false;
  changed_.notify_all();
}

void ParallelIngest::Answer(const Piece& piece, tl::expected<IngestAnswer, IngestRefusal> answer) {
  std::lock_guard lock(mutex_);
  --commits_;
  bytes_ -= piece.bytes;
  if (answer) {
    totals_.Add(*answer);
  } else if (failure_.ok()) {
    failure_ = answer.error().ToStatus(piece.request.subject);
  }
  changed_.notify_all();  // under the lock: who waits may destroy this object at once
}

}  // namespace millstream
