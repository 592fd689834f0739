"""A contract whose new type a table does not take: it changes with the tables that are made anew, in one step, for all that read the stream."""

import random
import time

from harness import eventually

PROJECT = """
streams:
  orders: {key: customer, partitions: 2, contract: {id: varchar not null, customer: varchar not null, n: bigint}}
sources:
  drops: {from: {file: "in/*.ndjson"}, to: orders}
pipelines:
  twice:
    from: orders
    filters:
      - twice: SELECT id, n * 2 AS n FROM input
    to: {table: {name: twice, key: id}}
  all_orders:
    from: orders
    to: {table: all_orders}
  names:
    from: orders
    filters:
      - name: SELECT id, n % 2 AS odd FROM input
    to: {table: names}
"""
# The old filter does not bind to the new contract, nor the new one to the old; `names` changes though no table of it is made anew.
CHANGED = PROJECT.replace("n: bigint", "n: varchar").replace("n * 2 AS n", "n || '!' AS n").replace("n % 2 AS odd", "n::DOUBLE::BIGINT % 2 AS odd")


def orders(first, count, value=int):
    return [{"id": f"o{n}", "customer": f"c{n % 7}", "n": value(n)} for n in range(first, first + count)]


def types(server, table):
    return {row["n"]: row["t"] for row in server.query(f"SELECT typeof(n) AS t, count(*) AS n FROM {table} GROUP BY ALL")}


def test_a_contract_changes_with_the_tables(project):
    shop = project({"millstream.yaml": PROJECT, "in/a.ndjson": '{"id":"f1","customer":"c","n":1}\n'})
    with shop.server() as server:
        server.ingest("orders", orders(0, 1_000))
        eventually(lambda: types(server, "twice") == types(server, "all_orders") == {1_001: "BIGINT"})
        shop.write({"millstream.yaml": CHANGED})
        plan = shop.verb("plan").stdout
        assert "make the table anew (--rebuild all_orders)" in plan and "make the table anew (--rebuild twice)" in plan, plan
        assert "0 events" not in plan.replace("0 events anew", ""), plan
        refused = shop.verb("apply", "--rebuild", "twice", "--yes", expect=1).stderr
        assert "column n is BIGINT in the table and VARCHAR in the rows" in refused and "--rebuild all_orders" in refused, refused
        assert server.query("SELECT count(*) AS n FROM all_orders") == [{"n": 1_001}]
        plan = shop.verb("plan", "--rebuild", "twice", "--rebuild", "all_orders").stdout
        assert "~ streams.orders.contract" in plan and "until then the old one holds; of the newest 1,001 events 0 would be refused" in plan, plan
        assert "~ pipelines.names.filters.name" in plan and "with the contract that it reads" in plan, plan
        done = shop.verb("apply", "--rebuild", "twice", "--rebuild", "all_orders", "--yes").stdout
        assert "finished" in done, done
        assert types(server, "twice") == types(server, "all_orders") == {1_001: "VARCHAR"}
        # All of history is in it, and what comes is held to the new contract, whichever way it comes.
        answer = server.ingest("orders", orders(1_000, 500, lambda n: f"{n}.0"))
        shop.write({"in/b.ndjson": '{"id":"f2","customer":"c","n":"2"}\n{"id":"f3","customer":"c","n":3}\n'})
        assert answer["accepted"] == 500, answer
        eventually(lambda: types(server, "twice") == types(server, "all_orders") == {1_503: "VARCHAR"})
        assert server.query("SELECT id, n FROM twice WHERE id IN ('o7', 'o1007', 'f2') ORDER BY id") == [
            {"id": "f2", "n": "2!"}, {"id": "o1007", "n": "1007.0!"}, {"id": "o7", "n": "7!"}]
        assert server.query("SELECT odd, count(*) AS n FROM names GROUP BY odd ORDER BY odd") == [{"odd": 0, "n": 751}, {"odd": 1, "n": 752}]
        assert server.http("GET", "/v1/dead/orders").json()["total"] == 0
        assert "no changes" in shop.verb("plan").stdout
        past = server.http("POST", "/v1/query", {"sql": "SELECT count(*) AS n FROM twice WHERE n LIKE '%!'", "as_of": "0s"}).json()
        assert past["rows"] == [{"n": 1_503}], past
        server.kill()
        server.start()
        assert types(server, "twice") == types(server, "all_orders") == {1_503: "VARCHAR"}


