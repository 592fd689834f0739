#include "server/problem.h"

#include <iterator>

#include "base/text.h"

namespace millstream {
namespace {

constexpr char kBusyRetrySeconds[] = "1";
constexpr char kUnavailableRetrySeconds[] = "2";

struct Place {
  int status;
  std::string_view code;
};

Place PlaceOf(Code code) {
  switch (code) {
    case Code::kInvalid:
      return {422, "invalid"};
    case Code::kNotFound:
      return {404, "not_found"};
    case Code::kConflict:
      return {409, "conflict"};
    case Code::kExhausted:
      return {429, "busy"};
    case Code::kUnavailable:
    case Code::kCancelled:
      return {503, "unavailable"};
    case Code::kDeadline:
      return {504, "deadline"};
    case Code::kCorrupt:
      return {500, "damaged"};
    default:
      return {500, "internal"};
  }
}

}  // namespace

std::string_view ReasonPhrase(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 206:
      return "Partial Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 406:
      return "Not Acceptable";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 411:
      return "Length Required";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 422:
      return "Unprocessable Content";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    case 507:
      return "Insufficient Storage";
    default:
      return "Unknown";
  }
}

std::string FaultsJson(const Faults& faults) {
  std::string out = "[";
  for (const Fault& fault : faults) {
    if (out.size() > 1) out += ',';
    out += '{';
    auto text = [&](std::string_view name, const std::string& value) {
      if (value.empty()) return;
      fmt::format_to(std::back_inserter(out), "\"{}\":", name);
      AppendJsonString(out, value);
      out += ',';
    };
    text("file", fault.file);
    if (fault.line > 0) fmt::format_to(std::back_inserter(out), "\"line\":{},", fault.line);
    if (fault.column > 0) fmt::format_to(std::back_inserter(out), "\"column\":{},", fault.column);
    text("path", fault.path);
    if (fault.index >= 0) fmt::format_to(std::back_inserter(out), "\"index\":{},", fault.index);
    text("expected", fault.expected);
    text("hint", fault.hint);
    text("excerpt", fault.excerpt);
    out += "\"message\":";
    AppendJsonString(out, fault.message);
    out += '}';
  }
  return out + "]";
}

HttpResponse Problem(int status, std::string_view code, std::string_view detail, const Faults& faults,
                     std::string_view members) {
  HttpResponse response{status, "application/problem+json", {}};
  response.body = fmt::format(R"({{"type":"urn:millstream:error:{}","title":"{}","status":{},"detail":)",
                              code, ReasonPhrase(status), status);
  AppendJsonString(response.body, detail);
  fmt::format_to(std::back_inserter(response.body), R"(,"code":"{}")", code);
  if (!faults.empty()) response.body += ",\"faults\":" + FaultsJson(faults);
  if (!members.empty()) response.body.append(",").append(members);
  response.body += "}\n";
  if (status == 429) response.headers.emplace_back("Retry-After", kBusyRetrySeconds);
  if (status == 503) response.headers.emplace_back("Retry-After", kUnavailableRetrySeconds);
  if (status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

HttpResponse Problem(const Status& status, const Faults& faults) {
  Place place = PlaceOf(status.code());
  return Problem(place.status, place.code, status.message(), faults);
}

HttpResponse AppendProblem(const Status& status) {
  bool is_full = status.message().find("disk") != std::string::npos ||
                 status.message().find("space") != std::string::npos;
  if (status.code() == Code::kExhausted && is_full) return Problem(507, "disk_full", status.message());
  return Problem(status);
}

}  // namespace millstream
