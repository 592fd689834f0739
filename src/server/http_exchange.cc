#include "server/http_exchange.h"

namespace millstream {

void Exchange::Send(HttpResponse response) {
  {
    std::lock_guard lock(mutex_);
    response_ = std::move(response);
    ended_ = complete_ = true;
  }
  notify_(Notice::kWake);
}

void Exchange::Begin(HttpResponse head) {
  {
    std::lock_guard lock(mutex_);
    response_ = std::move(head);
    streamed_ = true;
  }
  notify_(Notice::kWake);
}

Status Exchange::Write(std::string piece) {
  {
    std::unique_lock lock(mutex_);
    drained_.wait(lock, [&] { return gone_ || pending_.size() < unsent_max_; });
    if (gone_) return Cancelled("the client has left");
    if (pending_.empty())
      pending_ = std::move(piece);
    else
      pending_ += piece;
  }
  notify_(Notice::kWake);
  return OkStatus();
}

void Exchange::End(bool complete) {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
    complete_ = complete;
  }
  notify_(Notice::kWake);
}

void Exchange::OnGone(std::function<void()> call) {
  {
    std::lock_guard lock(mutex_);
    if (!gone_) on_gone_ = std::exchange(call, nullptr);
  }
  if (call) return call();
  notify_(Notice::kWatch);
}

bool Exchange::HasResponse() {
  std::lock_guard lock(mutex_);
  return response_.has_value();
}

HttpResponse Exchange::TakeResponse() {
  std::lock_guard lock(mutex_);
  return std::move(*response_);
}

Exchange::Piece Exchange::TakePiece() {
  std::lock_guard lock(mutex_);
  Piece piece{std::exchange(pending_, {}), ended_, complete_};
  drained_.notify_all();
  return piece;
}

void Exchange::SetGone() {
  std::function<void()> call;
  {
    std::lock_guard lock(mutex_);
    gone_ = true;
    call = std::exchange(on_gone_, nullptr);
  }
  drained_.notify_all();
  if (call) call();
}

void Exchange::Finish() {
  std::lock_guard lock(mutex_);
  on_gone_ = nullptr;
}

}  // namespace millstream
