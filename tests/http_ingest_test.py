"""Events in over HTTP: formats, answers, dead letters, idempotency, compression, limits."""

import gzip
import json
import threading

from harness import ndjson
from shop import ORDERS, SHOP, offsets_of


def test_an_ingest_says_where_its_events_are(shop):
    answer = shop.ingest("orders", ORDERS)
    assert answer["accepted"] == 10 and answer["quarantined"] == 0 and answer["ack"] == "durable"
    assert offsets_of(answer["position"]) == {p["partition"]: p["last"] for p in answer["partitions"]}
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
    assert refused["code"] == "invalid" and [(fault["index"], fault["path"]) for fault in refused["faults"]] == [(1, "/id")]
    assert shop.query("SELECT count(*) AS n FROM _streams.strict") == [{"n": 0}]
    assert shop.ingest("strict", [{"id": "a"}])["accepted"] == 1


def test_all_faults_of_each_event_are_named(project):
    fields = "".join(f"      f{i}: integer not null check (f{i} < 9)\n" for i in range(30))
    made = project({"millstream.yaml": f"streams:\n  kept: {{partitions: 1, contract: {{id: varchar not null, n: integer, at: date}}}}\n"
                                       f"  strict:\n    on_violation: reject\n    partitions: 2\n    contract:\n{fields}"})
    good = {f"f{i}": 1 for i in range(30)}
    with made.server() as server:
        bad = [good, dict(good, f3="x", f7=None, f9=1.5), dict(good, f1=10, f2=10), {}]
        refused = server.ingest("strict", bad, expect=422)["faults"]
        told = [(fault["index"], fault["path"]) for fault in refused]
        assert told[:5] == [(1, "/f3"), (1, "/f7"), (1, "/f9"), (2, "/f1"), (2, "/f2")]
        assert told[5:] == [(3, f"/f{i}") for i in range(10)]  # ten of an event
        assert len(server.ingest("strict", [{}] * 50, expect=422)["faults"]) == 100
        assert server.query("SELECT count(*) AS n FROM _streams.strict") == [{"n": 0}]
        # Where the event becomes a dead letter, all its faults name that one.
        answer = server.ingest("kept", [{"id": "a"}, {"n": "x", "at": "y"}, {"id": "b"}, {"id": "c", "n": "z"}])
        assert [(f["index"], f["path"], f["dead"]) for f in answer["faults"]] == [(1, "/id", 0), (1, "/n", 0), (1, "/at", 0), (3, "/n", 1)]
        assert (answer["accepted"], answer["quarantined"]) == (2, 2)


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


def zstd_frame(*blocks):
    """A zstd frame (RFC 8878) of (bytes, times): raw blocks, or a byte that is repeated."""
    frame = b"\x28\xb5\x2f\xfd\x00\x58"
    for index, (content, times) in enumerate(blocks):
        header = (index == len(blocks) - 1) | ((1 if times > 1 else 0) << 1) | ((times if times > 1 else len(content)) << 3)
        frame += header.to_bytes(3, "little") + content
    return frame


def test_zstd_bodies_and_bombs(shop):
    body = ndjson([{"n": 1}, {"n": 2}])
    assert shop.ingest("notes", zstd_frame((body, 1)), {"Content-Encoding": "zstd"})["accepted"] == 2
    assert shop.ingest("notes", zstd_frame((body, 1))[:-3], {"Content-Encoding": "zstd"}, expect=400)["code"] == "bad_request"
    bomb = zstd_frame(*[(b" ", 128 << 10)] * 2100)  # 8 KiB that become 262 MiB
    before = resident_mib(shop)
    assert shop.ingest("notes", bomb, {"Content-Encoding": "zstd"}, expect=413)["code"] == "too_large"
    assert resident_mib(shop) < before + 400
    assert shop.http("POST", "/v1/streams/notes/events", b"x", {"Content-Type": "application/json", "Content-Encoding": "br"}).status == 415
    assert shop.query("SELECT count(*) AS n FROM _streams.notes") == [{"n": 2}]


def resident_mib(server):
    return int(next(line for line in open(f"/proc/{server.process.pid}/status") if line.startswith("VmRSS")).split()[1]) / 1024


def test_depth_and_size_of_an_event(shop):
    def nested(depth):
        return b"[" * depth + b"1" + b"]" * depth
    body = b'{"n":' + nested(120) + b'}\n{"n":' + nested(129) + b'}\n{"n":"' + b"x" * (1 << 20) + b'"}\n'
    answer = shop.ingest("notes", body)
    assert answer["accepted"] == 1 and [fault["code"] for fault in answer["faults"]] == ["depth", "size"]
    assert all(isinstance(fault["dead"], int) for fault in answer["faults"])


def test_bodies_that_hold_no_event(shop):
    for kind in ("application/json", "application/cloudevents+json", "application/cloudevents-batch+json"):
        assert shop.http("POST", "/v1/streams/notes/events", b"", {"Content-Type": kind}).status == 400, kind
    assert shop.ingest("notes", b"")["accepted"] == 0 and shop.ingest("notes", b"\n\n")["accepted"] == 0
    assert shop.http("POST", "/v1/streams/notes/events", b"[]", {"Content-Type": "application/json"}).json()["accepted"] == 0


def test_data_that_is_not_json_is_refused(shop):
    event = {"specversion": "1.0", "id": "e1", "source": "/t", "type": "made", "data_base64": "AA=="}
    answer = shop.http("POST", "/v1/streams/notes/events", json.dumps(event).encode(), {"Content-Type": "application/cloudevents+json"})
    assert answer.status == 415 and "data_base64" in answer.json()["detail"], answer.body


def test_offsets_of_one_request_are_consecutive_beside_others(shop):
    """Sixteen clients at once: the ranges of all answers lie beside each other without a gap or an overlap."""
    answers, lock = [], threading.Lock()

    def send(client):
        connection = shop.connection()
        for n in range(20):
            events = ndjson([{"id": f"{client}-{n}-{i}", "customer": f"c{i}"} for i in range(7)])
            connection.request("POST", "/v1/streams/orders/events", events, {"Content-Type": "application/x-ndjson"})
            answer = json.loads(connection.getresponse().read())
            with lock:
                answers.append(answer)

    clients = [threading.Thread(target=send, args=(client,)) for client in range(16)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    ranges = sorted((p["partition"], p["first"], p["last"]) for answer in answers for p in answer["partitions"])
    expected = {0: 0, 1: 0}
    for partition, first, last in ranges:
        assert first == expected[partition]
        expected[partition] = last + 1
    assert sum(expected.values()) == 16 * 20 * 7
