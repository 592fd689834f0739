"""History run again: into other places, beside the live pipelines, over kills; tables made anew and switched while readers look."""

import http.client
import json
import random
import threading
import time

from harness import SLOWNESS, eventually

PROJECT = """
streams:
  orders:
    key: customer
    partitions: 2
    contract: {id: varchar not null, customer: varchar not null, n: bigint not null}
  copies: {key: customer, contract: {id: varchar, customer: varchar, n: bigint}}
pipelines:
  revenue:
    from: orders
    filters:
      - even: SELECT id, customer, n, 1 AS v FROM input WHERE n % 2 = 0
    to:
      - table: {name: revenue, key: id}
  log_all:
    from: orders
    to: {table: all_orders}
  second:
    from: orders
    filters:
      - rest: SELECT id, customer, n, 1 AS v FROM input WHERE n % 10 = 9
    to:
      - table: {name: revenue, key: id}
"""


def orders(first, count):
    return [{"id": f"o{n}", "customer": f"c{n % 97}", "n": n} for n in range(first, first + count)]


def ended(server, number, seconds=60):
    def look():
        replay = server.http("GET", f"/v1/replays/{number}").json()
        assert replay["state"] != "failed", replay
        return replay if replay["state"] in ("finished", "cancelled") else None
    return eventually(look, seconds)


def ids(server, table):
    rows = server.query(f"SELECT id FROM {table} ORDER BY id")
    return [row["id"] for row in rows]


def expected(count, keep):
    return sorted(f"o{n}" for n in range(count) if keep(n))


