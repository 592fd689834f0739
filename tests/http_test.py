"""The HTTP API of the built binary, asked with Python's own client: ingest, events, queries, tables, feeds, operation."""

import contextlib
import gzip
import http.client
import json
import re
import socket
import threading
import time

import pytest

from harness import eventually, ndjson

SHOP = """
streams:
  orders:
    key: customer
    partitions: 2
    contract:
      id: varchar not null
      customer: varchar
      type: varchar
      amount: decimal(12,2) check (amount >= 0)
  notes: {}
  strict:
    on_violation: reject
    contract: {id: varchar not null}
pipelines:
  revenue:
    from: orders
    filters:
      - paid: SELECT id, customer, amount FROM input WHERE type = 'paid'
      - gross: SELECT id, customer, amount * 2 AS gross FROM input
    to:
      - table: {name: revenue, key: id}
  all_orders:
    from: orders
    filters:
      - rows: SELECT id, amount, ce_time AS at FROM input
    to:
      - table: all_orders
"""

ORDERS = [{"id": f"o{i}", "customer": f"c{i % 5}", "type": "paid" if i % 2 == 0 else "open", "amount": i + 0.5} for i in range(10)]


@pytest.fixture
def shop(project):
    with project({"millstream.yaml": SHOP}).server() as server:
        yield server


def first_offsets(position):
    """"orders/0:17,1:9" as {0: 17, 1: 9}."""
    return {int(p): int(o) for p, o in (item.split(":") for item in position.split("/")[1].split(","))}


class Feed:
    """A streamed answer, read line by line on a connection of its own."""

    def __init__(self, server, path, headers=None):
        self.connection = server.connection(timeout=20)
        self.connection.request("GET", path, headers=headers or {})
        self.answer = self.connection.getresponse()

    def line(self):
        return self.answer.readline().decode().rstrip("\n")

    def event(self):
        """The next server-sent event as a dictionary of its fields; comments are passed over."""
        fields = {}
        while True:
            line = self.line()
            if line.startswith(":"):
                continue
            if not line and fields:
                return fields
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value

    def close(self):
        self.connection.close()


# ---- ingest


def test_an_ingest_says_where_its_events_are(shop):
    answer = shop.ingest("orders", ORDERS)
    assert answer["accepted"] == 10 and answer["quarantined"] == 0 and answer["ack"] == "durable"
    assert first_offsets(answer["position"]) == {p["partition"]: p["last"] for p in answer["partitions"]}
    assert sum(p["last"] - p["first"] + 1 for p in answer["partitions"]) == 10
    again = shop.ingest("orders", ORDERS[:1])
    assert again["partitions"][0]["first"] in [p["last"] + 1 for p in answer["partitions"]]


def test_json_objects_and_arrays(shop):
    assert shop.http("POST", "/v1/streams/notes/events", {"a": 1}).json()["accepted"] == 1
    assert shop.http("POST", "/v1/streams/notes/events", [{"a": 2}, {"a": 3}]).json()["accepted"] == 2
    assert shop.http("POST", "/v1/streams/notes/events", []).json()["accepted"] == 0
    bad = shop.http("POST", "/v1/streams/notes/events", b'[{"a":1}', {"Content-Type": "application/json"})
    assert bad.status == 400, bad.body
    rows = shop.query("SELECT data->>'$.a' AS a FROM _streams.notes ORDER BY _partition, _offset")
    assert sorted(row["a"] for row in rows) == ["1", "2", "3"]


def test_cloud_events_in_all_three_modes(shop):
    event = {"specversion": "1.0", "id": "e1", "source": "/t", "type": "made", "subject": "s", "time": "2026-01-02T03:04:05Z", "data": {"n": 1}}
    structured = shop.http("POST", "/v1/streams/notes/events", json.dumps(event).encode(), {"Content-Type": "application/cloudevents+json"})
    assert structured.json()["accepted"] == 1
    batch = [dict(event, id="e2"), dict(event, id="e3")]
    batched = shop.http("POST", "/v1/streams/notes/events", json.dumps(batch).encode(), {"Content-Type": "application/cloudevents-batch+json"})
    assert batched.json()["accepted"] == 2
    binary = shop.http("POST", "/v1/streams/notes/events", b'{"n":4}', {
        "Content-Type": "application/json", "ce-specversion": "1.0", "ce-id": "e4", "ce-source": "/t", "ce-type": "made", "ce-colour": "red"})
    assert binary.json()["accepted"] == 1
    events = {e["id"]: e for e in shop.http("GET", "/v1/streams/notes/events").lines()}
    assert sorted(events) == ["e1", "e2", "e3", "e4"]
    assert events["e1"]["time"].startswith("2026-01-02T03:04:05") and events["e1"]["subject"] == "s"
    assert events["e4"]["data"] == {"n": 4} and events["e4"]["colour"] == "red" and events["e4"]["type"] == "made"
    assert {"partition", "offset", "ingestedat"} <= set(events["e4"])
    no_json = shop.http("POST", "/v1/streams/notes/events", b"x", {
        "Content-Type": "text/plain", "ce-specversion": "1.0", "ce-id": "e5", "ce-source": "/t", "ce-type": "made"})
    assert no_json.status == 415


