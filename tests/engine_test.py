"""The engine through the built binary: duplicates, keys, versions of a contract, pauses, metrics, `run --once`, `contract infer`."""

import json
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import ROOT, eventually, ndjson

DEDUPED = """
streams:
  orders:
    partitions: 2
    envelope: {id: id}
    dedupe: {by: [ce_source, ce_id], window: %s}
    contract: {id: varchar, n: integer}
"""


def test_dedupe_drops_what_came_before_also_over_a_kill(project):
    shop = project({"millstream.yaml": DEDUPED % "1h"})
    with shop.server() as server:
        answer = server.ingest("orders", [{"id": "a"}, {"id": "b"}, {"id": "a", "n": 2}])
        assert (answer["accepted"], answer["duplicates"]) == (2, 1)
        server.kill()
        server.start()
        answer = server.ingest("orders", [{"id": "a"}, {"id": "c"}])
        assert (answer["accepted"], answer["duplicates"]) == (1, 1)
        ids = [row["ce_id"] for row in server.query("SELECT ce_id FROM _streams.orders ORDER BY ce_id")]
        assert ids == ["a", "b", "c"]
        assert server.metrics()['millstream_dedupe_window_seconds{stream="orders"}'] == 3600


def test_dedupe_forgets_after_its_window(project):
    shop = project({"millstream.yaml": DEDUPED % "500ms"})
    with shop.server() as server:
        assert server.ingest("orders", [{"id": "a"}])["accepted"] == 1
        time.sleep(0.7)
        assert server.ingest("orders", [{"id": "a"}])["accepted"] == 1


def test_dedupe_by_a_field(project):
    shop = project({"millstream.yaml": "streams:\n  s:\n    dedupe: {by: [n]}\n    contract: {n: integer}\n"})
    with shop.server() as server:
        answer = server.ingest("s", [{"n": 1}, {"n": "1"}, {"n": 2}, {"other": 1}, {"other": 1}])
        assert (answer["accepted"], answer["duplicates"]) == (4, 1)


def test_an_idempotency_key_answers_the_same_over_a_kill(project):
    shop = project({"millstream.yaml": "streams:\n  orders:\n    partitions: 3\n    contract: {n: integer}\n"})
    events = [*({"n": n} for n in range(20)), {"n": "bad"}]
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": "k1"}
    with shop.server() as server:
        def post(body):
            return server.http("POST", "/v1/streams/orders/events", ndjson(body), headers)

        first = post(events)
        assert first.status == 200
        assert first.json()["accepted"] == 20 and first.json()["quarantined"] == 1
        assert "Idempotent-Replayed" not in first.headers
        for _ in range(2):
            again = post(events)
            assert (again.status, again.body) == (200, first.body)
            assert again.headers["Idempotent-Replayed"] == "true"
            other = post(events[1:])
            assert other.status == 422
            assert "another body" in other.json()["detail"]
            assert post(events).body == first.body, "the refusal was remembered"
            server.kill()
            server.start()
        assert server.query("SELECT count(*)::INT AS n FROM _streams.orders") == [{"n": 20}]
        assert server.metrics()["millstream_idempotency_window_seconds"] == 24 * 3600


def test_the_same_key_at_once_appends_once(project):
    shop = project({"millstream.yaml": "streams:\n  orders: {}\n"})
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": "k"}
    with shop.server() as server, ThreadPoolExecutor(12) as pool:
        body = ndjson({"n": n} for n in range(2000))
        answers = list(pool.map(lambda _: server.http("POST", "/v1/streams/orders/events", body, headers), range(12)))
        assert {answer.status for answer in answers} <= {200, 409}
        assert len({answer.body for answer in answers if answer.status == 200}) == 1
        assert server.query("SELECT count(*)::INT AS n FROM _streams.orders") == [{"n": 2000}]


VERSIONED = """
streams:
  s:
    contract: {%s}
pipelines:
  p:
    from: s
    filters:
      - pick: SELECT %s FROM input
    to:
      - table: %s
"""


