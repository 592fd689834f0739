// The spike that settled the log's format (docs/decisions/0002-log-format.md): orders of 158 bytes, in
// batches of 1, 15 and 10,000.
//
//   log_bench [EVENTS] [FOLDER] [BATCH…]
//   log_bench open GIGABYTES [FOLDER]     how long a log of that size takes to open after an unclean stop
//
// Prints, for each codec and size of batch: bytes an event on disk; nanoseconds an event to encode, to append
// (durable, one producer), to read, and to read with the data touched; seconds to open after an unclean stop;
// and the same after sealing and merging.
#include <stdlib.h>
#include <time.h>

#include <cstdio>
#include <filesystem>
#include <future>

#include "base/random.h"
#include "event/assembler.h"
#include "log/log.h"

namespace millstream {
namespace {

constexpr size_t kChunkBytes = 32 << 20;  // encoded between two measurements

// The shape and the spread of values of the rivals' orders; the numbers are our own.
class OrderWriter {
 public:
  std::string_view Next() {
    static constexpr const char* kTypes[] = {"order.placed", "order.paid", "order.cancelled", "page.viewed"};
    static constexpr const char* kCurrencies[] = {"USD", "EUR", "GBP"};
    static constexpr const char* kWords[] = {"alpha", "bravo", "delta", "gamma",
                                             "omega", "sigma", "kappa", "theta"};
    const uint64_t bits = random_.Next64();
    const uint64_t second = ++number_ / 1000;
    text_.clear();
    fmt::format_to(std::back_inserter(text_),
                   R"({{"id":"evt-{:08}","type":"{}","customer":"c{:05}","amount":{}.{:02},"currency":"{}",)"
                   R"("ts":"2026-11-{:02}T{:02}:{:02}:{:02}.{:03}Z","note":"{}, customer note"}})",
                   number_, kTypes[bits & 3], (bits >> 8) % 100'000, (bits >> 36) % 200, (bits >> 44) % 100,
                   kCurrencies[(bits >> 2) % 3], 22 + second / 86'400 % 8, second / 3600 % 24,
                   second / 60 % 60, second % 60, (bits >> 26) % 1000, kWords[bits >> 56 & 7]);
    text_.reserve(text_.size() + 64);  // the assembler may look past an event's end
    return text_;
  }