def test_content_types_that_a_web_page_may_send_are_refused(shop):
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        answer = shop.http("POST", "/v1/streams/notes/events", b'{"a":1}', {"Content-Type": kind})
        assert answer.status == 415
        assert "-H 'Content-Type: application/json'" in answer.json()["detail"]
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        answer = shop.http("POST", "/v1/streams/notes/events", {"a": 1}, headers)
        assert answer.status == 403, headers
    assert shop.query("SELECT count(*) AS n FROM _streams.notes") == [{"n": 0}]


def test_bad_events_are_quarantined_with_their_place(shop):
    body = ndjson([ORDERS[0]]) + b'{"id":"x","amount":"abc"}\nnot json\n{"customer":"c"}\n{"id":"y","amount":-1}\n'
    answer = shop.ingest("orders", body)
    assert answer["accepted"] == 1 and answer["quarantined"] == 4
    assert [fault["index"] for fault in answer["faults"]] == [1, 2, 3, 4]
    assert answer["faults"][0]["path"] == "/amount" and answer["faults"][0]["line"] == 2
    letters = shop.http("GET", "/v1/dead/orders").json()
    assert letters["total"] == 4
    assert [letter["code"] for letter in letters["letters"]] == ["contract", "json", "contract", "contract"]
    number = answer["faults"][0]["dead"]
    letter = shop.http("GET", f"/v1/dead/orders/{number}").json()
    assert letter["data"] == '{"id":"x","amount":"abc"}' and letter["at"] == "ingest"
    assert len(shop.http("GET", "/v1/dead/orders?code=json").json()["letters"]) == 1
    assert shop.http("GET", "/v1/dead/orders?since=1h&limit=2").json()["letters"][1]["number"] == letters["letters"][3]["number"]
    assert shop.http("GET", "/v1/dead/orders/999").status == 404
    assert shop.http("GET", "/v1/dead/ordes").status == 404
    rows = shop.query("SELECT code, event FROM _dead_letters WHERE stream = 'orders' ORDER BY number")
    assert [row["code"] for row in rows] == ["contract", "json", "contract", "contract"]


def test_a_stream_that_rejects_appends_nothing_of_a_bad_request(shop):
    refused = shop.ingest("strict", [{"id": "a"}, {"x": 1}, {"id": 5}], expect=422)
    assert refused["code"] == "invalid" and len(refused["faults"]) >= 1 and refused["faults"][0]["index"] == 1
    assert shop.query("SELECT count(*) AS n FROM _streams.strict") == [{"n": 0}]
    assert shop.ingest("strict", [{"id": "a"}])["accepted"] == 1


def test_idempotency_keys(shop):
    first = shop.http("POST", "/v1/streams/notes/events", {"a": 1}, {"Idempotency-Key": "k1"})
    again = shop.http("POST", "/v1/streams/notes/events", {"a": 1}, {"Idempotency-Key": "k1"})
    assert again.headers["Idempotent-Replayed"] == "true" and first.headers["Idempotent-Replayed"] is None
    assert again.json()["position"] == first.json()["position"]
    assert shop.http("POST", "/v1/streams/notes/events", {"a": 2}, {"Idempotency-Key": "k1"}).status == 422
    assert shop.query("SELECT count(*) AS n FROM _streams.notes") == [{"n": 1}]


