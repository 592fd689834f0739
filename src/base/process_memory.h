// How much memory the process has, as the kernel says.
//
// Place: floor 0. Thread-safe. Allocates nothing, so that an allocator may ask. Its file is opened by the
// first call and kept, so that a process that gives up opening files can go on asking.
#pragma once

#include <cstdint>

namespace millstream {

/// Resident, in bytes (proc(5), /proc/self/statm); 0: not known.
uint64_t ResidentBytes() noexcept;

}  // namespace millstream
