#include "sql/writer_reserve.h"

#include <algorithm>

#include "sql/allowance.h"
#include "sql/database.h"

namespace millstream {
namespace {

constexpr uint64_t kShare = 8;  // of the memory
constexpr uint64_t kMost = 256ull << 20;

}  // namespace

uint64_t WriterReserve::BytesOf(uint64_t memory_bytes) { return std::min(memory_bytes / kShare, kMost); }

WriterReserve::WriterReserve(std::unique_ptr<Connection> connection, uint64_t limit_bytes,
                             uint64_t reserve_bytes)
    : connection_(std::move(connection)), limit_bytes_(limit_bytes), reserve_bytes_(reserve_bytes) {}
WriterReserve::~WriterReserve() = default;

Status WriterReserve::Limit(uint64_t bytes) {
  return connection_->Run(fmt::format("SET {}='{}B'", kSetting, bytes));
}

Status WriterReserve::Write(const std::function<Status()>& write) {
  std::lock_guard lock(mutex_);
  if (!is_low_) RETURN_IF_ERROR(Limit(limit_bytes_));
  RETURN_IF_ERROR(Limit(limit_bytes_ + reserve_bytes_));
  return WithReserve(write);
}

Status WriterReserve::Undo(const std::function<Status()>& undo) {
  std::lock_guard lock(mutex_);
  (void)Limit(limit_bytes_ + reserve_bytes_);
  return WithReserve(undo);
}

Status WriterReserve::WithReserve(const std::function<Status()>& write) {
  Status status;
  {
    Allowance::WriterScope writes(reserve_bytes_ / 2);
    status = write();
  }
  // Where what is held is more, the next write tries again.
  is_low_ = Limit(limit_bytes_).ok();
  return status;
}

}  // namespace millstream
