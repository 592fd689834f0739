// EngineTest: an Engine over a folder of its own, with a project of one pipeline into two sinks that keep
// what they are given.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "pipeline/data_folder.h"
#include "pipeline/engine.h"
#include "stage/make_kind.h"

namespace millstream {

inline constexpr char kShop[] = R"(
streams:
  orders:
    partitions: 2
    contract: {id: varchar, n: integer}
pipelines:
  p:
    from: orders
    filters:
      - even: SELECT id, n FROM input WHERE n % 2 = 0
    to:
      - collect: a
      - collect: b
)";

/// What sinks of the kind `collect` were given; outlives the engine as a target outlives the process.
struct Collected {
  std::mutex mutex;
  std::map<std::string, std::vector<std::string>> places;  // by sink: PARTITION:OFFSET of each row
  std::map<std::string, std::map<uint32_t, std::map<uint64_t, int64_t>>> versions;  // of each row: column v
  std::map<std::string, std::map<uint32_t, uint64_t>> offsets;
  std::set<std::string> broken;    // cannot be opened, ever
  std::set<std::string> away;      // cannot be opened now
  std::set<std::string> hangs;     // answer only when interrupted
  std::set<std::string> unfit;     // do not take the columns
  std::atomic<bool> waits{false};  // `b` does not come back from a delivery
};

class CollectSink final : public Sink {
 public:
  CollectSink(std::string name, Collected& collected) : name_(std::move(name)), collected_(collected) {}
  Result<std::map<uint32_t, uint64_t>> Open() override {
    std::lock_guard lock(collected_.mutex);
    if (collected_.broken.contains(name_)) return Fail(Corrupt("{} is broken", name_));
    if (collected_.away.contains(name_)) return Fail(Unavailable("{} is away", name_));
    return collected_.offsets[name_];
  }
  Status SetColumns(const std::vector<ColumnInfo>&, uint32_t) override {
    std::lock_guard lock(collected_.mutex);
    return collected_.unfit.contains(name_) ? Invalid("{} takes no integers", name_) : OkStatus();
  }
  void Interrupt() override { interrupted_ = true; }
  Status Deliver(const RowBatch& rows) override {
    while (name_ == "b" && collected_.waits && !interrupted_)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::unique_lock lock(collected_.mutex);
    if (collected_.hangs.contains(name_)) {
      lock.unlock();
      while (!interrupted_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return Cancelled("interrupted");
    }
    auto column = static_cast<uint32_t>(rows.columns.size()) - 2;
    int version = rows.Find("v");
    for (const Chunk& chunk : rows.chunks)
      for (uint32_t row = 0; row < chunk.rows(); ++row) {
        int64_t offset = chunk.Int64(column, row);
        collected_.places[name_].push_back(fmt::format("{}:{}", rows.partition, offset));
        if (version >= 0)
          collected_.versions[name_][rows.partition][static_cast<uint64_t>(offset)] =
              chunk.Int64(static_cast<uint32_t>(version), row);
      }
    collected_.offsets[name_][rows.partition] = rows.next_offset;
    return OkStatus();
  }

 private:
  const std::string name_;
  Collected& collected_;
  std::atomic<bool> interrupted_{false};
};

struct CollectOptions {
  std::string name;
};

inline SinkKind CollectKind(Collected& collected) {
  Spec<CollectOptions> spec("collect", "Keeps rows in memory.");
  spec.Field("name", &CollectOptions::name, "which").Required().Main();
  return MakeSinkKind(
      spec, [](const CollectOptions& options) { return options.name; },
      [&collected](CollectOptions options, const SinkContext&) -> Result<std::unique_ptr<Sink>> {
        return std::make_unique<CollectSink>(options.name, collected);
      });
}

class EngineTest : public testing::Test {
 protected:
  EngineTest() {
    std::string pattern = testing::TempDir() + "engineXXXXXX";
    directory_ = mkdtemp(pattern.data());
    registry_.Add(CollectKind(collected_));
    Write(kShop);
  }
  ~EngineTest() override {
    engine_.reset();
    std::filesystem::remove_all(directory_);
  }
  void Write(const std::string& yaml) { std::ofstream(directory_ + "/millstream.yaml") << yaml; }
  EngineOptions Options() {
    Faults faults;
    EngineOptions options;
    options.fs = &fs_;
    options.clock = &clock_;
    options.random = &random_;
    options.registry = &registry_;
    options.project = LoadProject(fs_, directory_, registry_, faults);
    EXPECT_TRUE(faults.empty()) << faults[0].ToString();
    options.data_directory = directory_ + "/data";
    options.who = "test";
    options.lock_wait_us = 0;
    return options;
  }
  Status Open() {
    engine_.reset();
    ASSIGN_OR_RETURN(engine_, Engine::Open(Options()));
    return OkStatus();
  }
  IngestAnswer Ingest(const std::string& stream, int from, int to) {
    std::string body;
    for (int n = from; n < to; ++n) body += fmt::format("{{\"id\":\"i{}\",\"n\":{}}}\n", n, n);
    body.reserve(body.size() + 64);
    IngestRequest request;
    request.stream = stream;
    request.format = BodyFormat::kNdjson;
    request.body = body;
    auto answer = engine_->IngestAndWait(request);
    EXPECT_TRUE(answer) << answer.error().status.ToString();
    return answer ? *answer : IngestAnswer();
  }
  std::string directory_;
  Collected collected_;
  Registry registry_;
  PosixFileSystem fs_;
  SystemClock clock_;
  SystemRandom random_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace millstream