def test_origins_are_taken_once(shop):
    def piece(first, events):
        headers = {"Millstream-Origin": "file/notes", "Millstream-Origin-Part": "a.ndjson", "Millstream-Origin-First": str(first),
                   "Millstream-Origin-Position": f"{first + len(events)} resume%20here", "Millstream-Subject": "a.ndjson"}
        return shop.ingest("notes", events, headers)
    assert shop.http("GET", "/v1/streams/notes/origins?origin=file/notes&part=a.ndjson").json() == {"events": 0, "position": None}
    assert piece(0, [{"n": 0}, {"n": 1}])["accepted"] == 2
    found = shop.http("GET", "/v1/streams/notes/origins?origin=file/notes&part=a.ndjson").json()
    assert found == {"events": 2, "position": "2 resume here"}
    again = piece(0, [{"n": 0}, {"n": 1}, {"n": 2}])
    assert again["accepted"] == 1 and again["duplicates"] == 2
    assert shop.query("SELECT count(*) AS n FROM _streams.notes") == [{"n": 3}]


def test_compressed_bodies(shop):
    body = ndjson(ORDERS)
    answer = shop.ingest("orders", gzip.compress(body), {"Content-Encoding": "gzip"})
    assert answer["accepted"] == 10
    assert shop.ingest("orders", b"nonsense", {"Content-Encoding": "gzip"}, expect=400)["code"] == "bad_request"


def test_limits_of_the_project_hold(project):
    yaml = SHOP + "server:\n  limits: {body: 1KiB, inflated: 4KiB, event: 512}\n"
    with project({"millstream.yaml": yaml}).server() as server:
        assert server.http("POST", "/v1/streams/notes/events", [{"x": "y" * 2000}]).status == 413
        bomb = gzip.compress(ndjson([{"x": "y" * 100_000}]))
        assert server.ingest("notes", bomb, {"Content-Encoding": "gzip"}, expect=413)["code"] == "too_large"
        answer = server.ingest("notes", [{"x": "y" * 600}, {"x": "y"}])
        assert answer["accepted"] == 1 and answer["faults"][0]["code"] == "size"


def test_a_stream_is_never_made_by_a_post(shop):
    answer = shop.http("POST", "/v1/streams/ordes/events", {"a": 1})
    assert answer.status == 404 and "did you mean 'orders'" in answer.json()["detail"]


# ---- events out


def test_events_come_back_as_they_were(shop):
    shop.ingest("notes", b'{"b" : 1.50,  "a":"\\u00e4"}\n')
    raw = shop.http("GET", "/v1/streams/notes/events")
    assert raw.headers["Content-Type"] == "application/x-ndjson"
    assert b'{"b" : 1.50,  "a":"\\u00e4"}' in raw.body
    assert raw.lines()[0]["source"] == "/v1/streams/notes" and raw.lines()[0]["id"] == "notes/0:0"


def test_events_between_places(shop):
    shop.ingest("notes", [{"n": n} for n in range(5)])
    time.sleep(0.01)
    middle = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{int(time.time() % 1 * 1e6):06d}Z"
    time.sleep(0.01)
    shop.ingest("notes", [{"n": n} for n in range(5, 10)])
    def numbers(query):
        answer = shop.http("GET", f"/v1/streams/notes/events?{query}")
        assert answer.status == 200, answer.body
        return [event["data"]["n"] for event in answer.lines()]
    assert numbers("") == list(range(10))
    assert numbers("from=notes/0:3&to=notes/0:6") == [3, 4, 5]
    assert numbers("limit=2") == [0, 1]
    assert numbers("from=latest") == []
    assert numbers(f"from={middle}") == [5, 6, 7, 8, 9]
    assert numbers(f"to={middle}") == [0, 1, 2, 3, 4]
    assert numbers("from=1h") == list(range(10))
    assert shop.http("GET", "/v1/streams/notes/events?from=orders/0:1").status == 400
    assert shop.http("GET", "/v1/streams/notes/events?from=yesterday").status == 400
    assert shop.http("GET", "/v1/streams/notes/events?limit=x").status == 400
    assert shop.http("GET", "/v1/streams/note/events").status == 404


def test_a_follower_sees_what_comes(shop):
    feed = Feed(shop, "/v1/streams/notes/events?from=latest&follow=true")
    shop.ingest("notes", [{"n": 1}])
    assert json.loads(feed.line())["data"] == {"n": 1}
    shop.ingest("notes", [{"n": 2}])
    assert json.loads(feed.line())["data"] == {"n": 2}
    feed.close()