def test_older_events_under_a_newer_contract(project):
    """Added: default or NULL, also under `not null`; another type: converted, or a dead letter; tightened: for new events only."""
    shop = project({"millstream.yaml": VERSIONED % ("id: varchar, n: varchar", "id, CAST(n AS VARCHAR) AS n", "t1")})
    old = [{"id": "a", "n": "1"}, {"id": "b", "n": "x"}, {"id": "c"}, {"id": "d", "n": "500"}, {"id": "e", "n": "7", "extra": "E", "must": "m"}]
    shop.verb("ingest", "s", "-", "--format", "ndjson", stdin=ndjson(old))
    shop.write({"millstream.yaml": VERSIONED.replace("  p:", "  q:") % (  # a new pipeline: its versions own all of history
        "id: varchar not null, n: integer not null check (n < 100), extra: varchar default 'none', must: varchar not null",
        "id, n, extra, must", "t2")})
    shop.verb("run", "--once")
    rows = shop.verb("query", "SELECT id, n, extra, must FROM t2 ORDER BY id", "--format", "ndjson").lines()
    assert rows == [
        {"id": "a", "n": 1, "extra": "none", "must": None},
        {"id": "c", "n": None, "extra": "none", "must": None},
        {"id": "d", "n": 500, "extra": "none", "must": None},
        {"id": "e", "n": 7, "extra": "E", "must": "m"},
    ]
    new = [{"id": "n1", "n": 5, "must": "y"}, {"id": "n2", "n": 5}, {"id": "n3", "n": 200, "must": "q"}]
    shop.verb("ingest", "s", "-", "--format", "ndjson", stdin=ndjson(new))
    assert shop.verb("query", "SELECT id FROM t2 WHERE id LIKE 'n%'", "--format", "ndjson").lines() == [{"id": "n1"}]
    letters = shop.verb("dead", "list", "s", "--json").json()
    letters = letters if isinstance(letters, list) else letters["letters"]
    assert [(letter["at"], letter["code"], letter["event"]) for letter in letters] == [
        ("q", "contract", "s/0:1"), ("ingest", "contract", "line 2"), ("ingest", "contract", "line 3")]
    # The old text of the truth is as it came.
    data = shop.verb("query", "SELECT data->>'$.n' AS n FROM _streams.s ORDER BY _offset LIMIT 2", "--format", "ndjson").lines()
    assert data == [{"n": "1"}, {"n": "x"}]


PAUSED = """
streams:
  s: {contract: {n: integer}}
sources:
  f:
    from:
      file: {path: "in/*.ndjson", every: 50ms}
    to: s
pipelines:
  p:
    from: s
    to:
      - table: t
"""


def test_pauses_outlast_a_restart(project):
    shop = project({"millstream.yaml": PAUSED, "in/a.ndjson": '{"n":1}\n'})
    with shop.server() as server:
        eventually(lambda: server.query("SELECT n FROM t") == [{"n": 1}])
        assert server.http("POST", "/v1/pipelines/p/pause").json() == {"state": "paused"}
        shop.verb("source", "pause", "f")
        server.stop()
        server.start()
        shop.write({"in/a.ndjson": '{"n":1}\n{"n":2}\n'})
        server.ingest("s", [{"n": 3}])
        time.sleep(0.5)
        assert server.query("SELECT n FROM t") == [{"n": 1}]
        assert server.query("SELECT count(*)::INT AS n FROM _streams.s") == [{"n": 2}]
        assert server.http("GET", "/health/ready").status == 200, "paused on purpose is no fault"
        shop.verb("source", "resume", "f")
        shop.verb("pipeline", "resume", "p")
        eventually(lambda: server.query("SELECT n FROM t ORDER BY n") == [{"n": 1}, {"n": 2}, {"n": 3}])
        server.kill()
        server.start()
        shop.write({"in/a.ndjson": '{"n":1}\n{"n":2}\n{"n":4}\n'})
        eventually(lambda: server.query("SELECT n FROM t WHERE n = 4") == [{"n": 4}])


METERED = """
streams:
  s: {contract: {n: integer}}
pipelines:
  p:
    from: s
    filters:
      - half: SELECT n FROM input WHERE n % 2 = 0
      - inverse: SELECT 10 // (n - 4)::INTEGER AS x, n::VARCHAR::INTEGER AS n FROM input
    to:
      - table: t
      - drop: {}
"""


