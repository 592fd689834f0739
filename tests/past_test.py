"""Questions about the past: query --as-of against what was read at that time and against sums made here."""

import json
import threading
import time
from datetime import datetime, timezone

from harness import eventually

PROJECT = """
streams:
  orders: {partitions: 2, key: id, contract: {id: varchar not null, n: bigint, city: varchar}}
  rates: {contract: {city: varchar not null, rate: bigint}}
  big: {contract: {id: varchar, n: bigint}}
pipelines:
  keep:
    from: orders
    filters:
      - small: SELECT id, n, city FROM input WHERE n < 100
    to:
      - table: {name: newest, key: id}
      - table: {name: by_city, key: city, values: {count: count(*), total: sum(n), last: last(n)}}
      - table: every
  rates:
    from: rates
    to:
      - table: {name: rates, key: city}
  rated:
    from: orders
    filters:
      - priced: SELECT o.id, o.n * r.rate AS cost FROM input o JOIN rates r ON o.city = r.city
      - chance: SELECT id, cost, random() AS dice FROM input
    to:
      - table: costs
  onward:
    from: orders
    filters:
      - big: SELECT id, n FROM input WHERE n >= 50
    to:
      - stream: big
  bigs:
    from: big
    to:
      - table: bigs
"""
QUESTIONS = {
    "newest": "SELECT id, n, city FROM newest ORDER BY id",
    "by_city": "SELECT city, count, total, last FROM by_city ORDER BY city",
    "every": "SELECT id, n FROM every ORDER BY _partition, _offset",
    "bigs": "SELECT id, n FROM bigs ORDER BY _offset",
    "stream": "SELECT id, n, _offset FROM _streams.orders ORDER BY _partition, _offset",
}


def events(first, last):
    return [{"id": f"o{n % 7}", "n": n, "city": "ab"[n % 2]} for n in range(first, last)]


def send(server, sent):
    return server.ingest("orders", sent)["position"]


def ask_all(server, position=None, **past):
    return {name: server.query(sql, **({"wait": position} if position else {}), **past) for name, sql in QUESTIONS.items()}


def now():
    time.sleep(0.02)
    text = datetime.now(timezone.utc).isoformat()
    time.sleep(0.02)
    return text


def raw(server, sql, **body):
    return server.http("POST", "/v1/query", {"sql": sql, **body})


