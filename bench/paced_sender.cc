// paced_sender: sends batches of events to a running server at a steady rate and measures how long it takes
// from an acknowledgement until GET /v1/wait says that its rows are in the tables.
//
//   paced_sender PORT PATH FILE SENDERS EVENTS_A_BATCH EVENTS_A_SECOND SECONDS SAMPLE_EVERY
//
// FILE: events as NDJSON lines, of which batches are cut in turn. Each sender has a connection and a schedule
// of its own; a request goes at its time whether or not the one before was late. Of SAMPLE_EVERY requests one
// is waited for, on a second connection, beside the sending. Prints one JSON object: "visible_ms" and
// "acknowledged_ms" (arrays, ms), "late_ms_max", by how much the schedule was missed at most.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "paced_sender: %s\n", what.c_str());
  std::exit(1);
}

double Ms(Clock::duration time) { return std::chrono::duration<double, std::milli>(time).count(); }

/// A keep-alive HTTP/1.1 connection to 127.0.0.1; answers must have a Content-Length.
class Connection {
 public:
  explicit Connection(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to = {};
    to.sin_family = AF_INET, to.sin_port = htons(port), to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) Fail("cannot connect");
    int on = 1;
    ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  ~Connection() { ::close(socket_); }
  Connection(const Connection&) = delete;

  /// The body of an answer of 200.
  std::string Ask(const std::string& request) {
    for (size_t sent = 0; sent < request.size();) {
      ssize_t n = ::send(socket_, request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) Fail("the server closed the connection");
      sent += static_cast<size_t>(n);
    }
    std::string answer;
    size_t head = std::string::npos, length = 0;
    while (head == std::string::npos || answer.size() < head + 4 + length) {
      char bytes[4096];
      ssize_t n = ::recv(socket_, bytes, sizeof bytes, 0);
      if (n <= 0) Fail("the server closed the connection");
      answer.append(bytes, static_cast<size_t>(n));
      if (head != std::string::npos || (head = answer.find("\r\n\r\n")) == std::string::npos) continue;
      std::string lower = answer.substr(0, head);
      std::transform(lower.begin(), lower.end(), lower.begin(),
                     [](unsigned char c) { return std::tolower(c); });
      size_t field = lower.find("content-length:");
      if (field == std::string::npos) Fail("an answer without Content-Length");
      length = std::strtoull(lower.c_str() + field + 15, nullptr, 10);
    }
    if (answer.compare(9, 3, "200") != 0) Fail("answered " + answer);
    return answer.substr(head + 4);
  }

 private:
  int socket_;
};

struct Plan {
  uint16_t port = 0;
  std::vector<std::string> requests;
  Clock::duration every{};
  int count = 0, sample_every = 1;
};

class Sender {
 public:
  Sender(const Plan& plan, Clock::time_point first) : plan_(plan), first_(first) {}

  void Run() {
    std::thread waiter([this] { Wait(); });
    Connection connection(plan_.port);
    for (int i = 0; i < plan_.count; ++i) {
      Clock::time_point due = first_ + i * plan_.every;
      std::this_thread::sleep_until(due);
      Clock::time_point began = Clock::now();
      late_ms_ = std::max(late_ms_, Ms(began - due));
      std::string answer = connection.Ask(plan_.requests[static_cast<size_t>(i) % plan_.requests.size()]);
      Clock::time_point now = Clock::now();
      acknowledged_ms_.push_back(Ms(now - began));
      if (i % plan_.sample_every != 0) continue;
      size_t key = answer.find("\"position\":\"");
      if (key == std::string::npos) Fail("no position in " + answer);
      std::lock_guard lock(mutex_);
      samples_.push_back({answer.substr(key + 12, answer.find('"', key + 12) - key - 12), now});
      changed_.notify_one();
    }
    {
      std::lock_guard lock(mutex_);
      ended_ = true;
      changed_.notify_one();
    }
    waiter.join();
  }

  std::vector<double> visible_ms_, acknowledged_ms_;
  double late_ms_ = 0;

 private:
  struct Sample {
    std::string position;
    Clock::time_point acknowledged;
  };

  void Wait() {
    Connection connection(plan_.port);
    while (true) {
      Sample sample;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return ended_ || !samples_.empty(); });
        if (samples_.empty()) return;
        sample = std::move(samples_.front());
        samples_.pop_front();
      }
      std::string position;
      for (char c : sample.position) position += c == ',' ? "%2C" : std::string(1, c);
      connection.Ask("GET /v1/wait?timeout=60s&position=" + position +
                     " HTTP/1.1\r\nHost: localhost\r\n\r\n");
      visible_ms_.push_back(Ms(Clock::now() - sample.acknowledged));
    }
  }

  const Plan& plan_;
  Clock::time_point first_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Sample> samples_;
  bool ended_ = false;
};

void PrintArray(const char* name, const std::vector<double>& values) {
  std::printf("\"%s\":[", name);
  for (size_t i = 0; i < values.size(); ++i) std::printf("%s%.3f", i == 0 ? "" : ",", values[i]);
  std::printf("],");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 9) Fail("PORT PATH FILE SENDERS EVENTS_A_BATCH EVENTS_A_SECOND SECONDS SAMPLE_EVERY");
  Plan plan;
  plan.port = static_cast<uint16_t>(std::atoi(argv[1]));
  int senders = std::atoi(argv[4]), batch = std::atoi(argv[5]);
  double rate = std::atof(argv[6]), seconds = std::atof(argv[7]);
  plan.sample_every = std::atoi(argv[8]);
  double interval = batch * senders / rate;
  plan.every = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(interval));
  plan.count = static_cast<int>(seconds / interval);
  std::ifstream file(argv[3]);
  std::string line, body;
  for (int lines = 0; std::getline(file, line);) {
    body += line + '\n';
    if (++lines % batch != 0) continue;
    plan.requests.push_back(
        "POST " + std::string(argv[2]) +
        " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: " +
        std::to_string(body.size()) + "\r\n\r\n" + body);
    body.clear();
  }
  if (plan.requests.empty()) Fail("no batches in FILE");

  std::deque<Sender> all;
  std::vector<std::thread> threads;
  Clock::time_point first = Clock::now() + std::chrono::milliseconds(50);
  for (int i = 0; i < senders; ++i) {
    Sender& sender = all.emplace_back(plan, first + i * plan.every / senders);
    threads.emplace_back([&sender] { sender.Run(); });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<double> visible, acknowledged;
  double late = 0;
  for (const Sender& sender : all) {
    visible.insert(visible.end(), sender.visible_ms_.begin(), sender.visible_ms_.end());
    acknowledged.insert(acknowledged.end(), sender.acknowledged_ms_.begin(), sender.acknowledged_ms_.end());
    late = std::max(late, sender.late_ms_);
  }
  std::printf("{");
  PrintArray("visible_ms", visible);
  PrintArray("acknowledged_ms", acknowledged);
  std::printf("\"late_ms_max\":%.3f}\n", late);
}
