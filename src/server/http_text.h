// The small grammars of HTTP: heads that are refused, URLs, queries, lists, media types.
//
// Place: floor 7. Stateless. Sources: RFC 9110, RFC 9112 (sections 2.2, 5, 6), RFC 3986.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/http_message.h"

namespace millstream {

/// Shapes of a raw head (up to and with the empty line) that a careful server refuses before parsing: folded
/// lines, bare CR or LF, NUL. Empty: sound.
std::string FindFaultOfRawHead(std::string_view raw);
/// Shapes that let two servers see two different requests (request smuggling), and missing or doubled Host.
/// Empty: sound. Fills content_length; `chunked` is true if the body is chunked.
std::string FindFaultOfFraming(HttpRequest& request, bool is_http_11, bool* chunked);

/// "%41" → "A"; '+' is a blank if `form`. Nothing if a % is not followed by two hex digits or the text holds
/// NUL or is not UTF-8.
std::optional<std::string> PercentDecode(std::string_view text, bool form);
/// "a=1&b=x%20y". Nothing if it does not decode.
std::optional<std::vector<std::pair<std::string, std::string>>> ParseQuery(std::string_view query);

std::string LowerAscii(std::string_view text);
/// The media type without parameters, in lower case: "application/json; charset=utf-8" → "application/json".
std::string MediaType(std::string_view content_type);
/// The first of `offers` that an Accept header likes best; offers[0] if there is no header. Nothing: none is
/// acceptable.
std::optional<size_t> Negotiate(const std::string* accept, const std::vector<std::string_view>& offers);
/// Host of "host", "host:port", "[::1]:port", in lower case, without brackets and a final dot. Nothing if it
/// is malformed.
std::optional<std::string> HostOf(std::string_view authority);

}  // namespace millstream
