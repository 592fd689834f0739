#include "server/http_text.h"

#include <algorithm>
#include <charconv>

#include "base/text.h"

namespace millstream {
namespace {

size_t CountReplacements(std::string_view text) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find("\xEF\xBF\xBD", at)) != text.npos; at += 3) ++count;
  return count;
}

/// AppendJsonString puts a replacement character for each byte that is not UTF-8.
bool IsUtf8(std::string_view text) {
  std::string json;
  AppendJsonString(json, text);
  return CountReplacements(json) == CountReplacements(text);
}

bool AllDigits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

std::string FindFaultOfRawHead(std::string_view raw) {
  for (size_t i = 0; i < raw.size(); ++i) {
    char c = raw[i];
    if (c == '\0') return "a NUL byte in the head";
    if (c == '\n' && (i == 0 || raw[i - 1] != '\r')) return "a line of the head ends without CR";
    if (c == '\r' && (i + 1 >= raw.size() || raw[i + 1] != '\n')) return "a CR without LF in the head";
    if (c == '\n' && i + 1 < raw.size() && (raw[i + 1] == ' ' || raw[i + 1] == '\t'))
      return "a folded header line";
  }
  return "";
}

std::string FindFaultOfFraming(HttpRequest& request, bool is_http_11, bool* chunked) {
  *chunked = false;
  int lengths = 0, encodings = 0, hosts = 0;
  for (const auto& [name, value] : request.headers) {
    if (name == "content-length") {
      ++lengths;
      uint64_t length = 0;
      auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), length);
      if (!AllDigits(value) || error != std::errc()) return "Content-Length is not a number";
      request.content_length = length;
    } else if (name == "transfer-encoding") {
      ++encodings;
      if (LowerAscii(value) != "chunked")
        return fmt::format("Transfer-Encoding '{}'; only 'chunked' is known", value);
      *chunked = true;
    } else if (name == "host") {
      ++hosts;
      if (!value.empty() && !HostOf(value)) return "the Host header is malformed";
    }
  }
  if (lengths > 1) return "several Content-Length headers";
  if (encodings > 1) return "several Transfer-Encoding headers";
  if (lengths > 0 && encodings > 0) return "both Content-Length and Transfer-Encoding";
  if (encodings > 0 && !is_http_11) return "Transfer-Encoding in HTTP/1.0";
  if (hosts > 1) return "several Host headers";
  if (hosts == 0 && is_http_11) return "no Host header";
  return "";
}

std::optional<std::string> PercentDecode(std::string_view text, bool form) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && form) {
      out += ' ';
    } else if (text[i] == '%') {
      if (i + 2 >= text.size()) return std::nullopt;
      int high = HexDigit(text[i + 1]), low = HexDigit(text[i + 2]);
      if (high < 0 || low < 0 || (high == 0 && low == 0)) return std::nullopt;
      out += static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      out += text[i];
    }
  }
  if (!IsUtf8(out)) return std::nullopt;
  return out;
}

std::optional<std::vector<std::pair<std::string, std::string>>> ParseQuery(std::string_view query) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (std::string_view item : Split(query, '&')) {
    if (item.empty()) continue;
    size_t equals = item.find('=');
    auto name = PercentDecode(item.substr(0, equals), true);
    auto value = PercentDecode(equals == item.npos ? "" : item.substr(equals + 1), true);
    if (!name || !value) return std::nullopt;
    pairs.emplace_back(std::move(*name), std::move(*value));
  }
  return pairs;
}

std::string LowerAscii(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::string MediaType(std::string_view content_type) {
  return LowerAscii(Trim(content_type.substr(0, content_type.find(';'))));
}

std::optional<size_t> Negotiate(const std::string* accept, const std::vector<std::string_view>& offers) {
  if (accept == nullptr || Trim(*accept).empty()) return 0;
  std::optional<size_t> best;
  double best_quality = 0;
  for (size_t i = 0; i < offers.size(); ++i) {
    std::string_view offer = offers[i];
    double quality = 0;
    int best_match = -1;
    for (std::string_view item : Split(*accept, ',')) {
      std::string type = MediaType(item);
      int match = type == offer                                                                ? 2
                  : type == "*/*"                                                              ? 0
                  : type.ends_with("/*") && offer.starts_with(type.substr(0, type.size() - 1)) ? 1
                                                                                               : -1;
      if (match <= best_match) continue;
      best_match = match;
      quality = 1;
      size_t at = LowerAscii(item).find("q=");
      if (at != item.npos) {
        std::string_view number = Trim(item.substr(at + 2));
        std::from_chars(number.data(), number.data() + number.size(), quality);
      }
    }
    if (best_match >= 0 && quality > best_quality) best_quality = quality, best = i;
  }
  return best;
}

std::optional<std::string> HostOf(std::string_view authority) {
  std::string_view host = authority, port;
  if (authority.starts_with('[')) {
    size_t end = authority.find(']');
    if (end == authority.npos) return std::nullopt;
    host = authority.substr(1, end - 1);
    std::string_view rest = authority.substr(end + 1);
    if (!rest.empty() && rest[0] != ':') return std::nullopt;
    port = rest.empty() ? rest : rest.substr(1);
    for (char c : host)
      if (HexDigit(c) < 0 && c != ':' && c != '.') return std::nullopt;
  } else if (size_t colon = authority.find(':'); colon != authority.npos) {
    host = authority.substr(0, colon);
    port = authority.substr(colon + 1);
  }
  if (host.empty() || (!port.empty() && !AllDigits(port))) return std::nullopt;
  if (!authority.starts_with('['))
    for (char c : host)
      if (!(std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '-' || c == '_'))
        return std::nullopt;
  if (host.ends_with('.')) host.remove_suffix(1);
  return LowerAscii(host);
}

}  // namespace millstream
