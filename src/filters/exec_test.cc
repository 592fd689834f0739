#include <gtest/gtest.h>

#include "filters/filters.h"
#include "sql/chunk_builder.h"

namespace millstream {
namespace {

/// A program in sh that answers each line by what `body` prints for $line.
std::string Program(const std::string& body) {
  return "command: [sh, -c, 'while IFS= read -r line; do " + body + "; done']";
}

class ExecFilterTest : public testing::Test {
 protected:
  void SetUp() override {
    database_ = std::move(*Database::Open("", {}));
    connection_ = std::move(*database_->Connect());
  }

  Node Options(const std::string& yaml) {
    Faults faults;
    Node node = ParseYaml(yaml, "test.yaml", faults);
    EXPECT_TRUE(faults.empty()) << faults.front().ToString();
    return node;
  }

  std::unique_ptr<Filter> Make(const std::string& yaml) {
    FilterContext context{"p", "f", "", &clock_};
    auto filter = ExecFilter().make(Options(yaml), context);
    EXPECT_TRUE(filter) << filter.error().ToString();
    return filter ? std::move(*filter) : nullptr;
  }

  /// Rows of events 0 to `count` - 1, two rows each if `twice`.
  RowBatch Rows(const std::string& visible, uint64_t count, bool twice = false) {
    RowBatch rows;
    rows.stream = "orders";
    rows.next_offset = count;
    std::string source = twice
                             ? fmt::format("(SELECT i // 2 AS i, i % 2 AS k FROM range({}) t(i))", 2 * count)
                             : fmt::format("(SELECT i, 0 AS k FROM range({}) t(i))", count);
    auto result =
        connection_->Query("SELECT " + visible +
                           ", 'id' || i AS ce_id, 0::INTEGER AS _partition, i AS _offset, k::INTEGER AS "
                           "_ordinal FROM " +
                           source);
    EXPECT_TRUE(result) << result.error().ToString();
    rows.columns = result->columns();
    rows.visible = static_cast<uint32_t>(rows.columns.size() - 4);
    for (;;) {
      auto chunk = result->Next();
      if (!chunk || !*chunk) break;
      rows.chunks.push_back(std::move(**chunk));
    }
    return rows;
  }

  /// Rows as "a|b|c" lines.
  std::string Text(const RowBatch& rows) {
    std::string text;
    for (const Chunk& chunk : rows.chunks) {
      JsonWriter writer = MakeJsonWriter(chunk);
      for (uint32_t row = 0; row < chunk.rows(); ++row) {
        for (uint32_t column = 0; column < chunk.columns(); ++column) {
          if (column > 0) text += '|';
          writer.Append(text, chunk, column, row);
        }
        text += '\n';
      }
    }
    return text;
  }

