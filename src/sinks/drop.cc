// The `drop` sink: takes rows and lets them go. The runtime counts them (`top`); nothing is written but how
// far it has come. For measuring a pipeline, and in place of outside sinks in a sandbox.
#include "sinks/counted_offsets.h"
#include "sinks/sinks.h"
#include "stage/make_kind.h"

namespace millstream {
namespace {

struct DropOptions {};

Spec<DropOptions> DropSpec() {
  Spec<DropOptions> spec("drop", "Counts rows and lets them go.");
  spec.Guarantee("at least once.");
  spec.Example("drop:");
  return spec;
}

class DropSinkStage final : public Sink {
 public:
  explicit DropSinkStage(const SinkContext& context) : offsets_(context) {}
  Result<std::map<uint32_t, uint64_t>> Open() override { return offsets_.Open(); }
  Status SetColumns(const std::vector<ColumnInfo>&, uint32_t) override { return OkStatus(); }
  Status Deliver(const RowBatch& rows) override { return offsets_.Advance(rows.partition, rows.next_offset); }
  std::optional<uint64_t> DurableOffset(uint32_t partition) override { return offsets_.Durable(partition); }
  Status Close() override { return offsets_.Close(); }

 private:
  CountedOffsets offsets_;
};

}  // namespace

SinkKind DropSink() {
  return MakeSinkKind(
      DropSpec(), [](const DropOptions&) { return std::string(); },
      [](DropOptions, const SinkContext& context) -> Result<std::unique_ptr<Sink>> {
        return std::make_unique<DropSinkStage>(context);
      });
}

}  // namespace millstream
