// The golden log in tests/golden/log: written anew it has the same bytes, and it reads as orders.ndjson says.
// tests/test_log_reader.py reads it with the Python reader. After a change of the format:
// MILLSTREAM_WRITE_GOLDEN=1 build/log_test --gtest_filter='Golden*'.
#include <gtest/gtest.h>
#include <stdlib.h>

#include "log/log_test_support.h"

namespace millstream {
namespace {

std::string Golden(std::string_view name) {
  return fmt::format("{}/tests/golden/log/{}", MILLSTREAM_SOURCE_DIR, name);
}

std::vector<std::string> FilesBelow(FileSystem& fs, const std::string& folder,
                                    const std::string& relative = "") {
  std::vector<std::string> files;
  auto names = fs.List(folder + (relative.empty() ? "" : "/" + relative));
  if (!names) return files;
  for (const std::string& name : *names) {
    const std::string path = relative.empty() ? name : relative + "/" + name;
    if (fs.Stat(folder + "/" + path)->is_directory) {
      for (std::string& file : FilesBelow(fs, folder, path)) files.push_back(std::move(file));
    } else {
      files.push_back(path);
    }
  }
  return files;
}

class GoldenTest : public ::testing::Test {
 protected:
  GoldenTest() {
    options_.segment_bytes = 6 << 10;
    options_.index_every_bytes = 1 << 10;
    options_.reserve_bytes = 0;
    options_.merge_below_events = 4;
    options_.merged_events = 12;
    options_.merge_in_background = false;
    shape_.name = "orders";
    shape_.partitions = 2;
    shape_.key = {"/customer"};
    shape_.id_from = "/id";
    shape_.type_from = "/type";
    shape_.time_from = "/ts";
    for (const auto& [name, type] : {std::pair{"id", "varchar not null"}, {"amount", "decimal(12,2)"}}) {
      shape_.contract.fields.push_back(*ParseField(name, type));
    }
  }

  void Open(MemoryFileSystem& fs) {
    log_ = nullptr;
    auto log = Log::Open(fs, clock_, random_, "/golden", options_, {});
    ASSERT_TRUE(log.has_value()) << log.error().ToString();
    log_ = std::move(*log);
    auto stream = log_->OpenStream("orders", 2);
    ASSERT_TRUE(stream.has_value()) << stream.error().ToString();
    stream_ = *stream;
  }

  // Orders, keyed by customer, appended as one batch a partition.
  void Append(int events, Codec codec, Receipts receipts) {
    shape_.codec = codec;
    Assembler assembler(shape_);
    for (int i = 0; i < events; ++i, ++number_) {
      const uint64_t bits = random_.Next64();
      std::string text = fmt::format(
          R"({{"id":"o-{}","type":"{}","customer":"c{}","amount":{}.{:02},"ts":"2026-11-22T10:{:02}:00Z","note":"{}"}})",
          number_, bits & 1 ? "order.paid" : "order.placed", bits % 7, bits % 100, bits % 89, number_ % 60,
          bits % 5 == 0 ? "caf\u00e9 \\\"quoted\\\"" : "plain");
      text.reserve(text.size() + 64);
      Envelope envelope;
      if (bits % 3 == 0) envelope.subject = "shop";
      if (bits % 11 == 0) envelope.op = "u";
      ASSERT_FALSE(assembler.Add(envelope, text).has_value());
    }
    clock_.AdvanceUs(1'234'567);
    for (uint32_t p = 0; p < 2; ++p) {
      if (assembler.count(p) == 0 && events > 0) continue;
      ASSERT_TRUE(stream_->partition(p).AppendAndWait(assembler.Finish(p, receipts)).has_value());
    }
  }

  // Two epochs, both codecs, receipts of three kinds and alone, small and large batches, sealed segments with
  // and without a merge, a tail.
  void Write(MemoryFileSystem& fs) {
    Open(fs);
    stream_->SetLayout(shape_.contract, Codec::kLz4, {});
    for (int i = 0; i < 20; ++i) {
      Append(2, Codec::kNone, {{"source/old_orders", "in/a.ndjson", std::to_string(i * 100), 0, UINT32_MAX}});
    }
    ASSERT_TRUE(log_->SealAll().ok());
    ASSERT_TRUE(log_->MergeSealed().ok());
    for (int i = 0; i < 4; ++i) Append(40, i % 2 ? Codec::kLz4 : Codec::kNone, {});
    Open(fs);  // the process ended without Close: the epoch goes up
    for (int i = 0; i < 2; ++i) {
      Append(30, Codec::kLz4, {{"key/orders", fmt::format("{:032x}", i), "answer", 0, UINT32_MAX}});
    }
    ASSERT_TRUE(stream_->partition(1)
                    .AppendAndWait(EncodeReceipts({{"pipeline/copy.1/stream:orders", "0", "77", 0, 0}}))
                    .has_value());
    Append(3, Codec::kNone, {});
    ASSERT_TRUE(log_->Close().ok());
    log_ = nullptr;
  }

