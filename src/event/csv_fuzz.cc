// CsvReader on any bytes, under any delimiter, quote and null: the cut of the chunks changes nothing, and a
// row is a JSON object with a member for each column. The first four bytes are options.
#include "base/fuzz_target.h"
#include "event/csv.h"
#include "event/json_scan.h"

namespace {

using namespace millstream;

/// Rows of `text`, which comes `chunk` bytes at a time.
std::string ReadRows(const CsvOptions& options, std::string_view text, size_t chunk) {
  static const Contract contract{{*ParseField("a", "bigint"), *ParseField("b", "boolean"),
                                  *ParseField("c", "json"), *ParseField("d", "double")}};
  CsvReader reader(options, contract);
  std::string out;
  std::optional<size_t> columns;
  size_t at = 0;
  for (size_t fed = 0; fed <= text.size();) {
    fed = std::min(fed + chunk, text.size());
    const bool at_end = fed == text.size();
    while (auto row = reader.Next(text.substr(0, fed), &at, at_end)) {
      out += fmt::format("{}:{}:{}:{}\n", row->line, row->json, row->text, row->fault);
      CHECK(row->json.empty() == !row->fault.empty());
      if (!row->fault.empty()) continue;
      auto error = ValidateJson(row->json);
      CHECK(!error || error->code == "utf8" || error->code == "depth");
      if (error) continue;
      const size_t members = JsonMembers(row->json)->size();
      CHECK(columns.value_or(members) == members);
      columns = members;
    }
    if (at_end) break;
  }
  CHECK(at == text.size());
  return out;
}

}  // namespace

FUZZ_TARGET(event_csv_fuzz, text) {
  if (text.size() < 4) return;
  CsvOptions options;
  options.header = text[0] % 2 != 0;
  const size_t chunk = 1 + static_cast<uint8_t>(text[0]) / 2 % 16u;
  if (!SetCsvOption(options, "delimiter", text.substr(1, 1)).ok()) return;
  if (!SetCsvOption(options, "quote", text.substr(2, 1)).ok()) return;
  if (!SetCsvOption(options, "null", text.substr(3, 1)).ok()) return;
  text.remove_prefix(4);
  CHECK(ReadRows(options, text, chunk) == ReadRows(options, text, text.size() + 1));
}
