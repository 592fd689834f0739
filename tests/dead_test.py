"""Dead letters are sent again and dropped, exactly once, whatever dies meanwhile; too many of them pause a pipeline; events that a sink
cannot take are set aside; `verify` finds what was done to `_control`."""

import contextlib
import http.client
import json
import time

import pytest

import harness
from faults import Straced, needs_strace

PROJECT = """
streams:
  orders:
    key: customer
    partitions: 2
    contract: {id: varchar not null, customer: varchar, amount: "decimal(12,2) check (amount < 1000)", rate: varchar}
  paid: {}
pipelines:
  priced:
    from: orders
    filters:
      - priced: SELECT id, customer, amount * rate::decimal(6,2) AS price FROM input
    to:
      - table: {name: prices, key: customer}
      - table: all_prices
      - stream: paid
      - file: out/prices.ndjson
"""
FIXED = "SELECT id, customer, amount * coalesce(try_cast(rate AS decimal(6,2)), 1) AS price FROM input"


def order(number, rate="2", customer=None, **more):
    return {"id": f"o{number}", "customer": customer or f"c{number % 3}", "amount": number + 0.5, "rate": rate, **more}


def dead(server, query=""):
    return server.http("GET", f"/v1/dead/orders{query}").json()


def settled(server):
    return harness.eventually(lambda: all(p["lag_events"] == 0 for p in server.http("GET", "/v1/status").json()["pipelines"]))


def ids(server, table="all_prices"):
    return sorted(row["id"] for row in server.query(f"SELECT id FROM {table}"))


