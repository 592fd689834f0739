#include "base/planted.h"

#ifdef MILLSTREAM_PLANTED_BUGS
#include <cstdlib>
#include <string_view>
#endif

namespace millstream {

#ifdef MILLSTREAM_PLANTED_BUGS
bool IsPlanted(Planted bug) {
  static const char* const kNames[] = {
#define MILLSTREAM_NAME(name) #name,
      MILLSTREAM_PLANTED_BUGS_LIST(MILLSTREAM_NAME)
#undef MILLSTREAM_NAME
  };
  static const char* const planted = std::getenv("MILLSTREAM_PLANT");
  return planted != nullptr && std::string_view(planted) == kNames[static_cast<int>(bug)];
}
#else
bool IsPlanted(Planted) { return false; }
#endif

}  // namespace millstream