  SystemClock clock_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<Connection> connection_;
};

TEST_F(ExecFilterTest, RepliesBecomeDeclaredColumnsAndReservedOnesPass) {
  auto filter =
      Make("{command: [cat], output: {id: integer, amount: \"decimal(6,2)\", tags: \"varchar[]\"}}");
  RowBatch rows = Rows("i AS id, 1.5 AS amount, ['a', 'longer than twelve bytes'] AS tags, 'x' AS more", 2);
  auto described = filter->Describe(rows.columns);
  ASSERT_TRUE(described);
  auto result = filter->Process(std::move(rows), {});
  ASSERT_TRUE(result) << result.error().ToString();
  EXPECT_EQ(Text(*result),
            "0|1.50|[\"a\",\"longer than twelve bytes\"]|\"id0\"|0|0|0\n"
            "1|1.50|[\"a\",\"longer than twelve bytes\"]|\"id1\"|0|1|0\n");
  EXPECT_EQ(result->visible, 3u);
  EXPECT_EQ(result->columns, *described);
  EXPECT_EQ(result->columns[1].type, "DECIMAL(6,2)");
  EXPECT_EQ(result->columns[3].name, "ce_id");
}

TEST_F(ExecFilterTest, NullGivesNoRowAndAnArrayGivesMany) {
  auto filter = Make(
      "{" +
      Program(
          "case $line in *:0*) echo null;; *:1*) echo \"[]\";; *) echo \"[{\\\"n\\\":1},{\\\"n\\\":2}]\";; "
          "esac") +
      ", output: {n: bigint}}");
  auto result = filter->Process(Rows("i AS id", 4), {});
  ASSERT_TRUE(result) << result.error().ToString();
  EXPECT_EQ(Text(*result), "1|\"id2\"|0|2|0\n2|\"id2\"|0|2|1\n1|\"id3\"|0|3|0\n2|\"id3\"|0|3|1\n");
}

TEST_F(ExecFilterTest, OrdinalsAreGivenAnewOverAllRowsOfAnEvent) {
  auto filter = Make("{" + Program("echo \"[{},{}]\"") + ", output: {n: bigint}}");
  auto result = filter->Process(Rows("i AS id", 1, true), {});
  ASSERT_TRUE(result) << result.error().ToString();
  EXPECT_EQ(Text(*result),
            "null|\"id0\"|0|0|0\nnull|\"id0\"|0|0|1\nnull|\"id0\"|0|0|2\nnull|\"id0\"|0|0|3\n");
}

TEST_F(ExecFilterTest, WithoutOutputTheReplyIsData) {
  auto filter = Make("cat");
  auto result = filter->Process(Rows("('{\"a\": ' || i || '}')::JSON AS data", 2), {});
  ASSERT_TRUE(result) << result.error().ToString();
  EXPECT_EQ(Text(*result), "{\"a\": 0}|\"id0\"|0|0|0\n{\"a\": 1}|\"id1\"|0|1|0\n");
  EXPECT_EQ(result->columns[0], (ColumnInfo{"data", "JSON"}));
}

TEST_F(ExecFilterTest, ManyRowsOverSeveralChunks) {
  auto filter = Make("{command: [cat], output: {id: bigint, name: varchar}}");
  RowBatch rows = Rows("i AS id, 'the name of row ' || i AS name", 5000);
  ASSERT_GT(rows.chunks.size(), 2u);
  auto result = filter->Process(std::move(rows), {});
  ASSERT_TRUE(result) << result.error().ToString();
  EXPECT_EQ(result->rows(), 5000u);
  std::string text = Text(*result);
  EXPECT_TRUE(text.ends_with("4999|\"the name of row 4999\"|\"id4999\"|0|4999|0\n"));
  EXPECT_NE(text.find("\n2047|\"the name of row 2047\"|\"id2047\"|0|2047|0\n2048|"), std::string::npos);
}

TEST_F(ExecFilterTest, RepliesThatDoNotFitAreInvalidAndTheProgramGoesOn) {
  auto filter =
      Make("{" +
           Program("case $line in *:0*) echo what;; *:1*) echo 7;; *:2*) echo \"{\\\"n\\\":\\\"x\\\"}\";; "
                   "*) echo \"{\\\"n\\\":$$}\";; esac") +
           ", output: {n: bigint}}");
  auto fault = [&](const std::string& id) {
    auto result = filter->Process(Rows(id + " AS id", 1), {});
    EXPECT_FALSE(result);
    return result ? Status() : result.error();
  };
  EXPECT_EQ(fault("0").code(), Code::kInvalid);
  EXPECT_NE(fault("0").message().find("sh answered what is no JSON"), std::string::npos);
  EXPECT_EQ(fault("1").message(), "sh answered neither an object, nor an array of objects, nor null: 7");
  EXPECT_EQ(fault("2").message(), "reply of sh: /n: \"x\" is not bigint");
  std::string first = Text(*filter->Process(Rows("3 AS id", 1), {}));
  EXPECT_EQ(fault("0").code(), Code::kInvalid);
  EXPECT_EQ(Text(*filter->Process(Rows("3 AS id", 1), {})), first);  // the same process id
}

TEST_F(ExecFilterTest, ADeathIsUnavailableAndTheNextTryStartsAnew) {
  auto filter =
      Make("{" + Program("case $line in *:1*) exit 3;; *) echo $line;; esac") + ", output: {id: bigint}}");
  auto result = filter->Process(Rows("1 AS id", 1), {});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Code::kUnavailable);
  EXPECT_EQ(result.error().message(), "sh ended with exit code 3 after 0 of 1 replies");
  // It is not started again at once, and why stays told.
  Status waits = filter->Process(Rows("2 AS id", 1), {}).error();
  EXPECT_EQ(waits.code(), Code::kUnavailable);
  EXPECT_TRUE(
      waits.message().starts_with("sh ended with exit code 3 after 0 of 1 replies; it is started again in "))
      << waits.message();
  ::usleep(150'000);
  EXPECT_TRUE(filter->Process(Rows("2 AS id", 1), {}));
}

TEST_F(ExecFilterTest, AnEventThatKillsTheProgramIsTold) {
  auto filter =
      Make("{" + Program("case $line in *:1*) exit 3;; *) echo $line;; esac") + ", output: {id: bigint}}");
  Status status;
  for (int tries = 0; tries < 20 && status.code() != Code::kInvalid; ++tries) {
    auto result = filter->Process(Rows("i AS id", 3), {});
    ASSERT_FALSE(result);
    status = result.error();
    ::usleep(100'000);
  }
  EXPECT_EQ(status.code(), Code::kInvalid);
  EXPECT_EQ(status.message(),
            "sh ended with exit code 3 after 1 of 3 replies; it has ended 3 times at this event and answers "
            "another");
  EXPECT_TRUE(filter->Process(Rows("5 AS id", 1), {}));
}

TEST_F(ExecFilterTest, AProgramThatNeverAnswersIsNotTheEventsFault) {
  auto filter = Make("{command: ['false'], output: {id: bigint}}");
  for (int tries = 0; tries < 5; ++tries) {
    EXPECT_EQ(filter->Process(Rows("i AS id", 1), {}).error().code(), Code::kUnavailable);
    ::usleep(250'000);
  }
}

TEST_F(ExecFilterTest, SilenceIsADeadline) {
  auto filter = Make("{command: [sleep, '100'], timeout: 100ms}");
  for (int tries = 0; tries < 2; ++tries)
    EXPECT_EQ(filter->Process(Rows("i AS id", 1), {}).error().code(), Code::kDeadline);
}

TEST_F(ExecFilterTest, FaultsOfTheSettingsAreTold) {
  Faults faults;
  ParseContext context{"filters.f.exec", "", &faults};
  ExecFilter().check(Options("{command: [cat], output: {n: bigin}, timeot: 3s}"), context);
  ASSERT_EQ(faults.size(), 2u);
  EXPECT_NE(faults[0].message.find("timeot"), std::string::npos) << faults[0].message;
  EXPECT_EQ(faults[1].path, "filters.f.exec.output.n");
  EXPECT_EQ(faults[1].message, "unknown type 'bigin'; did you mean 'bigint'?");
  EXPECT_EQ(faults[1].line, 1);
  EXPECT_EQ(ExecFilter().output(Options("{command: cat, output: {t: timestamptz}}")),
            (std::vector<ColumnInfo>{{"t", "TIMESTAMP WITH TIME ZONE"}}));
}

}  // namespace
}  // namespace millstream