def test_metrics_exist_and_move(project):
    shop = project({"millstream.yaml": METERED})
    with shop.server() as server:
        before = server.metrics()
        answer = server.ingest("s", [*({"n": n} for n in range(10)), {"n": "x"}])
        server.query("SELECT 1", wait=answer["position"])
        after = eventually(lambda: (m := server.metrics())['millstream_pipeline_lag_events{pipeline="p"}'] == 0 and m)

        def moved(series, by):
            assert after[series] - before[series] == by, series

        moved('millstream_stream_events_total{stream="s"}', 10)
        moved('millstream_stream_bytes_total{stream="s"}', sum(len(json.dumps({"n": n}, separators=(",", ":"))) for n in range(10)))
        moved('millstream_filter_in_total{pipeline="p",filter="half"}', 10)
        moved('millstream_filter_out_total{pipeline="p",filter="half"}', 5)
        moved('millstream_filter_in_total{pipeline="p",filter="inverse"}', 5)
        moved('millstream_filter_out_total{pipeline="p",filter="inverse"}', 5)
        moved('millstream_sink_rows_total{pipeline="p",sink="table:t"}', 5)
        moved('millstream_dead_letters_total{stream="s"}', 1)
        assert after['millstream_sink_retries_total{pipeline="p",sink="table:t"}'] == 0
        assert after['millstream_pipeline_lag_seconds{pipeline="p"}'] == 0
        assert after['millstream_pipeline_state{pipeline="p",state="live"}'] == 1
        assert after['millstream_fsync_seconds_count{stream="s"}'] > before.get('millstream_fsync_seconds_count{stream="s"}', 0)
        assert 0 < after['millstream_fsync_seconds_sum{stream="s"}'] < 60
        assert after['millstream_fsync_seconds_bucket{stream="s",le="+Inf"}'] == after['millstream_fsync_seconds_count{stream="s"}']
        assert after["millstream_disk_used_bytes"] > 0 and after["millstream_disk_free_bytes"] > 0
        assert server.http("GET", "/health/live").json() == {"live": True}
        # Prometheus takes a text in which each family has one heading.
        text = server.http("GET", "/metrics").body.decode()
        headings = re.findall(r"^# TYPE (\S+)", text, re.M)
        assert len(headings) == len(set(headings))


def test_run_once_tells_what_did_not_run(project):
    """For cron and CI: 0 when all is delivered; not 0 when a pipeline cannot run."""
    shop = project({"millstream.yaml": VERSIONED % ("id: varchar, n: varchar", "id, n", "t")})
    shop.verb("ingest", "s", "-", "--format", "ndjson", stdin=ndjson([{"id": "a", "n": "1"}]))
    shop.verb("run", "--once", expect=0)
    shop.write({"millstream.yaml": VERSIONED % ("id: varchar, n: integer", "id, n", "t")})
    done = shop.verb("run", "--once", expect=None)
    assert done.code == 1, done.stderr
    assert "column n is VARCHAR in the table and INTEGER in the rows" in done.stderr
    shop.write({"millstream.yaml": "streams:\n  s: {contract: {id: varchr}}\n"})
    assert "did you mean 'varchar'" in shop.verb("run", "--once", expect=1).stderr


