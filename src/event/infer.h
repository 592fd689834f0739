// ContractInference: proposes a contract from samples of a stream's data.
//
// Place: floor 1. Used by `contract infer STREAM|FILE`.
// Every sample converts under the proposed contract. Whole numbers are bigint (hugeint, double where they are
// larger), fractions with at most four digits decimal(18,s), others double; strings that all are times, dates
// or UUIDs have those types; objects are structs, arrays lists, what is mixed or never more than null is
// json. Not null: what no sample lacked. Threads: one at a time. Bounds: at most kFieldsMax members of an
// object are followed; an object with more is json.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "event/json_scan.h"
#include "event/type.h"

namespace millstream {

class ContractInference {
 public:
  static constexpr size_t kFieldsMax = 256;

  /// `typed_text`: strings that are numbers or booleans count as such, for CSV, where all values are texts.
  explicit ContractInference(bool typed_text = false);
  ~ContractInference();
  ContractInference(ContractInference&&) noexcept;

  /// kInvalid, and the sample is left out, if it is not a JSON object.
  Status Add(std::string_view json);
  uint64_t samples() const { return samples_; }
  Contract Finish() const;

 private:
  struct Shape;
  std::unique_ptr<Shape> root_;
  uint64_t samples_ = 0;
  bool typed_text_;
};

/// The contract as it stands in a project's YAML, each line indented by `indent` blanks.
std::string ContractToYaml(const Contract& contract, int indent = 0);

}  // namespace millstream
