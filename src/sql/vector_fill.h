// Filling DuckDB's vectors from Columns. The hot path of delivery: no parsing, no copying of strings.
//
// Place: floor 2, inside sql/. Stateless. Strings point into the column's memory, which must live until the
// execution ends (DUCKDB.md, 2).
#pragma once

#include <duckdb.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "event/column.h"

namespace millstream {

/// A string as DuckDB holds it: up to 12 bytes inline, padded with zeros (or `=` would not find it).
duckdb_string_t MakeDuckString(std::string_view text);

/// Entries of a dictionary as DuckDB's strings, made once a batch.
std::vector<duckdb_string_t> MakeEntries(const Column& column);

/// Writes values [begin, begin + count) of `column` to rows from `at` on. `entries`: of a dictionary, or
/// empty.
void FillVector(duckdb_vector vector, idx_t at, const Column& column, uint32_t begin, uint32_t count,
                const std::vector<duckdb_string_t>& entries);

/// Marks rows [at, at + count) NULL, members of structs too.
void FillNulls(duckdb_vector vector, idx_t at, const Type& type, uint32_t count);

/// Copies `count` bits from bit `source_at` of `source` to bit `target_at` of `target`.
void CopyBits(uint64_t* target, uint64_t target_at, const uint64_t* source, uint64_t source_at,
              uint64_t count);

}  // namespace millstream
