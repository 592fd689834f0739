// CheckSinkContract: what every sink must do, run over each (SEMANTICS, 4): stored offsets are found again,
// empty batches store theirs, what was delivered does not come twice, a kill loses nothing.
//
// Place: floor 4, tests of sinks only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/memory_file_system.h"
#include "stage/stage.h"

namespace millstream {

/// Makes rows as a filter chain gives them, with DuckDB.
class RowMaker {
 public:
  RowMaker();
  /// One row for each event of [first, next) whose offset is not 2 modulo 3 (the others were filtered out).
  /// `visible`: a SELECT list over `i` (BIGINT, the offset). Reserved columns: `wanted`, then the
  /// coordinates.
  RowBatch Make(uint32_t partition, uint64_t first, uint64_t next, const std::string& visible,
                const std::vector<std::string>& wanted = {});
  /// A batch of which a filter has let nothing pass.
  RowBatch MakeEmpty(uint32_t partition, uint64_t first, uint64_t next);

 private:
  RowBatch Run(uint32_t partition, uint64_t first, uint64_t next, const std::string& sql);
  std::unique_ptr<Database> database_;
  std::unique_ptr<Connection> connection_;
};

/// Offsets of [first, next) that RowMaker::Make gives rows for.
std::vector<uint64_t> RowOffsets(uint64_t first, uint64_t next);

struct SinkUnderTest {
  /// A new sink over the same place.
  std::function<Result<std::unique_ptr<Sink>>()> make;
  /// "PARTITION:OFFSET" of each row that a reader of the target sees; null if the target cannot be read.
  std::function<std::vector<std::string>()> rows;
  bool exactly_once = true;
  /// False: the sink relies on being given nothing below its stored offset.
  bool skips_stored = true;
};

/// Visible columns of the contract's rows: p (the partition), o (the offset), name.
void CheckSinkContract(const SinkUnderTest& sink);

/// Options as a user writes them after `KIND:`.
Node OptionsOf(const std::string& yaml);
/// A context over `fs` and `clock`, of pipeline `p`, generation 1, with three partitions.
SinkContext ContextOf(FileSystem& fs, Clock& clock, const std::string& id);

}  // namespace millstream
