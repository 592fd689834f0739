// In place of DuckDB's own allocator: under ThreadSanitizer its memory comes from malloc.
//
// DuckDB's library is not built with ThreadSanitizer. Its allocator hands memory that one thread gave back to
// another, and the sanitizer, which does not see that, takes the use by each of them for a race. With malloc
// it sees where memory begins and ends to be somebody's. The library calls these three functions by way of
// its symbol table, in which those of the program come first.

#include <cstdint>
#include <cstdlib>

extern "C" {
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}

namespace duckdb {

struct PrivateAllocatorData;
struct Allocator {
  static uint8_t* DefaultAllocate(PrivateAllocatorData*, uint64_t size);
  static void DefaultFree(PrivateAllocatorData*, uint8_t* memory, uint64_t size);
  static uint8_t* DefaultReallocate(PrivateAllocatorData*, uint8_t* memory, uint64_t old_size, uint64_t size);
};

namespace {

/// Taking memory and giving it back count as writes, which would have to come after what other threads did
/// with it. DuckDB sees to that by counts of references and locks that are not seen.
struct Unwatched {
  Unwatched() { AnnotateIgnoreWritesBegin(__FILE__, __LINE__); }
  ~Unwatched() { AnnotateIgnoreWritesEnd(__FILE__, __LINE__); }
};

}  // namespace

uint8_t* Allocator::DefaultAllocate(PrivateAllocatorData*, uint64_t size) {
  Unwatched unwatched;
  return static_cast<uint8_t*>(std::malloc(size));
}

void Allocator::DefaultFree(PrivateAllocatorData*, uint8_t* memory, uint64_t) {
  Unwatched unwatched;
  std::free(memory);
}

uint8_t* Allocator::DefaultReallocate(PrivateAllocatorData*, uint8_t* memory, uint64_t, uint64_t size) {
  Unwatched unwatched;
  return static_cast<uint8_t*>(std::realloc(memory, size));
}

}  // namespace duckdb
