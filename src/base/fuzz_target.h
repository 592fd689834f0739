// FUZZ_TARGET: a function over any bytes, which libFuzzer runs, and the room's test program over the
// committed inputs.
//
// Place: floor 0; for NAME_fuzz.cc alone, each of which defines one: FUZZ_TARGET(ROOM_NAME_fuzz, text) {…}.
// In a build with MILLSTREAM_FUZZ it is a program of that name; else a test case that is given every file of
// tests/fuzz/ROOM_NAME_fuzz. Nothing after the end of `text` may be read. Failure: by CHECK.
#pragma once

#include <cstdint>
#include <string_view>

#ifdef MILLSTREAM_FUZZ

#define FUZZ_TARGET(NAME, TEXT)                                             \
  static void NAME(std::string_view TEXT);                                  \
  extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) { \
    NAME({reinterpret_cast<const char*>(data), size});                      \
    return 0;                                                               \
  }                                                                         \
  static void NAME(std::string_view TEXT)

#else

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

namespace millstream {

inline void RunOnInputs(const std::string& name, void (*target)(std::string_view)) {
  int inputs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(MILLSTREAM_SOURCE_DIR "/tests/fuzz/" + name)) {
    const size_t size = entry.file_size();
    auto bytes = std::make_unique<char[]>(size);  // no more, so that a sanitizer sees what is read beyond
    std::ifstream(entry.path(), std::ios::binary).read(bytes.get(), static_cast<std::streamsize>(size));
    target({bytes.get(), size});
    ++inputs;
  }
  EXPECT_GT(inputs, 0);
}

}  // namespace millstream

#define FUZZ_TARGET(NAME, TEXT)                              \
  static void NAME(std::string_view TEXT);                   \
  TEST(Fuzz, NAME) { millstream::RunOnInputs(#NAME, NAME); } \
  static void NAME(std::string_view TEXT)

#endif
