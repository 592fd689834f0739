#include "base/logging.h"

#include <gtest/gtest.h>

#include <cstdlib>

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

// Each run of digits as one 9, so that a line can be compared whole; a time without a fraction as one with
// it.
std::string WithoutTimes(const std::string& text) {
  std::string out;
  for (char c : text) {
    bool digit = c >= '0' && c <= '9';
    if (digit && !out.empty() && out.back() == '9') continue;
    if (c == 'Z' && out.ends_with(":9")) out += ".9";
    out += digit ? '9' : c;
  }
  return out;
}

TEST(LoggingTest, JsonIsOneObjectALine) {
  Captured captured;
  Logger logger = captured.Make(LogFormat::kJson).With({{"pipeline", "revenue"}});
  logger.Info("pipeline \"x\"\nactivated",
              {{"from", 17}, {"share", 0.5}, {"late", false}, {"reason", std::string("a\tb")}});
  logger.Warn("again");
  EXPECT_EQ(
      WithoutTimes(captured.Text()),
      "{\"time\":\"9-9-9T9:9:9.9Z\",\"level\":\"info\",\"message\":\"pipeline \\\"x\\\"\\nactivated\","
      "\"pipeline\":\"revenue\",\"from\":9,\"share\":9.9,\"late\":false,\"reason\":\"a\\tb\"}\n"
      "{\"time\":\"9-9-9T9:9:9.9Z\",\"level\":\"warn\",\"message\":\"again\",\"pipeline\":\"revenue\"}\n");
  EXPECT_NE(captured.Text().find("\"from\":17,\"share\":0.5,"), std::string::npos);
}

TEST(LoggingTest, ConsoleWithoutColourOffATerminal) {
  Captured captured;
  captured.Make(LogFormat::kConsole)
      .Error("sync \"failed\"", {{"path", "/a b"}, {"code", uint64_t{5}}, {"stream", "orders"}});
  EXPECT_EQ(WithoutTimes(captured.Text()),
            "9:9:9.9 error   sync \"failed\"  path=\"/a b\" code=9 stream=orders\n");
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
