#include "stage/isolated.h"

#include "base/planted.h"

namespace millstream {
namespace {

/// The `drop` sink, but it begins where the sandbox does.
class DroppedSink final : public Sink {
 public:
  DroppedSink(std::unique_ptr<Sink> drop, std::map<uint32_t, uint64_t> from)
      : drop_(std::move(drop)), from_(std::move(from)) {}

  Result<std::map<uint32_t, uint64_t>> Open() override {
    ASSIGN_OR_FAIL(auto stored, drop_->Open());
    for (const auto& [partition, offset] : from_) stored.try_emplace(partition, offset);
    return stored;
  }
  Status SetColumns(const std::vector<ColumnInfo>& columns, uint32_t visible) override {
    return drop_->SetColumns(columns, visible);
  }
  Status Deliver(const RowBatch& rows) override { return drop_->Deliver(rows); }
  std::optional<uint64_t> DurableOffset(uint32_t partition) override {
    return drop_->DurableOffset(partition);
  }
  Status Close() override { return drop_->Close(); }

 private:
  std::unique_ptr<Sink> drop_;
  const std::map<uint32_t, uint64_t> from_;
};

}  // namespace

bool IsInside(const std::string& sink_kind) {
  return sink_kind == "table" || sink_kind == "stream" || sink_kind == "drop";
}

Registry Isolated(const Registry& registry, bool allow_exec, IsolatedFrom from) {
  Registry isolated = registry;
  for (const auto& [name, kind] : registry.sources()) {
    SourceKind source = kind;
    source.make = [](const Node&, const SourceContext& context) -> Result<std::unique_ptr<Source>> {
      return Fail(Invalid("source {}: a sandbox reads no sources", context.name));
    };
    isolated.Add(std::move(source));
  }
  for (const auto& [name, kind] : registry.filters()) {
    if (allow_exec) continue;
    FilterKind filter = kind;
    filter.make = [](const Node&, const FilterContext& context) -> Result<std::unique_ptr<Filter>> {
      return Fail(
          Invalid("filter {}.{} runs a program, which a sandbox does only if it was made with --allow-exec",
                  context.pipeline, context.name));
    };
    isolated.Add(std::move(filter));
  }
  const auto drop = registry.sinks().at("drop").make;
  for (const auto& [name, kind] : registry.sinks()) {
    if (IsInside(name)) continue;
    SinkKind sink = kind;
    const bool leaks = name == "stdout" && IsPlanted(Planted::sandbox_leaks);
    sink.make = [make = leaks ? kind.make : drop, leaks, from](
                    const Node& options, const SinkContext& context) -> Result<std::unique_ptr<Sink>> {
      ASSIGN_OR_FAIL(std::unique_ptr<Sink> made, make(leaks ? options : Node(), context));
      auto begin = from.find(context.stream);
      return std::make_unique<DroppedSink>(
          std::move(made), begin == from.end() ? std::map<uint32_t, uint64_t>() : begin->second);
    };
    isolated.Add(std::move(sink));
  }
  return isolated;
}

}  // namespace millstream
