#include "sinks/postgres_server_test.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace millstream {
namespace {

std::string FindBinaries() {
  std::error_code none;
  std::filesystem::directory_iterator versions("/usr/lib/postgresql", none);
  for (const auto& version : versions)
    if (std::filesystem::exists(version.path() / "bin" / "initdb")) return version.path() / "bin";
  return "";
}

}  // namespace

PostgresServer* PostgresServer::Get() {
  static std::unique_ptr<PostgresServer> server = []() -> std::unique_ptr<PostgresServer> {
    std::string binaries = FindBinaries(), folder = testing::TempDir() + "postgresXXXXXX";
    if (binaries.empty() || mkdtemp(folder.data()) == nullptr) return nullptr;
    std::unique_ptr<PostgresServer> made(new PostgresServer(binaries, folder));
    bool is_there = (getuid() != 0 || std::system(("chown postgres " + folder).c_str()) == 0) &&
                    made->Run("initdb -D data -U test -A trust -E UTF8 --locale=C.UTF-8 --no-sync") &&
                    made->Start();
    EXPECT_TRUE(is_there) << "see " << folder << "/log";
    return is_there ? std::move(made) : nullptr;
  }();
  return server.get();
}

PostgresServer::PostgresServer(std::string binaries, std::string folder)
    : binaries_(std::move(binaries)), folder_(std::move(folder)) {}

PostgresServer::~PostgresServer() {
  (void)Stop("immediate");
  std::filesystem::remove_all(folder_);
}

bool PostgresServer::Run(const std::string& command) const {
  std::string as = getuid() == 0 ? "runuser -u postgres -- " : "";
  return std::system(fmt::format("cd {} && {}{}/{} >> log 2>&1", folder_, as, binaries_, command).c_str()) ==
         0;
}

bool PostgresServer::Start() {
  return Run(fmt::format("pg_ctl -D data -w -l {0}/data/log -o \"-k {0} -h ''\" start", folder_));
}

bool PostgresServer::Stop(const std::string& mode) { return Run("pg_ctl -D data -w stop -m " + mode); }

std::string PostgresServer::url() const { return "postgresql://test@/postgres?host=" + folder_; }

std::unique_ptr<PostgresSession> PostgresServer::Connect() {
  auto session = PostgresSession::Connect(url(), clock_, never_);
  EXPECT_TRUE(session) << session.error().ToString();
  return session ? std::move(*session) : nullptr;
}

}  // namespace millstream
