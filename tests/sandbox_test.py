"""Sandboxes on the built binary: nothing leaves one, nothing comes in, and a crash leaves a whole one or none."""

import json
import random
import signal
import subprocess
import time
from datetime import datetime, timezone

import pytest

from faults import Straced, needs_strace
from harness import BINARY, SLOWNESS, Server, environment, eventually
from postgres_server import BINARIES, PostgresServer
from sizes import SEED, size

POINTS = size("sandbox_points")  # for each system call and verb
needs_postgres = pytest.mark.skipif(BINARIES is None, reason="PostgreSQL is not installed")

PROJECT = """
streams:
  orders: {partitions: 2, key: customer, contract: {id: varchar not null, customer: varchar not null, amount: bigint}}
  large: {partitions: 2, key: customer}
pipelines:
  every:
    from: orders
    filters:
      - doubled: SELECT id, customer, amount * 2 AS twice FROM input
    to:
      - table: every
  newest:
    from: orders
    to:
      - table: {name: newest, key: customer}
      - table: {name: sums, key: customer, values: {n: count(*), total: sum(amount)}}
  chain:
    from: orders
    filters:
      - large: SELECT id, customer, amount FROM input WHERE amount >= 50
    to: {stream: {name: large, key: customer}}
  chained:
    from: large
    filters:
      - fields: SELECT data->>'$.id' AS id FROM input
    to: {table: large_rows}
"""
OUTSIDE = PROJECT + """
  outward:
    from: orders
    filters:
      - known: SELECT id, customer, amount FROM input WHERE amount < 1000
    to:
      - file: {path: out/lines.ndjson}
      - postgres: {table: copies, key: id, url: "${env:PG}", create: true}
      - stdout: {}
      - drop: {}
"""
QUESTIONS = {
    "every": "SELECT id, customer, twice FROM every ORDER BY id",
    "newest": "SELECT id, customer, amount FROM newest ORDER BY customer",
    "sums": "SELECT customer, n, total FROM sums ORDER BY customer",
    "large_rows": "SELECT id FROM large_rows ORDER BY id",
    "orders": "SELECT _partition, _offset, _ingested_at, id FROM _streams.orders ORDER BY 1, 2",
    "large": "SELECT _partition, _offset, ce_id FROM _streams.large ORDER BY 1, 2",
    "letters": "SELECT stream, code, event FROM _dead_letters ORDER BY 1, 2, 3",
}


def orders(first, last, extra=0):
    return [{"id": f"o{n:05}", "customer": f"c{n % 7}", "amount": n % 100 + extra} for n in range(first, last)]


def inside(name):
    return {"Millstream-Sandbox": name}


def create(server, name, expect=201, **options):
    answer = server.http("POST", "/v1/sandboxes", {"name": name, **options})
    assert answer.status == expect, (answer.status, answer.body)
    return answer.json()


def ready(server, name):
    def look():
        status = server.http("GET", f"/v1/sandboxes/{name}").json()
        assert status["state"] not in ("failed", "full"), status
        return status["state"] == "ready" and status
    return eventually(look)


def made(server, name, **options):
    create(server, name, **options)
    return ready(server, name)


def listed(server):
    return [each["name"] for each in server.http("GET", "/v1/sandboxes").json()]


def query(server, sql, name=None, expect=200, **options):
    answer = server.http("POST", "/v1/query", {"sql": sql, **options}, inside(name) if name else {})
    assert answer.status == expect, (answer.status, answer.body)
    return answer.json()["rows"] if expect == 200 else answer.json()


def ask_all(server, name=None):
    return {question: query(server, sql, name) for question, sql in QUESTIONS.items()}


def delivered(server, name=None):
    """Waits until no pipeline is behind."""
    def look():
        status = server.http("GET", "/v1/status", headers=inside(name) if name else {}).json()
        return all(each["lag_events"] == 0 and each["state"] == "live" for each in status["pipelines"])
    return eventually(look) and eventually(look)


def send(server, events, name=None):
    answer = server.ingest("orders", events, inside(name) if name else {})
    delivered(server, name)
    return answer


