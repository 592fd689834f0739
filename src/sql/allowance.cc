#include "sql/allowance.h"

#include <dlfcn.h>
#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>

#include "base/process_memory.h"

namespace millstream {
namespace {

// What an execution may always have, however full the process is.
constexpr int64_t kAlwaysBytes = 64 << 20;
// What the process may hold beyond server.memory before executions of users' SQL are refused more: the
// program, buffers, bodies of requests, and what allocators keep.
constexpr int64_t kBeyondBytesMin = 512 << 20;
constexpr int64_t kBeyondShare = 4;  // of server.memory
// DuckDB makes its errors, the one of an interrupt among them, of small blocks. Those are refused only when
// there were many since the interrupt, a block of so many bytes at once.
constexpr size_t kLargeBytes = 16 << 10, kMediumBytes = 256;
constexpr uint32_t kSmallMax = 10'000, kMediumIsWorth = 50;  // small ones
// Whoever handles a refusal allocates too.
constexpr uint32_t kPassesAfterRefusal = 1'000;
// The process's memory is looked at whenever so much more is taken.
constexpr int64_t kLookEveryBytes = 4 << 20;

constinit thread_local Allowance* at_work = nullptr;

// Destructors allocate, and beside an exception under way another one would end the process.
bool IsUnwinding() { return std::uncaught_exceptions() > 0; }

// Writers at work, which come and go under the mutex, and what executions may still take beside them.
std::mutex writers_mutex;
constinit std::atomic<int> writers{0};
constinit std::atomic<int64_t> beside_writers{0};

}  // namespace

Allowance::Allowance(uint64_t memory_bytes)
    : own_max_(std::max(static_cast<int64_t>(memory_bytes), kAlwaysBytes)),
      process_max_(static_cast<int64_t>(memory_bytes) +
                   std::max(kBeyondBytesMin, static_cast<int64_t>(memory_bytes) / kBeyondShare)) {}

Allowance::Scope::Scope(Allowance* allowance) : before_(at_work) { at_work = allowance; }
Allowance::Scope::~Scope() { at_work = before_; }

void Allowance::Begin() {
  taken_ = 0, next_look_ = kAlwaysBytes, passes_ = small_ = 0;
  refusal_ = Refusal::kNone;
  interrupted_.store(false, std::memory_order_relaxed);
}

Allowance::WriterScope::WriterScope(uint64_t bytes) {
  std::lock_guard lock(writers_mutex);
  if (writers.load(std::memory_order_relaxed) == 0) beside_writers.store(0, std::memory_order_relaxed);
  beside_writers.fetch_add(static_cast<int64_t>(bytes), std::memory_order_relaxed);
  writers.fetch_add(1, std::memory_order_release);
}

Allowance::WriterScope::~WriterScope() {
  std::lock_guard lock(writers_mutex);
  writers.fetch_sub(1, std::memory_order_relaxed);
}

std::string Allowance::Reason() const {
  switch (refusal_) {
    case Refusal::kInterrupted:
      return "interrupted";
    case Refusal::kTooMuch:
      return fmt::format("more memory than one statement may have ({} MiB, server.memory)", own_max_ >> 20);
    case Refusal::kFull:
      return fmt::format(
          "more than {} MiB of memory for one statement while the process has more than {} MiB",
          kAlwaysBytes >> 20, process_max_ >> 20);
    case Refusal::kWriter:
      return "tables were being written, which needed the memory; ask again";
    case Refusal::kNone:
      break;
  }
  return "";
}

bool Allowance::Take(size_t bytes) noexcept {
  taken_ += static_cast<int64_t>(bytes);
  if (passes_ > 0 && bytes < static_cast<size_t>(kLookEveryBytes)) {
    --passes_;
    return true;
  }
  const auto refuse = [&](Refusal why) {
    if (IsUnwinding()) return true;
    refusal_ = why;
    taken_ -= static_cast<int64_t>(bytes);
    passes_ = kPassesAfterRefusal;
    return false;
  };
  if (interrupted_.load(std::memory_order_relaxed)) [[unlikely]] {
    small_ += bytes < kMediumBytes ? 1 : kMediumIsWorth;
    if (bytes < kLargeBytes && small_ < kSmallMax) return true;
    small_ = 0;
    return refuse(Refusal::kInterrupted);
  }
  if (taken_ <= next_look_) [[likely]]
    return true;
  if (taken_ > own_max_) return refuse(Refusal::kTooMuch);
  if (static_cast<int64_t>(ResidentBytes() + bytes) > process_max_) return refuse(Refusal::kFull);
  next_look_ = std::min(taken_ + kLookEveryBytes, own_max_);
  return true;
}

bool Allowance::TakeCounted(size_t bytes) noexcept {
  if (!Take(bytes)) return false;
  if (!gives_way_ || writers.load(std::memory_order_acquire) == 0) [[likely]]
    return true;
  const auto wanted = static_cast<int64_t>(bytes);
  if (beside_writers.fetch_sub(wanted, std::memory_order_relaxed) >= wanted || bytes < kLargeBytes ||
      IsUnwinding())
    return true;
  refusal_ = Refusal::kWriter;
  GiveCounted(bytes);
  return false;
}

void Allowance::GiveCounted(size_t bytes) noexcept {
  Give(bytes);
  if (gives_way_ && writers.load(std::memory_order_relaxed) > 0) [[unlikely]]
    beside_writers.fetch_add(static_cast<int64_t>(bytes), std::memory_order_relaxed);
}

}  // namespace millstream

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MILLSTREAM_OWN_ALLOCATOR 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MILLSTREAM_OWN_ALLOCATOR 0
#endif
#endif