def test_server_sent_events_resume_where_they_broke_off(shop):
    seen, last = [], None
    shop.ingest("orders", ORDERS)
    for _ in range(4):
        feed = Feed(shop, "/v1/streams/orders/events?from=earliest", {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})})
        assert feed.answer.getheader("Content-Type") == "text/event-stream"
        for _ in range(3):
            if len(seen) < 10:
                event = feed.event()
                seen.append(json.loads(event["data"])["data"]["id"])
                last = event["id"]
        feed.close()
    assert sorted(seen) == sorted(order["id"] for order in ORDERS)
    assert set(first_offsets(last)) == {0, 1}


# ---- queries


def test_queries_over_tables_streams_and_system_tables(shop):
    position = shop.ingest("orders", ORDERS)["position"]
    rows = shop.query("SELECT id, gross FROM revenue ORDER BY gross DESC LIMIT 2", wait=position)
    assert rows == [{"id": "o8", "gross": 17.0}, {"id": "o6", "gross": 13.0}]
    assert shop.query("SELECT count(*) AS n FROM _streams.orders WHERE type = 'paid'") == [{"n": 5}]
    assert {row["name"] for row in shop.query("SELECT name, state FROM _pipelines")} == {"revenue", "all_orders"}
    assert [row["name"] for row in shop.query("SELECT name FROM _filters WHERE pipeline = 'revenue' ORDER BY number")] == ["paid", "gross"]
    assert shop.query("SELECT sum(end_offset) AS n FROM _segments WHERE stream = 'orders'")[0]["n"] in (10, "10")
    joined = shop.query("SELECT count(*) AS n FROM _streams.orders a JOIN _streams.orders b USING (id) JOIN revenue r USING (id)")
    assert joined == [{"n": 5}]


def test_stream_bounds(shop):
    shop.ingest("notes", [{"n": n} for n in range(100)])
    shop.ingest("notes", [{"n": n} for n in range(100, 200)])
    count = "SELECT count(*) AS n FROM _streams.notes WHERE "
    assert shop.query(count + "_offset >= 50 AND _offset < 150") == [{"n": 100}]
    assert shop.query(count + "_offset = $o", params={"o": 7}) == [{"n": 1}]
    assert shop.query(count + "_partition = 1") == [{"n": 0}]
    assert shop.query(count + "_ingested_at > now() - INTERVAL 1 HOUR") == [{"n": 200}]
    assert shop.query(count + "_ingested_at < '2020-01-01'") == [{"n": 0}]
    assert shop.query(count + "_offset < 10 OR _offset > 190") == [{"n": 19}]


def test_the_answer_of_a_query(shop):
    position = shop.ingest("orders", ORDERS)["position"]
    body = {"sql": "SELECT id, gross FROM revenue WHERE id = $id", "params": {"id": "o2"}, "wait": position, "timeout": "5s"}
    answer = shop.http("POST", "/v1/query", body)
    assert b'"rows":[{"id":"o2","gross":5.00}]' in answer.body  # all digits
    document = answer.json()
    assert document["columns"] == [{"name": "id", "type": "VARCHAR"}, {"name": "gross", "type": "DECIMAL(18,2)"}] or document["columns"][0]["name"] == "id"
    assert first_offsets(document["position"]["revenue"]).items() >= first_offsets(position).items()
    lines = shop.http("POST", "/v1/query", {"sql": "SELECT i FROM range(3) t(i)"}, {"Accept": "application/x-ndjson"})
    assert lines.lines() == [{"i": 0}, {"i": 1}, {"i": 2}]
    csv = shop.http("POST", "/v1/query", {"sql": "SELECT 1 AS a, 'x,\"y' AS \"b,c\", NULL AS d, '' AS e"}, {"Accept": "text/csv"})
    assert csv.body == b'a,"b,c",d,e\r\n1,"x,""y",,""\r\n'
    assert csv.headers["Content-Type"].startswith("text/csv")
    assert shop.http("POST", "/v1/query", {"sql": "SELECT 1"}, {"Accept": "image/png"}).status == 406
    empty = shop.http("POST", "/v1/query", {"sql": "SELECT id FROM revenue WHERE false"}).json()
    assert empty["rows"] == [] and empty["columns"][0]["name"] == "id"


