// CsvReader: rows of CSV (RFC 4180) to JSON objects, streaming.
//
// Place: floor 1. Under RecordSplitter. A row becomes {"name":value,…} in the order of its columns: numbers,
// booleans and JSON as such where the contract's type wants them and the text is one; all else as strings. A
// field that equals `null` and is not quoted is null. Line ends: LF, CRLF, and inside quotes as they are.
// Threads: one at a time. Failure: see Row.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "event/type.h"

namespace millstream {

struct CsvOptions {
  char delimiter = ',';
  char quote = '"';
  bool header =
      true;  // the first row names the columns; else the contract's fields in order, or column0, column1, …
  std::string null = "";  // unquoted text that is null
};

/// From `--csv KEY=VALUE` and `csv: {delimiter, header, quote, null}`; kInvalid names the key.
Status SetCsvOption(CsvOptions& options, std::string_view key, std::string_view value);

class CsvReader {
 public:
  CsvReader(CsvOptions options, Contract contract);

  struct Row {
    std::string_view json;  // valid until the next call
    std::string_view text;  // the row as it was, without its line end
    uint64_t line = 0;      // where it begins, 1-based
    std::string fault;      // not empty: the row is not sound ("line 7 has 3 fields; the header has 4"), and
                            // `json` is empty
  };
  /// The next row that is complete in `buffer` (from *at on); moves *at behind it. Nothing: more bytes are
  /// wanted, or, `at_end` given, there are no more rows.
  std::optional<Row> Next(std::string_view buffer, size_t* at, bool at_end);

 private:
  struct Cell {
    std::string text;
    bool quoted = false;
  };
  struct Column {
    std::string name;  // as a JSON string, with its colon
    Type::Kind kind = Type::Kind::kVarchar;
  };
  std::optional<size_t> FindRowEnd(std::string_view buffer, size_t from, bool at_end);
  bool SplitRow(std::string_view row, std::string* fault);
  void NameColumns(bool from_cells);
  void AddColumn(const std::string& name);
  void AppendCell(const Cell& cell, const Column& column);

  CsvOptions options_;
  Contract contract_;
  std::vector<Column> columns_;
  std::vector<Cell> cells_;
  size_t cell_count_ = 0;
  std::string json_;
  uint64_t line_ = 1;
  bool named_ = false;
  size_t scanned_ = 0;      // of the row under way, so that no byte is looked at twice
  bool in_quotes_ = false;  // at scanned_
};

}  // namespace millstream
