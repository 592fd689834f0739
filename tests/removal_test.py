"""A pipeline that was removed: its rows are part of the past as far as it had come, and letters that were on their way to it wait for it."""

import contextlib
import time

from harness import eventually

STREAM = """
streams:
  orders: {key: customer, partitions: 2, contract: {id: varchar not null, customer: varchar not null, n: bigint, text: varchar}}
pipelines:
"""
Q = """
  q:
    from: orders
    filters: [{two: "SELECT id, customer, n, 2 AS v FROM input WHERE n % 2 = 0"}]
    to: [{table: every}, {table: {name: sums, key: customer, values: {events: count(*)}}}]
"""
P = """
  p:
    from: orders
    filters: [{one: "SELECT id, customer, n, 1 AS v FROM input"}]
    to: [{table: every}, {table: own}, {table: {name: sums, key: customer, values: {events: count(*)}}}]
"""
PARSING = """
  p:
    from: orders
    filters: [{parse: "SELECT id, customer, CAST(text AS BIGINT) AS n FROM input"}]
    to: [{table: own}, {file: {path: out.ndjson}}]
"""
TABLES = {"every": "SELECT v, count(*) AS n FROM every GROUP BY v ORDER BY v", "own": "SELECT count(*) AS n, sum(n) AS total FROM own",
          "sums": "SELECT customer, events FROM sums ORDER BY customer"}


def orders(first, count, text="1"):
    return [{"id": f"o{n}", "customer": f"c{n % 7}", "n": n, "text": text} for n in range(first, first + count)]


def at_rest(server):
    eventually(lambda: all(pipeline["lag_events"] == 0 for pipeline in server.http("GET", "/v1/status").json()["pipelines"]))


def now(server):
    return {table: server.query(sql) for table, sql in TABLES.items()}


def then(server, moment):
    answers = {table: server.http("POST", "/v1/query", {"sql": sql, "as_of": moment}) for table, sql in TABLES.items()}
    return {table: answer.json()["rows"] if answer.status == 200 else answer.json()["detail"] for table, answer in answers.items()}


def moment_of_now():
    """Of now; what comes later is after it."""
    time.sleep(0.002)
    moment = time.time_ns() // 1_000_000
    time.sleep(0.002)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment // 1000)) + f".{moment % 1000:03}Z"


def again(server, end=None):
    (end or server.stop)()
    server.start()


def ends_of(shop):
    return shop.verb("history", "--json").stdout.count("pipeline_ended")


def test_the_past_has_the_rows_of_a_pipeline_that_was_removed(project):
    shop = project({"millstream.yaml": STREAM + Q + P})
    with shop.server() as server:
        server.ingest("orders", orders(0, 100))
        at_rest(server)
        assert server.http("DELETE", "/v1/pipelines/p").status == 200
        server.ingest("orders", orders(100, 50))  # p has nothing of these
        at_rest(server)
        removed, rows = moment_of_now(), now(server)
        assert rows["every"] == [{"v": 1, "n": 100}, {"v": 2, "n": 75}] and rows["own"] == [{"n": 100, "total": 4950}], rows
        assert then(server, removed) == rows
        asked = server.http("POST", "/v1/query", {"sql": TABLES["own"], "as_of": removed}).json()["as_of"]
        assert asked["versions"] == {"p": [1]} and asked["events"] == 100, asked
        again(server)
        assert then(server, removed) == rows
        eventually(lambda: ends_of(shop) == 3, 30)  # of each table, once it was on disk
        again(server)
        assert then(server, removed) == rows and ends_of(shop) == 3
        assert server.http("GET", "/v1/trace/own/0:3").json()["events"][0]["pipeline"] == "p"

        # Taken back: then is then.
        shop.write({"millstream.yaml": STREAM + Q + P.replace("1 AS v", "3 AS v") + "    adopt: true\n"})
        shop.verb("apply", "--yes")
        at_rest(server)
        taken_back, rows_then = moment_of_now(), now(server)
        assert rows_then["every"] == [{"v": 1, "n": 100}, {"v": 2, "n": 75}, {"v": 3, "n": 50}], rows_then
        assert then(server, removed) == rows and then(server, taken_back) == rows_then

        # Removed again, after more events; then its own table is dropped, and the shared ones are made anew without it.
        server.ingest("orders", orders(150, 10))
        at_rest(server)
        assert server.http("DELETE", "/v1/pipelines/p").status == 200
        removed_again, rows_again = moment_of_now(), now(server)
        shop.verb("table", "drop", "own")
        shop.write({"millstream.yaml": STREAM + Q})
        shop.verb("apply", "--rebuild", "every", "--yes")
        eventually(lambda: server.query(TABLES["every"]) == [{"v": 2, "n": 80}])
        last = moment_of_now()
        for moment, wanted in ((removed, rows), (taken_back, rows_then), (removed_again, rows_again)):
            assert then(server, moment) == wanted, moment
        found = then(server, last)
        assert found["every"] == [{"v": 2, "n": 80}] and found["sums"] == rows_again["sums"] and "no pipeline wrote table 'own'" in found["own"], found


