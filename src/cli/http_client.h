// HttpClient: the verbs' way to the HTTP API: over the network, or in this process where no server runs.
//
// Place: floor 8. CurlClient speaks to a server over libcurl, one connection, kept alive. LocalClient
// (local_client.h) calls the same routes over an Engine of this process. Belongs to one thread. Failure:
// kUnavailable if the server cannot be reached, kConflict if it
// serves other data than the project's; an HTTP status is no failure here.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace millstream {

struct HttpAnswer {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
};

class HttpClient {
 public:
  virtual ~HttpClient() = default;

  struct Request {
    std::string method = "GET";
    std::string path;                  // "/v1/…", encoded
    std::vector<std::string> headers;  // "Name: value"
    std::string_view body;
    /// Gets the body as it comes, instead of HttpAnswer::body, if the status is 200; false ends the request.
    std::function<bool(std::string_view)> on_data;
    int64_t timeout_ms = 0;  // 0 = none
  };
  virtual Result<HttpAnswer> Send(const Request& request) = 0;
  /// Requests over the network that are not answered soon end with kCancelled when this is asked to stop.
  virtual void EndOn(std::stop_token /*stop*/) {}
};

class CurlClient final : public HttpClient {
 public:
  /// `url`: "http://127.0.0.1:8410", without a path. `data_uuid`: of the data that it must serve; empty: any.
  CurlClient(std::string url, std::string token, std::string data_uuid = "");
  ~CurlClient() override;
  Result<HttpAnswer> Send(const Request& request) override;
  void EndOn(std::stop_token stop) override { stop_ = std::move(stop); }

 private:
  struct State;
  std::stop_token stop_;
  const std::string url_;
  const std::string token_;
  const std::string data_uuid_;
  std::unique_ptr<State> state_;
};

/// Another client, whose requests all work in a sandbox.
class SandboxClient final : public HttpClient {
 public:
  SandboxClient(std::unique_ptr<HttpClient> client, std::string sandbox)
      : client_(std::move(client)), sandbox_(std::move(sandbox)) {}
  Result<HttpAnswer> Send(const Request& request) override;
  void EndOn(std::stop_token stop) override { client_->EndOn(std::move(stop)); }
  HttpClient& client() { return *client_; }

 private:
  const std::unique_ptr<HttpClient> client_;
  const std::string sandbox_;
};

/// Percent-encodes a part of a path or a query.
std::string UrlEncode(std::string_view text);

}  // namespace millstream