def test_what_ingest_refused_is_appended_anew(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        server.ingest("orders", [order(1), {"id": "o2", "customer": "c1", "amount": "much", "rate": "2"}])
        event = {"specversion": "1.0", "id": "e3", "source": "/till", "type": "sale", "subject": "x", "data": {"customer": "c2", "amount": 3, "rate": "1"}}
        assert server.http("POST", "/v1/streams/orders/events", json.dumps(event).encode(),
                           {"Content-Type": "application/cloudevents+json"}).json()["quarantined"] == 1
        assert [letter["state"] for letter in dead(server)["letters"]] == ["open", "open"]
        # The contract as it is now decides: the second has no id, and that is still wrong.
        changed = PROJECT.replace('amount: "decimal(12,2) check (amount < 1000)"', "amount: varchar").replace("amount * rate", "1.5 * rate")
        shop.write({"millstream.yaml": changed})
        shop.verb("apply", "--yes")
        answer = server.http("POST", "/v1/dead/orders/replay", {"all": True})
        assert answer.status == 200, answer.body
        first = answer.json()
        assert (first["letters"], first["refused"], first["state"]) == (2, 1, "replayed")
        assert sorted(row["id"] for row in server.query("SELECT id FROM _streams.orders")) == ["o1", "o2"]
        again = server.http("POST", "/v1/dead/orders/replay", {"ids": [0, 1]}).json()
        assert again["letters"] == 0 and [left["reason"] for left in again["left_letters"]] == ["it is replayed already"] * 2
        listed = dead(server, "?state=all")
        assert [letter["state"] for letter in listed["letters"]][:2] == ["replayed", "replayed"]
        new = [letter for letter in listed["letters"] if letter.get("replay_of") is not None]
        assert [(letter["replay_of"], letter["state"]) for letter in new] == [(1, "open")]
        assert shop.verb("history", "--json").json()[-1]["kind"] == "dead_replayed"
        kept = server.http("GET", f"/v1/dead/orders/{new[-1]['number']}").json()
        assert kept["envelope"]["id"] == "e3" and kept["envelope"]["type"] == "sale", kept


def test_an_event_has_its_attributes_again(project):
    shop = project({"millstream.yaml": "streams:\n  s: {contract: {n: integer not null check (n > 10)}}\n"})
    with shop.server() as server:
        event = {"specversion": "1.0", "id": "e1", "source": "/till", "type": "sale", "time": "2026-01-02T03:04:05Z", "shade": "red", "data": {"n": 5}}
        server.http("POST", "/v1/streams/s/events", json.dumps(event).encode(), {"Content-Type": "application/cloudevents+json"})
        server.http("PUT", "/v1/streams/s", {"contract": {"n": "integer not null"}})
        answer = server.http("POST", "/v1/dead/s/replay", {"ids": [0]}).json()
        assert answer["position"] == "s/0:0", answer
        (came,) = server.http("GET", "/v1/streams/s/events").lines()
        assert (came["id"], came["source"], came["type"], came["time"]) == ("e1", "/till", "sale", "2026-01-02T03:04:05Z")
        assert came["replayof"] == "s/0" and came["shade"] == "red" and came["data"] == {"n": 5}


def send_with_faults(server):
    """o2 and o4 are refused by the filter; c1's newest is o7."""
    server.ingest("orders", [order(1), order(2, "x", customer="c1"), order(3), order(4, "x"), order(7, customer="c1")])
    settled(server)
    # Each of the four sinks has refused both.
    return harness.eventually(lambda: dead(server)["open"] == 8)


def test_what_a_filter_refused_goes_to_its_sinks_alone(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        send_with_faults(server)
        server.http("PUT", "/v1/pipelines/priced/filters/priced", FIXED.encode(), {"Content-Type": "application/sql"})
        done = shop.verb("dead", "replay", "orders", "--filter", "priced.priced")
        assert done.stdout.splitlines()[0] == "8 dead letters of orders replayed"
        assert "late: in stream:paid they stand after newer events" in done.stdout
        assert "late: in file:out/prices.ndjson they stand after newer events" in done.stdout
        assert ids(server) == ["o1", "o2", "o3", "o4", "o7"]
        # An older event does not hide a newer row of its key.
        assert server.query("SELECT id, price FROM prices WHERE customer = 'c1' ORDER BY id") == [{"id": "o7", "price": 15.0}]
        lines = [json.loads(line)["id"] for line in (shop.folder / "out/prices.ndjson").read_text().splitlines()]
        assert sorted(lines) == ["o1", "o2", "o3", "o4", "o7"]
        events = server.http("GET", "/v1/streams/paid/events").lines()
        assert sorted(event["data"]["id"] for event in events) == ["o1", "o2", "o3", "o4", "o7"]
        assert all(event["causationid"].startswith("orders/0:") or event["causationid"].startswith("orders/1:") for event in events)
        assert dead(server)["open"] == 0
        assert server.query("SELECT DISTINCT state FROM _dead_letters") == [{"state": "replayed"}]
        assert "dead_open" in server.http("GET", "/v1/status").json()["streams"][0]
        # Over a restart nothing comes again.
        server.stop()
        server.start()
        settled(server)
        time.sleep(0.5)
        assert ids(server) == ["o1", "o2", "o3", "o4", "o7"]
        assert len((shop.folder / "out/prices.ndjson").read_text().splitlines()) == 5
        server.kill()
        server.start()
        settled(server)
        assert sorted(row["id"] for row in server.query("SELECT id FROM prices")) == ["o3", "o7"]


def test_what_is_refused_again_is_a_new_letter(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        send_with_faults(server)
        answer = server.http("POST", "/v1/dead/orders/replay", {"code": "sql"}).json()
        assert (answer["letters"], answer["refused"], answer["state"]) == (8, 8, "replayed")
        letters = dead(server)["letters"]
        assert sorted(letter["replay_of"] for letter in letters) == list(range(8))
        assert ids(server) == ["o1", "o3", "o7"]
        again = shop.verb("dead", "replay", "orders", "--code", "sql", expect=1)
        assert again.stdout.startswith("8 dead letters of orders replayed, 8 refused again (millstream dead list orders)\n")
        # One line a sink, which it names.
        lines = [line.split() for line in shop.verb("dead", "list", "orders").stdout.splitlines()]
        assert lines[0] == ["N", "TIME", "AT", "SINK", "CODE", "EVENT", "REASON"]
        assert sorted(line[3] for line in lines[1:-1]) == sorted(["table:prices", "table:all_prices", "stream:paid", "file:out/prices.ndjson"] * 2)
        # What is put right for some of them.
        some = FIXED.replace("coalesce(", "CASE WHEN id = 'o2' THEN error('no') ELSE 1 END * coalesce(")
        server.http("PUT", "/v1/pipelines/priced/filters/priced", some.encode(), {"Content-Type": "application/sql"})
        assert shop.verb("dead", "replay", "orders", "--all").stdout.startswith("8 dead letters of orders replayed, 4 refused again (")
        told = [event for event in shop.verb("history", "--json").json() if event["kind"] == "dead_replayed"]
        assert len(told) == 3
        shop.verb("verify")


def test_dropped_letters_count_no_more(project):
    shop = project({"millstream.yaml": PROJECT})
    shop.verb("ingest", "orders", "-", stdin="nonsense\n{\n", expect=None)
    assert shop.verb("dead", "drop", "orders", "0").stdout == "1 dead letter of orders dropped\n"
    assert shop.verb("dead", "list", "orders").stdout.endswith("1 of 1. millstream dead show orders 1\n")
    assert "dropped" in shop.verb("dead", "list", "orders", "--all").stdout
    assert "it is dropped already" in shop.verb("dead", "replay", "orders", "0", expect=1).stdout
    assert shop.verb("dead", "show", "orders", "0", "--bytes").stdout == "nonsense\n"
    for wrong in ([], ["0", "--all"], ["--code", "nothing"], ["x"]):
        shop.verb("dead", "drop", "orders", *wrong, expect=2)


def test_without_a_server_a_replay_is_delivered(project):
    shop = project({"millstream.yaml": PROJECT})
    shop.verb("ingest", "orders", "-", stdin=harness.ndjson([order(1), order(2, "x")]).decode())
    shop.write({"millstream.yaml": PROJECT.replace("SELECT id, customer, amount * rate::decimal(6,2) AS price FROM input", FIXED)})
    assert shop.verb("dead", "replay", "orders", "--all").stdout.startswith("4 dead letters of orders replayed\n")
    assert sorted(row["id"] for row in shop.verb("query", "SELECT id FROM all_prices", "--json").json()["rows"]) == ["o1", "o2"]


@needs_strace
@pytest.mark.parametrize("call,when", [("fdatasync", n) for n in (1, 2, 3, 4, 6, 8)] + [("rename", 1), ("rename", 2), ("pwrite64", 3), ("write", 4)])
def test_a_kill_within_a_replay(project, call, when):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        send_with_faults(server)
        server.ingest("orders", [{"id": "o9", "customer": "c2", "amount": 9000, "rate": "3"}, order(5)])
        answer = server.http("PUT", "/v1/streams/orders", {"key": "customer", "partitions": 2, "contract": {
            "id": "varchar not null", "customer": "varchar", "amount": "decimal(12,2)", "rate": "varchar"}})
        assert answer.status == 200, answer.body
        server.http("PUT", "/v1/pipelines/priced/filters/priced", FIXED.encode(), {"Content-Type": "application/sql"})
        settled(server)
    wanted = {f"o{n}" for n in (1, 2, 3, 4, 5, 7, 9)}
    server = Straced(shop, f"{call}:signal=SIGKILL:when={when + {'fdatasync': 2, 'rename': 2}.get(call, 0)}").start()
    if server.wait_ready_or_end():
        with contextlib.suppress(OSError, http.client.HTTPException):  # the connection broke off
            server.http("POST", "/v1/dead/orders/replay", {"all": True})
        if server.process.poll() is None:
            server.stop(expect=None)
    assert server.process.wait(30 * harness.SLOWNESS) == -9
    with shop.server() as again:
        again.http("POST", "/v1/dead/orders/replay", {"all": True})
        harness.eventually(lambda: {row["state"] for row in again.query("SELECT state FROM _dead_letters")} == {"replayed"})
        settled(again)
        assert set(ids(again)) == wanted and len(ids(again)) == len(wanted)
        lines = [json.loads(line)["id"] for line in (shop.folder / "out/prices.ndjson").read_text().splitlines()]
        assert sorted(lines) == sorted(wanted)
        events = again.http("GET", "/v1/streams/paid/events").lines()
        assert sorted(event["data"]["id"] for event in events) == sorted(wanted)
        assert again.query("SELECT id FROM prices WHERE customer = 'c1'") == [{"id": "o7"}]
    shop.verb("verify")


LIMITED = """
streams: {s: {}}
pipelines:
  p:
    from: s
    filters: [{n: "SELECT (data->>'n')::integer AS n FROM input"}]
    to: [table: numbers]
    max_dead_letters: {count: 3, over: 10m}
"""


def test_too_many_dead_letters_pause(project):
    shop = project({"millstream.yaml": LIMITED})
    with shop.server() as server:
        server.ingest("s", [{"n": n} for n in range(10)] + [{"n": "x"}] * 3)
        settled(server)
        assert server.http("GET", "/health/ready").status == 200
        server.ingest("s", [{"n": "x"}])
        pipeline = lambda: server.http("GET", "/v1/status").json()["pipelines"][0]  # noqa: E731
        harness.eventually(lambda: pipeline()["state"] == "paused" and "resume" in pipeline()["reason"])
        server.ingest("s", [{"n": "x"}, {"n": 99}])
        ready = server.http("GET", "/health/ready")
        assert ready.status == 503 and ready.json()["reasons"][0]["reason"].startswith("4 of 14 events within")
        assert "the pipeline is paused" in server.stderr()
        assert server.metrics()['millstream_pipeline_state{pipeline="p",state="paused"}'] == 1
        assert "max_dead_letters" in shop.verb("top", "--once").stdout
        server.stop()
        server.start(wait_ready=False)  # it is not ready: that is what this is about
        harness.eventually(lambda: "ready" in server.stderr().split("stopped")[-1])
        harness.eventually(lambda: "resume" in pipeline()["reason"])
        shop.verb("pipeline", "resume", "p")
        harness.eventually(lambda: server.query("SELECT count(*) AS n FROM numbers") == [{"n": 11}])
        assert pipeline()["state"] == "live" and pipeline()["reason"] == ""
        assert server.http("GET", "/health/ready").status == 200


def test_a_limit_needs_a_number(project):
    shop = project({"millstream.yaml": LIMITED.replace("count: 3, ", "")})
    assert "neither share nor count" in shop.verb("check", expect=1).stdout + shop.verb("check", expect=None).stderr


SEVERAL = """
streams: {s: {partitions: 2}}
pipelines:
  p:
    from: s
    filters: [{n: "SELECT (data->>'n')::integer AS n FROM input"}]
    to: [table: a, table: b, drop]
    max_dead_letters: {count: 6, over: 10m}
"""


def test_an_event_counts_once_however_many_sinks_lack_it(project):
    shop = project({"millstream.yaml": SEVERAL})
    with shop.server() as server:
        pipeline = lambda: server.http("GET", "/v1/status").json()["pipelines"][0]  # noqa: E731
        server.ingest("s", [{"n": n} for n in range(4)] + [{"n": "x"}] * 6)
        settled(server)
        harness.eventually(lambda: server.http("GET", "/v1/dead/s").json()["open"] == 18)
        time.sleep(0.5)
        assert pipeline()["state"] == "live", "three sinks lack six events"
        server.ingest("s", [{"n": "x"}] * 3)
        harness.eventually(lambda: pipeline()["state"] == "paused" and "resume" in pipeline()["reason"])
        assert "9 of 13 events within" in pipeline()["reason"] or "8 of 12 events within" in pipeline()["reason"] or \
            "7 of 11 events within" in pipeline()["reason"], pipeline()["reason"]


STUCK = """
streams: {s: {}}
pipelines:
  p:
    from: s
    filters:
      - ask: {exec: {command: [python3, ask.py], timeout: 5s}}
    to: [file: out.ndjson]
"""
ASK = """
import sys
for line in sys.stdin:
    if "poison" in line:
        sys.exit(1)
    print(line, end="", flush=True)
"""


def test_stuck_events_are_set_aside(project):
    shop = project({"millstream.yaml": STUCK, "ask.py": ASK})
    with shop.server() as server:
        server.ingest("s", [{"n": "poison"}])
        harness.eventually(lambda: server.http("GET", "/v1/status").json()["pipelines"][0]["state"] == "degraded")
        server.ingest("s", [{"n": 1}])
        assert "no sink" in shop.verb("pipeline", "skip", "p", "--sink", "nothing", expect=1).stderr
        assert shop.verb("pipeline", "skip", "p", "--sink", "file:out.ndjson").stdout == "set aside up to s/0:0: they become dead letters\n"
        harness.eventually(lambda: (shop.folder / "out.ndjson").read_text().count("\n") == 1)
        (letter,) = server.http("GET", "/v1/dead/s").json()["letters"]
        assert (letter["code"], letter["event"]) == ("sink", "s/0:0") and letter["reason"].startswith("skipped")
        assert "goes on by itself" in shop.verb("pipeline", "skip", "p", "--sink", "file:out.ndjson", expect=1).stderr
        assert "events_skipped" in shop.verb("history", "--json").stdout


AWAY = """
streams: {orders: {partitions: 2, contract: {id: varchar}}}
pipelines:
  ok:
    from: orders
    to:
      - postgres: {table: t, url: "${env:AWAY_DB}"}
      - table: rows
"""


def test_nothing_is_set_aside_for_a_sink_that_is_not_open(project):
    """Where it stands is its own to say: which events are the next is not known before."""
    shop = project({"millstream.yaml": AWAY})
    server = shop.server(extra_environment={"AWAY_DB": f"postgresql://user:password@127.0.0.1:{harness.free_port()}/d?connect_timeout=5"})
    server.start(wait_ready=False)  # it is not ready: that is what this is about
    harness.eventually(lambda: "ready" in server.stderr())
    server.ingest("orders", [{"id": f"o-{n}"} for n in range(5)])
    harness.eventually(lambda: server.http("GET", "/v1/status").json()["pipelines"][0]["state"] == "degraded")
    for which in ([], ["--partition", "1"]):
        refused = shop.verb("pipeline", "skip", "ok", "--sink", "postgres:t", "--events", "2", *which, expect=1).stderr
        assert "is not open" in refused and "Connection refused" in refused and "where it stands is not known" in refused, refused
    assert server.http("POST", "/v1/pipelines/ok/skip", {"sink": "postgres:t"}).status == 409
    assert server.http("GET", "/v1/dead/orders").json()["total"] == 0
    assert "events_skipped" not in shop.verb("history", "--json").stdout
    # Its error has several lines; the tables keep to theirs.
    for verb in (["top", "--once"], ["pipeline", "list"]):
        lines = [line for line in shop.verb(*verb).stdout.splitlines() if "Connection refused" in line]
        assert len(lines) == 1 and lines[0].startswith("ok ") and "\t" not in lines[0] and "try" in lines[0], lines
    server.stop()


def test_verify_follows_control(project):
    shop = project({"millstream.yaml": LIMITED})
    with shop.server() as server:
        server.ingest("s", [{"n": 1}])
        beside = shop.verb("verify")
        first = server.stderr().split("head=")[1].split()[0].strip('"')
    done = shop.verb("verify")
    line = next(line for line in done.stdout.splitlines() if line.startswith("_control: "))
    events, head = int(line.split()[1]), line.split()[-1]
    assert len(head) == 64 and events >= 4
    assert beside.stdout != done.stdout
    assert shop.verb("verify", "--json").json()["control"] == {"events": events, "head": head}
    shop.verb("verify", "--head", head)
    shop.verb("verify", "--head", first)
    assert "cut off" in shop.verb("verify", "--head", "0" * 63 + "1", expect=1).stdout
    shop.verb("verify", "--head", "12", expect=2)


def test_a_check_that_cannot_be_evaluated_is_the_fault_of_its_event(project):
    contract = 'streams:\n  s: {contract: {day: "varchar check (day::date > DATE \'2020-01-01\')", n: "integer check (n < 10)"}}\n'
    shop = project({"millstream.yaml": contract})
    with shop.server() as server:
        events = [{"day": "2024-01-01", "n": 1}, {"day": "nope", "n": 2}, {"day": "2019-01-01", "n": 3}, *({"day": "2024-01-01", "n": 4} for _ in range(40)), {"day": "x", "n": 99}]
        answer = server.ingest("s", events)
        assert (answer["accepted"], answer["quarantined"]) == (41, 3), answer
        letters = server.http("GET", "/v1/dead/s").json()["letters"]
        assert [letter["path"] for letter in letters] == ["/day"] * 3, letters
        assert "check (day::date > DATE '2020-01-01'): invalid date field format" in letters[1 if "not hold" in letters[0]["reason"] else 0]["reason"], letters
        assert {json.loads(server.http("GET", f"/v1/dead/s/{letter['number']}").json()["data"])["day"] for letter in letters} == {"nope", "2019-01-01", "x"}


def test_ids_of_array_elements_differ(project):
    shop = project({"millstream.yaml": "streams:\n  plain: {}\n  once: {dedupe: {by: [ce_source, ce_id]}}\n",
                    "a.json": '[{"a":1},\n{bad},\n{"a":3},{"b":4x},{"a":5},{"a":6},\n{"a":7}]'})
    for stream in ("plain", "once"):
        shop.verb("ingest", stream, "a.json", expect=None)
        rows = shop.verb("query", f"SELECT ce_id, data->>'$.a' AS a FROM _streams.{stream}", "--format", "ndjson").lines()
        assert [row["a"] for row in rows] == ["1", "3", "5", "6", "7"]
        assert [row["ce_id"] for row in rows] == [f"a.json#{number}" for number in (1, 3, 5, 6, 7)]


def test_which_letters_there_are(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        assert shop.verb("dead", "show", "orders", "0", expect=1).stderr == "millstream: stream 'orders' has no dead letters\n"
        server.ingest("orders", [{"id": None}, {"id": None}])
        said = shop.verb("dead", "show", "orders", "99", expect=1).stderr
        assert said == "millstream: no dead letter 99 in stream 'orders'; it has 0 to 1\n"


SCORED = """
streams: {orders: {}}
pipelines:
  scores: {from: orders, filters: %s, to: {table: scores}}
"""


def test_silence_of_a_program_is_a_letter_of_its_filter(project):
    silent = SCORED % '[{every: SELECT * FROM input}, {score: {exec: {command: ["sleep", "60"], timeout: 100ms, output: {id: varchar}}}}]'
    with project({"millstream.yaml": silent}).server() as server:
        server.ingest("orders", [{"a": 1}])
        letter, = harness.eventually(lambda: dead(server)["letters"])
        assert (letter["at"], letter["code"]) == ("scores.score", "resource")


def test_why_a_program_is_not_started_stays_told(project):
    missing = SCORED % '[{score: {exec: {command: ["/nowhere/score"], output: {id: varchar}}}}]'
    with project({"millstream.yaml": missing}).server() as server:
        server.ingest("orders", [{"a": 1}])
        reasons = set()

        def tried_again():
            reason = server.http("GET", "/v1/status").json()["pipelines"][0]["sinks"][0].get("reason")
            if reason:
                reasons.add(reason)
            return any("is started again" in each for each in reasons)
        harness.eventually(tried_again)
        assert all("/nowhere/score" in reason and "No such file" in reason for reason in reasons), reasons
