// What the tests of ingest share: a stream over a disk in memory that can be crashed, a way in, all read
// back.
//
// Place: floor 5, tests of pipeline/ only.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/memory_file_system.h"
#include "base/random.h"
#include "pipeline/stream_ingest.h"

namespace millstream {

using IngestResult = tl::expected<IngestAnswer, IngestRefusal>;

/// Every event's data in one partition, in order.
inline std::vector<std::string> DataOf(Partition& partition) {
  std::vector<std::string> events;
  auto reader = partition.Read(0);
  EXPECT_TRUE(reader) << reader.error().ToString();
  while (reader) {
    auto batch = (*reader)->Next();
    EXPECT_TRUE(batch) << batch.error().ToString();
    if (!batch || !*batch) break;
    auto data = (*batch)->Data();
    EXPECT_TRUE(data) << data.error().ToString();
    for (uint32_t row = 0; row < (*batch)->count(); ++row) events.emplace_back((*data)->String(row));
  }
  return events;
}

class IngestTest : public ::testing::Test {
 public:
  IngestTest() {
    config_.shape.name = "orders";
    config_.shape.partitions = 2;
    database_ = std::move(*Database::Open("", {}));
  }
  ~IngestTest() override { Close(); }

  void Close() {
    ingest_.reset();
    keys_.reset();
    dead_letters_.reset();
    log_.reset();
  }
  /// Opens all of it anew; what was open is dropped as by a crash of the process.
  Status Open() {
    Close();
    LogOptions options;
    options.reserve_bytes = 4096;
    options.merge_in_background = false;
    ASSIGN_OR_RETURN(log_, Log::Open(fs_, clock_, random_, directory_, options,
                                     [this](const Status& s) { fatal_code_ = s.code(); }));
    dead_letters_ = std::make_unique<DeadLetters>(*log_);
    keys_ = std::make_unique<IdempotencyTable>(clock_);
    ASSIGN_OR_RETURN(stream_, log_->OpenStream(config_.shape.name, config_.shape.partitions));
    RETURN_IF_ERROR(dead_letters_->Open(config_.shape.name));
    ingest_ = std::make_shared<StreamIngest>(config_, *stream_, *dead_letters_, *database_, watchdog_, *keys_,
                                             clock_);
    return ingest_->Recover();
  }
  /// Power fails; then Open.
  Status Crash(uint64_t seed) {
    Close();
    fs_.Crash(seed);
    return Open();
  }

  void SetField(const std::string& name, const std::string& type) {
    auto field = ParseField(name, type);
    ASSERT_TRUE(field) << field.error().ToString();
    field->pointer = "/" + name;
    config_.shape.contract.fields.push_back(*field);
  }

  IngestRequest Request(const std::string& body, BodyFormat format = BodyFormat::kNdjson) {
    bodies_.push_back(std::make_unique<std::string>(body));
    bodies_.back()->reserve(body.size() + 64);
    IngestRequest request;
    request.stream = config_.shape.name;
    request.format = format;
    request.body = *bodies_.back();
    return request;
  }
  IngestResult Take(const IngestRequest& request) {
    std::promise<IngestResult> promise;
    ingest_->Commit(ingest_->Prepare(request),
                    [&](IngestResult answer) { promise.set_value(std::move(answer)); });
    return promise.get_future().get();
  }
  IngestResult Post(const std::string& body, const std::string& key = "") {
    IngestRequest request = Request(body);
    if (!key.empty()) request.idempotency_key = key;
    return Take(request);
  }

  std::vector<std::string> Events(uint32_t partition) { return DataOf(stream_->partition(partition)); }
  std::vector<std::string> AllEvents() {
    std::vector<std::string> all;
    for (uint32_t p = 0; p < stream_->partitions(); ++p)
      for (std::string& event : Events(p)) all.push_back(std::move(event));
    std::sort(all.begin(), all.end());
    return all;
  }
  std::vector<DeadLetter> Letters() {
    auto listing = dead_letters_->List(config_.shape.name, {});
    EXPECT_TRUE(listing);
    return listing ? listing->letters : std::vector<DeadLetter>();
  }

  std::string directory_ = "/data";
  MemoryFileSystem fs_;
  ManualClock clock_;
  SeededRandom random_{1};
  StreamConfig config_;
  std::atomic<Code> fatal_code_{Code::kOk};  // told by the log's writer
  std::unique_ptr<Database> database_;
  Watchdog watchdog_;
  std::unique_ptr<Log> log_;
  std::unique_ptr<DeadLetters> dead_letters_;
  std::unique_ptr<IdempotencyTable> keys_;
  Stream* stream_ = nullptr;
  std::shared_ptr<StreamIngest> ingest_;
  std::vector<std::unique_ptr<std::string>> bodies_;  // requests view them
};

}  // namespace millstream
