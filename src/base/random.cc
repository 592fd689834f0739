#include "base/random.h"

#include <sys/random.h>

#include "base/status.h"

namespace millstream {

uint64_t SystemRandom::Next64() {
  uint64_t value = 0;
  CHECK(getrandom(&value, sizeof value, 0) == sizeof value);
  return value;
}

}  // namespace millstream