def test_letters_wait_for_a_pipeline_that_was_removed(project):
    shop = project({"millstream.yaml": STREAM + PARSING})
    letters = lambda: [letter["state"] for letter in server.http("GET", "/v1/dead/orders?state=all").json()["letters"]]  # noqa: E731
    mended = {"parse": "SELECT id, customer, try_cast(text AS BIGINT) AS n FROM input"}
    definition = {"from": "orders", "filters": [mended], "to": [{"table": "own"}, {"file": {"path": "out.ndjson"}}]}

    def on_their_way():
        """Ten events, of which five are letters that are being sent again while their pipeline goes."""
        shop.verb("filter", "set", "p", "parse", mended["parse"])
        server.http("POST", "/v1/pipelines/p/pause")
        with contextlib.suppress(OSError):  # the answer would come after ten seconds
            server.http("POST", "/v1/dead/orders/replay", {"all": True}, timeout=0.5)
        assert "replaying" in letters()
        assert server.http("DELETE", "/v1/pipelines/p").status == 200

    with shop.server() as server:
        server.ingest("orders", orders(0, 5) + orders(5, 5, text="x"))
        eventually(lambda: len(letters()) == 10)  # five for each of two sinks
        at_rest(server)
        on_their_way()
        time.sleep(1.5)
        assert letters() == ["replaying"] * 10
        for end in (server.stop, server.kill):
            again(server, end)
            assert letters() == ["replaying"] * 10
        # `run --once` does not wait for it.
        server.stop()
        begun = time.monotonic()
        shop.verb("run", "--once")
        assert time.monotonic() - begun < 30
        server.start()

        answer = server.http("PUT", "/v1/pipelines/p", {**definition, "adopt": True})
        assert answer.status == 200, answer.body
        eventually(lambda: letters() == ["replayed"] * 10)
        assert server.query("SELECT count(*) AS n, count(DISTINCT id) AS ids FROM own") == [{"n": 10, "ids": 10}]
        eventually(lambda: len((shop.folder / "out.ndjson").read_text().splitlines()) == 10)

        # They can be dropped meanwhile, and what was dropped does not come.
        shop.verb("filter", "set", "p", "parse", PARSING.split('"')[1])
        server.ingest("orders", orders(10, 3, text="y"))
        eventually(lambda: letters()[10:] == ["open"] * 6)
        at_rest(server)
        on_their_way()
        answer = server.http("POST", "/v1/dead/orders/drop", {"ids": [10, 11, 12]}).json()
        assert answer["letters"] == 3, answer
        assert letters()[10:] == ["dropped"] * 3 + ["replaying"] * 3
        assert server.http("PUT", "/v1/pipelines/p", {**definition, "adopt": True}).status == 200
        eventually(lambda: letters()[10:] == ["dropped"] * 3 + ["replayed"] * 3)
        came = server.query("SELECT count(*) AS n FROM own")[0]["n"] + len((shop.folder / "out.ndjson").read_text().splitlines())
        assert came == 23, came

        # A pipeline that begins anew under the name is another one: they go nowhere.
        shop.verb("filter", "set", "p", "parse", PARSING.split('"')[1])
        server.ingest("orders", orders(13, 2, text="z"))
        eventually(lambda: letters()[16:] == ["open"] * 4)
        at_rest(server)
        on_their_way()
        assert server.http("PUT", "/v1/pipelines/p", {**definition, "to": [{"table": "another"}]}).status == 200
        eventually(lambda: letters()[16:] == ["dropped"] * 4)
        eventually(lambda: server.query("SELECT count(*) AS n FROM another") == [{"n": 15}])
        again(server)
        assert letters()[16:] == ["dropped"] * 4
    shop.verb("verify", "--log")


def test_a_table_that_lost_rows_gets_them_when_its_pipeline_is_taken_back(project):
    """A kill takes back what a table had of letters that were sent again; the pipeline was removed meanwhile."""
    shop = project({"millstream.yaml": STREAM + PARSING.replace(", {file: {path: out.ndjson}}", "")})
    definition = {"from": "orders", "filters": [{"parse": "SELECT id, customer, try_cast(text AS BIGINT) AS n FROM input"}], "to": [{"table": "own"}]}
    with shop.server() as server:
        server.ingest("orders", orders(0, 5) + orders(5, 5, text="x"))
        eventually(lambda: len(server.http("GET", "/v1/dead/orders").json()["letters"]) == 5)
        at_rest(server)
        shop.verb("filter", "set", "p", "parse", definition["filters"][0]["parse"])
        assert server.http("POST", "/v1/dead/orders/replay", {"all": True}).status == 200
        assert server.http("DELETE", "/v1/pipelines/p").status == 200
        server.kill()
        server.start()
        assert server.http("PUT", "/v1/pipelines/p", {**definition, "adopt": True}).status == 200
        eventually(lambda: server.query("SELECT count(*) AS n, count(DISTINCT id) AS ids FROM own") == [{"n": 10, "ids": 10}])
