// PipelineRunner: one version of a pipeline's filters, bound and ready to run: fused SQL chains and other
// filters in turn.
//
// Place: floor 5; one a delivery loop and version. Threads: one; Interrupt from any.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "catalog/project.h"
#include "sql/filter_chain.h"
#include "stage/stage.h"

namespace millstream {

class PipelineRunner;
using MakeRunner = std::function<Result<std::unique_ptr<PipelineRunner>>(const PipelineConfig&)>;

struct RunnerContext {
  Database* database = nullptr;
  const Registry* registry = nullptr;
  Clock* clock = nullptr;
  std::string project_directory;
  std::vector<std::string> wanted_columns;  // reserved ones that the sink asks for
  bool keep_deletes = false;
  /// What runs in place of the filters where there is no database; null: the filters.
  MakeRunner make = nullptr;
};

class PipelineRunner {
 public:
  /// Binds. kInvalid says which filter does not bind.
  static Result<std::unique_ptr<PipelineRunner>> Make(const RunnerContext& context,
                                                      const PipelineConfig& pipeline,
                                                      const StreamConfig& stream);
  virtual ~PipelineRunner() = default;

  const std::vector<ColumnInfo>& columns() const { return columns_; }
  uint32_t visible() const { return visible_; }

  /// Runs all filters over consecutive events of one partition; the caller fills the batch's offsets.
  /// kInvalid: an event is at fault (bisect).
  virtual Result<RowBatch> Run(std::span<const BatchRange> ranges, std::stop_token stop) = 0;
  /// Rows that each filter gave so far, over successful runs.
  const std::vector<uint64_t>& counts() const { return counts_; }
  /// Where the last Run failed; empty: it cannot be told, as of several SQL filters, which run as one.
  virtual std::string failed_filter() const { return ""; }
  virtual void Interrupt() = 0;

  struct Blame {
    std::string filter;  // empty: the event could not be read under the contract
    std::string code;    // sql, exec or contract
    std::string reason;
  };
  /// Runs one event alone, which failed, to tell which filter refuses it and why.
  virtual Blame FindBlame(const BatchRange& event, std::stop_token stop) = 0;

 protected:
  std::vector<ColumnInfo> columns_;
  uint32_t visible_ = 0;
  std::vector<uint64_t> counts_;
};

}  // namespace millstream
