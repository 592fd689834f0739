#include "pipeline/pipeline_runner.h"

#include <iterator>

namespace millstream {
namespace {

std::vector<std::string> AllReserved() {
  std::vector<std::string> names(std::begin(kReservedColumns), std::end(kReservedColumns));
  return names;
}

/// Columns before the reserved ones, which stand last in their order; a visible one may be called `data` too.
uint32_t CountVisible(const std::vector<ColumnInfo>& columns) {
  auto next = std::rbegin(kReservedColumns);
  auto visible = static_cast<uint32_t>(columns.size());
  for (; visible > 0; --visible, ++next) {
    next = std::find(next, std::rend(kReservedColumns), columns[visible - 1].name);
    if (next == std::rend(kReservedColumns)) break;
  }
  return visible;
}

class BoundFilters final : public PipelineRunner {
 public:
  static Result<std::unique_ptr<PipelineRunner>> Bind(const RunnerContext& context,
                                                      const PipelineConfig& pipeline,
                                                      const StreamConfig& stream);
  Result<RowBatch> Run(std::span<const BatchRange> ranges, std::stop_token stop) override;
  std::string failed_filter() const override;
  void Interrupt() override;
  Blame FindBlame(const BatchRange& event, std::stop_token stop) override;

 private:
  /// A run of SQL filters, or one other filter.
  struct Step {
    std::vector<size_t> filters;  // indexes in the pipeline
    std::unique_ptr<FilterChain> chain;
    std::unique_ptr<Filter> filter;
  };

  std::vector<std::string> names_;
  std::vector<Step> steps_;
  std::vector<uint64_t> scratch_;
  size_t failed_step_ = 0;
};

Result<std::unique_ptr<PipelineRunner>> BoundFilters::Bind(const RunnerContext& context,
                                                           const PipelineConfig& pipeline,
                                                           const StreamConfig& stream) {
  auto runner = std::make_unique<BoundFilters>();
  ChainInput input{
      stream.shape.name, stream.shape.contract, {"/v1/streams/" + stream.shape.name, stream.shape.name}, {}};
  size_t next = 0;
  do {
    Step step;
    std::vector<SqlFilter> filters;
    while (next < pipeline.filters.size() && pipeline.filters[next].kind == "sql") {
      filters.push_back({pipeline.filters[next].name, pipeline.filters[next].sql});
      step.filters.push_back(next++);
    }
    // The input itself is a chain without filters: the first step reads the stream.
    if (!filters.empty() || runner->steps_.empty()) {
      bool is_last = next == pipeline.filters.size();
      ChainOptions options{is_last ? context.wanted_columns : AllReserved(), context.keep_deletes};
      ASSIGN_OR_FAIL(step.chain, FilterChain::Make(*context.database, input, filters, options));
      runner->columns_ = step.chain->columns();
      runner->visible_ = step.chain->visible();
      runner->steps_.push_back(std::move(step));
    }
    if (next < pipeline.filters.size()) {
      const FilterConfig& config = pipeline.filters[next];
      auto kind = context.registry->filters().find(config.kind);
      if (kind == context.registry->filters().end())
        return Fail(NotFound("no filter kind '{}'", config.kind));
      Step other;
      other.filters.push_back(next++);
      FilterContext filter_context{pipeline.name, config.name, context.project_directory, context.clock};
      ASSIGN_OR_FAIL(other.filter, kind->second.make(config.options, filter_context));
      ASSIGN_OR_FAIL(runner->columns_, other.filter->Describe(runner->columns_));
      runner->visible_ = CountVisible(runner->columns_);
      runner->steps_.push_back(std::move(other));
    }
    input.rows = runner->columns_;
  } while (next < pipeline.filters.size());
  for (const FilterConfig& filter : pipeline.filters) runner->names_.push_back(filter.name);
  runner->counts_.resize(pipeline.filters.size());
  return runner;
}

Result<RowBatch> BoundFilters::Run(std::span<const BatchRange> ranges, std::stop_token stop) {
  std::vector<uint64_t> counts(counts_.size());
  Result<RowBatch> rows = Fail(Internal("no step"));
  for (size_t i = 0; i < steps_.size(); ++i) {
    Step& step = steps_[i];
    failed_step_ = i;
    if (step.chain) {
      scratch_.assign(step.filters.size(), 0);
      rows = i == 0 ? step.chain->Run(ranges, scratch_) : step.chain->Run(*rows, scratch_);
      if (!rows) return rows;
      for (size_t k = 0; k < step.filters.size(); ++k) counts[step.filters[k]] += scratch_[k];
    } else {
      rows = step.filter->Process(std::move(*rows), stop);
      if (!rows) return rows;
      counts[step.filters[0]] += rows->rows();
    }
  }
  for (size_t i = 0; i < counts.size(); ++i) counts_[i] += counts[i];
  return rows;
}

std::string BoundFilters::failed_filter() const {
  const Step& step = steps_[failed_step_];
  return step.filters.size() == 1 ? names_[step.filters[0]] : "";
}

void BoundFilters::Interrupt() {
  for (Step& step : steps_)
    if (step.chain) step.chain->Interrupt();
}

PipelineRunner::Blame BoundFilters::FindBlame(const BatchRange& event, std::stop_token stop) {
  auto rows = Run(std::span(&event, 1), stop);
  if (rows) return {"", "sql", "it failed once and did not fail again"};
  if (!event.batch->unconvertible().empty()) {
    for (const auto& unconvertible : event.batch->unconvertible())
      if (unconvertible.row >= event.begin && unconvertible.row < event.end)
        return {"", "contract", unconvertible.reason};
  }
  const Step& step = steps_[failed_step_];
  if (step.filter) return {names_[step.filters[0]], "exec", rows.error().message()};
  size_t at_fault = 0;
  if (failed_step_ == 0 && step.filters.size() > 1) {
    int found = step.chain->FilterAtFault(event);
    if (found >= 0) at_fault = static_cast<size_t>(found);
  }
  return {step.filters.empty() ? "" : names_[step.filters[at_fault]], "sql", rows.error().message()};
}

}  // namespace

Result<std::unique_ptr<PipelineRunner>> PipelineRunner::Make(const RunnerContext& context,
                                                             const PipelineConfig& pipeline,
                                                             const StreamConfig& stream) {
  return context.make ? context.make(pipeline) : BoundFilters::Bind(context, pipeline, stream);
}

}  // namespace millstream