def test_large_results_stream(shop):
    connection = shop.connection()
    body = json.dumps({"sql": "SELECT i, 'some text that takes room ' || i AS t FROM range(300000) r(i)"})
    connection.request("POST", "/v1/query", body, {"Content-Type": "application/json", "Accept": "application/x-ndjson"})
    answer = connection.getresponse()
    assert answer.getheader("Transfer-Encoding") == "chunked"
    lines = answer.read().splitlines()
    assert len(lines) == 300000 and json.loads(lines[-1])["i"] == 299999
    connection.request("GET", "/health/live")
    assert connection.getresponse().read() == b'{"live":true}'


@pytest.mark.parametrize("sql,status,part", [
    ("SELECT nope FROM revenue", 422, "nope"),
    ("SELECT * FROM revenu", 422, "did you mean 'revenue'"),
    ("SELECT * FROM orders", 422, "_streams.orders"),
    ("SELECT * FROM _streams.ordrs", 422, "did you mean 'orders'"),
    ("SELEC 1", 422, "syntax"),
    ("SELECT 1; SELECT 2", 422, ""),
    ("DROP TABLE revenue", 422, ""),
    ("INSERT INTO revenue VALUES (1)", 422, ""),
    ("SELECT * FROM read_csv('/etc/passwd')", 422, ""),
    ("SELECT * FROM '/etc/passwd'", 422, ""),
    ("COPY revenue TO '/tmp/x'", 422, ""),
    ("ATTACH 'x.db'", 422, ""),
    ("SELECT * FROM duckdb_settings()", 422, ""),
    ("SELECT * FROM information_schema.tables", 422, ""),
    ("SELECT * FROM _millstream.offsets", 422, ""),
    ("SELECT CAST('x' AS INTEGER)", 422, "x"),
    ("SELECT getenv('HOME')", 422, ""),
])
def test_queries_that_are_refused(shop, sql, status, part):
    answer = shop.http("POST", "/v1/query", {"sql": sql})
    assert answer.status == status, answer.body
    assert part.lower() in answer.body.decode().lower(), answer.body
    assert shop.query("SELECT 1 AS one") == [{"one": 1}]


def test_faults_of_sql_have_their_place(shop):
    fault = shop.http("POST", "/v1/query", {"sql": "SELECT id,\n  nope\nFROM revenue"}).json()["faults"][0]
    assert fault["line"] == 2 and fault["column"] == 3 and "nope" in fault["message"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"sql":1}', b'{"sql":""}', b'{"sql":"SELECT 1","extra":1}', b'{"sql":"SELECT 1","timeout":"soon"}',
                                  b'{"sql":"SELECT 1","wait":"x"}', b'{"sql":"SELECT 1","params":[1]}'])
def test_bodies_of_queries_that_are_refused(shop, body):
    assert shop.http("POST", "/v1/query", body, {"Content-Type": "application/json"}).status == 400


def test_parameters(shop):
    assert shop.query("SELECT $a AS a, $b AS b, $c AS c, $d AS d", params={"a": 1, "b": "x'y", "c": None, "d": True}) == [{"a": 1, "b": "x'y", "c": None, "d": True}]
    assert shop.http("POST", "/v1/query", {"sql": "SELECT 1", "params": {"a": 1}}).status == 422
    assert shop.http("POST", "/v1/query", {"sql": "SELECT $a"}).status == 422


def test_deadlines_and_clients_that_leave(shop):
    slow = "SELECT sum(a.i * b.i) AS s FROM range(1000000) a(i), range(1000000) b(i)"
    started = time.monotonic()
    assert shop.http("POST", "/v1/query", {"sql": slow, "timeout": "300ms"}).status == 504
    assert time.monotonic() - started < 5
    for _ in range(12):  # more than run at once: each must give its place back
        connection = shop.connection()
        connection.request("POST", "/v1/query", json.dumps({"sql": slow}), {"Content-Type": "application/json"})
        time.sleep(0.1)
        connection.close()
    assert eventually(lambda: shop.http("POST", "/v1/query", {"sql": "SELECT 1"}).status == 200, 10)


def test_queries_are_bounded(project):
    with project({"millstream.yaml": SHOP + "server:\n  query: {concurrent: 2, deadline: 2s}\n"}).server() as server:
        slow = "SELECT sum(a.i * b.i) AS s FROM range(1000000) a(i), range(1000000) b(i)"
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(server.http("POST", "/v1/query", {"sql": slow}).status)) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.7)
        busy = server.http("POST", "/v1/query", {"sql": "SELECT 1"})
        assert busy.status == 429 and busy.headers["Retry-After"]
        for thread in threads:
            thread.join()
        assert answers == [504, 504]  # the server's deadline
        assert server.query("SELECT 1 AS one") == [{"one": 1}]