def now():
    time.sleep(0.02)
    text = datetime.now(timezone.utc).isoformat()
    time.sleep(0.02)
    return text


class Heard(Server):
    """A server whose standard output is kept."""

    def start(self, wait_ready=True):
        self.out_path = self.stderr_path.with_suffix(".stdout")
        with open(self.stderr_path, "ab") as stderr, open(self.out_path, "ab") as out:
            self.process = subprocess.Popen(
                [BINARY, "run", self.project.folder, "--listen", f"127.0.0.1:{self.port}"],
                stdout=out, stderr=stderr, stdin=subprocess.DEVNULL, env=environment(self.extra_environment))
        if wait_ready:
            self.wait_ready()
        return self


@needs_postgres
def test_nothing_leaves_a_sandbox_and_nothing_comes_in(project):
    """One of every kind of sink, each looked at from outside."""
    shop = project({"millstream.yaml": OUTSIDE})
    with PostgresServer() as postgres:
        server = Heard(shop, extra_environment={"PG": postgres.url()})
        shop.servers.append(server)
        with server:
            send(server, orders(0, 200) + [{"customer": "c1", "amount": "no id"}])

            def places():
                rows = {sink["id"]: sink["rows"] for each in server.http("GET", "/v1/status").json()["pipelines"] for sink in each["sinks"]}
                return {
                    **ask_all(server),
                    "file": (shop.folder / "out" / "lines.ndjson").read_bytes(),
                    "postgres": postgres.query("SELECT id, customer, amount FROM copies ORDER BY id"),
                    "stdout": server.out_path.read_bytes(),
                    "delivered": rows,
                    "positions": [(each["name"], each["position"]) for each in server.http("GET", "/v1/tables").json()],
                }
            eventually(lambda: len(server.out_path.read_bytes().splitlines()) == 200)
            before = places()
            assert len(before["file"].splitlines()) == len(before["postgres"]) == len(before["stdout"].splitlines()) == 200
            assert len(before["every"]) == 200 and len(before["large_rows"]) == 100

            status = made(server, "trial")
            assert {each["sink"].split(":")[0] for each in status["outside"]} == {"file", "postgres", "stdout"}
            same = ask_all(server, "trial")
            for question in QUESTIONS:
                assert same[question] == before[question], question

            # Events into it, over HTTP and by the verb: keys that are there already, new ones, one that is refused.
            send(server, orders(0, 60, extra=500) + [{"customer": "c1", "amount": "no id either"}], "trial")
            shop.write({"more.ndjson": "".join(json.dumps(each) + "\n" for each in orders(1000, 1040))})
            shop.verb("ingest", "orders", "more.ndjson", "--sandbox", "trial", "-q")
            delivered(server, "trial")
            after = ask_all(server, "trial")
            assert len(after["every"]) == 300 and len(after["large_rows"]) == 100 + 60 and len(after["letters"]) == 2
            assert {row["customer"]: row["n"] for row in after["sums"]} == {
                f"c{c}": sum(n % 7 == c for n in (*range(200), *range(60), *range(1000, 1040))) for c in range(7)}
            outside = {each["sink"].split(":")[0]: each["rows"] for each in server.http("GET", "/v1/sandboxes/trial").json()["outside"]}
            eventually(lambda: outside == {"file": 100, "postgres": 100, "stdout": 100} or outside.update(
                {each["sink"].split(":")[0]: each["rows"] for each in server.http("GET", "/v1/sandboxes/trial").json()["outside"]}))
            time.sleep(1.5)  # longer than any sink holds rows back
            assert places() == before, "something left the sandbox"

            # And the other way.
            send(server, orders(2000, 2030))
            time.sleep(0.5)
            assert ask_all(server, "trial") == after, "something came into the sandbox"
            assert server.http("DELETE", "/v1/sandboxes/trial").json() == {"dropped": "trial"}
            assert not list((shop.data / "sandboxes").iterdir())
            send(server, orders(3000, 3010))
            rows = ask_all(server)
            assert len(rows["every"]) == 240 and len(postgres.query("SELECT id FROM copies")) == 240
            eventually(lambda: len(server.out_path.read_bytes().splitlines()) == 240)
    assert shop.verb("verify", "--log", extra_environment={"PG": "unused"}).code == 0