def test_the_past_is_as_it_was_read_then(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        began = now()
        seen = {}
        for step in range(4):
            position = send(server, events(step * 30, step * 30 + 30))
            seen[position] = answers = ask_all(server, position)
            seen[now()] = answers
            if step == 1:  # from here on another filter, and a table that has one more column
                server.http("PUT", "/v1/pipelines/keep/filters/small",
                            b"SELECT id, n, city, n * 2 AS twice FROM input WHERE n % 3 = 0", {"Content-Type": "application/sql"})
        assert len(seen) == 8 and len({json.dumps(answers) for answers in seen.values()}) == 4
        for when, answers in seen.items():
            past = ask_all(server, as_of=when)
            if "/" in when:  # what the stream sink made of these events was appended after them
                assert len(past.pop("bigs")) <= len(answers["bigs"])
            assert past == {name: rows for name, rows in answers.items() if name in past}, when
        # Before there was an event, and before there was anything.
        assert ask_all(server, as_of=began) == {name: [] for name in QUESTIONS}
        assert "nothing had been applied" in raw(server, QUESTIONS["every"], as_of="2020-01-01T00:00:00Z").json()["detail"]
        # By today's filter, over what had come by then: against sums made here.
        middle = list(seen)[3]
        assert sorted(row["n"] for row in server.query(QUESTIONS["every"], as_of=middle, as_now=True)) == [n for n in range(60) if n % 3 == 0]
        # Nothing of it is left, and nothing has changed.
        assert ask_all(server) == list(seen.values())[-1]
        server.kill()
        server.start()
        assert ask_all(server, as_of=middle) == seen[middle], "versions survive a kill"
    without = shop.verb("query", QUESTIONS["by_city"], "--as-of", middle, "--format", "ndjson")
    assert without.lines() == seen[middle]["by_city"]
    assert "keep by version 1" in without.stderr and "as of 20" in without.stderr, without.stderr


BARE = """
streams:
  orders: {partitions: 2, contract: {id: varchar not null, n: bigint}}
pipelines:
  keep:
    from: orders
    filters:
      - small: %s
    to:
%s
"""
PLAIN, WIDER = "SELECT id, n FROM input", "SELECT id, n, n * 2 AS w, random() AS dice FROM input"


def test_a_version_counts_before_it_owns_an_event(project):
    """What a version added is there as of now, though all events were run by those before it."""
    shop = project({"millstream.yaml": BARE % (PLAIN, "      - table: rows")})
    with shop.server() as server:
        position = server.ingest("orders", [{"id": "o-1", "n": 1}])["position"]
        assert len(server.query("SELECT * FROM rows", wait=position)) == 1
        before = now()

        def change(filter_sql, *tables):
            shop.write({"millstream.yaml": BARE % (filter_sql, "\n".join(f"      - table: {table}" for table in tables))})
            shop.verb("apply")

        change(PLAIN, "rows", "more")
        eventually(lambda: len(server.query("SELECT * FROM more")) == 1)
        answer = raw(server, "SELECT id, n FROM more", as_of="0s").json()
        assert answer["rows"] == [{"id": "o-1", "n": 1}] and answer["as_of"]["versions"] == {"keep": [1]}
        for when in (before, position):
            refused = raw(server, "SELECT * FROM more", as_of=when)
            assert refused.status == 404 and "no pipeline wrote table 'more'" in refused.json()["detail"]
        change(PLAIN, "rows", "other")  # a sink that goes elsewhere from now on
        eventually(lambda: len(server.query("SELECT * FROM other")) == 1)
        assert [len(server.query(f"SELECT * FROM {table}", as_of="0s")) for table in ("rows", "more", "other")] == [1, 1, 1]
        middle = now()
        change(WIDER, "rows", "other")
        assert server.query("SELECT id, w FROM rows") == server.query("SELECT id, w FROM rows", as_of="0s") == [{"id": "o-1", "w": None}]
        answer = raw(server, "SELECT id FROM rows", as_of="0s").json()
        assert answer["as_of"]["versions"] == {"keep": [1]} and answer["as_of"]["not_reproducible"] == []
        assert raw(server, "SELECT w FROM rows", as_of=middle).status == 422, "it was not there yet"
        position = server.ingest("orders", [{"id": "o-2", "n": 2}])["position"]
        assert [row["w"] for row in server.query("SELECT w FROM rows ORDER BY n", as_of="0s")] == [None, 4]
        assert raw(server, "SELECT id FROM rows", as_of=position).json()["as_of"]["not_reproducible"] == ["keep.small: random()"]


def test_a_table_made_anew_by_filters_that_were_live_already(project):
    """The rebuild changes no definition, so no version begins with it: the one that was live made all rows."""
    shop = project({"millstream.yaml": BARE % ("SELECT id, 1 AS v FROM input", "      - table: rows")})
    count = "SELECT v, count(*) AS n FROM rows GROUP BY v ORDER BY v"
    with shop.server() as server:
        position = server.ingest("orders", [{"id": f"o{n}", "n": n} for n in range(10)])["position"]
        server.query(count, wait=position)
        shop.verb("filter", "set", "keep", "small", "SELECT id, 2 AS v FROM input")
        position = server.ingest("orders", [{"id": f"o{n}", "n": n} for n in range(10, 20)])["position"]
        both = server.query(count, wait=position)
        before = now()
        shop.verb("replay", "start", "keep", "--cutover")
        anew, after = server.query(count), now()
        shop.verb("filter", "set", "keep", "small", "SELECT id, 3 AS v FROM input")
        server.query(count, wait=server.ingest("orders", [{"id": "o20", "n": 20}])["position"])
        assert anew == server.query(count, as_of=after) == [{"v": 2, "n": 20}]
        assert both == server.query(count, as_of=before) == [{"v": 1, "n": 10}, {"v": 2, "n": 10}]
        assert server.query(count) == server.query(count, as_of="0s") == [{"v": 2, "n": 20}, {"v": 3, "n": 1}]


def test_what_an_answer_stands_on(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        server.ingest("rates", [{"city": "a", "rate": 10}, {"city": "b", "rate": 100}])
        time.sleep(0.2)
        position = send(server, events(0, 10))
        costs = "SELECT id, cost FROM costs ORDER BY _partition, _offset"
        before = server.query(costs, wait=position)
        assert len(before) == 10
        server.ingest("rates", [{"city": "a", "rate": 7}])
        answer = raw(server, costs, as_of=position)
        assert answer.json()["rows"] == before, "joined with what the other table held then"
        ground = answer.json()["as_of"]
        assert json.loads(answer.headers["Millstream-As-Of"]) == ground
        assert ground["run"] == "as_run" and ground["versions"] == {"rated": [1], "rates": [1]}
        assert ground["positions"] == {"orders": position, "rates": "rates/0:1"} and ground["events"] == 12
        assert ground["not_reproducible"] == ["rated.chance: random()", "rated.priced: joins table rates, made as of the same events"]
        csv = server.http("POST", "/v1/query", {"sql": costs, "as_of": position}, {"Accept": "text/csv"})
        assert json.loads(csv.headers["Millstream-As-Of"])["versions"] == {"rated": [1], "rates": [1]}
        for sql, past, status, part in [
            ("SELECT 1 FROM nothing", {"as_of": position}, 404, "no pipeline wrote table 'nothing'"),
            ("SELECT 1 FROM _pipelines", {"as_of": position}, 422, "tells of now"),
            ("SELECT 1 FROM every", {"as_of": "orders/0:9999"}, 422, "ends before offset"),
            ("SELECT 1 FROM every", {"as_of": "orders/7:0"}, 422, "has 2 partitions"),
            ("SELECT 1 FROM every", {"as_of": "ordres/0:1"}, 404, "did you mean 'orders'"),
            ("SELECT 1 FROM every", {"as_of": "yesterday"}, 422, "neither a time"),
            ("SELECT 1 FROM every", {"as_of": "2100-01-01T00:00:00Z"}, 422, "future"),
            ("SELECT 1 FROM every", {"as_now": True}, 422, "needs as_of"),
            ("SELECT nothing FROM every", {"as_of": position}, 422, "nothing"),
            ("SELECT 1 FROM every", {"as_of": position, "as_now": "yes"}, 400, "true or false"),
        ]:
            refused = raw(server, sql, **past)
            assert refused.status == status and part in refused.json()["detail"], refused.body


def test_a_question_about_the_past_ends_in_time_and_leaves_nothing(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        for begin in range(0, 200_000, 10_000):
            position = send(server, events(begin, begin + 10_000))
        assert raw(server, "SELECT count(*) FROM by_city", as_of=position, timeout="1ms").status == 504
        late = [server.http("GET", "/v1/trace/by_city/a?timeout=1ms"),
                server.http("POST", "/v1/preview", {"pipeline": "keep", "last": 200_000, "timeout": "1ms", "set": {"small": "SELECT id, n, city FROM input"}})]
        for answer in late:
            assert (answer.status, answer.json()["code"]) == (504, "deadline") and "deadline of 1 ms" in answer.json()["detail"], answer.body
        assert server.http("GET", "/v1/trace/by_city/a?timeout=soon").status == 400
        # What slow filters do is interrupted, and whoever asks sees how far it is.
        slow = {"small": "SELECT id, (SELECT sum(a.range * b.range) FROM range(300000) a, range(300000) b) AS n, city FROM input WHERE n < 50"}
        began = time.monotonic()
        asking = threading.Thread(target=lambda: late.append(server.http("POST", "/v1/preview", {"pipeline": "keep", "last": 200_000, "timeout": "2s", "set": slow})))
        asking.start()
        asking.join()
        assert late[-1].status == 504 and time.monotonic() - began < 10
        asking = threading.Thread(target=lambda: late.append(raw(server, "SELECT count(*) FROM newest", as_of=position)))
        asking.start()
        seen = []
        while asking.is_alive():
            seen += server.http("GET", "/v1/past").json()
        assert late[-1].status == 200 and all(each["done"] <= each["total"] in (0, 200_000) for each in seen), seen
        assert any(each["total"] for each in seen), seen
        assert server.http("GET", "/v1/past").json() == [], "it is only kept for the next question"
        assert server.query("SELECT sum(count) AS n FROM by_city", as_of=position)[0]["n"] == 100
        server.query("SELECT count(*) FROM every", as_of="orders/0:1")
        left = list((shop.data / "tmp").glob("history-*"))
        assert len(left) <= 2, left
    assert not list((shop.data / "tmp").glob("history-*"))


def trace(server, path):
    answer = server.http("GET", f"/v1/trace/{path}")
    assert answer.status == 200, answer.body
    return answer.json()


def test_where_a_row_comes_from(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        send(server, events(0, 60))
        server.http("PUT", "/v1/pipelines/keep/filters/small", b"SELECT id, n, city FROM input WHERE n < 90", {"Content-Type": "application/sql"})
        position = send(server, events(60, 100))
        for table in ("newest", "by_city", "bigs"):
            server.http("GET", f"/v1/wait?position={position}&table={table}")
        # One pipeline, one event: as the row says.
        newest = server.query("SELECT n, _partition AS p, _offset AS o FROM newest WHERE id = 'o3'")[0]
        answer = trace(server, "newest/o3")
        event = answer["events"][0]
        assert answer["total"] == 1 and answer["row"]["n"] == newest["n"] == 87
        assert event["position"] == f"orders/{newest['p']}:{newest['o']}" and event["event"]["data"]["n"] == 87
        assert event["pipeline"] == "keep" and event["version"] == 2
        assert event["filters"] == [{"name": "small", "kind": "sql", "sql": "SELECT id, n, city FROM input WHERE n < 90"}]
        # An aggregate's row: all events that were summed, the newest first, by their versions.
        answer = trace(server, "by_city/a?events=1000")
        assert answer["total"] == answer["row"]["count"] == len(answer["events"])
        assert sorted(each["event"]["data"]["n"] for each in answer["events"]) == list(range(0, 90, 2))
        assert {each["version"] for each in answer["events"]} == {1, 2}
        assert len(trace(server, "by_city/a?events=2")["events"]) == 2
        # A table over a chain stands on the stream in between, and on what that was made of.
        answer = server.http("POST", "/v1/query", {"sql": "SELECT count(*) AS n FROM bigs", "as_of": "0s"}).json()
        assert sorted(answer["as_of"]["positions"]) == ["big", "orders"] and answer["as_of"]["positions"]["orders"] == position
        # Through a chain, to the event that a client sent.
        place = server.query("SELECT n, _offset AS o FROM bigs ORDER BY _offset LIMIT 1")[0]
        event = trace(server, f"bigs/0:{place['o']}")["events"][0]
        assert event["pipeline"] == "bigs" and event["position"] == f"big/0:{place['o']}"
        cause = event["cause"]
        assert cause["pipeline"] == "onward" and cause["filters"][0]["name"] == "big"
        assert cause["position"].startswith("orders/") and cause["event"]["data"]["n"] == place["n"] and "cause" not in cause
        for path, status, part in [("newst/o3", 404, "did you mean 'newest'"), ("newest/nobody", 404, "no row nobody"),
                                   ("bigs/x", 422, "PARTITION:OFFSET"), ("newest/o3?events=x", 400, "count")]:
            refused = server.http("GET", f"/v1/trace/{path}")
            assert refused.status == status and part in refused.json()["detail"], refused.body
        shown = shop.verb("trace", "bigs", f"0:{place['o']}").stdout.splitlines()
        assert shown[2].startswith("big/0:") and "by pipeline bigs version 1" in shown[2]
        assert "from here by pipeline onward version 1: big" in shown[4]
    assert shop.verb("trace", "by_city", "a", "--json").json()["total"] == 45, "without a server"


def preview(server, **body):
    answer = server.http("POST", "/v1/preview", body)
    assert answer.status == 200, answer.body
    return answer.json()


def test_what_another_filter_would_make(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        position = send(server, events(0, 90))
        before = ask_all(server, position)
        answer = preview(server, pipeline="keep", set={"small": "SELECT id, n, 'x' || city AS city, 1 AS more FROM input WHERE n < 80 OR n > 500"}, rows=5)
        assert answer["events"] == 90 and not answer["same"]
        newest, by_city, every = answer["tables"]
        # newest: the last event of each id below 80 instead of 90: all of them change.
        assert newest["table"] == "newest" and newest["key"] == ["id"]
        assert (newest["added"]["count"], newest["removed"]["count"], newest["changed"]["count"]) == (0, 0, 7)
        assert newest["changed"]["columns"] == {"n": 7, "city": 7} and newest["columns_added"] == ["more"]
        row = newest["changed"]["rows"][0]
        old = [n for n in range(90) if n % 7 == 0][-1]
        new = [n for n in range(80) if n % 7 == 0][-1]
        assert len(newest["changed"]["rows"]) == 5 and row["key"] == {"id": "o0"}
        assert row["columns"]["n"] == {"old": old, "new": new}
        assert by_city["added"]["count"] == 2 and by_city["removed"]["count"] == 2
        first = by_city["added"]["rows"][0]
        assert (first["city"], first["count"], first["total"]) == ("xa", 40, sum(range(0, 80, 2)))
        assert every["removed"]["count"] == 10 and every["changed"]["count"] == 80 and every["added"]["count"] == 0
        assert {row["n"] for row in every["removed"]["rows"]} <= set(range(80, 90)) and len(every["removed"]["rows"]) == 5
        assert answer["cost"]["old_ns"] > 0 and answer["cost"]["new_ns"] > 0
        # New dead letters, a shorter history, the same.
        answer = preview(server, pipeline="keep", set={"small": "SELECT id, CASE WHEN n = 85 THEN error('no') ELSE n END AS n, city FROM input WHERE n < 100"}, last=40)
        assert answer["events"] == 40 and not answer["same"]
        assert answer["dead_letters"]["old"] == 0 and answer["dead_letters"]["new"] == 3, "one for each sink"
        assert [letter["event"] for letter in answer["dead_letters"]["rows"]] and "no" in answer["dead_letters"]["rows"][0]["reason"]
        answer = preview(server, pipeline="keep", set={"small": "SELECT id, n, city FROM input WHERE NOT n >= 100"}, since=position.split(",")[0])
        assert answer["same"] and 0 < answer["events"] < 90
        joined = preview(server, pipeline="rated", set={"priced": "SELECT o.id, o.n * r.rate AS cost FROM input o LEFT JOIN rates r ON o.city = r.city"})
        assert joined["tables"][0]["added"]["count"] == 90 and "rated.chance: random()" in joined["not_reproducible"]
        for body, status, part in [({"pipeline": "kep", "set": {"small": "SELECT 1"}}, 404, "did you mean 'keep'"),
                                   ({"pipeline": "keep", "set": {"smal": "SELECT 1"}}, 404, "no filter 'smal'"),
                                   ({"pipeline": "keep", "set": {"small": "SELECT nothing FROM input"}}, 422, "nothing"),
                                   ({"pipeline": "keep", "set": {"small": "SELECT count(*) FROM input"}}, 422, ""),
                                   ({"pipeline": "keep"}, 400, "set is missing"), ({"pipeline": "keep", "set": {"a": "b"}, "x": 1}, 400, "'x'")]:
            refused = server.http("POST", "/v1/preview", body)
            assert refused.status == status and part in refused.json()["detail"], refused.body
        # Nothing of it is live.
        assert ask_all(server) == before and server.http("GET", "/v1/dead/orders").json()["total"] == 0
        assert {table["name"] for table in server.http("GET", "/v1/tables").json()} == {"newest", "by_city", "every", "rates", "costs", "bigs"}
        changed = shop.verb("preview", "keep", "--set", "small=SELECT id, n, city FROM input WHERE n < 5", "--expect-same", expect=1).stdout
        assert "every: 0 added, 85 removed, 0 changed" in changed and "dead letters: 0 before, 0 now" in changed
    same = shop.verb("preview", "keep", "--set", "small=SELECT id, n, city FROM input WHERE n < 100", "--expect-same", "--json")
    assert same.json()["same"] is True, "without a server"
