// millstream init: a small project that works as printed.
#include <cstdio>
#include <memory>

#include "cli/target.h"
#include "cli/verbs.h"

namespace millstream {
namespace {

constexpr char kProject[] =
    R"(# A Millstream project. `millstream check` finds every fault; `millstream help` and the docs say what else there is.
streams:
  orders:
    key: customer                 # events of one customer stay in order
    partitions: 2
    contract:                     # an event that breaks it becomes a dead letter, with the reason
      id: varchar not null
      type: varchar
      customer: varchar not null
      amount: decimal(12,2) check (amount >= 0)
      ts: timestamptz

pipelines:
  revenue:
    from: orders
    filters:
      - placed: SELECT * FROM input WHERE type = 'order.placed'
      - gross: filters/gross.sql
    to:
      - table: {name: revenue, key: [customer, id]}
  by_customer:
    from: orders
    filters:
      - placed: SELECT customer, amount FROM input WHERE type = 'order.placed'
    to:
      - table: {name: by_customer, key: customer, values: {orders: count(*), total: sum(amount)}}
)";

constexpr char kGross[] = "SELECT id, customer, amount, round(amount * 1.2, 2) AS gross, ts FROM input\n";

constexpr char kOrders[] =
    R"({"id":"o-1","type":"order.placed","customer":"ada","amount":12.50,"ts":"2026-11-22T10:00:00Z"}
{"id":"o-2","type":"order.placed","customer":"bob","amount":80.00,"ts":"2026-11-22T10:00:01Z"}
{"id":"o-3","type":"order.cancelled","customer":"bob","amount":80.00,"ts":"2026-11-22T10:00:02Z"}
{"id":"o-4","type":"order.placed","customer":"ada","amount":7.25,"ts":"2026-11-22T10:00:03Z"}
{"id":"o-5","type":"order.placed","customer":"eve","amount":"much","ts":"2026-11-22T10:00:04Z"}
)";

constexpr char kIgnore[] = ".millstream/\n";

Status Init(const std::string& directory) {
  Machine machine;
  auto there = machine.fs.List(directory);
  if (there && !there->empty()) return Conflict("{} is not empty; give the name of a new folder", directory);
  RETURN_IF_ERROR(machine.fs.CreateDirectories(directory + "/filters"));
  RETURN_IF_ERROR(WriteFileDurably(machine.fs, directory + "/millstream.yaml", kProject));
  RETURN_IF_ERROR(WriteFileDurably(machine.fs, directory + "/filters/gross.sql", kGross));
  RETURN_IF_ERROR(WriteFileDurably(machine.fs, directory + "/orders.ndjson", kOrders));
  return WriteFileDurably(machine.fs, directory + "/.gitignore", kIgnore);
}

}  // namespace

Verb InitVerb() {
  auto directory = std::make_shared<std::string>();
  Verb verb("init", "make a small project that works as it is");
  verb.Argument("DIR", directory.get(), "a new or empty folder")
      .Example("millstream init shop && millstream run shop", "make a project and serve it")
      .Run([directory](const Everywhere& everywhere) {
        if (Status status = Init(*directory); !status.ok()) return Complain(status);
        if (!everywhere.quiet) {
          std::printf(
              "%s is ready: millstream.yaml, filters/gross.sql, orders.ndjson. Next:\n"
              "  millstream run %s\n"
              "and from another terminal (or with no server running):\n"
              "  millstream -C %s ingest orders %s/orders.ndjson\n"
              "  millstream -C %s query \"SELECT * FROM revenue\"\n"
              "  millstream -C %s dead list orders\n",
              directory->c_str(), directory->c_str(), directory->c_str(), directory->c_str(),
              directory->c_str(), directory->c_str());
        }
        return kExitDone;
      });
  return verb;
}

}  // namespace millstream
