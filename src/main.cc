// Builds the house: which kinds of sources, filters and sinks there are, and hands over to the command line.
#include <malloc.h>

#include "cli/verbs.h"
#include "filters/filters.h"
#include "sinks/sinks.h"
#include "sources/sources.h"

namespace {

// Without these glibc raises its bounds with each large block that is freed, and then keeps such blocks, in
// each thread's arena: clients that send large bodies would make the process keep some of each for good.
constexpr int kMmapBytesMin = 4 << 20;  // a block of so much goes back to the system when it is freed
constexpr int kTrimBytesMin = 16 << 20;

}  // namespace

int main(int argc, char** argv) {
  using namespace millstream;
  mallopt(M_MMAP_THRESHOLD, kMmapBytesMin);
  mallopt(M_TRIM_THRESHOLD, kTrimBytesMin);
  Registry registry;
  AddSources(registry);
  AddFilters(registry);
  AddSinks(registry);
  return RunCommandLine(argc, argv, registry);
}