  static std::string Line(EventBatch& batch, uint32_t row) {
    static constexpr std::pair<const char*, Attribute> kTexts[] = {
        {"id", Attribute::kId},        {"type", Attribute::kType}, {"subject", Attribute::kSubject},
        {"time_us", Attribute::kTime}, {"key", Attribute::kKey},   {"op", Attribute::kOp}};
    std::string line =
        fmt::format(R"({{"partition":{},"epoch":{},"offset":{},"ingested_at_us":{})", batch.place().partition,
                    batch.place().epoch, batch.place().base_offset + row, batch.IngestedAtUs(row));
    for (const auto& [name, attribute] : kTexts) {
      const Column* column = *batch.AttributeColumn(attribute);
      if (column->IsNull(row)) continue;
      if (attribute == Attribute::kTime) {
        line += fmt::format(R"(,"{}":{})", name, column->Fixed<int64_t>(row));
      } else {
        line += fmt::format(R"(,"{}":"{}")", name, column->String(row));
      }
    }
    return line + fmt::format(R"(,"data":{}}})", (*batch.Data())->String(row)) + "\n";
  }

  PosixFileSystem disk_;
  ManualClock clock_{1'795'305'296'000'000};
  SeededRandom random_{20261122};
  LogOptions options_;
  StreamShape shape_;
  std::unique_ptr<Log> log_;
  Stream* stream_ = nullptr;
  int number_ = 1;
};

TEST_F(GoldenTest, WrittenAnewItHasTheSameBytes) {
  MemoryFileSystem fs;
  Write(fs);
  const std::vector<std::string> files = FilesBelow(fs, "/golden");
  ASSERT_GT(files.size(), 8u);
  if (::getenv("MILLSTREAM_WRITE_GOLDEN") != nullptr) {
    ASSERT_TRUE(disk_.RemoveAll(Golden("data")).ok());
    for (const std::string& file : files) {
      const std::string path = Golden("data/" + file);
      ASSERT_TRUE(disk_.CreateDirectories(DirectoryOf(path)).ok());
      ASSERT_TRUE(WriteFileDurably(disk_, path, *ReadFile(fs, "/golden/" + file)).ok());
    }
  }
  EXPECT_EQ(FilesBelow(disk_, Golden("data")), files);
  for (const std::string& file : files) {
    auto golden = ReadFile(disk_, Golden("data/" + file));
    ASSERT_TRUE(golden.has_value()) << golden.error().ToString();
    EXPECT_TRUE(*golden == *ReadFile(fs, "/golden/" + file)) << file;
  }
}

TEST_F(GoldenTest, ItReadsAsItsTextSays) {
  // Opening a log writes to it: a copy.
  MemoryFileSystem fs;
  for (const std::string& file : FilesBelow(disk_, Golden("data"))) {
    const std::string path = "/golden/" + file;
    ASSERT_TRUE(fs.CreateDirectories(DirectoryOf(path)).ok());
    ASSERT_TRUE(WriteFileDurably(fs, path, *ReadFile(disk_, Golden("data/" + file))).ok());
  }
  EXPECT_TRUE(Log::Verify(fs, "/golden", "orders").value().empty());
  Open(fs);
  EXPECT_FALSE(log_->recovery().unclean);
  std::string text;
  for (uint32_t p = 0; p < 2; ++p) {
    auto reader = stream_->partition(p).Read(0);
    ASSERT_TRUE(reader.has_value());
    while (true) {
      auto batch = (*reader)->Next();
      ASSERT_TRUE(batch.has_value()) << batch.error().ToString();
      if (!*batch) break;
      for (uint32_t row = 0; row < (*batch)->count(); ++row) text += Line(**batch, row);
    }
  }
  if (::getenv("MILLSTREAM_WRITE_GOLDEN") != nullptr) {
    ASSERT_TRUE(WriteFileDurably(disk_, Golden("orders.ndjson"), text).ok());
  }
  EXPECT_TRUE(text == ReadFile(disk_, Golden("orders.ndjson")).value());
  EXPECT_EQ(stream_->partition(1).FindReceipt("pipeline/copy.1/stream:orders", "0")->position, "77");
  EXPECT_EQ(stream_->partition(0).FindReceipt("source/old_orders", "in/a.ndjson")->position, "1800");
  EXPECT_TRUE(stream_->partition(0).FindReceipt("key/orders", fmt::format("{:032x}", 1)));
}

}  // namespace
}  // namespace millstream
