#include "cli/http_client.h"

#include <curl/curl.h>

#include <chrono>

#include "base/text.h"

namespace millstream {
namespace {

constexpr long kConnectTimeoutMs = 3000;
constexpr std::chrono::seconds kAnswerSoon{1};

struct Receiving {
  HttpAnswer answer;
  const std::function<bool(std::string_view)>* on_data = nullptr;
  CURL* curl = nullptr;
  std::string data_uuid;  // that the server must have; empty: any
  bool ended_by_caller = false;
  bool is_other_data = false;
};

size_t OnHeader(char* data, size_t size, size_t count, void* context) {
  auto& receiving = *static_cast<Receiving*>(context);
  std::string_view line(data, size * count);
  if (line.starts_with("HTTP/")) {
    receiving.answer.headers.clear();
    return line.size();
  }
  size_t colon = line.find(':');
  if (colon == std::string_view::npos) return line.size();
  std::string name = Lower(line.substr(0, colon));
  std::string_view value = Trim(line.substr(colon + 1));
  receiving.answer.headers[name] = value;
  receiving.is_other_data =
      name == "millstream-data" && !receiving.data_uuid.empty() && value != receiving.data_uuid;
  return receiving.is_other_data ? 0 : line.size();
}

size_t OnData(char* data, size_t size, size_t count, void* context) {
  auto& receiving = *static_cast<Receiving*>(context);
  std::string_view bytes(data, size * count);
  long status = 0;
  curl_easy_getinfo(receiving.curl, CURLINFO_RESPONSE_CODE, &status);
  if (status == 200 && *receiving.on_data) {
    if ((*receiving.on_data)(bytes)) return bytes.size();
    receiving.ended_by_caller = true;
    return 0;
  }
  receiving.answer.body.append(bytes);
  return bytes.size();
}

/// Of a request that a stop may end; what is answered soon is taken all the same.
struct Ending {
  const std::stop_token& stop;
  const std::chrono::steady_clock::time_point not_before = std::chrono::steady_clock::now() + kAnswerSoon;
};

/// libcurl calls it about once a second, whatever comes.
int OnProgress(void* context, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  const auto& ending = *static_cast<const Ending*>(context);
  return ending.stop.stop_requested() && std::chrono::steady_clock::now() >= ending.not_before ? 1 : 0;
}

}  // namespace

struct CurlClient::State {
  CURL* curl = curl_easy_init();
  ~State() { curl_easy_cleanup(curl); }
};

CurlClient::CurlClient(std::string url, std::string token, std::string data_uuid)
    : url_(std::move(url)),
      token_(std::move(token)),
      data_uuid_(std::move(data_uuid)),
      state_(std::make_unique<State>()) {}

CurlClient::~CurlClient() = default;

Result<HttpAnswer> CurlClient::Send(const Request& request) {
  CURL* curl = state_->curl;
  curl_easy_reset(curl);
  std::string url = url_ + request.path;
  Receiving receiving;
  receiving.on_data = &request.on_data;
  receiving.curl = curl;
  receiving.data_uuid = data_uuid_;
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_PROXY, "");
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, kConnectTimeoutMs);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(request.timeout_ms));
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, OnHeader);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &receiving);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, OnData);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &receiving);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, stop_.stop_possible() ? 0L : 1L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, OnProgress);
  Ending ending{stop_};
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &ending);
  if (request.method == "POST" || request.method == "PUT") {
    curl_easy_setopt(curl, CURLOPT_POST, 1L);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body.data() == nullptr ? "" : request.body.data());
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
  }
  curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  curl_slist* headers = curl_slist_append(nullptr, "Expect:");
  if (!token_.empty()) headers = curl_slist_append(headers, ("Authorization: Bearer " + token_).c_str());
  for (const std::string& header : request.headers) headers = curl_slist_append(headers, header.c_str());
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  CURLcode code = curl_easy_perform(curl);
  curl_slist_free_all(headers);
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  receiving.answer.status = static_cast<int>(status);
  if (receiving.is_other_data)
    return Fail(
        Conflict("{} serves other data than this project's; stop that server, or name yours with "
                 "--server URL",
                 url_));
  if (code == CURLE_WRITE_ERROR && receiving.ended_by_caller) return std::move(receiving.answer);
  if (code == CURLE_ABORTED_BY_CALLBACK)
    return Fail(
        Cancelled("interrupted before {} answered; what was asked for may be done all the same", url_));
  if (code == CURLE_OPERATION_TIMEDOUT) return Fail(Deadline("{}: no answer within the time", url_));
  if (code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR)
    return Fail(Unavailable("{}: the answer broke off: {}", url_, curl_easy_strerror(code)));
  if (code != CURLE_OK) return Fail(Unavailable("cannot reach {}: {}", url_, curl_easy_strerror(code)));
  return std::move(receiving.answer);
}

Result<HttpAnswer> SandboxClient::Send(const Request& request) {
  Request inside = request;
  inside.headers.push_back("Millstream-Sandbox: " + sandbox_);
  return client_->Send(inside);
}

std::string UrlEncode(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) || std::strchr("-_.~", c) != nullptr) {
      out += c;
    } else {
      fmt::format_to(std::back_inserter(out), "%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

}  // namespace millstream
