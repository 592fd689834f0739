// OriginWriter (stream_ingest.h): the way in of what can be read again.
#include <future>

#include "pipeline/gatherer.h"

namespace millstream {

OriginWriter::OriginWriter(StreamIngest& ingest, std::string origin)
    : ingest_(ingest), origin_(std::move(origin)) {}

OriginWriter::~OriginWriter() = default;

void OriginWriter::Begin(const std::string& part) {
  if (gatherer_) return;
  gatherer_ = std::make_unique<StreamIngest::Gatherer>(ingest_, std::make_shared<PreparedIngest>(), "");
  gatherer_->Cover(origin_, part);
}

std::optional<Rejection> OriginWriter::Add(const std::string& part, const Envelope& envelope,
                                           std::string_view data, uint64_t sequence, std::string_view at,
                                           bool quarantine, std::optional<uint64_t> replay_of) {
  Begin(part);
  StreamIngest::Gatherer::Place place{gatherer_->prepared().events, 0, sequence, at, replay_of};
  auto rejection = gatherer_->Add(envelope, data, place);
  if (rejection && quarantine) gatherer_->Quarantine(place, data, &envelope, *rejection);
  return rejection;
}

void OriginWriter::Refuse(const std::string& part, std::string_view data, uint64_t sequence,
                          std::string_view at, Rejection rejection, std::optional<uint64_t> replay_of) {
  Begin(part);
  StreamIngest::Gatherer::Place place{gatherer_->prepared().events++, 0, sequence, at, replay_of};
  gatherer_->Quarantine(place, data, nullptr, std::move(rejection));
}

uint64_t OriginWriter::count() const { return gatherer_ ? gatherer_->prepared().events : 0; }
uint64_t OriginWriter::bytes() const { return gatherer_ ? gatherer_->prepared().assembler->data_bytes() : 0; }
void OriginWriter::Drop() { gatherer_.reset(); }

tl::expected<IngestAnswer, IngestRefusal> OriginWriter::Commit(const std::string& part,
                                                               const std::string& position, bool everywhere,
                                                               bool reject) {
  Begin(part);
  auto gatherer = std::move(gatherer_);
  PreparedIngest& prepared = gatherer->prepared();
  prepared.receipts.push_back({origin_, part, position, 0, UINT32_MAX, 0});
  prepared.everywhere =
      ingest_.ReceiptsDue(origin_, part, everywhere ? SIZE_MAX : prepared.assembler->data_bytes());
  ingest_.Lay(*gatherer, reject);
  std::promise<tl::expected<IngestAnswer, IngestRefusal>> promise;
  ingest_.Commit(gatherer->shared(), [&](tl::expected<IngestAnswer, IngestRefusal> answer) {
    promise.set_value(std::move(answer));
  });
  return promise.get_future().get();
}

}  // namespace millstream
