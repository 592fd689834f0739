"""A damaged log is found and named, never gives a wrong payload, and is repaired without the loss of anything sound."""

import http.client
import json
import os
import random
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import Project, Server, eventually
from sizes import SEED, size

# One partition; a size limit of 6 MiB makes segments of 1.5 MiB, and less than the limit is written.
PROJECT = """
streams:
  orders:
    retain: {size: 6MiB}
    contract: {id: varchar not null, n: bigint, note: varchar}
pipelines:
  rows:
    from: orders
    filters:
      - short: SELECT id, n FROM input
    to: {table: rows}
"""
CASES = size("damage_cases")
KINDS = ["flip", "zero", "noise", "header"]


@dataclass
class Batch:
    file: str
    begin: int
    end: int
    base: int
    count: int


def batches_of(path):
    """As docs/log-format.md has it."""
    data = path.read_bytes()
    found, at = [], struct.unpack_from("<I", data, 8)[0]
    while data[at:at + 4] == b"MSB1":
        length, base, count = struct.unpack_from("<IQI", data, at + 12)
        found.append(Batch(path.name, at, at + 80 + length, base, count))
        at += 80 + length
    return found


def segments(shop):
    return sorted((shop.data / "log" / "orders" / "0").glob("*.seg"))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A project with three segments or more, stopped; and what was sent, by offset."""
    rng = random.Random(SEED)
    shop, sent = Project(tmp_path_factory.mktemp("damage") / "project", {"millstream.yaml": PROJECT}), []
    try:
        with shop.server() as server:
            while len(sent) < 600:
                batch = [{"id": f"e{len(sent) + i}", "n": len(sent) + i, "note": rng.randbytes(rng.randrange(8000)).hex()} for i in range(10)]
                answer = server.ingest("orders", batch)
                assert answer["partitions"][0]["first"] == len(sent)
                sent += batch
            eventually(lambda: server.query("SELECT count(*) AS n FROM rows")[0]["n"] == len(sent))
    finally:
        shop.close()
    assert len(segments(shop)) >= 3
    return shop, sent


def copy_of(original, folder):
    shutil.copytree(original.folder, folder)
    return Project(folder, {})


def damage(path, kind, rng, region):
    """Changes bytes of `region` (begin, end) of a file. Returns where: (first, end)."""
    data = bytearray(path.read_bytes())
    begin, end = region
    while True:
        at = rng.randrange(begin, end)
        if kind == "flip":
            last = at + 1
            data[at] ^= 1 << rng.randrange(8)
        else:
            at -= at % 512
            at, last = max(at, begin), min(at + 512, end)
            data[at:last] = b"\0" * (last - at) if kind == "zero" else rng.randbytes(last - at)
        if bytes(data) != path.read_bytes():
            path.write_bytes(data)
            return at, last


def read_back(server, beginnings=("earliest",)):
    """Whole events that the server gives, as {offset: event}; an answer breaks off at a damaged place."""
    events = {}
    for begin in beginnings:
        try:
            answer = server.http("GET", f"/v1/streams/orders/events?from={begin}")
            body = answer.body if answer.status == 200 else b""
        except http.client.IncompleteRead as broken_off:
            body = broken_off.partial
        for line in body.split(b"\n")[:-1]:
            event = json.loads(line)
            if "data" in event:
                events[int(event["offset"])] = event["data"]
    return events


def check_read(events, sent):
    wrong = [offset for offset, event in events.items() if event != sent[offset]]
    assert not wrong, f"wrong payloads at {wrong[:10]}"


def start_or_stop(shop, sent, beginnings):
    """The server if it serves, and then nothing that it serves is wrong; None if it stopped with a clear message."""
    server = Server(shop)
    shop.servers.append(server)
    try:
        server.start()
    except (RuntimeError, AssertionError):
        said = server.stderr()
        assert server.process.poll() in (1, 74), f"{server.process.poll()}: {said}"  # damage found, I/O
        assert ".seg: byte " in said, said
        return None
    check_read(read_back(server, beginnings), sent)
    return server


@pytest.mark.parametrize("number", range(CASES))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", ["sealed", "last"])
def test_damage_in_batches(original, tmp_path, which, kind, number):
    source, sent = original
    rng = random.Random(f"{SEED} {which} {kind} {number}")
    shop = copy_of(source, tmp_path / "project")
    paths = segments(shop)
    path = paths[-1] if which == "last" else rng.choice(paths[:-1])
    batches = batches_of(path)
    if kind == "header":
        chosen = rng.choice(batches)
        at, end = damage(path, "flip", rng, (chosen.begin, chosen.begin + 80))
    else:
        at, end = damage(path, kind, rng, (batches[0].begin, batches[-1].end))
    hit = [batch for batch in batches if batch.begin < end and at < batch.end]
    print(f"seed {SEED}: {kind} in {path.name}, bytes {at} to {end}, offsets {[(b.base, b.count) for b in hit]}")

    found = shop.verb("verify", "--log", "--json", expect=1).json()["damage"]
    assert all(Path(each["file"]).name in (path.name, "0") for each in found), found  # a partition: which offsets are missing
    found = [each for each in found if Path(each["file"]).name == path.name]
    assert any(hit[0].begin <= each["byte"] < end for each in found), found
    plain = shop.verb("verify", "--log", expect=1).stdout
    assert path.name in plain and f"byte {found[0]['byte']}" in plain, plain

    started = copy_of(shop, tmp_path / "started")
    server = start_or_stop(started, sent, ["earliest", *(f"orders/0:{batch.base + batch.count}" for batch in hit)])
    if server:
        server.stop(expect=None)

    lost_at_most = {offset for batch in hit for offset in range(batch.base, batch.base + batch.count)}
    shop.verb("log", "repair", "orders")
    assert list(path.parent.glob("*.damaged-*")), "nothing was put aside"
    try:
        with shop.server() as server:
            # First one more, so that the gap lies within.
            server.ingest("orders", [{"id": "new", "n": 0, "note": ""}])
            events = read_back(server)
            assert events.pop(max(events))["id"] == "new"
            check_read(events, sent)
            assert set(range(len(sent))) - set(events) <= lost_at_most, "something sound was lost"
            eventually(lambda: server.query("SELECT count(*) AS n FROM rows WHERE id = 'new'")[0]["n"] == 1)
        assert shop.verb("verify", "--log").code == 0
    finally:
        shop.close()
        started.close()


def test_a_feed_ends_before_a_gap_at_the_end(original, tmp_path):
    shop = copy_of(original[0], tmp_path / "project")
    last = batches_of(segments(shop)[-1])[-1]
    damage(segments(shop)[-1], "flip", random.Random(SEED), (last.begin + 80, last.end))
    shop.verb("log", "repair", "orders")
    with shop.server() as server:
        answer = server.http("GET", "/v1/streams/orders/events?from=earliest", timeout=10)
        assert len([event for event in answer.lines() if "data" in event]) == last.base


@pytest.mark.parametrize("kind", ["flip", "cut", "gone"])
@pytest.mark.parametrize("name", ["log.id", "orders/stream.id", "orders/0/state", "_control/stream.id", "_control/0/state", "_control/0/00000000000000000000.seg",
                                  "orders/0/last.seg"])
def test_damage_beside_batches_is_named_and_no_start_goes_on_with_it(original, tmp_path, name, kind):
    """Headers of segments, what a stop stored, identities, the control log: each byte of the small ones counts."""
    rng = random.Random(f"{SEED} {name} {kind}")
    shop = copy_of(original[0], tmp_path / "project")
    path = segments(shop)[-1] if name == "orders/0/last.seg" else shop.data / "log" / name
    if kind == "gone":
        path.unlink()
    elif kind == "cut":
        os.truncate(path, rng.randrange(path.stat().st_size))
    else:
        damage(path, "flip", rng, (0, struct.unpack_from("<I", path.read_bytes(), 8)[0] if name.endswith(".seg") else path.stat().st_size))
    plain = shop.verb("verify", "--log", expect=1)
    assert name.rsplit("/", 1)[0] in plain.stdout + plain.stderr, plain
    started = shop.verb("run", "--once", expect=None)
    if name.endswith("/stream.id") and kind == "gone":  # made anew from the partitions beside it
        assert started.code == 0
        return
    assert started.code == 1 and "log repair" in started.stderr, started
    assert name.split("/")[0] in started.stderr or name == "log.id", started