def test_a_broken_sink_holds_back_nobody(project):
    shop = project({"millstream.yaml": """
streams:
  s: {contract: {n: integer}}
pipelines:
  p:
    from: s
    to:
      - file: out/a.ndjson
      - file: out/b.ndjson
      - table: t
"""})

    def ingest(first, end, expect):
        events = "".join(f'{{"n":{n}}}\n' for n in range(first, end))
        return shop.verb("ingest", "s", "-", "--format", "ndjson", stdin=events, expect=expect).stderr

    def lines(name):
        return len((shop.folder / "out" / name).read_text().splitlines())

    ingest(0, 5, 0)
    sound = (shop.folder / "out/a.ndjson").read_bytes()
    with open(shop.folder / "out/a.ndjson", "r+b") as file:
        file.truncate(len(sound) - 3)
    assert "has 37 bytes, but 40 were stored" in ingest(5, 8, 1)
    assert lines("b.ndjson") == 8
    assert shop.verb("query", "SELECT count(*)::INT AS n FROM t", "--format", "ndjson").lines() == [{"n": 8}]
    server = shop.server().start(wait_ready=False)

    def not_ready():
        try:
            answer = server.http("GET", "/health/ready")
        except OSError:
            return None
        return answer.status == 503 and [each for each in answer.json()["reasons"] if each["reason"]]  # not `starting`

    reason = eventually(not_ready)[0]
    assert reason["pipeline"] == "p" and "out/a.ndjson" in reason["reason"]
    server.stop()
    with open(shop.folder / "out/a.ndjson", "r+b") as file:  # the same file, whole again and longer
        file.write(sound + b'{"n":99}')
    ingest(8, 9, 0)
    assert lines("a.ndjson") == 9 and lines("b.ndjson") == 9


@pytest.mark.parametrize("source", [["examples/demo/webhooks.ndjson"], ["examples/demo/users.csv"]], ids=["webhooks", "users"])
def test_an_inferred_contract_is_sound_and_holds(project, source):
    path = ROOT / source[0]
    shop = project({"millstream.yaml": "streams:\n  s: {}\n"})
    text = shop.verb("contract", "infer", path).stdout
    lines = "".join(f"    {line}\n" for line in text.splitlines() if line.strip())
    if not text.lstrip().startswith("contract:"):
        lines = "    contract:\n" + "".join(f"  {line}\n" for line in lines.splitlines())
    shop.write({"millstream.yaml": "streams:\n  s:\n" + lines})
    assert shop.verb("check").stdout.startswith("ok: 1 stream")
    done = shop.verb("ingest", "s", path, "--strict")
    assert "quarantined" not in done.stderr
    columns = shop.verb("query", "SELECT * FROM _streams.s LIMIT 1", "--format", "ndjson").lines()[0]
    assert len(columns) >= 5


ROTATED = """
streams:
  logs: {partitions: 2, dedupe: {by: [ce_source, ce_id], window: 24h}}
sources:
  app:
    from:
      file: {path: "in/app.log*", every: 20ms}
    to: logs
"""


def test_lines_of_rotated_files_have_ids_of_their_own(project):
    """A log that is rotated and cut, into a stream that drops ids that it knows, while the server is killed at any moment."""
    shop = project({"millstream.yaml": ROTATED, "in/.keep": ""})
    chance, log, written, ids = random.Random(7), shop.folder / "in/app.log", [], {}

    def write(round_number, count):
        lines = [f'{{"round":{round_number},"n":{n}}}' for n in range(count)]
        with open(log, "a") as file:
            file.write("".join(line + "\n" for line in lines))
        written.extend(lines)

    def events(server):
        return {json.dumps(event["data"], separators=(",", ":")): event["id"] for event in server.http("GET", "/v1/streams/logs/events").lines()}

    with shop.server() as server:
        for round_number in range(8):
            write(round_number, 40)
            if chance.random() < 0.5:
                eventually(lambda: len(events(server)) == len(written))
            else:
                eventually(lambda: len(events(server)) > len(written) - 40)
            server.kill()
            if round_number % 2:
                write(round_number + 100, 5)  # what a writer still adds, under whatever name the file is found next
            if round_number == 3:
                server.start()
                eventually(lambda: len(events(server)) == len(written))
                log.write_text("")  # cut, not renamed
                time.sleep(0.2)
                continue
            log.rename(log.with_name(f"app.log.{round_number}"))
            server.start()
            ids.update(events(server))
        eventually(lambda: len(events(server)) == len(written))
        now = events(server)
        assert sorted(now) == sorted(written) and len(set(now.values())) == len(written)
        assert {line: now[line] for line in ids} == ids
        assert now['{"round":0,"n":0}'] == "in/app.log#1" and now['{"round":1,"n":39}'] == "in/app.log@2#40"
        assert now['{"round":101,"n":4}'] == "in/app.log@2#45", "where it lies now does not matter"
