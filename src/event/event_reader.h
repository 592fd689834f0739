// EventReader: checks one event and decodes what the contract, the envelope and the key want of it.
//
// Place: floor 1; inside event/ only: the first half of the assembler, which gathers what is read here.
// Threads: one at a time. What a Read gave holds until the next one.
// Failure: a Rejection for an event that is at fault.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "event/assembler.h"
#include "event/decode.h"
#include "event/json_scan.h"

namespace millstream {

/// A contract field, and its value in the present event.
struct FieldReader {
  /// Types whose usual form is decoded without asking the decoder.
  enum class Shortcut : uint8_t { kDecoder, kVarchar, kDecimal, kTimestamp };

  const Field* field;
  Decoder decoder;
  Scalar scalar, fallback;
  std::string scratch, keep;
  int column = -1;                        // index among the flat fields; -1: nested
  std::unique_ptr<ColumnBuilder> nested;  // where a nested value is decoded to be checked; thrown away
  Shortcut shortcut = Shortcut::kDecoder;
};

/// An envelope attribute: given by the source, or taken from the data.
struct AttributeReader {
  int value = -1;  // index of the data's value; -1: not taken from the data
  FieldReader* field =
      nullptr;            // a contract field with the same pointer and a type that decodes to the same column
  Scalar scalar;          // of the present event, if it has the attribute
  bool is_field = false;  // the data decides, and gives what it gives the field
  std::string scratch;
};

class EventReader {
 public:
  /// `shape` must outlive the reader.
  explicit EventReader(const StreamShape& shape);

  /// `data` is copied; white space around it is left out.
  std::optional<Rejection> Read(const Envelope& envelope, std::string_view data);

  // Of the event that was read:
  std::string_view text() const { return text_; }
  const std::vector<std::unique_ptr<FieldReader>>& fields() const { return fields_; }
  const AttributeReader& attribute(int index) const { return attributes_[index]; }
  /// A bit an attribute that the event has.
  uint32_t present() const { return present_; }

  /// The contract's flat fields: a FieldReader's `column` is an index here.
  const std::vector<const Field*>& flat_fields() const { return flat_fields_; }
  /// A bit an attribute that is taken from the value of a flat field.
  uint32_t field_attributes() const { return field_attributes_; }

  static constexpr uint32_t Bit(int attribute) { return 1u << attribute; }
  static constexpr uint32_t Bit(Attribute attribute) { return Bit(static_cast<int>(attribute)); }

 private:
  void AddField(const Field& field, std::vector<std::string>& pointers);
  void AddAttribute(Attribute attribute, const std::string& from, std::vector<std::string>& pointers);
  void Stage(std::string_view data);
  std::optional<Rejection> CheckFields();
  std::optional<Rejection> ReadAttributes(const Envelope& envelope);
  std::optional<Rejection> ReadFromData(Attribute attribute);
  void ReadGiven(const Envelope& envelope);
  void ReadKeyOfSeveral();
  void Give(Attribute attribute, std::string_view text);

  const StreamShape& shape_;
  std::vector<std::unique_ptr<FieldReader>> fields_;
  std::vector<const Field*> flat_fields_;
  std::array<AttributeReader, kAttributes> attributes_;
  std::vector<int> from_data_;   // attributes that are taken from one value of the data
  std::vector<int> key_values_;  // of a key of several values
  Decoder time_decoder_;
  std::unique_ptr<JsonFinder> finder_;
  std::vector<JsonValue> values_;
  std::string staging_;  // the event's text, padded for the scanner
  std::string_view text_;
  std::string key_;
  uint32_t present_ = 0, field_attributes_ = 0;
};

}  // namespace millstream
