#include "server/http_message.h"

#include <cstdlib>
#include <cstring>

#include "server/problem.h"

namespace millstream {

void BodyBuffer::Free::operator()(char* bytes) const { std::free(bytes); }

BodyBuffer& BodyBuffer::operator=(BodyBuffer&& other) noexcept {
  bytes_ = std::move(other.bytes_);
  size_ = std::exchange(other.size_, 0);
  capacity_ = std::exchange(other.capacity_, 0);
  return *this;
}

char* BodyBuffer::Prepare(size_t bytes) {
  size_t needed = size_ + bytes + kTail;
  if (needed > capacity_) {
    size_t capacity = std::max(needed, std::min(capacity_ * 2, capacity_ + (16 << 20)));
    auto* grown = static_cast<char*>(std::realloc(bytes_.get(), capacity));
    CHECK(grown != nullptr);
    (void)bytes_.release();
    bytes_.reset(grown);
    capacity_ = capacity;
  }
  return bytes_.get() + size_;
}

void BodyBuffer::Commit(size_t bytes) {
  CHECK(size_ + bytes + kTail <= capacity_);
  size_ += bytes;
  std::memset(bytes_.get() + size_, 0, kTail);
}

void BodyBuffer::Append(std::string_view bytes) {
  char* to = Prepare(bytes.size());
  if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());  // else its pointer may be null
  Commit(bytes.size());
}

namespace {

const std::string* Find(const std::vector<std::pair<std::string, std::string>>& pairs,
                        std::string_view name) {
  for (const auto& [each, value] : pairs)
    if (each == name) return &value;
  return nullptr;
}

}  // namespace

const std::string* HttpRequest::Header(std::string_view name) const { return Find(headers, name); }
const std::string* HttpRequest::Query(std::string_view name) const { return Find(query, name); }
const std::string& HttpRequest::PathValue(std::string_view name) const {
  const std::string* value = Find(path_values, name);
  CHECK(value != nullptr);
  return *value;
}

Responder::~Responder() {
  if (!channel_ || done_) return;
  if (begun_)
    channel_->End(false);
  else
    channel_->Send(Problem(500, "internal", "the request was dropped without an answer"));
}

void Responder::Send(HttpResponse response) {
  CHECK(!begun_ && !done_);
  done_ = true;
  channel_->Send(std::move(response));
}

void Responder::Begin(HttpResponse head) {
  CHECK(!begun_ && !done_);
  begun_ = true;
  channel_->Begin(std::move(head));
}

Status Responder::Write(std::string piece) {
  CHECK(begun_ && !done_);
  return piece.empty() ? OkStatus() : channel_->Write(std::move(piece));
}

void Responder::End() {
  CHECK(begun_ && !done_);
  done_ = true;
  channel_->End(true);
}

void Responder::Abort() {
  CHECK(begun_ && !done_);
  done_ = true;
  channel_->End(false);
}

}  // namespace millstream
