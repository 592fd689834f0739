// StreamIngest::Gatherer: the events of one request, or of one stretch of an origin's part, on their way into
// the assembler.
//
// Place: floor 5; private to StreamIngest and OriginWriter. Belongs to one thread.
#pragma once

#include <charconv>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "pipeline/letter_envelope.h"
#include "pipeline/stream_ingest.h"

namespace millstream {

inline constexpr size_t kMaxFaults = 100;  // in an answer

/// The decimal number that a position begins with.
inline uint64_t LeadingNumber(std::string_view text) {
  uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

/// Gathers events of one request, or of one stretch of an origin's part, into the assembler and remembers
/// where each stood.
class StreamIngest::Gatherer {
 public:
  Gatherer(StreamIngest& stream, std::shared_ptr<PreparedIngest> prepared, std::string subject)
      : stream_(stream),
        prepared_(std::move(prepared)),
        subject_(std::move(subject)),
        where_(stream.stream_.partitions()) {
    prepared_->stream = stream.shared_from_this();
    prepared_->assembler = stream.TakeAssembler();
    prepared_->batches.resize(stream.stream_.partitions());
    prepared_->durable.resize(stream.stream_.partitions());
  }

  PreparedIngest& prepared() { return *prepared_; }
  const std::shared_ptr<PreparedIngest>& shared() const { return prepared_; }

  /// Reads what an origin's receipts cover already.
  void Cover(const std::string& origin, const std::string& part) {
    for (uint32_t p = 0; p < stream_.stream_.partitions(); ++p) {
      auto receipt = stream_.stream_.partition(p).FindReceipt(origin, part);
      covered_.push_back(receipt ? LeadingNumber(receipt->position) : 0);
    }
    auto dead = stream_.dead_letters_.FindReceipt(stream_.config_.shape.name, origin, part);
    covered_letters_ = dead ? LeadingNumber(dead->position) : 0;
    prepared_->repeatable = true;
  }

  struct Place {
    uint64_t index = 0;                      // in the request
    uint64_t line = 0;                       // 0: none
    uint64_t sequence = 0;                   // in the origin's part
    std::string_view at;                     // of a source; valid during Add
    std::optional<uint64_t> replay_of = {};  // the dead letter that it is
  };

  std::optional<Rejection> Add(const Envelope& envelope, std::string_view data, const Place& place) {
    ++prepared_->events;
    uint32_t partition = 0;
    auto rejection = prepared_->assembler->Add(envelope, data, &partition);
    if (rejection) return rejection;
    where_[partition].push_back({place.index, place.line, place.sequence, {}, place.replay_of});
    if (!place.at.empty()) ats_[partition].emplace_back(place.at);
    return std::nullopt;
  }

  /// Without an envelope `data` is the whole of a CloudEvent that could not be read.
  void Quarantine(const Place& place, std::string_view data, const Envelope* envelope, Rejection rejection) {
    ++prepared_->quarantined;
    std::vector<IngestFault>& faults = prepared_->faults;
    const size_t fault = faults.size() < kMaxFaults ? faults.size() : SIZE_MAX;
    auto tell = [&](const Rejection& each) {
      if (faults.size() < kMaxFaults)
        faults.push_back({place.index, place.line, each.code, each.path, each.message, std::nullopt});
    };
    tell(rejection);
    for (const Rejection& another : rejection.others) tell(another);
    if (place.sequence > 0 && place.sequence <= covered_letters_) return;
    DeadLetter letter;
    letter.at = "ingest";
    letter.code = std::move(rejection.code);
    if (!place.at.empty()) {
      letter.event = place.at;
    } else if (!subject_.empty()) {
      letter.event = fmt::format("{}#{}", subject_, place.line);
    } else {
      letter.event =
          place.line > 0 ? fmt::format("line {}", place.line) : fmt::format("event {}", place.index);
    }
    letter.path = std::move(rejection.path);
    letter.reason = std::move(rejection.message);
    letter.data = data;
    if (envelope != nullptr) letter.envelope = EnvelopeJson(*envelope);
    letter.is_cloud_event = envelope == nullptr;
    letter.replay_of = place.replay_of;
    prepared_->letters.push_back(std::move(letter));
    prepared_->letter_faults.push_back(fault);
    prepared_->letter_indexes.push_back(place.index);
  }

  /// Takes gathered events of a partition away again, as refused.
  Status Withdraw(uint32_t partition, EventBatch& batch, std::vector<ContractChecks::Violation> violations) {
    std::vector<uint32_t> rows;
    for (ContractChecks::Violation& violation : violations) {
      Place place = where_[partition][violation.row];
      if (auto ats = ats_.find(partition); ats != ats_.end()) place.at = ats->second[violation.row];
      ASSIGN_OR_RETURN(Envelope envelope, EnvelopeOf(batch, violation.row));
      Quarantine(place, prepared_->assembler->DataOf(partition, violation.row), &envelope,
                 std::move(violation.rejection));
      rows.push_back(violation.row);
    }
    Remove(partition, rows);
    return OkStatus();
  }

  /// Takes away what an earlier attempt has made durable. A partition whose receipt reaches further than this
  /// piece gets none of it: its receipt would go back, and what follows be appended twice.
  void SkipCovered() {
    for (uint32_t p = 0; p < covered_.size(); ++p) {
      if (covered_[p] > LeadingNumber(prepared_->receipts.back().position)) prepared_->durable[p] = true;
      if (where_[p].empty() || where_[p].front().sequence > covered_[p]) continue;
      std::vector<uint32_t> rows;
      for (uint32_t row = 0; row < where_[p].size(); ++row)
        if (where_[p][row].sequence <= covered_[p]) rows.push_back(row);
      prepared_->skipped += rows.size();
      Remove(p, rows);
    }
  }

  /// Faults and letters in the order of the request.
  void SortFaults() {
    PreparedIngest& prepared = *prepared_;
    std::vector<IngestFault>& faults = prepared.faults;
    std::vector<size_t> moved_to(faults.size());
    std::vector<size_t> order = Ascending(faults.size(), [&](size_t i) { return faults[i].index; });
    std::vector<IngestFault> sorted;
    for (size_t i = 0; i < order.size(); ++i) {
      moved_to[order[i]] = i;
      sorted.push_back(std::move(faults[order[i]]));
    }
    faults = std::move(sorted);
    std::vector<DeadLetter> letters;
    std::vector<size_t> letter_faults;
    for (size_t i :
         Ascending(prepared.letters.size(), [&](size_t k) { return prepared.letter_indexes[k]; })) {
      letters.push_back(std::move(prepared.letters[i]));
      size_t fault = prepared.letter_faults[i];
      letter_faults.push_back(fault == SIZE_MAX ? SIZE_MAX : moved_to[fault]);
    }
    prepared.letters = std::move(letters);
    prepared.letter_faults = std::move(letter_faults);
  }

  /// "SUBJECT#LINE", valid until the next call.
  std::string_view IdOf(uint64_t line) {
    char digits[20];
    char* end = std::to_chars(digits, std::end(digits), line).ptr;
    if (id_.empty()) id_ = subject_ + "#";
    id_.resize(subject_.size() + 1);
    return id_.append(digits, end);
  }

 private:
  template <typename IndexOf>
  static std::vector<size_t> Ascending(size_t count, IndexOf index_of) {
    std::vector<size_t> order(count);
    for (size_t i = 0; i < count; ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return index_of(a) < index_of(b); });
    return order;
  }
  void Remove(uint32_t partition, const std::vector<uint32_t>& rows) {
    prepared_->assembler->Remove(partition, rows);
    EraseRows(where_[partition], rows);
    if (auto ats = ats_.find(partition); ats != ats_.end()) EraseRows(ats->second, rows);
  }
  template <typename T>
  static void EraseRows(std::vector<T>& values, const std::vector<uint32_t>& rows) {
    size_t next = 0, kept = 0;
    for (size_t row = 0; row < values.size(); ++row) {
      if (next < rows.size() && rows[next] == row) {
        ++next;
      } else {
        if (kept != row) values[kept] = std::move(values[row]);
        ++kept;
      }
    }
    values.resize(kept);
  }

  StreamIngest& stream_;
  std::shared_ptr<PreparedIngest> prepared_;
  const std::string subject_;
  std::string id_;
  std::vector<std::vector<Place>> where_;             // by partition, one a gathered event
  std::map<uint32_t, std::vector<std::string>> ats_;  // by partition, of sources
  std::vector<uint64_t> covered_;  // by partition: up to which sequence it is durable there
  uint64_t covered_letters_ = 0;
};

}  // namespace millstream
