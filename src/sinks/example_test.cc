// The sink of docs/adding-a-stage.md: what stands between the marks is the page's, word for word
// (tests/adding_a_stage_test.py).
#include <gtest/gtest.h>

#include "sinks/contract_test.h"

// docs: begin
#include <charconv>

#include "base/text.h"
#include "stage/make_kind.h"
#include "stage/row_text.h"

namespace millstream {
namespace {

struct TallyOptions {
  std::string path;
};

Spec<TallyOptions> TallySpec() {
  Spec<TallyOptions> spec("tally", "Keeps the number of rows of each partition in a file.");
  spec.Guarantee("exactly once");
  spec.Field("path", &TallyOptions::path, "The file, relative to the project folder.").Required().Main();
  spec.Example("tally: n.txt");
  return spec;
}

/// The file has a line `PARTITION NEXT_OFFSET ROWS` for each partition.
class TallySinkStage final : public Sink {
 public:
  TallySinkStage(const TallyOptions& options, const SinkContext& context)
      : fs_(*context.fs), path_(PathIn(context.project_directory, options.path)) {}

  Result<std::map<uint32_t, uint64_t>> Open() override {
    FAIL_IF_ERROR(fs_.CreateDirectories(DirectoryOf(path_)));
    std::map<uint32_t, uint64_t> offsets;
    Result<std::string> text = ReadFile(fs_, path_);
    if (!text && text.error().code() == Code::kNotFound) return offsets;
    if (!text) return Fail(text.error());
    for (std::string_view line : Split(*text, '\n')) {
      std::vector<std::string_view> words = Split(line, ' ');
      if (line.empty()) continue;
      if (words.size() != 3) return Fail(Corrupt("{} is no tally: '{}'", path_, line));
      auto number = [](std::string_view word) {
        uint64_t value = 0;
        std::from_chars(word.data(), word.data() + word.size(), value);
        return value;
      };
      Tally& tally = tallies_[static_cast<uint32_t>(number(words[0]))];
      tally = {number(words[1]), number(words[2])};
      offsets[static_cast<uint32_t>(number(words[0]))] = tally.next;
    }
    return offsets;
  }

  Status SetColumns(const std::vector<ColumnInfo>&, uint32_t) override { return OkStatus(); }

  Status Deliver(const RowBatch& rows) override {
    std::map<uint32_t, Tally> grown = tallies_;
    Tally& tally = grown[rows.partition];
    // After a crash a batch may come again, cut in another way: what lies below the stored offset is counted.
    auto offset_column = static_cast<uint32_t>(rows.Find("_offset"));
    for (const Chunk& chunk : rows.chunks)
      for (uint32_t row = 0; row < chunk.rows(); ++row)
        if (OffsetOf(chunk, offset_column, row) >= tally.next) ++tally.rows;
    tally.next = std::max(tally.next, rows.next_offset);
    // Rows and offset become durable together, or neither does.
    std::string text;
    for (const auto& [partition, one] : grown)
      text += fmt::format("{} {} {}\n", partition, one.next, one.rows);
    RETURN_IF_ERROR(WriteFileDurably(fs_, path_, text));
    tallies_ = std::move(grown);
    return OkStatus();
  }

 private:
  struct Tally {
    uint64_t next = 0, rows = 0;
  };
  FileSystem& fs_;
  const std::string path_;
  std::map<uint32_t, Tally> tallies_;
};

}  // namespace

SinkKind TallySink() {
  return MakeSinkKind(
      TallySpec(), [](const TallyOptions& options) { return options.path; },
      [](TallyOptions options, const SinkContext& context) -> Result<std::unique_ptr<Sink>> {
        return std::make_unique<TallySinkStage>(options, context);
      });
}

}  // namespace millstream
// docs: end

namespace millstream {
namespace {

// docs: test begin
TEST(TallySinkTest, KeepsTheContract) {
  MemoryFileSystem fs;
  ManualClock clock;
  SinkUnderTest under_test;
  under_test.make = [&] {
    return TallySink().make(OptionsOf("out/count.txt"), ContextOf(fs, clock, "tally"));
  };
  CheckSinkContract(under_test);
  EXPECT_EQ(*ReadFile(fs, "/project/out/count.txt"), "0 20 14\n1 9 6\n2 7 0\n");
}
// docs: test end

TEST(TallySinkTest, ACrashAtAnyChangeCountsEachRowOnce) {
  RowMaker maker;
  for (uint64_t cut = 1; cut < 40; ++cut) {
    MemoryFileSystem fs;
    ManualClock clock;
    auto make = [&] {
      return std::move(*TallySink().make(OptionsOf("c.txt"), ContextOf(fs, clock, "tally")));
    };
    fs.PowerOffAt(cut);
    for (int run = 0; run < 2; ++run) {
      auto sink = make();
      auto opened = sink->Open();
      uint64_t next = opened && opened->contains(0) ? opened->at(0) : 0;
      for (bool alive = opened.has_value(); alive && next < 12; next += 3)
        alive = sink->Deliver(maker.Make(0, next, next + 3, "i AS id")).ok();
      if (run == 0) fs.Crash(cut);
    }
    EXPECT_EQ(*ReadFile(fs, "/project/c.txt"), "0 12 8\n") << cut;
  }
}

}  // namespace
}  // namespace millstream
