// PipelineRuntime: one pipeline as it runs: its sinks and a delivery loop for each of them and each
// partition.
//
// Place: floor 5; owned by the Engine. Threads: Start, Stop from the Engine's; the rest from any.
// Failure: a sink that cannot be opened leaves its loops `failed` or retrying; the other sinks go on.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "pipeline/delivery_loop.h"
#include "pipeline/stream_appender.h"
#include "tables/table_store.h"

namespace millstream {

struct RuntimeContext {
  Log* log = nullptr;
  Database* database = nullptr;
  TableStore* tables = nullptr;
  DeadLetters* dead_letters = nullptr;
  FileSystem* fs = nullptr;
  Clock* clock = nullptr;
  Random* random = nullptr;
  Watchdog* watchdog = nullptr;
  Progress* progress = nullptr;
  const Registry* registry = nullptr;
  std::string project_directory, sinks_directory;
  LimitsConfig limits;
  std::function<StreamIngest*(const std::string&)> find_stream;
  std::function<std::vector<std::string>()> stream_names;
  std::function<size_t(const std::string& table)> count_writers;  // table sinks of the project that name it
  std::function<void(Status)> on_fatal;
};

class PipelineRuntime {
 public:
  /// `versions` ascending, the last is the live one; `start` where partitions begin for a sink that stored
  /// nothing.
  PipelineRuntime(RuntimeContext context, uint64_t generation,
                  std::vector<std::shared_ptr<const PipelineVersion>> versions,
                  std::map<uint32_t, uint64_t> start);
  ~PipelineRuntime();

  /// Opens the sinks. kInvalid, kConflict, kCorrupt: the pipeline cannot run as it is.
  Status Open();
  void Start(bool paused);
  /// Asks all loops to stop and waits for them; closes the sinks.
  void Stop();

  void SetPaused(bool paused);
  bool paused() const { return paused_; }
  PipelineStatus status() const;
  const PipelineConfig& config() const { return versions_.back()->config; }
  uint64_t generation() const { return generation_; }

  /// Next offsets of a sink by partition, as delivered.
  std::map<uint32_t, uint64_t> Delivered(const std::string& sink_id) const;
  /// True if every loop has delivered up to the durable end of its partition, or has failed, or is paused.
  bool AtEnd() const;
  /// Sum of delivered offsets: grows while there is progress.
  uint64_t Progress() const;
  /// Lowest offset of a partition that a sink still needs after a power cut (retention).
  uint64_t LowWater(uint32_t partition) const;

 private:
  Status OpenSink(const SinkConfig& config);
  Status PrepareSink(SharedSink& sink);
  Result<bool> KeyInOnePartition(const SinkConfig& config) const;

  RuntimeContext context_;
  const uint64_t generation_;
  const std::vector<std::shared_ptr<const PipelineVersion>> versions_;
  const std::map<uint32_t, uint64_t> start_;
  Stream* stream_ = nullptr;
  std::atomic<bool> paused_{false};
  std::vector<std::unique_ptr<EngineAppender>> appenders_;
  std::vector<std::unique_ptr<SharedSink>> sinks_;
  struct Running {
    SharedSink* sink;
    uint32_t partition;
    std::unique_ptr<DeliveryLoop> loop;
    std::jthread thread;
  };
  std::vector<std::unique_ptr<Running>> running_;
  std::mutex threads_mutex_;  // held while loops' threads are started, replaced and stopped
  std::map<std::string, std::string> broken_sinks_;  // id, why it could not be opened
  mutable LatencyWindow latency_;
};

}  // namespace millstream
