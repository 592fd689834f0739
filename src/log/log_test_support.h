// What the log's tests share: batches of numbered events, a log on a disk in memory, reading everything back.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/memory_file_system.h"
#include "base/random.h"
#include "event/assembler.h"
#include "log/log.h"

namespace millstream {

inline EncodedBatch MakeBatch(const std::vector<std::string>& events, Receipts receipts = {},
                              Codec codec = Codec::kNone) {
  if (events.empty()) return EncodeReceipts(std::move(receipts));
  StreamShape shape;
  shape.name = "orders";
  shape.codec = codec;
  Assembler assembler(shape);
  for (const std::string& event : events) {
    // The assembler may look some bytes past an event's end.
    std::string padded = event;
    padded.reserve(event.size() + 64);
    auto rejection = assembler.Add({}, padded);
    EXPECT_FALSE(rejection.has_value());
  }
  return assembler.Finish(0, std::move(receipts));
}

inline std::string EventText(uint64_t number, size_t padding = 0) {
  return "{\"n\":" + std::to_string(number) + ",\"p\":\"" + std::string(padding, 'p') + "\"}";
}

inline EncodedBatch NumberedBatch(uint64_t first, uint32_t count, size_t padding = 0,
                                  Receipts receipts = {}) {
  std::vector<std::string> events;
  for (uint32_t i = 0; i < count; ++i) events.push_back(EventText(first + i, padding));
  return MakeBatch(events, std::move(receipts));
}

/// Every event from an offset on, by offset.
inline std::map<uint64_t, std::string> ReadEvents(Partition& partition, uint64_t from,
                                                  Status* error = nullptr) {
  std::map<uint64_t, std::string> events;
  auto reader = partition.Read(from);
  while (reader) {
    auto batch = (*reader)->Next();
    if (!batch && error != nullptr) *error = batch.error();
    if (!batch && error == nullptr) ADD_FAILURE() << batch.error().ToString();
    if (!batch || !*batch) return events;
    auto data = (*batch)->Data();
    EXPECT_TRUE(data.has_value());
    for (uint32_t row = 0; row < (*batch)->count(); ++row) {
      uint64_t offset = (*batch)->place().base_offset + row;
      EXPECT_FALSE(events.contains(offset)) << offset;
      if (offset >= from) events[offset] = (*data)->String(row);
    }
  }
  if (error != nullptr) *error = reader.error();
  return events;
}

class LogTest : public ::testing::Test {
 public:
  LogTest() {
    options_.segment_bytes = 16 << 10;
    options_.index_every_bytes = 1 << 10;
    options_.reserve_bytes = 4096;
    options_.merge_in_background = false;
  }
  /// Opens the log and the one-partition stream "orders"; a log that is open is dropped as by a crash of the
  /// process.
  Status Open(uint32_t partitions = 1) {
    log_ = nullptr;
    partition_ = nullptr;
    ASSIGN_OR_RETURN(log_, Log::Open(fs_, clock_, random_, "/data", options_, [this](Status status) {
                       fatal_ = status;
                       ++fatal_calls_;
                     }));
    ASSIGN_OR_RETURN(stream_, log_->OpenStream("orders", partitions));
    partition_ = &stream_->partition(0);
    return OkStatus();
  }
  void Append(uint64_t first, uint32_t count, size_t padding = 0, Receipts receipts = {}) {
    auto placed = partition_->AppendAndWait(NumberedBatch(first, count, padding, std::move(receipts)));
    ASSERT_TRUE(placed.has_value()) << placed.error().ToString();
    EXPECT_EQ(placed->first_offset, first);
  }
  void ExpectNumbered(uint64_t from, uint64_t end, size_t padding = 0) {
    std::map<uint64_t, std::string> events = ReadEvents(*partition_, from);
    EXPECT_EQ(events.size(), end - from);
    for (const auto& [offset, text] : events) EXPECT_EQ(text, EventText(offset, padding)) << offset;
  }

  MemoryFileSystem fs_;
  ManualClock clock_;
  SeededRandom random_{1};
  LogOptions options_;
  Status fatal_;
  std::atomic<int> fatal_calls_ = 0;
  std::unique_ptr<Log> log_;
  Stream* stream_ = nullptr;
  Partition* partition_ = nullptr;
};

}  // namespace millstream
