#include "stage/table_options.h"

namespace millstream {

Spec<TableOptions> TableOptionsSpec() {
  Spec<TableOptions> spec("table", "Keeps rows in a table that queries read.");
  spec.Field("name", &TableOptions::name, "The table; made when it is missing.").Required().Main();
  spec.Field("key", &TableOptions::key,
             "Columns that tell rows apart: the newest row of a key stays; an event that gives a NULL for "
             "one of them is "
             "a dead letter. Without it every row is kept.");
  spec.Field("values", &TableOptions::values,
             "Column: aggregate, one row a key: count(*), sum(x), min(x), max(x), last(x).");
  spec.Field("delete_when", &TableOptions::delete_when,
             "A row for which this is true deletes its key; by default _op = 'd'.");
  spec.Field("order_by", &TableOptions::order_by,
             "Columns that decide which row of a key is the newest; by default the order of arrival.");
  spec.Guarantee("exactly once");
  spec.Example("table: visits");
  spec.Example("table: {name: revenue, key: id}");
  spec.Example("table: {name: by_city, key: city, values: {n: count(*), total: sum(gross)}}");
  return spec;
}

}  // namespace millstream