#ifndef MILLSTREAM_OWN_ALLOCATOR

using millstream::at_work;

void* operator new(size_t bytes) {
  if (at_work != nullptr && !at_work->Take(bytes)) throw std::bad_alloc();
  void* block = std::malloc(std::max(bytes, size_t{1}));
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

void operator delete(void* block) noexcept {
  if (at_work != nullptr && block != nullptr) at_work->Give(malloc_usable_size(block));
  std::free(block);
}

void operator delete(void* block, size_t) noexcept { operator delete(block); }

// DuckDB's own allocator, which its library brings along and calls by these names. Null gives an "Out of
// Memory Error". A library without it has no such names, and calls malloc: then only `new` is watched, and
// src/sql/allowance_test.cc fails.
namespace {

template <typename Call>
Call* Original(const char* name) {
  return reinterpret_cast<Call*>(dlsym(RTLD_NEXT, name));
}

size_t SizeOf(void* block) {
  static auto* size_of = Original<size_t(const void*)>("duckdb_je_malloc_usable_size");
  return block == nullptr || size_of == nullptr ? 0 : size_of(block);
}

}  // namespace

extern "C" {

void* duckdb_je_malloc(size_t bytes) {
  static auto* allocate = Original<void*(size_t)>("duckdb_je_malloc");
  return at_work == nullptr || at_work->Take(bytes) ? allocate(bytes) : nullptr;
}

void* duckdb_je_realloc(void* block, size_t bytes) {
  static auto* reallocate = Original<void*(void*, size_t)>("duckdb_je_realloc");
  if (at_work == nullptr) return reallocate(block, bytes);
  size_t had = SizeOf(block);
  if (!at_work->Take(bytes)) return nullptr;
  at_work->Give(had);
  return reallocate(block, bytes);
}

void duckdb_je_free(void* block) {
  static auto* free_block = Original<void(void*)>("duckdb_je_free");
  if (at_work != nullptr) at_work->Give(SizeOf(block));
  free_block(block);
}

// Memory that DuckDB's limit counts and no eviction frees: states of aggregates, vectors of operators. It is
// counted before the allocator above is asked, and for ever if that refuses: so it is refused here.
#define COUNTED_ALLOCATE \
  "_ZN6duckdb21StandardBufferManager23BufferAllocatorAllocateEPNS_20PrivateAllocatorDataEm"
#define COUNTED_REALLOCATE \
  "_ZN6duckdb21StandardBufferManager22BufferAllocatorReallocEPNS_20PrivateAllocatorDataEPhmm"
#define COUNTED_FREE "_ZN6duckdb21StandardBufferManager19BufferAllocatorFreeEPNS_20PrivateAllocatorDataEPhm"

uint8_t* AllocateCounted(void* manager, uint64_t bytes) __asm__(COUNTED_ALLOCATE);
uint8_t* ReallocateCounted(void* manager, uint8_t* block, uint64_t had,
                           uint64_t bytes) __asm__(COUNTED_REALLOCATE);
void FreeCounted(void* manager, uint8_t* block, uint64_t bytes) __asm__(COUNTED_FREE);
}

namespace {

/// Calls what the allocator above has nothing to say to any more.
template <typename Call>
uint8_t* Counted(uint64_t had, uint64_t bytes, Call call) {
  millstream::Allowance* mine = at_work;
  if (mine == nullptr) return call();
  if (!mine->TakeCounted(bytes)) return nullptr;
  millstream::Allowance::Scope unwatched(nullptr);
  try {
    uint8_t* block = call();
    mine->GiveCounted(had);
    return block;
  } catch (...) {
    mine->GiveCounted(bytes);
    throw;
  }
}

}  // namespace

uint8_t* AllocateCounted(void* manager, uint64_t bytes) {
  static auto* allocate = Original<uint8_t*(void*, uint64_t)>(COUNTED_ALLOCATE);
  return Counted(0, bytes, [&] { return allocate(manager, bytes); });
}

uint8_t* ReallocateCounted(void* manager, uint8_t* block, uint64_t had, uint64_t bytes) {
  static auto* reallocate = Original<uint8_t*(void*, uint8_t*, uint64_t, uint64_t)>(COUNTED_REALLOCATE);
  return Counted(had, bytes, [&] { return reallocate(manager, block, had, bytes); });
}

void FreeCounted(void* manager, uint8_t* block, uint64_t bytes) {
  static auto* free_block = Original<void(void*, uint8_t*, uint64_t)>(COUNTED_FREE);
  if (at_work != nullptr) at_work->GiveCounted(bytes);
  millstream::Allowance::Scope unwatched(nullptr);
  free_block(manager, block, bytes);
}

#endif
