// HttpTestClient: a raw socket and just enough HTTP to see what a server really sends. For tests only.
//
// Place: floor 7, included by *_test.cc. Blocking, with a receive timeout of ten seconds.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "server/http_text.h"

namespace millstream {

struct TestResponse {
  int status = 0;  // 0: the connection ended before a whole head
  std::string head;
  std::string body;
  bool whole = false;  // by Content-Length or the last chunk

  std::string Header(std::string_view name) const {
    std::string lower = LowerAscii(head), key = "\r\n" + std::string(name) + ": ";
    size_t at = lower.find(key);
    if (at == lower.npos) return "";
    at += key.size();
    return head.substr(at, head.find("\r\n", at) - at);
  }
};

class HttpTestClient {
 public:
  explicit HttpTestClient(const std::string& address) {
    size_t colon = address.rfind(':');
    socket_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(std::atoi(address.c_str() + colon + 1)));
    inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr);
    timeval timeout{10, 0};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    int yes = 1;
    setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    EXPECT_EQ(connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  }
  ~HttpTestClient() { Close(); }
  void Close() {
    if (socket_ >= 0) close(socket_);
    socket_ = -1;
  }

  /// False once the peer has closed.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t sent = send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  /// Reads until `text` lies in what came; false at the end of the connection.
  bool ReadUntil(std::string_view text) {
    while (buffer_.find(text) == buffer_.npos)
      if (!ReadMore()) return false;
    return true;
  }
  std::string TakeBuffer() { return std::exchange(buffer_, ""); }
  /// True if the peer closes without sending more.
  bool IsClosed() { return buffer_.empty() && !ReadMore(); }
  void ReadAll() {
    while (ReadMore()) {
    }
  }

  TestResponse Read(bool is_head_request = false) {
    TestResponse response;
    if (!ReadUntil("\r\n\r\n")) return response;
    size_t end = buffer_.find("\r\n\r\n") + 4;
    response.head = buffer_.substr(0, end);
    buffer_.erase(0, end);
    response.status = std::atoi(response.head.c_str() + 9);
    std::string length = response.Header("content-length");
    if (is_head_request || response.status == 100 || response.status == 204) {
      response.whole = true;
    } else if (!length.empty()) {
      size_t wanted = std::strtoull(length.c_str(), nullptr, 10);
      while (buffer_.size() < wanted && ReadMore()) {
      }
      response.whole = buffer_.size() >= wanted;
      response.body = buffer_.substr(0, wanted);
      buffer_.erase(0, wanted);
    } else {
      ReadChunks(response);
    }
    return response;
  }
  TestResponse Ask(std::string_view request) {
    Send(request);
    return Read(request.starts_with("HEAD"));
  }
  TestResponse Get(const std::string& target, const std::string& headers = "") {
    return Ask("GET " + target + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n");
  }
  TestResponse Post(const std::string& target, std::string_view body,
                    const std::string& type = "application/json", const std::string& headers = "") {
    return Ask("POST " + target + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: " + type +
               "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + headers + "\r\n" +
               std::string(body));
  }

 private:
  bool ReadMore() {
    char bytes[16 << 10];
    ssize_t got = recv(socket_, bytes, sizeof bytes, 0);
    if (got <= 0) return false;
    buffer_.append(bytes, static_cast<size_t>(got));
    return true;
  }
  void ReadChunks(TestResponse& response) {
    while (ReadUntil("\r\n")) {
      size_t size = std::strtoull(buffer_.c_str(), nullptr, 16);
      size_t start = buffer_.find("\r\n") + 2;
      while (buffer_.size() < start + size + 2)
        if (!ReadMore()) return;
      response.body.append(buffer_, start, size);
      buffer_.erase(0, start + size + 2);
      if (size == 0) {
        response.whole = true;
        return;
      }
    }
  }

  int socket_ = -1;
  std::string buffer_;
};

}  // namespace millstream