def test_memory_runs_out_with_a_clear_error(project):
    with project({"millstream.yaml": SHOP + "server: {memory: 100MiB}\n"}).server() as server:
        answer = server.http("POST", "/v1/query", {"sql": "SELECT list(i) AS l FROM range(100000000) r(i)", "timeout": "60s"}, timeout=120)
        assert answer.status == 429 and "memory" in answer.json()["detail"].lower(), answer.body
        assert server.query("SELECT 1 AS one") == [{"one": 1}]


def test_waits(shop):
    position = shop.ingest("orders", ORDERS)["position"]
    assert shop.http("GET", f"/v1/wait?position={position}&timeout=10s").json() == {"position": position}
    assert shop.http("GET", f"/v1/wait?position={position}&table=revenue").status == 200
    late = shop.http("GET", "/v1/wait?position=orders/0:1000000&timeout=100ms")
    assert late.status == 504 and late.json()["position"].startswith("orders/0:")
    late = shop.http("POST", "/v1/query", {"sql": "SELECT * FROM revenue", "wait": "orders/0:1000000", "timeout": "100ms"})
    assert late.status == 504 and late.json()["position"].startswith("orders/0:")
    assert shop.http("GET", "/v1/wait?position=nope").status == 400
    assert shop.http("GET", "/v1/wait?position=nope/0:1").status == 404
    assert shop.http("GET", f"/v1/wait?position={position}&table=revenu").status == 404


# ---- tables


def test_tables_by_parameters(shop):
    position = shop.ingest("orders", ORDERS)["position"]
    def rows(query="", **headers):
        answer = shop.http("GET", f"/v1/tables/revenue?wait={position}&{query}", headers=headers)
        assert answer.status == 200, answer.body
        return answer.json()
    def ids(query):
        return [row["id"] for row in rows(query)]
    assert sorted(ids("")) == ["o0", "o2", "o4", "o6", "o8"]
    assert rows("select=id,gross&gross=gt.5&order=gross.desc,id&limit=2") == [{"id": "o8", "gross": 17.0}, {"id": "o6", "gross": 13.0}]
    assert ids("order=id&limit=2&offset=1") == ["o2", "o4"]
    assert ids("order=id&gross=gte.5&gross=lte.9") == ["o2", "o4"]
    assert ids("order=id&id=in.(o2,\"o4\",nope)") == ["o2", "o4"]
    assert ids("order=id&id=not.in.(o2,o4)") == ["o0", "o6", "o8"]
    assert ids("order=id&id=like.*4") == ["o4"] and ids("order=id&id=ilike.O4") == ["o4"]
    assert ids("order=id&customer=neq.c0") == ["o2", "o4", "o6", "o8"]
    assert ids("order=id&customer=is.null") == [] and len(ids("customer=not.is.null")) == 5
    assert ids("order=id&or=(id.eq.o0,and(gross.gt.8,gross.lt.10),id.eq.\"o8\")") == ["o0", "o4", "o8"]
    assert ids("order=id&not.or=(id.eq.o0,id.eq.o2)") == ["o4", "o6", "o8"]
    assert rows("select=who:customer&id=eq.o2") == [{"who": "c2"}]
    assert ids("id=eq.o2") == ["o2"] and ids("id=eq.nope") == []  # the key: looked up


def test_tables_refuse_what_they_do_not_know(shop):
    for query, part in (("colour=eq.1", "colour"), ("gros=eq.1", "gross"), ("gross=1", "op.value"), ("gross=foo.1", "op.value"), ("order=id.up", "up"),
                        ("limit=x", "limit"), ("select=nope", "nope"), ("or=id.eq.1", "or"), ("or=(nope.eq.1)", "nope"), ("customer=is.maybe", "maybe")):
        answer = shop.http("GET", f"/v1/tables/revenue?{query}")
        assert answer.status == 400 and part in answer.json()["detail"], (query, answer.body)
    position = shop.ingest("orders", ORDERS)["position"]
    assert shop.http("GET", f"/v1/tables/revenue?gross=gt.abc&wait={position}").status == 422
    assert shop.http("GET", "/v1/tables/revenue?id=eq.x%27%20OR%201=1--").json() == []
    missing = shop.http("GET", "/v1/tables/revenu")
    assert missing.status == 404 and "did you mean 'revenue'" in missing.json()["detail"]