def test_as_of_a_time_and_a_position_through_a_change(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        seen, times, positions = [], [], []
        for step in range(4):
            positions.append(send(server, orders(step * 40, step * 40 + 40))["position"])
            if step == 1:
                assert server.http("PUT", "/v1/pipelines/every/filters/doubled", b"SELECT id, customer, amount * 3 AS twice FROM input",
                                   {"Content-Type": "application/sql"}).status == 200
            seen.append(ask_all(server))
            times.append(now())
        for step in (0, 1, 2):
            for way, when in (("time", times[step]), ("position", positions[step])):
                name = f"{way}{step}"
                made(server, name, as_of=when)
                then = ask_all(server, name)
                for question in QUESTIONS:
                    assert then[question] == seen[step][question], (name, question)
                server.http("DELETE", f"/v1/sandboxes/{name}") if step == 1 else None
        # After the change, as of before it: the version of then; as of after it: each event by its own.
        assert {row["twice"] for row in query(server, "SELECT twice FROM every", "time0")} == {2 * (n % 100) for n in range(40)}
        send(server, orders(1000, 1001), "time0")
        assert query(server, "SELECT twice FROM every WHERE id = 'o01000'", "time0") == [{"twice": 0}]
        assert query(server, "SELECT count(*) AS n FROM every WHERE id >= 'o00080' AND twice = 3 * (right(id, 2)::int)", "time2") == [{"n": 40}]
        # Within a batch, and one partition alone: the other is not bounded, other streams stand at that event's time.
        made(server, "within", as_of="orders/0:3")
        rows = query(server, "SELECT _partition AS p, count(*) AS n FROM _streams.orders GROUP BY 1 ORDER BY 1", "within")
        live = query(server, "SELECT _partition AS p, count(*) AS n FROM _streams.orders GROUP BY 1 ORDER BY 1")
        assert rows == [{"p": 0, "n": 4}, live[1]]
        assert sorted(r["id"] for r in query(server, "SELECT id FROM every", "within")) == sorted(
            r["id"] for r in query(server, "SELECT id FROM _streams.orders", "within"))
        large = [r["id"] for r in query(server, "SELECT id FROM every WHERE right(id, 2)::int >= 50 ORDER BY id", "within")]
        assert [r["id"] for r in query(server, "SELECT id FROM large_rows ORDER BY id", "within")] == large
        send(server, orders(5000, 5100), "within")
        assert len(query(server, "SELECT id FROM large_rows", "within")) == len(large) + 50, "a chain goes on where the fork cut it"


def test_with_other_filters_over_all_of_the_history(project):
    shop = project({"millstream.yaml": PROJECT})
    other = PROJECT.replace("amount * 2 AS twice FROM input", "amount + 7 AS twice, 'new' AS mark FROM input").replace(">= 50", ">= 90")
    shop.write({"next/millstream.yaml": other, "broken/millstream.yaml": other.replace("amount + 7", "amuont + 7")})
    with shop.server() as server:
        send(server, orders(0, 150))
        before = ask_all(server)
        done = shop.verb("sandbox", "create", "next", "--with", "next")
        assert done.stdout.startswith("sandbox next is ready: as of ")
        assert query(server, "SELECT id, twice, mark FROM every ORDER BY id", "next") == [
            {"id": f"o{n:05}", "twice": n % 100 + 7, "mark": "new"} for n in range(150)]
        assert [row["id"] for row in query(server, QUESTIONS["large_rows"], "next")] == [f"o{n:05}" for n in range(150) if n % 100 >= 90]
        send(server, orders(200, 300), "next")
        assert len(query(server, QUESTIONS["large_rows"], "next")) == 10 + 10
        assert ask_all(server) == before
        refused = shop.verb("sandbox", "create", "broken", "--with", "broken", expect=1)
        assert "amuont" in refused.stderr and "^" in refused.stderr
        assert "no millstream.yaml in nowhere" in shop.verb("sandbox", "create", "x", "--with", "nowhere", expect=1).stderr
        partitions = other.replace("orders: {partitions: 2", "orders: {partitions: 3")
        assert "the stream has 2, not 3" in create(server, "x", expect=409, files={"millstream.yaml": partitions})["detail"]
        assert listed(server) == ["next"] and [each.name for each in (shop.data / "sandboxes").iterdir()] == ["next"]


def test_a_restart_and_a_kill_keep_them(project):
    shop = project({"millstream.yaml": PROJECT})
    server = shop.server().start()
    send(server, orders(0, 100))
    made(server, "kept")
    sure = []
    rng = random.Random(SEED)
    for round_number in range(6):
        for step in range(rng.randint(1, 5)):
            events = orders(10_000 + round_number * 1000 + step * 10, 10_000 + round_number * 1000 + step * 10 + 10)
            server.ingest("orders", events, inside("kept"))
            sure += [event["id"] for event in events]
        server.ingest("orders", orders(round_number + 200, round_number + 201))
        time.sleep(rng.uniform(0, 0.3))
        server.stop() if round_number == 2 else server.kill()
        server.start()
        ready(server, "kept")
        delivered(server, "kept")
        delivered(server)
        assert [r["id"] for r in query(server, "SELECT id FROM every ORDER BY id", "kept")] == [f"o{n:05}" for n in range(100)] + sure
        assert query(server, "SELECT sum(n)::int AS n FROM sums", "kept") == [{"n": 100 + len(sure)}]
        assert query(server, "SELECT count(*) AS n FROM every") == [{"n": 100 + round_number + 1}]
    server.stop()
    assert shop.verb("verify").code == 0


def test_expiry(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        send(server, orders(0, 20))
        made(server, "brief", expires=f"{12 * SLOWNESS}s")
        assert query(server, "SELECT count(*) AS n FROM every", "brief") == [{"n": 20}]
        made(server, "long")
        eventually(lambda: listed(server) == ["long"])
        eventually(lambda: not (shop.data / "sandboxes" / "brief").exists())
        assert query(server, "SELECT 1", "brief", expect=404)["detail"] == "no sandbox 'brief'"
        kinds = [(each["kind"], each.get("name")) for each in server.http("GET", "/v1/history").json() if each["kind"].startswith("sandbox")]
        assert kinds == [("sandbox_created", "brief"), ("sandbox_created", "long"), ("sandbox_expired", "brief")]
        create(server, "brief", expires=f"{5 * SLOWNESS}s")
        server.kill()
        time.sleep(5.1 * SLOWNESS)
        server.start()  # it expired while nothing ran
        eventually(lambda: listed(server) == ["long"])
        expires = datetime.fromisoformat(server.http("GET", "/v1/sandboxes/long").json()["expires"].replace("Z", "+00:00"))
        assert 6.9 < (expires - datetime.now(timezone.utc)).total_seconds() / 86400 < 7.1


def test_the_bound_on_disk(project):
    shop = project({"millstream.yaml": PROJECT})
    pad = "x" * 1000
    with shop.server() as server:
        send(server, orders(0, 50))
        made(server, "small", disk="16MiB")
        statuses = []
        for n in range(200):
            body = "".join(json.dumps({"id": f"{n}-{i}", "customer": f"c{i}", "amount": 1, "pad": random.Random(n * 1000 + i).randbytes(500).hex() + pad}) + "\n"
                           for i in range(200)).encode()
            answer = server.http("POST", "/v1/streams/orders/events", body, {"Content-Type": "application/x-ndjson", **inside("small")})
            statuses.append(answer.status)
            if answer.status != 200:
                break
        assert answer.status == 507 and 5 < len(statuses) < 100, statuses
        assert answer.json()["code"] == "disk_full" and "of the 16 MiB that it may" in answer.json()["detail"], answer.json()
        # What is live does not notice; what is there can be asked, and dropped.
        send(server, orders(50, 60))
        assert query(server, "SELECT count(*) AS n FROM every") == [{"n": 60}]
        assert query(server, "SELECT count(*) > 50 AS more FROM _streams.orders", "small") == [{"more": True}]
        assert server.http("DELETE", "/v1/sandboxes/small").status == 200
        assert "at least 16 MiB" in create(server, "tiny", expect=422, disk="1MiB")["detail"]
        # The history alone may be too much for it.
        server.ingest("orders", [{"id": f"p{n}", "customer": "c", "amount": n, "pad": random.Random(n).randbytes(4000).hex()} for n in range(1500)])
        keep = {"millstream.yaml": PROJECT.replace("amount * 2 AS twice FROM input", "amount * 2 AS twice, data::varchar || data::varchar AS twofold FROM input")}
        create(server, "history", disk="16MiB", files=keep)
        eventually(lambda: server.http("GET", "/v1/sandboxes/history").json()["state"] == "full", 30)
        assert server.metrics()['millstream_sandbox_state{sandbox="history",state="full"}'] == 1
        assert server.metrics()['millstream_sandbox_disk_bytes{sandbox="history"}'] > 1 << 20
        refused = server.http("POST", "/v1/streams/orders/events", {"id": "x", "customer": "c"}, inside("history"))
        assert refused.status == 507
        shop.write({"millstream.yaml": PROJECT + "server: {sandboxes: {count: 1, disk: 20MiB}}\n"})
    with shop.server() as server:
        assert server.http("GET", "/v1/sandboxes/history").json()["disk_max_bytes"] == 16 << 20
        assert "no more may be" in create(server, "second", expect=409)["detail"]
        server.http("DELETE", "/v1/sandboxes/history")
        assert create(server, "second")["disk_max_bytes"] == 20 << 20


def test_what_is_refused(project):
    shop = project({"millstream.yaml": PROJECT + """
  scored:
    from: orders
    filters:
      - score: {exec: {command: [python3, score.py], output: {id: varchar, score: double}}}
    to: {table: scores}
""", "score.py": "import json, sys\nopen('ran', 'a').write('x')\nfor line in sys.stdin:\n    e = json.loads(line)\n"
                 "    print(json.dumps({'id': e['id'], 'score': 1.5}), flush=True)\n"})
    with shop.server() as server:
        send(server, orders(0, 20))
        ran = (shop.folder / "ran").stat().st_size
        refused = create(server, "trial", expect=422)
        assert "scored.score runs a program (exec)" in refused["detail"] and "--allow-exec" in refused["detail"]
        assert "--allow-exec" in shop.verb("sandbox", "create", "trial", expect=1).stderr
        assert (shop.folder / "ran").stat().st_size == ran and listed(server) == []
        made(server, "trial", allow_exec=True)
        assert query(server, "SELECT count(*) AS n FROM scores WHERE score = 1.5", "trial") == [{"n": 20}]
        assert (shop.folder / "ran").stat().st_size > ran

        assert query(server, "SELECT 1", "trail", expect=404)["detail"] == "no sandbox 'trail'; did you mean 'trial'?"
        assert "did you mean 'trial'" in shop.verb("query", "SELECT 1", "--sandbox", "trail", expect=1).stderr
        assert server.http("DELETE", "/v1/sandboxes/trail").status == 404
        assert server.http("GET", "/v1/sandboxes/trail").status == 404
        for name in ("Trial", "1st", "a-b", "../up", ".hidden"):
            assert create(server, name, expect=422)["detail"].startswith(f"'{name}' is not a name"), name
        for name, part in (("", "empty"), ("x" * 64, "at most 63"), ("_own", "reserved"), ("select", "a word of SQL")):
            assert part in create(server, name, expect=422)["detail"], name
        assert create(server, "trial", expect=409)["detail"].startswith("there is a sandbox 'trial' already")
        assert "neither a time" in create(server, "x", expect=422, as_of="yesterday", allow_exec=True)["detail"]
        assert "future" in create(server, "x", expect=422, as_of="2100-01-01T00:00:00Z", allow_exec=True)["detail"]
        assert "is not there" in create(server, "x", expect=422, as_of="orders/0:9999", allow_exec=True)["detail"]
        assert "did you mean 'orders'" in create(server, "x", expect=404, as_of="ordres/0:1", allow_exec=True)["detail"]
        assert "nothing had been applied" in create(server, "x", expect=404, as_of="2026-01-01T00:00:00Z", allow_exec=True)["detail"]
        assert "expires" in create(server, "x", expect=400, expires="soon")["detail"]
        assert "up to a year" in create(server, "x", expect=422, expires="1000d")["detail"]
        assert create(server, "x", expect=400, named="y")["detail"].startswith("'named' is not known")

        # A route that does not work in a sandbox does nothing at all, least of all to what is live.
        live = server.http("GET", "/v1/status").json()["catalog_version"]
        for method, path, body in (("PUT", "/v1/pipelines/every/filters/doubled", {"sql": "SELECT 1"}), ("POST", "/v1/pipelines/every/pause", None),
                                   ("DELETE", "/v1/tables/every", None), ("POST", "/v1/apply", {"files": {}}), ("DELETE", "/v1/sandboxes/trial", None),
                                   ("POST", "/v1/sandboxes", {"name": "nested"}), ("GET", "/v1/sandboxes", None), ("GET", "/health/ready", None)):
            answer = server.http(method, path, body, inside("trial"))
            assert answer.status == 400 and "does not work in a sandbox" in answer.json()["detail"], (path, answer.body)
        assert server.http("GET", "/v1/status").json()["catalog_version"] == live and listed(server) == ["trial"]
        for verb in (("run",), ("table", "drop", "every"), ("sandbox", "list"), ("apply",), ("check",)):
            assert "does not work in a sandbox" in shop.verb(*verb, "--sandbox", "trial", expect=2).stderr

        paths = server.http("GET", "/openapi.json").json()["paths"]
        assert set(paths["/v1/sandboxes"]) == {"get", "post"} and set(paths["/v1/sandboxes/{sandbox}"]) == {"get", "delete"}
        for path, method, takes in (("/v1/query", "post", True), ("/v1/tables/{table}", "get", True), ("/v1/streams/{stream}/events", "post", True),
                                    ("/v1/apply", "post", False), ("/v1/sandboxes", "get", False)):
            assert any(each["name"] == "Millstream-Sandbox" for each in paths[path][method]["parameters"]) == takes, path


def test_tables_waits_feeds_and_a_drop_under_them(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        send(server, orders(0, 20))
        made(server, "trial")
        position = server.ingest("orders", orders(100, 110), inside("trial"))["position"]
        assert query(server, "SELECT count(*) AS n FROM every", "trial", wait=position) == [{"n": 30}]
        rows = server.http("GET", f"/v1/tables/newest?customer=eq.c2&wait={position}", headers=inside("trial")).json()
        assert rows[0]["id"] == "o00107"
        assert server.http("GET", "/v1/tables/newest?customer=eq.c2").json()[0]["id"] == "o00016"
        names = [each["name"] for each in server.http("GET", "/v1/tables", headers=inside("trial")).json()]
        assert names == ["every", "large_rows", "newest", "sums"]
        assert "every" in shop.verb("table", "list", "--sandbox", "trial").stdout
        assert json.loads(shop.verb("query", "SELECT count(*) AS n FROM every", "--sandbox", "trial", "--format", "ndjson").stdout) == {"n": 30}
        assert shop.verb("pipeline", "show", "every", "--sandbox", "trial").stdout.startswith("name: every")

        feed = server.connection(timeout=20)
        feed.request("GET", "/v1/streams/orders/events?from=latest&follow=true", headers={"Accept": "text/event-stream", **inside("trial")})
        answer = feed.getresponse()
        server.ingest("orders", orders(200, 201), inside("trial"))
        lines = [answer.readline() for _ in range(3)]
        assert any(b"o00200" in line for line in lines), lines
        slow = server.connection(timeout=40)
        slow.request("POST", "/v1/query", json.dumps({"sql": "SELECT count(*) FROM range(100000000000)"}), {"Content-Type": "application/json", **inside("trial")})
        time.sleep(0.5)
        began = time.monotonic()
        assert server.http("DELETE", "/v1/sandboxes/trial").status == 200
        assert time.monotonic() - began < 10 * SLOWNESS, "requests in it hold a drop up"
        answer.read()
        assert slow.getresponse().status >= 400
        assert not (shop.data / "sandboxes" / "trial").exists()
        made(server, "trial")
        assert query(server, "SELECT count(*) AS n FROM every", "trial") == [{"n": 20}]


def test_without_a_server(project):
    shop = project({"millstream.yaml": PROJECT})
    shop.verb("ingest", "orders", "-", stdin="".join(json.dumps(each) + "\n" for each in orders(0, 30)))
    done = shop.verb("sandbox", "create", "rest", "--expires", "1d")
    assert done.stdout.startswith("sandbox rest is ready")
    shop.verb("ingest", "orders", "-", "--sandbox", "rest", stdin="".join(json.dumps(each) + "\n" for each in orders(100, 110)))
    count = "SELECT count(*) AS n FROM every"
    assert shop.verb("query", count, "--sandbox", "rest", "--json").json()["rows"] == [{"n": 40}]
    assert shop.verb("query", count, "--json").json()["rows"] == [{"n": 30}]
    assert [each["name"] for each in shop.verb("sandbox", "list", "--json").json()] == ["rest"]
    with shop.server() as server:
        ready(server, "rest")
        assert query(server, count, "rest") == [{"n": 40}]
    shop.verb("sandbox", "drop", "rest")
    assert shop.verb("sandbox", "list", "--json").json() == []
    assert "no sandbox 'rest'" in shop.verb("query", count, "--sandbox", "rest", expect=1).stderr


def test_retention_and_backups(project):
    """The live log lets go of what a sandbox still has; a backup has no sandboxes, and says so in its history."""
    plain = PROJECT.replace("partitions: 2, key: customer, contract", "retain: {size: 4MiB}, contract", 1)
    shop = project({"millstream.yaml": plain[:plain.index("  chain:")]})
    with shop.server() as server:
        pad = [{"id": f"p{n}", "customer": "c", "amount": n, "pad": random.Random(n).randbytes(2000).hex()} for n in range(300)]
        for _ in range(3):
            server.ingest("orders", pad)
        delivered(server)
        made(server, "kept")
        was = query(server, "SELECT _offset, id FROM _streams.orders ORDER BY 1", "kept")
        for _ in range(12):
            server.ingest("orders", pad)
        delivered(server)
        eventually(lambda: query(server, "SELECT min(_offset) AS first FROM _streams.orders")[0]["first"] > 0, 60)
        assert query(server, "SELECT _offset, id FROM _streams.orders ORDER BY 1", "kept") == was and len(was) == 900
        server.kill()
        server.start()
        ready(server, "kept")
        assert query(server, "SELECT _offset, id FROM _streams.orders ORDER BY 1", "kept") == was
        assert "tables cannot be made again" in create(server, "late", expect=422)["detail"]
        made(server, "late", files={"millstream.yaml": shop.folder.joinpath("millstream.yaml").read_text()})
        assert query(server, "SELECT count(*) AS n FROM every", "late") == query(server, "SELECT count(*) AS n FROM _streams.orders", "late")
        shop.verb("log", "backup", shop.folder / "copy")
    again = project({"millstream.yaml": shop.folder.joinpath("millstream.yaml").read_text()}, "again")
    (shop.folder / "copy").rename(again.data)
    with again.server() as server:
        eventually(lambda: listed(server) == [])
        assert server.http("GET", "/v1/history").json()[-1]["kind"] == "sandbox_dropped"


@needs_strace
def test_a_failed_sync_ends_the_sandbox_alone(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        send(server, orders(0, 20))
        made(server, "trial")
        send(server, orders(100, 120), "trial")
    segment = max((shop.data / "sandboxes" / "trial" / "log" / "orders" / "0").glob("*.seg"))
    server = Straced(shop, "fdatasync:error=EIO:when=1+", path=segment).start(wait_ready=True)
    ready(server, "trial")
    refused = server.http("POST", "/v1/streams/orders/events", b"".join(json.dumps(each).encode() + b"\n" for each in orders(200, 220)),
                          {"Content-Type": "application/x-ndjson", **inside("trial")})
    assert refused.status >= 500, refused.body
    status = eventually(lambda: (each := server.http("GET", "/v1/sandboxes/trial").json())["state"] == "failed" and each)
    assert "orders" in status["reason"], status
    assert server.http("POST", "/v1/streams/orders/events", {"id": "x", "customer": "c"}, inside("trial")).status == 503
    send(server, orders(20, 30))
    assert query(server, "SELECT count(*) AS n FROM every") == [{"n": 30}]
    assert server.injected() and server.http("DELETE", "/v1/sandboxes/trial").status == 200 and listed(server) == []
    server.stop()


def check_whole_or_none(shop, expected):
    """Folders and `_control` agree, and what is there answers."""
    names = [each["name"] for each in shop.verb("sandbox", "list", "--json").json()]
    for name in names:
        rows = shop.verb("query", "SELECT count(*) AS n FROM _streams.orders", "--sandbox", name, "--json").json()["rows"]
        assert rows == [{"n": 40}]
    shop.verb("sandbox", "drop", "none", expect=1)  # opens the folder for a change, which finishes what was begun
    folders = sorted(each.name for each in (shop.data / "sandboxes").iterdir()) if (shop.data / "sandboxes").exists() else []
    assert folders == names and names in expected, (folders, names)
    assert shop.verb("query", "SELECT count(*) AS n FROM every", "--json").json()["rows"] == [{"n": 40}]
    return names


@needs_strace
@pytest.mark.parametrize("call", ["fsync", "fdatasync", "link", "rename", "mkdir", "unlink", "rmdir", "unlinkat"])
def test_a_kill_in_a_create_or_a_drop_leaves_a_whole_one_or_none(project, call):
    shop = project({"millstream.yaml": PROJECT.replace("orders: {", "orders: {retain: {size: 32MiB}, ")})  # segments of 4 MiB
    rng = random.Random(f"{SEED}{call}")
    shop.write({"orders.ndjson": "".join(json.dumps({**each, "pad": rng.randbytes(250_000).hex()}) + "\n" for each in orders(0, 40))})
    shop.verb("ingest", "orders", "orders.ndjson")
    assert len(list(shop.data.glob("log/orders/*/*.seg"))) > 4, "there must be sealed segments"
    killed, ends, names = 0, set(), []
    for verb in ("create", "drop"):
        for when in [1, *sorted(rng.sample(range(2, 60), POINTS - 1))]:
            if verb == "drop" and not names:
                shop.verb("sandbox", "create", "one", "-q")
            if verb == "create" and names:
                shop.verb("sandbox", "drop", "one")
            done = subprocess.run(["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={when}",
                                   BINARY, "sandbox", verb, "one", "-q"], cwd=shop.folder, env=environment(), capture_output=True, timeout=120)
            assert done.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL), done.stderr
            killed += done.returncode != 0
            names = check_whole_or_none(shop, ([], ["one"]))
            ends.add((verb, *names))
            if done.returncode == 0:
                break  # later ones are not reached
    assert killed > 0
    print(f"{call}: killed {killed} times, ends {sorted(ends)}")
    assert shop.verb("verify", "--log").code == 0


def test_kills_of_a_server_that_makes_and_drops(project):
    shop = project({"millstream.yaml": PROJECT})
    rng = random.Random(SEED)
    server = shop.server().start()
    send(server, orders(0, 40))
    sure = set()  # that are there, by what was answered
    cut = 0
    for round_number in range(12):
        name = f"s{round_number % 3}"
        doomed = subprocess.Popen([BINARY, "sandbox", *(["drop", name] if name in sure else ["create", name, "--detach"])], cwd=shop.folder,
                                  env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(rng.uniform(0, 0.15))
        server.kill()
        doomed.communicate(timeout=60)
        cut += doomed.returncode != 0
        server.start()
        there = set(listed(server))
        if doomed.returncode == 0:
            assert (name in there) == (name not in sure)
        assert there ^ sure <= {name}
        eventually(lambda: {each.name for each in (shop.data / "sandboxes").iterdir()} == there if there else True)
        for each in there:
            ready(server, each)
            assert query(server, "SELECT count(*) AS n FROM every", each) == [{"n": 40}]
        sure = there
    print(f"{cut} of 12 cut short")
    assert cut > 0
    server.stop()
    assert shop.verb("verify", "--log").code == 0
