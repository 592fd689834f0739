// The `table` sink: rows of a table that queries read: every row, the newest row of a key, or aggregates of a
// key. The TableStore's folds take rows and offset into its file in one transaction. Loops of several
// partitions deliver at once.
#include "sinks/null_keys.h"
#include "sinks/sinks.h"
#include "stage/make_kind.h"
#include "stage/table_options.h"
#include "tables/table_store.h"

namespace millstream {
namespace {

class TableSinkStage final : public Sink {
 public:
  TableSinkStage(TableOptions options, const SinkContext& context)
      : tables_(*context.tables), writer_{context.pipeline, context.generation, context.id} {
    spec_.name = std::move(options.name);
    spec_.key = std::move(options.key);
    spec_.values = std::move(options.values);
    spec_.delete_when = std::move(options.delete_when.text);
    spec_.order_by = std::move(options.order_by);
    // An order of the user's own decides within a partition too, so that it is one order for all rows; and
    // NULL is a key of an aggregate that may come from any partition.
    spec_.key_in_one_partition =
        context.key_in_one_partition && spec_.order_by.empty() && spec_.values.empty();
    spec_.writer = fmt::format("{}.{}", context.pipeline, context.generation);
  }

  Result<std::map<uint32_t, uint64_t>> Open() override {
    std::map<uint32_t, uint64_t> next;
    for (const auto& [partition, offset] : tables_.Offsets(writer_)) next[partition] = offset.next;
    return next;
  }

  std::vector<std::string> WantedColumns() const override {
    if (spec_.key.empty()) return {};
    return {"_op", "_ingested_at"};
  }

  Status SetColumns(const std::vector<ColumnInfo>& columns, uint32_t visible) override {
    return tables_.Ensure(spec_, {columns.begin(), columns.begin() + visible});
  }

  Status CheckColumns(const std::vector<ColumnInfo>& columns, uint32_t visible) const override {
    return tables_.CheckCompatible(spec_, {columns.begin(), columns.begin() + visible});
  }

  // A row whose key is NULL says of no row of the table what it is.
  std::vector<RefusedEvent> Refuse(const RowBatch& rows) const override {
    if (!spec_.values.empty()) return {};  // an aggregate counts NULL as a key like another
    return RefuseNullKeys(rows, spec_.name, spec_.key);
  }

  Status Deliver(const RowBatch& rows) override { return tables_.Deliver(writer_, spec_.name, rows); }

  // What a power cut leaves is what the last checkpoint put into the file (SEMANTICS, "Log": retention).
  std::optional<uint64_t> DurableOffset(uint32_t partition) override {
    auto offsets = tables_.CheckpointedOffsets(writer_);
    auto found = offsets.find(partition);
    return found == offsets.end() ? 0 : found->second.next;
  }

  Status ExpectOlder() override { return tables_.KeepDeletes(spec_.name); }
  Status AdmitOlder() override { return tables_.AdmitOlder(spec_.name); }

  bool concurrent() const override { return true; }

  // An own delete_when sees change events as they are.
  bool wants_deletes() const override {
    return !spec_.key.empty() && spec_.values.empty() && spec_.delete_when.empty();
  }

 private:
  TableStore& tables_;
  Writer writer_;
  TableSpec spec_;
};

}  // namespace

SinkKind TableSink() {
  return MakeSinkKind(
      TableOptionsSpec(), [](const TableOptions& options) { return options.name; },
      [](TableOptions options, const SinkContext& context) -> Result<std::unique_ptr<Sink>> {
        if (context.tables == nullptr) return Fail(Internal("a table sink needs the table store"));
        return std::make_unique<TableSinkStage>(std::move(options), context);
      });
}

}  // namespace millstream
