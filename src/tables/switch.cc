// TableStore::Switch: tables that were made anew take the place of those that readers see.
#include <chrono>
#include <thread>

#include "tables/folder.h"
#include "tables/table_store.h"

namespace millstream {
namespace {

/// What takes part, in the order of its tables' names.
struct Taking {
  std::string shadow_name, name;
  std::shared_ptr<Table> shadow, old;  // no old one: there is no such table yet
  std::shared_ptr<Table> fresh;        // the shadow, under its new name
  TableShape shape;                    // of the shadow, under the name that readers see
  std::vector<WriterRecord> gone;      // of the old one
  std::map<Writer, WriterRecord> taken;
};

Status SwitchIn(Connection& connection, const std::vector<Taking>& all) {
  RETURN_IF_ERROR(connection.Run("BEGIN TRANSACTION"));
  Status status;
  auto then = [&](auto step) {
    if (status.ok()) status = step();
  };
  for (const Taking& one : all) {
    if (one.old) then([&] { return ForgetTable(connection, one.old->shape.id); });
    for (const WriterRecord& record : one.gone)
      if (record.id != 0) then([&] { return RemoveWriter(connection, record.id); });
    then([&] { return RenameTable(connection, one.shape.id, one.name); });
    then([&] { return connection.Run("DROP VIEW main." + Quoted(one.shadow_name)); });
    then([&] { return connection.Run(CreateViewSql(one.shape)); });
    for (const auto& [writer, record] : one.taken)
      if (record.id != 0) then([&] { return RenameWriter(connection, record.id, record.writer, one.name); });
  }
  then([&] { return connection.Commit(); });
  if (!status.ok()) connection.Rollback();
  return status;
}

}  // namespace

Status TableStore::Switch(const std::vector<std::pair<std::string, std::string>>& shadows) {
  std::lock_guard one_at_a_time(state_->ensuring);
  std::map<std::string, Taking> by_name;
  for (const auto& [shadow_name, name] : shadows) {
    std::shared_ptr<Table> shadow = state_->FindTable(shadow_name);
    if (shadow) by_name[name] = {shadow_name, name, shadow, state_->FindTable(name), {}, {}, {}, {}};
  }
  if (by_name.empty()) return OkStatus();
  // Rows lie in deltas under their writers' names: they are written first.
  RETURN_IF_ERROR(FoldAll());
  std::vector<std::unique_ptr<LayoutLock>> layouts;
  std::vector<Taking> all;
  for (auto& [name, one] : by_name) {
    for (const auto& table : {one.shadow, one.old})
      if (table) layouts.push_back(std::make_unique<LayoutLock>(*state_, *table));
    one.shape = state_->ShapeOf(*one.shadow);
    one.shape.spec.name = name;
    one.fresh = std::make_shared<Table>(one.shape);
    RETURN_IF_ERROR(state_->MakeRecent(*one.fresh, one.shape));
    one.fresh->shape = one.shape;
    std::lock_guard lock(state_->mutex);
    if (one.shadow->delta_rows > 0)
      return Unavailable("table {}: rows came while it was switched", one.shadow_name);
    for (const auto& [writer, record] : state_->writers) {
      if (record.table == name) one.gone.push_back(record);
      if (record.table != one.shadow_name) continue;
      WriterRecord& taken = one.taken[writer] = record;
      std::string& sink = taken.writer.sink;
      std::string mark = one.shadow_name.substr(name.size());
      if (sink.ends_with(mark)) sink.resize(sink.size() - mark.size());
      taken.table = name;
    }
    all.push_back(std::move(one));
  }
  auto publish = [&] {
    std::lock_guard lock(state_->mutex);
    for (Taking& one : all) {
      for (const WriterRecord& record : one.gone) {
        state_->writers.erase(record.writer), state_->checkpointed.erase(record.writer);
      }
      auto& fresh = one.fresh;
      Table& from = *one.shadow;
      fresh->base_rows = from.base_rows, fresh->dead_rows = from.dead_rows;
      fresh->scattered_rows = from.scattered_rows, fresh->unsaved = from.unsaved;
      fresh->unsaved_since_ns = from.unsaved_since_ns, fresh->last_delivery_ns = from.last_delivery_ns;
      fresh->last_fold_ns = from.last_fold_ns;
      if (one.old) fresh->switches = one.old->switches + 1;
      for (auto& [writer, offsets] : from.folding_offsets) {
        auto taken = one.taken.find(writer);
        fresh->folding_offsets[taken == one.taken.end() ? writer : taken->second.writer] = offsets;
      }
      for (auto& [writer, record] : one.taken) {
        auto checkpointed = state_->checkpointed.extract(writer);
        if (!checkpointed.empty()) state_->checkpointed[record.writer] = checkpointed.mapped();
        state_->writers.erase(writer);
      }
      for (auto& [writer, record] : one.taken) state_->writers[record.writer] = record;
      from.dropped = true;
      if (one.old) one.old->dropped = true;
      state_->tables.erase(one.shadow_name);
      state_->tables[one.name] = fresh;
    }
  };
  constexpr int kMaxTries = 50;  // DuckDB may still see a transaction that has just ended
  constexpr auto kPause = std::chrono::milliseconds(10);
  Status status;
  for (int tries = 1;; ++tries) {
    status = state_->ChangeLayout([&](Connection& connection) -> Status {
      for (const Taking& one : all)
        if (one.old) ++one.old->switches;
      Status switched = SwitchIn(connection, all);
      if (switched.ok()) publish();
      for (const Taking& one : all)
        if (one.old) ++one.old->switches;
      return switched;
    });
    if (status.code() != Code::kUnavailable || tries == kMaxTries) break;
    std::this_thread::sleep_for(kPause);
  }
  RETURN_IF_ERROR(status);
  for (const Taking& one : all) {
    state_->folder->Retire("", one.shadow);
    if (!one.old) continue;
    const TableShape& shape = one.old->shape;  // nobody changes it any more
    state_->folder->Retire(BaseName(shape, shape.base), one.old);
  }
  return OkStatus();
}

}  // namespace millstream
