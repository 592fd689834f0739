// No kind of stage of an isolated registry reaches outside, whatever kinds there are.
#include "stage/isolated.h"

#include <gtest/gtest.h>

namespace millstream {
namespace {

class CountingSink final : public Sink {
 public:
  explicit CountingSink(int& delivered) : delivered_(delivered) {}
  Result<std::map<uint32_t, uint64_t>> Open() override { return std::map<uint32_t, uint64_t>{{1, 5}}; }
  Status SetColumns(const std::vector<ColumnInfo>&, uint32_t) override { return OkStatus(); }
  Status Deliver(const RowBatch&) override { return ++delivered_, OkStatus(); }

 private:
  int& delivered_;
};

SinkKind Kind(const std::string& name, int& delivered) {
  SinkKind kind;
  kind.spec.kind = name;
  kind.target = [](const Node&) { return std::string("x"); };
  kind.make = [&delivered](const Node&, const SinkContext&) -> Result<std::unique_ptr<Sink>> {
    return std::make_unique<CountingSink>(delivered);
  };
  return kind;
}

class IsolatedTest : public ::testing::Test {
 public:
  IsolatedTest() {
    for (const char* name : kNames) registry_.Add(Kind(name, delivered_[name]));
    FilterKind exec;
    exec.spec.kind = "exec";
    exec.make = [](const Node&, const FilterContext&) -> Result<std::unique_ptr<Filter>> { return nullptr; };
    registry_.Add(std::move(exec));
    SourceKind file;
    file.spec.kind = "file";
    file.make = [](const Node&, const SourceContext&) -> Result<std::unique_ptr<Source>> { return nullptr; };
    registry_.Add(std::move(file));
  }
  static constexpr const char* kNames[] = {"table",    "stream", "drop",       "file",
                                           "postgres", "stdout", "of_tomorrow"};
  std::map<std::string, int> delivered_;
  Registry registry_;
};

TEST_F(IsolatedTest, SinksOutsideDropAndBeginAtTheFork) {
  Registry isolated = Isolated(registry_, false, {{"orders", {{0, 7}, {1, 9}}}});
  ASSERT_EQ(isolated.sinks().size(), registry_.sinks().size());
  SinkContext context;
  context.stream = "orders";
  for (const char* name : kNames) {
    auto sink = isolated.sinks().at(name).make(Node(), context);
    ASSERT_TRUE(sink.has_value()) << name;
    auto next = (*sink)->Open();
    ASSERT_TRUE(next.has_value());
    EXPECT_TRUE((*sink)->Deliver({}).ok());
    EXPECT_EQ(isolated.sinks().at(name).target(Node()), "x");
    // What it has stored itself counts, else where the sandbox begins.
    if (!IsInside(name)) {
      EXPECT_EQ(*next, (std::map<uint32_t, uint64_t>{{0, 7}, {1, 5}})) << name;
    }
  }
  for (const char* name : {"table", "stream"}) EXPECT_EQ(delivered_[name], 1) << name;
  EXPECT_EQ(delivered_["drop"], 5);
  for (const char* name : {"file", "postgres", "stdout", "of_tomorrow"})
    EXPECT_EQ(delivered_[name], 0) << name;
}

TEST_F(IsolatedTest, ProgramsRunOnlyIfAllowedAndSourcesNever) {
  for (bool allowed : {false, true}) {
    Registry isolated = Isolated(registry_, allowed, {});
    auto filter = isolated.filters().at("exec").make(Node(), {});
    EXPECT_EQ(filter.has_value(), allowed);
    if (!filter) {
      EXPECT_NE(filter.error().message().find("--allow-exec"), std::string::npos);
    }
    EXPECT_EQ(isolated.sources().at("file").make(Node(), {}).error().code(), Code::kInvalid);
  }
}

}  // namespace
}  // namespace millstream