def test_counts_and_formats_of_tables(shop):
    position = shop.ingest("orders", ORDERS)["position"]
    answer = shop.http("GET", f"/v1/tables/revenue?wait={position}&order=id&limit=2&offset=1", headers={"Prefer": "count=exact"})
    assert answer.headers["Content-Range"] == "1-2/5"
    assert shop.http("GET", "/v1/tables/revenue?id=eq.nope", headers={"Prefer": "count=exact"}).headers["Content-Range"] == "*/0"
    csv = shop.http("GET", "/v1/tables/revenue?select=id,gross&order=id&limit=1", headers={"Accept": "text/csv"})
    assert csv.body == b"id,gross\r\no0,1.00\r\n"
    assert shop.http("GET", "/v1/tables/revenue?select=id&order=id&limit=1", headers={"Accept": "application/x-ndjson"}).lines() == [{"id": "o0"}]


def test_what_tables_there_are(shop):
    position = shop.ingest("orders", ORDERS)["position"]
    shop.http("GET", f"/v1/wait?position={position}")
    tables = {table["name"]: table for table in shop.http("GET", "/v1/tables").json()}
    assert tables["revenue"]["key"] == ["id"] and tables["revenue"]["writers"] == ["revenue"]
    assert tables["all_orders"]["rows"] == 10
    assert first_offsets(tables["all_orders"]["position"]) == first_offsets(position)
    schema = shop.http("GET", "/v1/tables/revenue/schema").json()
    assert [column["name"] for column in schema["columns"]][:3] == ["id", "customer", "gross"]
    assert shop.http("DELETE", "/v1/tables/revenue").status == 409
    assert shop.http("DELETE", "/v1/tables/nope").status == 404


# ---- operation


def test_definitions_and_status(shop):
    shop.ingest("orders", ORDERS)
    stream = shop.http("GET", "/v1/streams/orders").json()
    assert stream["definition"]["partitions"] in (2, "2") and stream["status"]["events"] == 10
    assert {each["name"] for each in shop.http("GET", "/v1/pipelines").json()} == {"revenue", "all_orders"}
    assert shop.http("GET", "/v1/pipelines/revenue").json()["status"]["stream"] == "orders"
    assert shop.http("GET", "/v1/pipelines/revenue/filters/gross").json()["kind"] == "sql"
    assert shop.http("GET", "/v1/pipelines/revenue/filters/gros").status == 404
    assert shop.http("GET", "/v1/sources").json() == []
    missing = shop.http("GET", "/v1/streams/order")
    assert missing.status == 404 and "did you mean 'orders'" in missing.json()["detail"]
    assert shop.http("GET", "/v1/status").json()["url"] == shop.url


def test_pause_and_resume(shop):
    assert shop.http("POST", "/v1/pipelines/revenue/pause").json() == {"state": "paused"}
    position = shop.ingest("orders", ORDERS)["position"]
    assert shop.http("GET", f"/v1/wait?position={position}&table=all_orders&timeout=10s").status == 200
    assert shop.http("GET", f"/v1/wait?position={position}&table=revenue&timeout=300ms").status == 504
    assert eventually(lambda: shop.http("GET", "/v1/pipelines/revenue").json()["status"]["state"] == "paused")
    assert shop.http("POST", "/v1/pipelines/revenue/resume").status == 200
    assert shop.http("GET", f"/v1/wait?position={position}&table=revenue&timeout=10s").status == 200
    assert shop.http("POST", "/v1/pipelines/nope/pause").status == 404


def test_health_and_metrics(shop):
    position = shop.ingest("orders", ORDERS)["position"]
    shop.http("GET", f"/v1/wait?position={position}")
    assert shop.http("GET", "/health/live").status == 200
    assert shop.http("GET", "/health/ready").json() == {"ready": True, "reasons": []}
    metrics = shop.metrics()
    assert metrics['millstream_stream_events_total{stream="orders"}'] == 10
    assert metrics['millstream_filter_in_total{pipeline="revenue",filter="paid"}'] == 10
    assert metrics['millstream_filter_out_total{pipeline="revenue",filter="paid"}'] == 5
    assert metrics['millstream_pipeline_lag_events{pipeline="revenue"}'] == 0
    assert metrics['millstream_sink_rows_total{pipeline="revenue",sink="table:revenue"}'] == 5


