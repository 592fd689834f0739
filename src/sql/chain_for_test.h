// Events, chains and answers for the tests of this room.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "event/assembler.h"
#include "sql/filter_chain.h"

namespace millstream {

inline Field FieldOf(const std::string& name, const std::string& type) { return *ParseField(name, type); }

/// One batch of one partition, from JSON texts; envelopes may be given.
inline std::unique_ptr<EventBatch> BatchOf(const Contract& contract, const std::vector<std::string>& texts,
                                           uint64_t base_offset = 0,
                                           const std::vector<Envelope>& envelopes = {}) {
  StreamShape shape;
  shape.name = "orders";
  shape.contract = contract;
  Assembler assembler(shape);
  for (size_t i = 0; i < texts.size(); ++i) {
    std::string padded = texts[i] + std::string(64, ' ');
    auto rejection = assembler.Add(envelopes.empty() ? Envelope() : envelopes[i],
                                   std::string_view(padded).substr(0, texts[i].size()));
    if (rejection) ADD_FAILURE() << texts[i] << ": " << rejection->path << " " << rejection->message;
  }
  EncodedBatch encoded = assembler.Finish(0, {});
  BatchPlace place{"orders", 0, 1, base_offset, encoded.count, 1'700'000'000'000'000};
  auto batch = EventBatch::Open(place, encoded.codec, std::move(encoded.payload));
  EXPECT_TRUE(batch) << batch.error().ToString();
  return std::move(*batch);
}

inline std::vector<SqlFilter> FiltersOf(const std::vector<std::string>& texts) {
  std::vector<SqlFilter> filters;
  for (const std::string& text : texts) filters.push_back({"f" + std::to_string(filters.size()), text});
  return filters;
}

/// Rows as JSON objects of the visible columns and, if asked, "@OFFSET.ORDINAL" after them.
inline std::vector<std::string> RowsOf(Database& database, const RowBatch& rows, bool positions = false) {
  std::vector<std::string> out;
  auto made = RowScan::Make(database, [&] {
    std::vector<ColumnInfo> columns = rows.columns;
    for (size_t i = rows.visible; i < columns.size(); ++i) columns[i].name = fmt::format("reserved{}", i);
    return columns;
  }());
  if (!made) return {made.error().ToString()};
  auto scan = std::move(*made);
  auto connection = std::move(*database.Connect());
  scan->Set(rows.chunks);
  auto result = connection->Query("SELECT * FROM " + scan->Sql());
  if (!result) return {result.error().ToString()};
  JsonWriter writer = result->MakeJsonWriter();
  while (true) {
    auto chunk = result->Next();
    if (!chunk || !*chunk) break;
    const Chunk& values = **chunk;
    for (uint32_t row = 0; row < values.rows(); ++row) {
      std::string line;
      for (uint32_t i = 0; i < rows.visible; ++i) {
        line += (i == 0 ? "" : " ");
        writer.AppendText(line, values, i, row);
      }
      if (positions) {
        line += " @";
        writer.AppendText(line, values, values.columns() - 2, row);
        line += ".";
        writer.AppendText(line, values, values.columns() - 1, row);
      }
      out.push_back(line);
    }
  }
  return out;
}

}  // namespace millstream
