// LocalClient: the HTTP API without a server: the same routes, called in this process over an Engine without
// a listener.
//
// Place: floor 8. Belongs to one thread.
#pragma once

#include <memory>
#include <string>

#include "cli/http_client.h"
#include "cli/target.h"

namespace millstream {

class LocalClient final : public HttpClient {
 public:
  static Result<std::unique_ptr<HttpClient>> Open(const Everywhere& everywhere,
                                                  const std::string& project_directory, bool read_only,
                                                  bool applies_files = true);
  ~LocalClient() override;
  Result<HttpAnswer> Send(const Request& request) override;
  /// Of the sandbox, if one is named; null if that does not open.
  std::shared_ptr<const Engine> engine(const std::string& sandbox) const;

 private:
  LocalClient();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace millstream
