#include "server/api.h"

#include "base/text.h"
#include "server/problem.h"

namespace millstream {
namespace {

/// An answer out of a sandbox: when that is closed it ends as if the client had left.
class SandboxChannel final : public ResponseChannel {
 public:
  SandboxChannel(std::shared_ptr<Sandbox> sandbox, std::shared_ptr<const void> routes, Responder responder)
      : sandbox_(std::move(sandbox)),
        routes_(std::move(routes)),
        responder_(std::move(responder)),
        on_server_stop_(responder_.stop_token(), [this] { stop_.request_stop(); }),
        on_closed_(sandbox_->stopping(), [this] { stop_.request_stop(); }) {}

  void Send(HttpResponse response) override { responder_.Send(std::move(response)); }
  void Begin(HttpResponse head) override { responder_.Begin(std::move(head)); }
  Status Write(std::string piece) override { return responder_.Write(std::move(piece)); }
  void End(bool complete) override { complete ? responder_.End() : responder_.Abort(); }
  void OnGone(std::function<void()> call) override {
    responder_.OnGone(call);
    std::lock_guard lock(mutex_);
    gone_.push_back(std::make_unique<Gone>(sandbox_->stopping(), std::move(call)));
  }
  std::stop_token stop_token() const override { return stop_.get_token(); }

 private:
  using Gone = std::stop_callback<std::function<void()>>;
  const std::shared_ptr<Sandbox> sandbox_;
  const std::shared_ptr<const void> routes_;
  Responder responder_;
  std::stop_source stop_;
  std::stop_callback<std::function<void()>> on_server_stop_, on_closed_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Gone>> gone_;
};

}  // namespace

struct Api::Inside {
  Inside(Sandbox& of, const Access& access, WorkerPool& pool, uint64_t inflated_max)
      : services{of.engine(), of.queries()}, router(access, pool, inflated_max) {
    AddAllRoutes(router, services);
  }
  std::weak_ptr<Sandbox> sandbox;
  Services services;
  Router router;
};

Api::Api(Engine& engine, const Access& access, WorkerPool& pool, uint64_t inflated_max, bool serves)
    : access_(access),
      pool_(pool),
      inflated_max_(inflated_max),
      queries_(engine),
      sandboxes_(engine, serves),
      services_{engine, queries_, &sandboxes_},
      router_(access, pool, inflated_max) {
  AddAllRoutes(router_, services_);
}

Api::~Api() { Stop(); }

void Api::Stop() { sandboxes_.Stop(); }

std::optional<HttpResponse> Api::Admit(HttpRequest& head) {
  if (auto refusal = router_.Admit(head)) return refusal;
  const std::string* name = head.Header(kSandboxHeader);
  if (name == nullptr) return std::nullopt;
  const Route& route = router_.routes()[head.route];
  if (!WorksInSandbox(route))
    return Problem(400, "bad_request",
                   fmt::format("{} {} does not work in a sandbox: one is asked and takes events, and is not "
                               "changed otherwise; make another",
                               route.method, route.path));
  if (Status status = sandboxes_.CheckExists(*name); !status.ok()) return Problem(status);
  return std::nullopt;
}

void Api::Handle(std::shared_ptr<HttpRequest> request, Responder responder) {
  const std::string* header = request->Header(kSandboxHeader);
  if (header == nullptr) return router_.Handle(std::move(request), std::move(responder));
  const std::string& name = *header;
  if (auto open = sandboxes_.UseOpen(name))
    return HandleInside(open, std::move(request), std::move(responder));
  auto shared = std::make_shared<Responder>(std::move(responder));
  bool runs = pool_.RunLong([this, name, request, shared] {
    auto opened = sandboxes_.Use(name);
    if (!opened) return shared->Send(Problem(opened.error()));
    HandleInside(*opened, request, std::move(*shared));
  });
  if (!runs) shared->Send(Problem(429, "busy", "the sandbox cannot be opened now; try again soon"));
}

std::shared_ptr<Api::Inside> Api::InsideOf(const std::string& name, const std::shared_ptr<Sandbox>& sandbox) {
  std::lock_guard lock(mutex_);
  std::erase_if(insides_, [](const auto& each) { return each.second->sandbox.expired(); });
  std::shared_ptr<Inside>& inside = insides_[name];
  if (inside == nullptr || inside->sandbox.lock() != sandbox) {
    inside = std::make_shared<Inside>(*sandbox, access_, pool_, inflated_max_);
    inside->sandbox = sandbox;
  }
  return inside;
}

void Api::HandleInside(const std::shared_ptr<Sandbox>& sandbox, std::shared_ptr<HttpRequest> request,
                       Responder responder) {
  if (router_.routes()[request->route].role == Role::kWrite) {
    if (Status room = sandbox->TakeIn(request->body.size()); !room.ok())
      return responder.Send(AppendProblem(room));
  }
  std::shared_ptr<Inside> inside = InsideOf(*request->Header(kSandboxHeader), sandbox);
  // The sandbox stays open for as long as somebody has the request, or has to answer it.
  struct Held {
    std::shared_ptr<HttpRequest> request;
    std::shared_ptr<Sandbox> sandbox;
    std::shared_ptr<Inside> inside;
  };
  auto held = std::make_shared<Held>(Held{std::move(request), sandbox, inside});
  auto channel = std::make_shared<SandboxChannel>(sandbox, inside, std::move(responder));
  inside->router.Handle(std::shared_ptr<HttpRequest>(held, held->request.get()),
                        Responder(std::move(channel)));
}

}  // namespace millstream