def test_a_tap_shows_a_sample(shop):
    feed = Feed(shop, "/v1/tap?at=revenue.gross&limit=3")
    assert feed.answer.getheader("Content-Type") == "text/event-stream"
    time.sleep(0.3)
    shop.ingest("orders", ORDERS)
    rows = []
    while len(rows) < 3:
        event = feed.event()
        if event["event"] == "row":
            rows.append(json.loads(event["data"]))
    assert all(set(row) == {"id", "customer", "gross"} for row in rows)
    feed.close()
    for place in ("stream:notes", "revenue", "revenue.paid", "revenue.table:revenue"):
        feed = Feed(shop, f"/v1/tap?at={place}")
        assert feed.answer.status == 200, place
        feed.close()
    for place in ("nope", "revenue.nope", "stream:nope"):
        assert shop.http("GET", f"/v1/tap?at={place}").status == 404
    assert shop.http("GET", "/v1/tap").status == 400
    assert shop.http("GET", "/v1/tap?at=revenue&where=nope%20%3D%201").status == 400


def test_a_tap_says_what_it_left_out(shop):
    feed = Feed(shop, "/v1/tap?at=stream:notes&rate=10/s")
    time.sleep(0.3)
    shop.ingest("notes", [{"n": n} for n in range(5000)])
    shown = 0
    while True:
        event = feed.event()
        if event["event"] == "left_out":
            left_out = json.loads(event["data"])
            break
        shown += 1
    assert shown < 50 and shown + left_out["events"] + left_out["rows"] == 5000
    feed.close()


def test_tokens(project):
    yaml = SHOP + """server:
  tokens:
    - {name: reader, role: read, token: "${env:READER}"}
    - {name: writer, role: write, token: "${env:WRITER}"}
    - {name: boss, role: admin, token: "${env:BOSS}"}
"""
    secrets = {"READER": "r-1", "WRITER": "w-1", "BOSS": "b-1"}
    with project({"millstream.yaml": yaml}).server(extra_environment=secrets) as server:
        def status(method, path, token, body=None):
            return server.http(method, path, body, {"Authorization": f"Bearer {token}"} if token else {}).status
        assert status("GET", "/health/live", None) == 200
        assert status("GET", "/v1/status", None) == 401 and status("GET", "/v1/status", "x") == 401
        assert status("GET", "/v1/status", "r-1") == 200
        assert status("POST", "/v1/streams/notes/events", "r-1", {"a": 1}) == 403
        assert status("POST", "/v1/streams/notes/events", "w-1", {"a": 1}) == 200
        assert status("POST", "/v1/pipelines/revenue/pause", "w-1") == 403
        assert status("POST", "/v1/pipelines/revenue/pause", "b-1") == 200


def test_openapi_tells_the_routes(shop):
    document = shop.http("GET", "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    ids = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"] and operation["responses"]
            assert operation["operationId"] not in ids
            ids.add(operation["operationId"])
            named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            answer = shop.http(method.upper(), re.sub(r"{\w+}", "nope", path).replace("/v1/tap", "/v1/tap?at=nope"))
            assert answer.status != 405 and "no route" not in answer.body.decode(errors="replace"), (method, path)
    for expected in ("/v1/query", "/v1/streams/{stream}/events", "/v1/tables/{table}", "/health/ready", "/metrics", "/v1/wait"):
        assert expected in document["paths"]
    with contextlib.suppress(ImportError):
        from openapi_spec_validator import validate  # where it can be had
        validate(document)


def test_stop_ends_feeds_and_answers(shop):
    feed = Feed(shop, "/v1/streams/notes/events?follow=true")
    tap = Feed(shop, "/v1/tap?at=stream:notes")
    started = time.monotonic()
    assert shop.stop() == 0
    assert time.monotonic() - started < 10
    assert feed.answer.read() == b""  # whole: with its last chunk
    feed.close()
    tap.close()


def test_many_requests_on_one_connection(shop):
    connection = shop.connection()
    for i in range(200):
        connection.request("POST", "/v1/streams/notes/events", json.dumps({"n": i}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200 and answer.read()
        assert answer.getheader("Millstream-Data")
    assert shop.query("SELECT count(*) AS n FROM _streams.notes") == [{"n": 200}]


def test_garbage_harms_nobody(shop):
    for garbage in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\r\n" * 100, b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5"):
        with socket.create_connection(("127.0.0.1", shop.port), timeout=5) as connection:
            connection.sendall(garbage)
    assert shop.http("GET", "/health/live").status == 200
