#include "sources/glob.h"

#include <gtest/gtest.h>

#include "base/memory_file_system.h"

namespace millstream {
namespace {

class GlobTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* path :
         {"/p/a.log", "/p/b.log", "/p/.hidden.log", "/p/sub/c.log", "/p/sub/deep/d.log", "/p/x"}) {
      ASSERT_TRUE(fs_.CreateDirectories(DirectoryOf(path)).ok());
      ASSERT_TRUE(fs_.Open(path, OpenMode::kCreate).has_value());
    }
  }
  std::vector<std::string> Find(const std::string& pattern) {
    std::vector<std::string> paths;
    auto found = Glob(fs_, "/p", pattern);
    EXPECT_TRUE(found) << found.error().ToString();
    for (const FoundFile& file : *found) paths.push_back(file.path);
    return paths;
  }
  MemoryFileSystem fs_;
};

using Paths = std::vector<std::string>;

TEST_F(GlobTest, PatternsStandForPartsOfNames) {
  EXPECT_EQ(Find("*.log"), (Paths{"a.log", "b.log"}));
  EXPECT_EQ(Find("[ac].log"), Paths{"a.log"});
  EXPECT_EQ(Find("?"), Paths{"x"});
  EXPECT_EQ(Find("x"), Paths{"x"});
  EXPECT_EQ(Find(".*.log"), Paths{".hidden.log"});
  EXPECT_EQ(Find("*/c.log"), Paths{"sub/c.log"});
  EXPECT_EQ(Find("**/*.log"), (Paths{"a.log", "b.log", "sub/c.log", "sub/deep/d.log"}));
  EXPECT_EQ(Find("sub/**/d.log"), Paths{"sub/deep/d.log"});
}

TEST_F(GlobTest, AbsolutePathsStayAbsolute) {
  EXPECT_EQ(Find("/p/sub/*.log"), Paths{"/p/sub/c.log"});
  EXPECT_EQ(Find("/p/a.log"), Paths{"/p/a.log"});
}

TEST_F(GlobTest, WhatIsMissingIsNoError) {
  EXPECT_EQ(Find("nothing/*.log"), Paths{});
  EXPECT_EQ(Find("a.log/b"), Paths{});
  EXPECT_EQ(Find("sub"), Paths{});
}

}  // namespace
}  // namespace millstream
