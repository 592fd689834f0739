"""Events out over HTTP: pages, followers, server-sent events, taps."""

import json
import time

from harness import ndjson
from shop import Feed, ORDERS, offsets_of


def test_events_come_back_as_they_were(shop):
    shop.ingest("notes", b'{"b" : 1.50,  "a":"\\u00e4"}\n')
    raw = shop.http("GET", "/v1/streams/notes/events")
    assert raw.headers["Content-Type"] == "application/x-ndjson"
    assert b'{"b" : 1.50,  "a":"\\u00e4"}' in raw.body
    assert raw.lines()[0]["source"] == "/v1/streams/notes" and raw.lines()[0]["id"] == "notes/0:0"


def test_our_own_streams_are_streams(shop):
    shop.ingest("orders", b'{"id":7}\nx\n')
    control = shop.http("GET", "/v1/streams/_control/events?limit=2").lines()
    assert [event["data"]["kind"] for event in control] == ["apply", "activated"] and control[0]["id"] == "_control/0:0"
    letters = shop.http("GET", "/v1/streams/_dead_orders/events").lines()
    assert letters and letters[-1]["data"]["reason"] and shop.http("GET", "/v1/streams/_dead_nothing/events").status == 404
    assert shop.query("SELECT data->>'kind' AS kind FROM _streams._control LIMIT 1") == [{"kind": "apply"}]
    assert shop.query("SELECT count(*) AS n FROM _streams._dead_orders") == [{"n": len(letters)}]
    assert shop.http("POST", "/v1/streams/_control/events", {"kind": "apply"}).status == 404, "they are not written from outside"


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
    assert set(offsets_of(last)) == {0, 1}


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


def test_a_follower_of_several_partitions_sees_events_at_once(shop):
    feed = Feed(shop, "/v1/streams/orders/events?from=latest&follow=true")
    took = []
    for n in range(30):
        started = time.monotonic()
        shop.ingest("orders", [{"id": f"f{n}", "customer": f"c{n}"}])
        assert json.loads(feed.line())["data"]["id"] == f"f{n}"
        took.append(time.monotonic() - started)
    feed.close()
    assert sorted(took)[len(took) // 2] < 0.15, took


def test_followers_leave_places_for_queries(shop):
    feeds = [Feed(shop, "/v1/streams/notes/events?follow=true") for _ in range(100)]
    assert all(feed.answer.status == 200 for feed in feeds)
    assert shop.query("SELECT 1 AS one") == [{"one": 1}]
    for feed in feeds:
        feed.close()


def test_an_end_and_a_limit_end_server_sent_events(shop):
    shop.ingest("notes", [{"n": n} for n in range(10)])
    for query, count in (("to=notes/0:4", 4), ("limit=3", 3), ("from=notes/0:6&follow=false", 4)):
        feed = Feed(shop, f"/v1/streams/notes/events?{query}", {"Accept": "text/event-stream"})
        assert feed.answer.read().count(b"data: ") == count, query
        feed.close()


def test_parameters_that_do_not_exist_are_refused(shop):
    shop.ingest("notes", [{"n": 1}])
    for path, said in (("/v1/streams/notes/events?form=earliest", "has no parameter 'form'; did you mean 'from'?"),
                       ("/v1/dead/notes?sinc=1h", "did you mean 'since'?"), ("/v1/dead/notes?at=ingest", "it has since, code, filter, state, limit"),
                       ("/v1/dead/notes/0?data=true", "GET /v1/dead/notes/0 has no parameter 'data'"), ("/v1/status?x=", "has no parameter 'x'"),
                       ("/v1/history?items=a", "did you mean 'item'?"), ("/v1/wait?positions=a", "did you mean 'position'?")):
        answer = shop.http("GET", path)
        assert answer.status == 400 and answer.json()["code"] == "bad_request" and said in answer.json()["detail"], (path, answer.body)
    assert shop.http("POST", "/v1/streams/notes/events?wait=1", {"n": 2}).status == 400
    assert len(shop.http("GET", "/v1/streams/notes/events?from=earliest&follow=false&limit=5&to=latest").lines()) == 1
    assert shop.http("GET", "/health/ready?probe=1").status == 200  # a prober's own