 private:
  SeededRandom random_{20261122};
  uint64_t number_ = 0;
  std::string text_;
};

StreamShape OrderShape(Codec codec) {
  StreamShape shape;
  shape.name = "orders";
  shape.codec = codec;
  for (const auto& [name, type] : {std::pair{"id", "varchar not null"},
                                   {"type", "varchar not null"},
                                   {"customer", "varchar"},
                                   {"amount", "decimal(12,2)"},
                                   {"ts", "timestamptz"}}) {
    auto field = ParseField(name, type);
    CHECK(field.has_value());
    shape.contract.fields.push_back(std::move(*field));
  }
  return shape;
}

// Wall time, and CPU time of all threads: on a busy machine only the latter says something.
struct Time {
  int64_t wall_ns = 0;
  int64_t cpu_ns = 0;
};

int64_t ReadClock(clockid_t clock) {
  timespec now;
  ::clock_gettime(clock, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

class Stopwatch {
 public:
  explicit Stopwatch(Time* total)
      : total_(total), wall_ns_(ReadClock(CLOCK_MONOTONIC)), cpu_ns_(ReadClock(CLOCK_PROCESS_CPUTIME_ID)) {}
  ~Stopwatch() {
    total_->wall_ns += ReadClock(CLOCK_MONOTONIC) - wall_ns_;
    total_->cpu_ns += ReadClock(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns_;
  }

 private:
  Time* total_;
  int64_t wall_ns_, cpu_ns_;
};

class Spike {
 public:
  Spike(std::string folder, uint64_t events, uint32_t batch, Codec codec)
      : folder_(std::move(folder)), events_(events), batch_(batch), shape_(OrderShape(codec)) {
    options_.merge_in_background = false;
  }

  /// Copies of one batch until the log is so large; then the time to open it, cold only as far as the
  /// machine's memory is small.
  void RunOpen(uint64_t bytes) {
    std::filesystem::remove_all(folder_);
    Open();
    OrderWriter orders;
    Assembler assembler(shape_);
    for (uint32_t i = 0; i < batch_; ++i) CHECK(!assembler.Add({}, orders.Next()));
    const EncodedBatch one = assembler.Finish(0, {});
    while (partition_->bounds().bytes < bytes) {
      for (int i = 0; i < 8; ++i) partition_->Append(one, AckMode::kWritten, [](const Result<Appended>&) {});
      CHECK(partition_->AppendAndWait(one).has_value());
    }
    const Bounds bounds = partition_->bounds();
    log_ = nullptr;
    Time open;
    {
      Stopwatch watch(&open);
      Open();
    }
    CHECK(partition_->bounds().durable_end == bounds.durable_end);
    fmt::print("open {:.1f} GiB, {} segments: {:.3f} s (CPU {:.3f} s)\n",
               static_cast<double>(bounds.bytes) / (1 << 30), bounds.segments,
               static_cast<double>(open.wall_ns) / 1e9, static_cast<double>(open.cpu_ns) / 1e9);
    log_ = nullptr;
    std::filesystem::remove_all(folder_);
  }

  void Run() {
    std::filesystem::remove_all(folder_);
    Open();
    Time encode, append, merge;
    Fill(&encode, &append);
    const double stored = PerEvent(partition_->bounds().bytes);
    Print("as appended", stored,
          fmt::format("encode {:4.0f}  append {:4.0f} (wall {:4.0f})", PerEvent(encode.cpu_ns),
                      PerEvent(append.cpu_ns), PerEvent(append.wall_ns)));
    log_ = nullptr;  // as after a kill
    Open();
    CHECK(log_->SealAll().ok());
    stream_->SetLayout(shape_.contract, shape_.codec, {});
    {
      Stopwatch watch(&merge);
      Status status = log_->MergeSealed();
      if (!status.ok()) fmt::print("{}\n", status.ToString());
    }
    if (batch_ < options_.merge_below_events) {
      Print("merged", PerEvent(partition_->bounds().bytes),
            fmt::format("merge  {:4.0f}", PerEvent(merge.cpu_ns)));
    }
    CHECK(log_->Close().ok());
    log_ = nullptr;
    std::filesystem::remove_all(folder_);
  }

 private:
  double PerEvent(double total) const { return total / static_cast<double>(events_); }

  void Open() {
    auto log = Log::Open(fs_, clock_, random_, folder_, options_, [](const Status& status) {
      fmt::print("fatal: {}\n", status.ToString());
      std::abort();
    });
    CHECK(log.has_value());
    log_ = std::move(*log);
    auto stream = log_->OpenStream("orders", 1);
    if (!stream) fmt::print("{}\n", stream.error().ToString());
    CHECK(stream.has_value());
    stream_ = *stream;
    partition_ = &stream_->partition(0);
  }

  void Fill(Time* encode, Time* append) {
    OrderWriter orders;
    Assembler assembler(shape_);
    std::vector<std::string> texts(batch_);
    for (uint64_t done = 0; done < events_;) {
      std::vector<EncodedBatch> encoded;
      for (size_t bytes = 0; bytes < kChunkBytes && done < events_; done += batch_) {
        for (std::string& text : texts) text = orders.Next(), text.reserve(text.size() + 64);
        Stopwatch watch(encode);
        for (const std::string& text : texts) CHECK(!assembler.Add({}, text));
        encoded.push_back(assembler.Finish(0, {}));
        bytes += encoded.back().payload.size();
      }
      Stopwatch watch(append);
      std::promise<void> all;
      for (size_t i = 0; i < encoded.size(); ++i) {
        const bool last = i + 1 == encoded.size();
        partition_->Append(std::move(encoded[i]), AckMode::kDurable,
                           [&all, last](const Result<Appended>& placed) {
                             CHECK(placed.has_value());
                             if (last) all.set_value();
                           });
      }
      all.get_future().wait();
    }
  }

  void Print(std::string_view what, double bytes, const std::string& rest) {
    Time open, read, data;
    log_ = nullptr;
    {
      Stopwatch watch(&open);
      Open();
    }
    Read(false, &read);
    Read(true, &data);
    fmt::print(
        "{:5} batch {:6}  {:11}  {:6.1f} B/event  open {:5.3f} s (wall {:5.3f})  ns/event: read {:5.1f} "
        "({:4.2f} GB/s)  "
        "with data {:5.1f}  {}\n",
        shape_.codec == Codec::kLz4 ? "lz4" : "plain", batch_, what, bytes,
        static_cast<double>(open.cpu_ns) / 1e9, static_cast<double>(open.wall_ns) / 1e9,
        PerEvent(read.cpu_ns), bytes / PerEvent(read.cpu_ns), PerEvent(data.cpu_ns), rest);
    std::fflush(stdout);
  }

  void Read(bool touch_data, Time* time) {
    Stopwatch watch(time);
    auto reader = partition_->Read(0);
    CHECK(reader.has_value());
    uint64_t events = 0;
    while (true) {
      auto batch = (*reader)->Next();
      CHECK(batch.has_value());
      if (!*batch) break;
      events += (*batch)->count();
      if (touch_data) CHECK((*batch)->Data().has_value());
    }
    CHECK(events == events_);
  }

  PosixFileSystem fs_;
  SystemClock clock_;
  SystemRandom random_;
  LogOptions options_;
  const std::string folder_;
  const uint64_t events_;
  const uint32_t batch_;
  const StreamShape shape_;
  std::unique_ptr<Log> log_;
  Stream* stream_ = nullptr;
  Partition* partition_ = nullptr;
};

}  // namespace
}  // namespace millstream

int main(int argc, char** argv) {
  using millstream::Codec;
  const bool open = argc > 2 && std::string_view(argv[1]) == "open";
  if (open) {
    const std::string place = argc > 3 ? argv[3] : "/tmp/log_bench.open";
    const uint64_t bytes = std::strtoull(argv[2], nullptr, 10) << 30;
    millstream::Spike(place, 10'000, 10'000, Codec::kNone).RunOpen(bytes);
    return 0;
  }
  uint64_t events = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 300'000;
  std::string folder = argc > 2 ? argv[2] : "";
  std::vector<uint32_t> batches;
  for (int i = 3; i < argc; ++i) batches.push_back(static_cast<uint32_t>(std::strtoul(argv[i], nullptr, 10)));
  if (batches.empty()) batches = {1, 15, 10'000};
  if (folder.empty()) {
    char pattern[] = "/tmp/log_bench.XXXXXX";
    folder = ::mkdtemp(pattern);
  }
  for (uint32_t batch : batches) {
    for (Codec codec : {Codec::kNone, Codec::kLz4}) {
      millstream::Spike(folder + "/log", events / batch * batch, batch, codec).Run();
    }
  }
  return 0;
}
