#include <array>
#include <cstring>

#include "base/text.h"
#include "event/literals.h"

namespace millstream {
namespace {

constexpr char kBase64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<int8_t, 256> Base64Values() {
  std::array<int8_t, 256> values{};
  for (int8_t& value : values) value = -1;
  for (int i = 0; i < 64; ++i) values[static_cast<unsigned char>(kBase64[i])] = static_cast<int8_t>(i);
  return values;
}
constexpr std::array<int8_t, 256> kBase64Value = Base64Values();

}  // namespace

bool ParseUuid(std::string_view text, char out[16]) {
  if (text.size() != 36 && text.size() != 32) return false;
  bool hyphens = text.size() == 36;
  size_t at = 0;
  for (int byte = 0; byte < 16; ++byte) {
    if (hyphens && (byte == 4 || byte == 6 || byte == 8 || byte == 10)) {
      if (text[at++] != '-') return false;
    }
    int high = HexDigit(text[at]), low = HexDigit(text[at + 1]);
    if (high < 0 || low < 0) return false;
    at += 2;
    out[15 - byte] = static_cast<char>(high * 16 + low);
  }
  out[15] = static_cast<char>(out[15] ^ 0x80);
  return true;
}

std::string FormatUuid(const char bytes[16]) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  for (int byte = 0; byte < 16; ++byte) {
    if (byte == 4 || byte == 6 || byte == 8 || byte == 10) text += '-';
    auto value = static_cast<unsigned char>(bytes[15 - byte]);
    if (byte == 0) value ^= 0x80;
    text += kHex[value >> 4];
    text += kHex[value & 15];
  }
  return text;
}

bool ParseBase64(std::string_view text, std::string& out) {
  out.clear();
  if (text.size() % 4 != 0) return false;
  for (size_t i = 0; i < text.size(); i += 4) {
    bool last = i + 4 == text.size();
    int padding = !last || text[i + 3] != '=' ? 0 : text[i + 2] == '=' ? 2 : 1;
    uint32_t group = 0;
    for (int j = 0; j < 4 - padding; ++j) {
      int value = kBase64Value[static_cast<unsigned char>(text[i + j])];
      if (value < 0) return false;
      group |= static_cast<uint32_t>(value) << (18 - 6 * j);
    }
    out += static_cast<char>(group >> 16);
    if (padding < 2) out += static_cast<char>(group >> 8);
    if (padding < 1) out += static_cast<char>(group);
  }
  return true;
}

std::string FormatBase64(std::string_view bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) {
      group = group << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0);
    }
    text += kBase64[group >> 18];
    text += kBase64[group >> 12 & 63];
    text += i + 1 < bytes.size() ? kBase64[group >> 6 & 63] : '=';
    text += i + 2 < bytes.size() ? kBase64[group & 63] : '=';
  }
  return text;
}

}  // namespace millstream