def test_into_a_table_a_stream_and_a_file(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        server.ingest("orders", orders(0, 3000))
        started = server.http("POST", "/v1/replays", {"pipeline": "revenue", "into": {"table": {"name": "r2"}}})
        assert (started.status, started.headers["Location"]) == (201, "/v1/replays/1")
        done = ended(server, 1)
        assert (done["done"], done["total"], done["dead_letters"]) == (3000, 3000, 0), done
        assert ids(server, "r2") == expected(3000, lambda n: n % 2 == 0)

        # Another filter, a part of history, a key of its own; refusals are counted and leave no dead letters.
        text = shop.verb("replay", "start", "revenue", "--set", "even=SELECT id, CAST(id AS BIGINT) AS x FROM input WHERE n = 7 OR n < 0",
                         "--into", "{table: {name: r3, key: id}}").stdout
        assert "3,000 of 3,000 events" in text and "1 refused" in text and "o7" not in ids(server, "r3"), text
        assert server.http("GET", "/v1/dead/orders").json()["total"] == 0
        middle = server.query("SELECT max(_offset) AS o FROM all_orders WHERE _partition = 0")[0]["o"] // 2
        shop.verb("replay", "start", "log_all", "--from", f"orders/0:{middle}", "--to", f"orders/0:{middle + 10},1:0", "--into", "table:r4")
        assert server.query("SELECT count(*) AS n, min(_offset) AS a FROM r4")[0] == {"n": 10, "a": middle}

        shop.verb("replay", "start", "revenue", "--into", "stream:copies")
        assert server.query("SELECT count(DISTINCT id) AS n, count(*) AS m FROM _streams.copies")[0] == {"n": 1500, "m": 1500}
        shop.verb("replay", "start", "revenue", "--into", "file:out.ndjson", "--share", "50%")
        assert len((shop.folder / "out.ndjson").read_text().splitlines()) == 1500

        # Places that others write, or that are there, are refused; so are filters that do not bind.
        for arguments, text in [
                (("revenue", "--into", "table:all_orders"), "pipeline log_all writes table 'all_orders'"),
                (("revenue", "--into", "table:r2"), "table 'r2' is there already"),
                (("revenue", "--into", "file:out.ndjson"), "is there already"),
                (("revenue", "--into", "stream:orders"), "is what the replay reads"),
                (("revenue", "--set", "even=SELECT nix FROM input", "--into", "table:r9"), "no column 'nix'"),
                (("revenue", "--set", "odd=SELECT id FROM input", "--into", "table:r9"), "no filter 'odd'"),
                (("revenu", "--into", "table:r9"), "did you mean 'revenue'"),
                (("revenue", "--from", "orders/7:1", "--into", "table:r9"), "has 2 partitions")]:
            refused = shop.verb("replay", "start", *arguments, expect=1)
            assert text in refused.stderr, refused.stderr
        assert shop.verb("replay", "start", "revenue", expect=2).code == 2
        lines = shop.verb("replay", "list").stdout.splitlines()
        assert len(lines) == 6 and "finished" in lines[1], lines
        kinds = [event["kind"] for event in server.http("GET", "/v1/history").json()]
        assert kinds.count("replay_started") == kinds.count("replay_finished") == 5
    # Without a server.
    shop.verb("replay", "start", "revenue", "--into", "table:r5")
    assert shop.verb("query", "SELECT count(*) AS n FROM r5", "--format", "ndjson").lines() == [{"n": 1500}]


def test_pause_kill_cancel(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        for first in range(0, 60_000, 10_000):
            server.ingest("orders", orders(first, 10_000))
        for kind in ("table", "stream"):
            into = {"table": {"name": "slow"}} if kind == "table" else {"stream": "copies"}
            number = server.http("POST", "/v1/replays", {"pipeline": "log_all", "into": into, "share": "1%"}).json()["id"]
            for _ in range(3):
                time.sleep(random.random() * 0.3)
                server.kill()
                server.start()
            assert server.http("POST", f"/v1/replays/{number}/pause").json()["state"] == "paused"
            server.kill()
            server.start()
            assert server.http("GET", f"/v1/replays/{number}").json()["state"] == "paused"
            server.http("POST", f"/v1/replays/{number}/resume")
            assert ended(server, number, 120)["done"] == 60_000
            source = "slow" if kind == "table" else "_streams.copies"
            assert server.query(f"SELECT count(*) AS n, count(DISTINCT id) AS d FROM {source}")[0] == {"n": 60_000, "d": 60_000}
        number = server.http("POST", "/v1/replays", {"pipeline": "log_all", "into": {"table": {"name": "gone"}}, "share": "1%"}).json()["id"]
        assert server.http("POST", f"/v1/replays/{number}/cancel").json()["state"] == "cancelled"
        assert server.http("POST", f"/v1/replays/{number}/cancel").status == 409
        assert server.http("POST", "/v1/replays/99/cancel").status == 404
        server.kill()
        server.start()
        assert server.http("GET", f"/v1/replays/{number}").json()["state"] == "cancelled"


def test_run_once_brings_replays_to_their_ends(project):
    shop = project({"millstream.yaml": PROJECT + "  copied:\n    from: copies\n    to: {table: copied}\n"})
    with shop.server() as server:
        for first in range(0, 60_000, 10_000):
            server.ingest("orders", orders(first, 10_000))
        started = server.http("POST", "/v1/replays", {"pipeline": "log_all", "into": {"stream": "copies"}, "share": "1%", "effects": True})
        assert started.status == 201, started.body
        number = started.json()["id"]
    shop.verb("run", "--once")
    replay = shop.verb("replay", "show", str(number), "--json").json()
    assert (replay["state"], replay["done"]) == ("finished", 60_000)
    assert shop.verb("query", "SELECT count(*) AS n, count(DISTINCT id) AS d FROM copied", "--format", "ndjson").lines() == [{"n": 60_000, "d": 60_000}]


class Readers(threading.Thread):
    """Asks the table without pause: each answer must be of one version."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.wrong, self.seen, self.stopped, self.answers = server, [], [], False, 0

    def run(self):
        while not self.stopped:
            try:
                rows = self.server.query("SELECT list(DISTINCT v ORDER BY v) AS versions, count(*) AS n FROM revenue")
            except (OSError, AssertionError, http.client.HTTPException):  # killed meanwhile
                time.sleep(0.02)
                continue
            self.answers += 1
            versions = rows[0]["versions"] or []
            if len(versions) > 1:
                self.wrong.append(rows)
            if versions and (not self.seen or self.seen[-1] != versions[0]):
                self.seen.append(versions[0])


class Producer(threading.Thread):
    def __init__(self, server, first):
        super().__init__(daemon=True)
        self.server, self.next, self.stopped = server, first, False

    def run(self):
        while not self.stopped:
            try:
                answer = self.server.http("POST", "/v1/streams/orders/events", b"".join(json.dumps(o).encode() + b"\n" for o in orders(self.next, 50)),
                                          {"Content-Type": "application/x-ndjson", "Idempotency-Key": f"k{self.next}"})
                self.next += 50 if answer.status == 200 else 0
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)  # the same again: the key keeps it from being taken twice
            time.sleep(0.005)


def check_rebuilt(server, total, keep, version):
    eventually(lambda: server.query("SELECT count(*) AS n FROM revenue")[0]["n"] == sum(map(keep, range(total))))
    rows = server.query("SELECT id, n, v FROM revenue")
    assert sorted(row["id"] for row in rows) == expected(total, keep)
    assert {row["v"] for row in rows} == {version}


LETTERS = """
streams:
  s: {contract: {id: varchar not null, n: varchar}}
pipelines:
  p:
    from: s
    filters:
      - f: SELECT id, CAST(n AS INTEGER) + 0 AS a FROM input
    to: {table: t}
"""


def test_what_a_table_made_anew_stands_on(project):
    """Letters that were sent again are part of what is made anew, once; questions about the past and traces know who made it."""
    shop = project({"millstream.yaml": LETTERS})
    put = {"Content-Type": "application/sql"}
    rows = "SELECT id, a FROM t ORDER BY id"
    with shop.server() as server:
        server.ingest("s", [{"id": "x", "n": "1"}, {"id": "bad", "n": "q"}])
        eventually(lambda: server.http("GET", "/v1/dead/s").json()["open"] == 1)
        assert server.http("PUT", "/v1/pipelines/p/filters/f", b"SELECT id, TRY_CAST(n AS INTEGER) + 0 AS a FROM input", put).status == 200
        assert server.http("POST", "/v1/dead/s/replay", {"all": True}).json()["state"] == "replayed"
        before = [{"id": "bad", "a": None}, {"id": "x", "a": 1}]
        eventually(lambda: server.query(rows) == before)
        answer = server.http("PUT", "/v1/pipelines/p/filters/f?rebuild=true", b"SELECT id, TRY_CAST(n AS INTEGER) + 5 AS a FROM input", put)
        assert answer.status == 202, answer.body
        ended(server, int(answer.headers["Location"].split("/")[-1]))
        server.ingest("s", [{"id": "y", "n": "1"}])
        after = [{"id": "bad", "a": None}, {"id": "x", "a": 6}, {"id": "y", "a": 6}]
        eventually(lambda: server.query(rows) == after)
        assert server.query(rows, as_of="0s") == after
        (event,) = server.http("GET", "/v1/trace/t/0:0").json()["events"]
        assert "+ 5" in event["filters"][0]["sql"], event
    with shop.server() as server:  # and no letter comes a second time
        assert server.query(rows) == after
        server.ingest("s", [{"id": "z", "n": "2"}])
        eventually(lambda: server.query(rows) == [*after, {"id": "z", "a": 7}])


def test_letters_older_than_a_table_made_anew_are_over_and_later_ones_go(project):
    shop = project({"millstream.yaml": LETTERS})
    rows = "SELECT id, a FROM t ORDER BY id"
    letters = lambda: server.http("GET", "/v1/dead/s").json()["open"]  # noqa: E731
    with shop.server() as server:
        server.ingest("s", [{"id": "x", "n": "1"}, {"id": "bad", "n": "q"}])
        eventually(lambda: letters() == 1)
        assert "1 refused" in shop.verb("replay", "start", "p", "--cutover").stdout, "the same filters again"
        assert letters() == 1, "the letter of the table that is gone is over; the table in its place has one"
        assert server.http("GET", "/v1/dead/s/0").json()["state"] == "dropped"
        made = server.http("GET", "/v1/dead/s/1").json()
        assert (made["at"], made["sink"], made["rebuild"], made["offset"]) == ("p.f", "table:t", 1, 1), made
        server.ingest("s", [{"id": "worse", "n": "w"}])
        eventually(lambda: letters() == 2)
        server.http("PUT", "/v1/pipelines/p/filters/f", b"SELECT id, TRY_CAST(n AS INTEGER) + 0 AS a FROM input", {"Content-Type": "application/sql"})
        answer = server.http("POST", "/v1/dead/s/replay", {"all": True}).json()
        assert (answer["letters"], answer["state"]) == (2, "replayed"), answer
        said = server.http("POST", "/v1/dead/s/replay", {"ids": [0]}).json()
        assert said["left_letters"] == [{"number": 0, "reason": "it is dropped already"}], said
        everything = [{"id": "bad", "a": None}, {"id": "worse", "a": None}, {"id": "x", "a": 1}]
        eventually(lambda: server.query(rows) == everything)
        # Made anew by filters that refuse nothing: history has all events, each once, whatever became of its letters.
        shop.verb("replay", "start", "p", "--cutover")
        assert server.query(rows) == everything
        assert server.http("POST", "/v1/dead/s/replay", {"all": True}).json()["letters"] == 0
        server.kill()
        server.start()
        eventually(lambda: server.query(rows) == everything)
        assert letters() == 0


def test_a_filter_that_was_wrong_leaves_no_letters_once_its_table_was_made_anew(project):
    random.seed(3)
    wrong = LETTERS.replace("SELECT id, CAST(n AS INTEGER)", "SELECT id, CAST(n || CASE WHEN n::INTEGER % 2 = 1 THEN 'x' ELSE '' END AS INTEGER)")
    shop = project({"millstream.yaml": wrong})
    letters = lambda: server.http("GET", "/v1/dead/s").json()["open"]  # noqa: E731
    with shop.server() as server:
        position = server.ingest("s", [{"id": f"{n}", "n": f"{n}"} for n in range(20_000)] + [{"id": "bad", "n": "q"}])["position"]
        server.http("GET", f"/v1/wait?position={position}&table=t")
        eventually(lambda: letters() == 10_001, 60)
        assert server.http("POST", "/v1/dead/s/drop", {"ids": [0, 1]}).json()["letters"] == 2
        shop.write({"millstream.yaml": LETTERS})
        shop.verb("apply", "--rebuild", "t", "--yes", "--detach")
        time.sleep(random.uniform(0, 0.2))
        server.kill()
        server.start()
        eventually(lambda: server.query("SELECT count(*) AS n FROM t") == [{"n": 20_000}], 30)
        eventually(lambda: letters() == 1)
        assert [letter["rebuild"] for letter in server.http("GET", "/v1/dead/s?limit=100").json()["letters"] if letter["state"] == "open"] == [1]
        server.kill()
        server.start()
        assert letters() == 1 and server.http("POST", "/v1/dead/s/replay", {"all": True}).json()["refused"] == 1


def test_letters_of_a_rebuild_survive_kills_and_go_with_a_cancelled_one(project):
    """Half of 20,000 events are refused by the filters of a rebuild: each has one letter, however often it is killed."""
    shop = project({"millstream.yaml": LETTERS})
    refused = lambda number: [letter["offset"] for letter in server.http("GET", "/v1/dead/s?limit=30000").json()["letters"]  # noqa: E731
                              if letter.get("rebuild") == number]
    with shop.server() as server:
        position = server.ingest("s", [{"id": f"{n}", "n": f"{n}"} for n in range(20_000)])["position"]
        server.http("GET", f"/v1/wait?position={position}&table=t")
        odd = "SELECT id, CAST(CASE WHEN CAST(n AS INTEGER) % 2 = 1 THEN 'odd' ELSE n END AS INTEGER) AS a FROM input"

        shop.verb("replay", "start", "p", "--set", f"f={odd}", "--cutover", "--share", "2%", "--detach")
        eventually(lambda: refused(1))
        said = server.http("POST", "/v1/dead/s/replay", {"ids": [0]}).json()
        assert "replay 1, which refused it, makes the table anew and has not ended" in said["left_letters"][0]["reason"], said
        shop.verb("replay", "cancel", "1")
        shown = server.http("GET", "/v1/dead/s").json()
        assert shown["open"] == 0 and shown["total"] > 0, "what a cancelled one refused concerns nobody"

        shop.verb("replay", "start", "p", "--set", f"f={odd}", "--cutover", "--share", "5%", "--detach")
        for _ in range(3):
            seen = len(refused(2))
            eventually(lambda: len(refused(2)) > seen or server.http("GET", "/v1/replays/2").json()["state"] == "finished")
            server.kill()
            server.start()
        ended(server, 2, 120)
        # Where a kill came between the decision and the switch, the live loop brings again what was in memory.
        eventually(lambda: server.query("SELECT count(*) AS n FROM t") == [{"n": 10_000}])
        assert sorted(refused(2)) == list(range(1, 20_000, 2))
        server.http("PUT", "/v1/pipelines/p/filters/f", b"SELECT id, CAST(n AS INTEGER) AS a FROM input", {"Content-Type": "application/sql"})
        assert server.http("POST", "/v1/dead/s/replay", {"all": True}).json()["letters"] == 10_000
        assert server.query("SELECT count(*) AS n, sum(a) AS a FROM t") == [{"n": 20_000, "a": sum(range(20_000))}]


def test_a_table_is_made_anew_and_switched(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        server.ingest("orders", orders(0, 20_000))
        eventually(lambda: server.query("SELECT count(*) AS n FROM revenue")[0]["n"] == 12_000)
        readers = Readers(server)
        readers.start()
        # Both writers change in one apply; a third thing in it does not wait.
        changed = PROJECT.replace("1 AS v FROM input WHERE n % 2 = 0", "2 AS v FROM input WHERE n % 3 = 0")
        changed = changed.replace("1 AS v FROM input WHERE n % 10 = 9", "2 AS v FROM input WHERE n % 30 = 29")
        changed = changed.replace("to: {table: all_orders}", "filters:\n      - every: SELECT id, customer, n, 1 AS w FROM input\n    to: {table: all_orders}")
        shop.write({"millstream.yaml": changed})
        plan = shop.verb("plan", "--rebuild", "revenue").stdout
        assert "1 to add, 1 to rebuild. Nothing is changed yet: millstream apply --rebuild revenue --plan" in plan, plan
        assert shop.verb("apply", "--rebuild", "revenue", expect=1).stderr.startswith("millstream: this removes or rebuilds")
        text = shop.verb("apply", "--rebuild", "revenue", "--yes").stdout
        assert "into table revenue: finished" in text, text
        keep = lambda n: n % 3 == 0 or n % 30 == 29  # noqa: E731
        check_rebuilt(server, 20_000, keep, 2)
        server.ingest("orders", orders(20_000, 100))
        check_rebuilt(server, 20_100, keep, 2)
        readers.stopped = True
        readers.join()
        assert not readers.wrong and readers.seen == [1, 2] and readers.answers > 10, (readers.wrong, readers.seen)
        assert [t["name"] for t in server.http("GET", "/v1/tables").json() if "revenue" in t["name"]] == ["revenue"]

        # By `filter … --rebuild` and 202; a change of what is being rebuilt is refused meanwhile.
        answer = server.http("PUT", "/v1/pipelines/revenue/filters/even?rebuild=true",
                             b"SELECT id, customer, n, 3 AS v FROM input WHERE n % 4 = 0", {"Content-Type": "application/sql"})
        assert answer.status == 202 and answer.headers["Location"].startswith("/v1/replays/"), answer.body
        ended(server, int(answer.headers["Location"].split("/")[-1]))
        assert server.query("SELECT count(*) AS n FROM revenue WHERE v = 3")[0]["n"] == 5025
        kinds = [event["kind"] for event in server.http("GET", "/v1/history").json()]
        assert kinds.count("cutover") == 2
        assert "no pipeline writes table 'nix'" in shop.verb("apply", "--rebuild", "nix", "--yes", expect=1).stderr
    with shop.server() as server:  # it is so after a restart
        assert server.query("SELECT count(*) AS n FROM revenue WHERE v = 3")[0]["n"] == 5025


def test_cutover_under_load_and_kills(project):
    random.seed(11)
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        server.ingest("orders", orders(0, 20_000))
        eventually(lambda: server.query("SELECT count(*) AS n FROM revenue")[0]["n"] == 12_000)
        producer, readers = Producer(server, 20_000), Readers(server)
        producer.start()
        readers.start()
        last = 1
        try:
            for version in range(2, 6):
                project_text = PROJECT.replace("1 AS v FROM input WHERE n % 2 = 0", f"{version} AS v FROM input WHERE n % 2 = 0")
                project_text = project_text.replace("1 AS v FROM input WHERE n % 10 = 9", f"{version} AS v FROM input WHERE n % 10 = 9")
                shop.write({"millstream.yaml": project_text})
                shop.verb("apply", "--rebuild", "revenue", "--yes", "--detach")
                for _ in range(3):
                    time.sleep(random.random() * 0.25)
                    server.kill()
                    server.start()
                number = server.http("GET", "/v1/replays").json()[-1]["id"]
                ended(server, number, 120)
                last = version
        finally:
            producer.stopped = readers.stopped = True
            producer.join()
            readers.join()
        assert not readers.wrong, readers.wrong[:3]
        assert last == 5 and readers.answers > 50 / SLOWNESS
        check_rebuilt(server, producer.next, lambda n: n % 2 == 0 or n % 10 == 9, 5)
