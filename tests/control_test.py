"""`verify` follows the chain of `_control`: whoever edits, removes or reorders an event, and mends every checksum of the log, is found, and the place is named."""

import re
import struct

import log_reader
import pytest

PROJECT = """
streams:
  orders: {contract: {id: varchar not null, n: bigint}}
pipelines:
  p:
    from: orders
    filters:
      - small: SELECT id, n FROM input WHERE n < 100
    to: {table: kept}
"""
HEADER_BYTES = 80


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


class Segment:
    """The last segment of `_control`, batch by batch, as docs/log-format.md has it."""

    def __init__(self, shop):
        folder = shop.data / "log" / "_control" / "0"
        self.path = sorted(folder.glob("*.seg"))[-1]
        data = self.path.read_bytes()
        self.uuid = log_reader.read_identity(shop.data / "log" / "log.id", b"MSL1")[2]
        self.head, self.batches = data[:struct.unpack_from("<I", data, 8)[0]], []
        at = len(self.head)
        while data[at:at + 4] == b"MSB1":
            batch = log_reader.Batch(data, at, len(data), self.uuid)
            self.batches.append((bytearray(data[at:batch.payload_at]), batch.payload(data, False)))
            at = batch.end
        self.tail = data[at:]
        assert not self.tail.strip(b"\0"), "a segment that is sealed or goes on otherwise"

    def events(self):
        """The data of each event, by its offset."""
        return [data.decode() for _, payload in self.batches for data in payload.data()]

    def place(self, kind):
        """The number of the batch with the first event of this kind."""
        return next(number for number, (_, payload) in enumerate(self.batches) if any(f'"kind":"{kind}"'.encode() in data for data in payload.data()))

    def edit(self, number, old, new):
        header, payload = self.batches[number]
        for at, section in enumerate(payload.sections):
            if old in (body := payload.body(section)):
                payload.sections[at] = (section[0], section[1], 0, len(body), body.replace(old, new))
                return
        raise AssertionError(f"{old} is not there")

    def write(self):
        """With dense offsets and every checksum right."""
        out, offset = bytearray(self.head), struct.unpack_from("<Q", self.batches[0][0], 16)[0]
        for header, payload in self.batches:
            bodies = [payload.body(section) for section in payload.sections]
            data = b"\x01" + varint(len(bodies)) + b"".join(
                bytes([kind, 0]) + varint(len(extra)) + extra + varint(len(body)) * 2 for (kind, extra, *_), body in zip(payload.sections, bodies))
            data += b"".join(bodies)
            struct.pack_into("<IIQ", header, 8, log_reader.crc32c(data), len(data), offset)
            struct.pack_into("<Q", header, 48, len(out))
            struct.pack_into("<I", header, 4, log_reader.crc32c(bytes(header[8:])))
            offset += payload.count
            out += header + data
        self.path.write_bytes(out)


def told(done):
    return next(line for line in done.stdout.splitlines() if line.startswith("_control"))


@pytest.fixture
def shop(project):
    """Killed, so that nothing says how long the segment was; four changes of a filter lie in `_control`."""
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        for bound in (10, 20, 30, 40):
            sql = f"SELECT id, n FROM input WHERE n < {bound}".encode()
            assert server.http("PUT", "/v1/pipelines/p/filters/small", sql, {"Content-Type": "application/sql"}).status == 200
        server.kill()
    return shop


def test_what_is_rewritten_as_it_was_is_sound(shop):
    head = told(shop.verb("verify")).split()[-1]
    segment = Segment(shop)
    before = segment.events()
    segment.write()
    assert Segment(shop).events() == before
    assert told(shop.verb("verify")).split()[-1] == head


@pytest.mark.parametrize("what", ["edit", "edit the last", "remove", "reorder", "cut", "forge"])
def test_a_change_of_control_is_found(shop, what):
    head = told(shop.verb("verify")).split()[-1]
    segment = Segment(shop)
    batches = segment.batches
    place = next(number for number, (_, payload) in enumerate(batches) if b"n < 20" in b"".join(payload.data()))
    offset = sum(payload.count for _, payload in batches[:place])
    if what == "edit":  # the event after it names the hash of what it was
        segment.edit(place, b"n < 20", b"n < 99")
        offset += batches[place][1].count
    elif what == "edit the last":  # nothing follows it: only the head tells
        segment.edit(len(batches) - 1, b'"who":"', b'"who":"x')
    elif what == "remove":
        del batches[place]
    elif what == "reorder":
        batches[place], batches[place + 1] = batches[place + 1], batches[place]
    elif what == "cut":
        del batches[-1]
    elif what == "forge":  # an event of one's own, with a hash that fits nothing
        segment.edit(place, re.search(rb'"prev":"([0-9a-f]{64})"', b"".join(batches[place][1].data())).group(1), b"0" * 64)
    segment.write()
    if what in ("edit the last", "cut"):
        assert told(shop.verb("verify")).split()[-1] != head
        done = shop.verb("verify", "--head", head, expect=1)
        assert "cut off" in done.stdout, done.stdout
        return
    done = shop.verb("verify", expect=1)
    assert re.search(rf"event {offset}\b", done.stdout), (offset, done.stdout)
    # Nothing runs on what cannot be trusted, and nothing of it is changed by the attempt.
    held = segment.path.read_bytes()
    refused = shop.verb("run", "--once", expect=None)
    assert refused.code == 1 and f"event {offset}" in refused.stderr, refused
    assert segment.path.read_bytes()[:len(held)] == held
