#include "base/logging.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <regex>

namespace millstream {
namespace {

// What a logger writes into a file in memory.
class Captured {
 public:
  Captured() : file_(open_memstream(&text_, &size_)) {}
  ~Captured() {
    std::fclose(file_);
    std::free(text_);
  }
  Logger Make(LogFormat format, LogLevel level = LogLevel::kInfo, LogColor color = LogColor::kAuto) {
    return Logger({.level = level, .format = format, .color = color, .to = file_});
  }
  std::string Text() {
    std::fflush(file_);
    return std::string(text_, size_);
  }

 private:
  char* text_ = nullptr;
  size_t size_ = 0;
  std::FILE* file_;
};

TEST(LoggingTest, JsonIsOneObjectALine) {
  Captured captured;
  Logger logger = captured.Make(LogFormat::kJson).With({{"pipeline", "revenue"}});
  logger.Info("pipeline \"x\"\nactivated",
              {{"from", 17}, {"share", 0.5}, {"late", false}, {"reason", std::string("a\tb")}});
  logger.Warn("again");
  EXPECT_TRUE(std::regex_match(
      captured.Text(),
      std::regex(
          R"(\{"time":"2\d\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z","level":"info",)"
          R"("message":"pipeline \\"x\\"\\nactivated","pipeline":"revenue","from":17,"share":0\.5,"late":false,)"
          R"("reason":"a\\tb"\})"
          "\n"
          R"(\{"time":"[^"]+","level":"warn","message":"again","pipeline":"revenue"\})"
          "\n")))
      << captured.Text();
}

TEST(LoggingTest, ConsoleWithoutColourOffATerminal) {
  Captured captured;
  captured.Make(LogFormat::kConsole)
      .Error("sync \"failed\"", {{"path", "/a b"}, {"code", uint64_t{5}}, {"stream", "orders"}});
  EXPECT_TRUE(std::regex_match(
      captured.Text(),
      std::regex(
          "\\d\\d:\\d\\d:\\d\\d\\.\\d\\d\\d error   sync \"failed\"  path=\"/a b\" code=5 stream=orders\n")))
      << captured.Text();
}

TEST(LoggingTest, ColourIfAskedFor) {
  Captured captured;
  captured.Make(LogFormat::kConsole, LogLevel::kInfo, LogColor::kAlways).Error("m");
  EXPECT_NE(captured.Text().find("\033["), std::string::npos);
}

TEST(LoggingTest, NothingForgesALineOrReachesTheTerminal) {
  Captured captured;
  Logger logger = captured.Make(LogFormat::kConsole);
  logger.Info("a\nb\033[2J", {{"f", "c\nd\033[2J"}});
  std::string text = captured.Text();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  EXPECT_EQ(text.find('\033'), std::string::npos);
}

TEST(LoggingTest, LevelsAndTheEmptyLogger) {
  Captured captured;
  Logger logger = captured.Make(LogFormat::kConsole, LogLevel::kWarn);
  EXPECT_FALSE(logger.Writes(LogLevel::kInfo));
  EXPECT_TRUE(logger.Writes(LogLevel::kError));
  logger.Debug("m");
  logger.Info("m");
  EXPECT_EQ(captured.Text(), "");
  logger.Warn("m");
  EXPECT_NE(captured.Text().find(" warning m\n"), std::string::npos) << captured.Text();
  Logger().Error("m", {{"a", 1}});
  EXPECT_FALSE(Logger().Writes(LogLevel::kError));
}

TEST(LoggingTest, ValuesAreCut) {
  Captured captured;
  captured.Make(LogFormat::kJson).Info("m", {{"v", std::string(1 << 20, 'x')}});
  EXPECT_LT(captured.Text().size(), 5000u);
}

}  // namespace
}  // namespace millstream