def test_what_reads_the_stream_is_held_meanwhile(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        server.ingest("orders", orders(0, 1_000))
        eventually(lambda: types(server, "twice") == {1_000: "BIGINT"})
        shop.write({"millstream.yaml": CHANGED})
        server.http("PUT", "/v1/pipelines/all_orders/filters/none", b"SELECT id, n FROM input WHERE n % 2 = 0", {"Content-Type": "application/sql"})
        shop.verb("apply", "--rebuild", "twice", "--rebuild", "all_orders", "--yes", "--detach", "--force")
        number = server.http("GET", "/v1/replays").json()[-1]["id"]
        if server.http("POST", f"/v1/replays/{number}/pause").status == 200:
            held = server.http("PUT", "/v1/pipelines/names/filters/name", b"SELECT id, 1 AS odd FROM input", {"Content-Type": "application/sql"})
            assert held.status == 409 and f"held by replay {number}" in held.json()["detail"], held.body
            added = server.http("PUT", "/v1/pipelines/late", {"from": "orders", "to": ["drop"]})
            assert added.status == 409 and "pipelines.late is held" in added.json()["detail"], added.body
            assert server.http("POST", f"/v1/replays/{number}/cancel").status == 200
            assert server.ingest("orders", orders(1_000, 10))["accepted"] == 10
            eventually(lambda: types(server, "twice") == {1_010: "BIGINT"})
            shop.verb("apply", "--rebuild", "twice", "--rebuild", "all_orders", "--yes", "--force")
        assert types(server, "twice") == {server.query("SELECT count(*) AS n FROM all_orders")[0]["n"]: "VARCHAR"}


def test_contracts_and_tables_over_kills(project):
    random.seed(5)
    shop = project({"millstream.yaml": PROJECT.replace("n % 2 AS odd", "n::BIGINT % 2 AS odd")})
    kinds = {"BIGINT": "bigint", "DOUBLE": "double"}
    with shop.server() as server:
        sent, now, killed = 0, "BIGINT", 0
        for round_ in range(8):
            server.ingest("orders", orders(sent, 2_000))
            sent += 2_000
            now = "DOUBLE" if now == "BIGINT" else "BIGINT"
            text = PROJECT.replace("n % 2 AS odd", "n::BIGINT % 2 AS odd").replace("n: bigint", f"n: {kinds[now]}")
            shop.write({"millstream.yaml": text.replace("n * 2 AS n", f"(n * 2)::{now} AS n")})
            shop.verb("apply", "--rebuild", "twice", "--rebuild", "all_orders", "--yes", "--detach")
            time.sleep(random.uniform(0, 0.15))
            server.kill()
            killed += 1
            server.start()
            server.ingest("orders", orders(sent, 100))
            sent += 100
            for table in ("twice", "all_orders"):
                eventually(lambda: types(server, table) == {sent: now}, 30)  # noqa: B023
            sums = server.query("SELECT (SELECT sum(n) FROM twice)::BIGINT AS t, (SELECT sum(n) FROM all_orders)::BIGINT AS a, (SELECT count(*) FROM names) AS c")
            assert sums == [{"t": sent * (sent - 1), "a": sent * (sent - 1) // 2, "c": sent}], (round_, sums)
            assert server.http("GET", "/v1/dead/orders").json()["total"] == 0
        assert killed == 8


def test_all_tables_that_do_not_take_it_are_named(project):
    shop = project({"millstream.yaml": PROJECT.replace("n % 2 AS odd", "n::BIGINT % 2 AS odd")})
    with shop.server() as server:
        server.ingest("orders", orders(0, 100))
        eventually(lambda: types(server, "twice") == {100: "BIGINT"})
        shop.write({"millstream.yaml": (shop.folder / "millstream.yaml").read_text().replace("n: bigint", "n: double")})
        (told,) = [line for line in shop.verb("plan").stdout.splitlines() if line.startswith("~ streams.orders ")]
        assert "(--rebuild all_orders); pipeline twice" in told and told.endswith("(--rebuild twice)"), told
        shop.verb("apply", "--rebuild", "all_orders", "--rebuild", "twice", "--yes")
        assert types(server, "twice") == types(server, "all_orders") == {100: "DOUBLE"}
