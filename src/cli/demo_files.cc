#include "cli/demo_files.h"

// The assembler takes the files in as they are; MILLSTREAM_SOURCE_DIR comes from CMake.
#define MILLSTREAM_FILE(SYMBOL, PATH)                                                                      \
  __asm__(".section .rodata\n" #SYMBOL "_begin:\n.incbin \"" MILLSTREAM_SOURCE_DIR "/" PATH "\"\n" #SYMBOL \
          "_end:\n.byte 0\n.previous\n");                                                                  \
  extern "C" const char SYMBOL##_begin[];                                                                  \
  extern "C" const char SYMBOL##_end[]

MILLSTREAM_FILE(millstream_demo_project, "examples/demo/millstream.yaml");
MILLSTREAM_FILE(millstream_demo_webhooks, "examples/demo/webhooks.ndjson");
MILLSTREAM_FILE(millstream_demo_users, "examples/demo/users.csv");

namespace millstream {

std::string_view DemoProject() {
  return {millstream_demo_project_begin,
          static_cast<size_t>(millstream_demo_project_end - millstream_demo_project_begin)};
}

std::string_view DemoWebhooks() {
  return {millstream_demo_webhooks_begin,
          static_cast<size_t>(millstream_demo_webhooks_end - millstream_demo_webhooks_begin)};
}

std::string_view DemoUsers() {
  return {millstream_demo_users_begin,
          static_cast<size_t>(millstream_demo_users_end - millstream_demo_users_begin)};
}

}  // namespace millstream
