"""Filters that look tables up are prepared once and must see every row that comes later, whatever the table held when they were.

DuckDB's plans rest on statistics: one made over an empty table, or over other values, was seen to find nothing for ever
(sql/database.cc). Each text here is asked again, as a query over the tables at rest, and must give the same.
"""

import time

import pytest

LOOKUPS = {
    "left_join": "SELECT i.id, c.name, c.tier FROM input i LEFT JOIN customers c ON c.customer = i.customer",
    "join_value": "SELECT i.id, c.name, c.tier FROM input i JOIN customers c ON c.customer = i.customer WHERE c.tier = 'gold'",
    "join_range": "SELECT i.id, c.name, c.tier FROM input i JOIN customers c ON c.customer = i.customer AND c.points BETWEEN 5 AND 50",
    "not_null": "SELECT i.id, c.name, c.tier FROM input i JOIN customers c ON c.customer = i.customer WHERE c.tier IS NOT NULL",
    "is_in": "SELECT id, customer AS name, '' AS tier FROM input WHERE customer IN (SELECT customer FROM customers WHERE tier = 'gold')",
    "exists_one": "SELECT i.id, i.customer AS name, '' AS tier FROM input i WHERE EXISTS (SELECT 1 FROM customers c WHERE c.customer = i.customer AND c.blocked)",
    "exists_none": "SELECT i.id, i.customer AS name, '' AS tier FROM input i WHERE NOT EXISTS "
                   "(SELECT 1 FROM customers c WHERE c.customer = i.customer AND c.points > 5)",
    "scalar": "SELECT i.id, (SELECT max(c.name) FROM customers c WHERE c.customer = i.customer AND c.points < 60) AS name, '' AS tier FROM input i",
    "plain_table": "SELECT i.id, n.text AS name, '' AS tier FROM input i JOIN notes n ON n.customer = i.customer WHERE n.kind = 'warning'",
    "aggregated": "SELECT i.id, s.points::VARCHAR AS name, '' AS tier FROM input i JOIN sums s ON s.customer = i.customer WHERE s.points > 20",
}


def project_text():
    lookups = "".join(f"""
  {name}:
    from: orders
    filters:
      - lookup: {sql}
    to: {{table: {name}}}""" for name, sql in LOOKUPS.items())
    return f"""
streams:
  orders: {{contract: {{id: integer not null, customer: varchar}}}}
  changes: {{contract: {{customer: varchar not null, name: varchar, tier: varchar, points: integer, blocked: boolean}}}}
  remarks: {{contract: {{customer: varchar, kind: varchar, text: varchar}}}}
pipelines:
  customers: {{from: changes, to: {{table: {{name: customers, key: customer}}}}}}
  sums: {{from: changes, to: {{table: {{name: sums, key: customer, values: {{points: sum(points)}}}}}}}}
  notes: {{from: remarks, to: {{table: notes}}}}{lookups}
"""


def change(customer, tier, points, blocked):
    return {"customer": customer, "name": f"{customer} {tier}", "tier": tier, "points": points, "blocked": blocked}


# What comes between two rounds of orders; the pauses are long enough for a fold (tables/folder.h).
ROUNDS = {
    "nothing": [],
    "other values": [change("z", None, 1000, False)],
    "first": [change("a", "gold", 10, False), change("b", "tin", 100, True)],
    "folded": None,
    "overwritten": [change("a", "tin", 1, True), change("b", "gold", 20, False), change("c", "gold", 30, False)],
    "folded again": None,
    "once more": [change("a", "gold", 70, False), change("b", "tin", -90, True)],
}


@pytest.mark.parametrize("first", [0, 1], ids=["prepared over nothing", "prepared over other values"])
def test_lookups_see_what_came_after_they_were_prepared(project, first):
    shop = project({"millstream.yaml": project_text()})
    with shop.server() as server:
        number = 0
        for title, changes in list(ROUNDS.items())[first:]:
            if changes is None:
                time.sleep(2.5)
            elif changes:
                position = server.ingest("changes", changes)["position"]
                server.query("SELECT count(*) FROM customers, sums", wait=position)
                remarks = [{"customer": each["customer"], "kind": "warning" if each["blocked"] else "praise", "text": each["name"]} for each in changes]
                server.query("SELECT count(*) FROM notes", wait=server.ingest("remarks", remarks)["position"])
            orders = [{"id": number + i, "customer": customer} for i, customer in enumerate(["a", "b", "c", "z", None])]
            position = server.ingest("orders", orders)["position"]
            for name, sql in LOOKUPS.items():
                found = server.query(f"SELECT id, name, tier FROM {name} WHERE id >= {number} ORDER BY ALL", wait=position)
                asked = sql.replace("FROM input", f"FROM (SELECT id, customer FROM _streams.orders WHERE id >= {number})")
                expected = server.query(f"SELECT id, name, tier FROM ({asked}) ORDER BY ALL")
                assert found == expected, (name, title)
            number += len(orders)
