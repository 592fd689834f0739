#include "base/process_memory.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>

namespace millstream {

uint64_t ResidentBytes() noexcept {
  static const int statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  static const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  char text[128];
  const ssize_t size = statm < 0 ? -1 : pread(statm, text, sizeof text - 1, 0);
  if (size <= 0) return 0;
  text[size] = 0;
  char* resident = nullptr;
  (void)std::strtoull(text, &resident, 10);  // the size of the address space
  return std::strtoull(resident, nullptr, 10) * page;
}

}  // namespace millstream
