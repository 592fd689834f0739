// Loop and Shared: an I/O thread of HttpServer, and what all of its connections share.
//
// Place: floor 7. Included by http_session.h alone, with all of Asio and Beast that HttpServer uses: they are
// compiled once, in http_server.cc.
#pragma once

#include <sys/socket.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <ctime>
#include <iterator>
#include <unordered_set>

#include "base/text.h"
#include "server/http_exchange.h"
#include "server/http_server.h"
#include "server/http_text.h"
#include "server/problem.h"

namespace millstream {
namespace http_internal {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using SteadyClock = std::chrono::steady_clock;

constexpr size_t kReadBytes = 64 << 10;
constexpr size_t kBodyStepBytes = 1 << 20;  // a longer body's buffer grows as its bytes come
constexpr size_t kWritePieceBytes = 256 << 10;
constexpr size_t kDrainBytes =
    256 << 10;  // read and dropped after a refusal, so that the client sees the answer
constexpr int64_t kDrainUs = 1'000'000;
constexpr int kDroppedReads = 8;  // of a client that there is no place for
constexpr auto kStopPoll = std::chrono::milliseconds(2);
constexpr auto kCutWait = std::chrono::seconds(2);
constexpr auto kAcceptRetry = std::chrono::milliseconds(100);
constexpr auto kNever = SteadyClock::time_point::max();

/// Beast's body type for chunked bodies: appends to a BodyBuffer.
struct BufferBody {
  using value_type = BodyBuffer;
  struct reader {
    template <bool kIsRequest, typename Fields>
    reader(http::header<kIsRequest, Fields>&, value_type& body) : body_(body) {}
    void init(const boost::optional<uint64_t>&, error_code& error) { error = {}; }
    template <typename Buffers>
    size_t put(const Buffers& buffers, error_code& error) {
      size_t bytes = 0;
      for (auto it = asio::buffer_sequence_begin(buffers); it != asio::buffer_sequence_end(buffers); ++it) {
        asio::const_buffer buffer = *it;
        body_.Append({static_cast<const char*>(buffer.data()), buffer.size()});
        bytes += buffer.size();
      }
      error = {};
      return bytes;
    }
    void finish(error_code& error) { error = {}; }
    value_type& body_;
  };
};
using Parser = http::request_parser<BufferBody>;

class Session;

/// One I/O thread.
struct Loop {
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
  std::unordered_set<Session*> sessions;  // touched by the loop's thread only
  std::thread thread;
  time_t date_second = 0;
  std::string date;
};

/// What sessions share.
struct Shared {
  HttpServerOptions options;
  HttpHandler* handler = nullptr;
  std::string fixed_headers;
  std::atomic<uint32_t> connections{0};
  std::atomic<uint64_t> buffered{0};
  std::atomic<bool> stopping{false};
  std::stop_source stop;
};

}  // namespace http_internal
}  // namespace millstream
