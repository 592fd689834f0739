#!/usr/bin/python3
"""Reads a Millstream log. Written from docs/log-format.md and docs/log-format-payload.md alone.

    log_reader.py LOG STREAM [--partition N] [--from OFFSET] [--receipts] [--trust-payloads]
    log_reader.py --partition-of KEY PARTITIONS

Prints one line of JSON for each event, in the order of partitions and offsets: its place, its stamp, the attributes that it has, and its
data exactly as stored. With --receipts: the batches' receipts instead. Damage is told on stderr and the exit code is 1.
Needs python3-lz4 where a log is compressed, python3-xxhash for --partition-of; uses python3-crcmod where it is installed.
"""

import argparse
import json
import os
import re
import struct
import sys

BATCH_HEADER_BYTES = 80
TRAILER_BYTES = 104
ATTRIBUTES = ["id", "source", "type", "subject", "time_us", "dataschema", "extensions", "key", "op"]
TIME = 4  # the one attribute that is no text
RECEIPTS, STAMPS, ERASED, ATTRIBUTE, DATA, FIELD = 1, 2, 3, 4, 5, 6
ABSENT, CONSTANT, FLAT, DICTIONARY, REFERENCE, PACKED = 0, 1, 2, 3, 4, 5


class Damaged(Exception):
    pass


def _make_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ 0x82F63B78 if byte & 1 else byte >> 1
        table.append(byte)
    return table


_TABLE = _make_table()


def _crc32c_by_table(data):
    crc = 0xFFFFFFFF
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


try:
    import crcmod.predefined

    crc32c = crcmod.predefined.mkCrcFun("crc-32c")
except ImportError:
    crc32c = _crc32c_by_table


def partition_of(key, partitions):
    import xxhash

    return xxhash.xxh3_64_intdigest(key, seed=0) % partitions


def check(data, magic, what):
    """A structure's first eight bytes: magic, and the CRC of all that follows."""
    if len(data) < 8 or data[:4] != magic:
        raise Damaged(f"{what}: no {magic.decode()}")
    if struct.unpack_from("<I", data, 4)[0] != crc32c(data[8:]):
        raise Damaged(f"{what}: CRC does not match")


def read_whole(path):
    with open(path, "rb") as file:
        return file.read()


def read_identity(path, magic):
    data = read_whole(path)
    check(data, magic, path)
    _, function, partitions, uuid = struct.unpack_from("<HHI16s", data, 8)
    return partitions, function, uuid


class State:
    def __init__(self, path, uuid):
        data = read_whole(path)
        check(data, b"MSP1", path)
        (_, flags, epochs, log, self.next_offset, self.tail_bytes, self.max_us, gaps, _) = struct.unpack_from(
            "<HHI16sQQqII", data, 8
        )
        if log != uuid:
            raise Damaged(f"{path}: of another log")
        self.clean = bool(flags & 1)
        self.epochs = [struct.unpack_from("<I4xQQ", data, 64 + 24 * i) for i in range(epochs)]
        at = 64 + 24 * epochs
        self.gaps = [struct.unpack_from("<QQ", data, at + 16 * i) for i in range(gaps)]


class Bytes:
    """A cursor over a payload's bytes."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise Damaged("a payload is cut off")
        taken = self.data[self.at : self.at + count]
        self.at += count
        return taken

    def fixed(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.fixed("B")
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def text(self):
        return self.take(self.varint())

    def rest(self):
        return self.take(len(self.data) - self.at)


def bit(mask, row):
    return mask is None or mask[row // 8] >> row % 8 & 1


def read_lengths(column, count):
    width = column.fixed("B")
    if width == 0:
        return [column.fixed("I")] * count
    form = {1: "B", 2: "H", 4: "I"}[width]
    return list(struct.unpack(f"<{count}{form}", column.take(count * width)))


def cut(column, lengths):
    return [column.take(length) for length in lengths]


def decode_column(body, rows, is_text):
    """The values of a column of texts (as bytes) or of 64-bit integers; None for NULL."""
    column = Bytes(body)
    form, flags = column.fixed("B"), column.fixed("B")
    if form == ABSENT or rows == 0:
        return [None] * rows
    valid = column.take((rows + 7) // 8) if flags & 1 else None
    if form == CONSTANT:
        values = [column.rest() if is_text else column.fixed("q")] * rows
    elif form == FLAT and is_text:
        values = cut(column, read_lengths(column, rows))
    elif form == FLAT:
        values = list(struct.unpack(f"<{rows}q", column.take(8 * rows)))
    elif form == DICTIONARY:
        entries = column.fixed("H")
        texts = cut(column, read_lengths(column, entries))
        width = "B" if entries <= 256 else "H"
        codes = struct.unpack(f"<{rows}{width}", column.take(rows * struct.calcsize(width)))
        values = [texts[code] for code in codes]
    elif form == PACKED:
        lowest = column.fixed("q")
        width = {1: "B", 2: "H", 4: "I"}[column.fixed("B")]
        offsets = struct.unpack(f"<{rows}{width}", column.take(rows * struct.calcsize(width)))
        values = [(lowest + offset + 2**63) % 2**64 - 2**63 for offset in offsets]
    else:
        raise Damaged(f"a column of form {form}")
    return [value if bit(valid, row) else None for row, value in enumerate(values)]


class Payload:
    def __init__(self, data, count, codec):
        payload = Bytes(data)
        if payload.fixed("B") != 1:
            raise Damaged("a payload of another version")
        directory = []
        for _ in range(payload.varint()):
            kind, compressed = payload.fixed("B"), payload.fixed("B")
            extra = payload.text()
            directory.append((kind, compressed, extra, payload.varint(), payload.varint()))
        self.count = count
        self.sections = []
        for kind, compressed, extra, raw_bytes, stored_bytes in directory:
            self.sections.append((kind, extra, compressed, raw_bytes, payload.take(stored_bytes)))
        if payload.at != len(data):
            raise Damaged("bytes after a payload's sections")
        del codec  # each section says itself whether it is compressed

    def body(self, section):
        _, _, compressed, raw_bytes, stored = section
        if not compressed:
            return stored
        import lz4.block

        return lz4.block.decompress(stored, uncompressed_size=raw_bytes)

    def find(self, kind):
        return next((section for section in self.sections if section[0] == kind), None)

    def receipts(self):
        section = self.find(RECEIPTS)
        if section is None:
            return []
        body = Bytes(self.body(section))
        return [
            {
                "origin": body.text().decode(),
                "part": body.text().decode(),
                "position": body.text().decode("utf-8", "backslashreplace"),
                "first_event": body.varint(),
                "events": body.varint(),
            }
            for _ in range(body.varint())
        ]

    def stamps(self, first_us):
        section = self.find(STAMPS)
        if section is None:
            return [first_us] * self.count
        body = Bytes(self.body(section))
        runs = [(body.varint(), body.fixed("q")) for _ in range(body.varint())]
        ends = [first for first, _ in runs[1:]] + [self.count]
        return [us for (first, us), end in zip(runs, ends) for _ in range(end - first)]

    def erased(self):
        section = self.find(ERASED)
        mask = self.body(section) if section else bytes((self.count + 7) // 8)
        return [bool(bit(mask, row)) for row in range(self.count)]

    def attributes(self):
        """By the name of each attribute that some event has: its values."""
        columns = {}
        for section in self.sections:
            if section[0] != ATTRIBUTE:
                continue
            number = section[1][0]
            body = self.body(section)
            if body[0] == REFERENCE:
                body = self.body(self.sections[Bytes(body[2:]).varint()])
            columns[ATTRIBUTES[number]] = decode_column(body, self.count, number != TIME)
        return columns

    def data(self):
        section = self.find(DATA)
        return decode_column(self.body(section), self.count, True) if section else []


class Batch:
    """A batch header; raises Damaged if there is none at `at`."""

    def __init__(self, segment, at, end, uuid):
        header = segment[at : at + BATCH_HEADER_BYTES]
        if len(header) < BATCH_HEADER_BYTES or at + BATCH_HEADER_BYTES > end:
            raise Damaged(f"byte {at}: a batch header is cut off")
        check(header, b"MSB1", f"byte {at}")
        (self.payload_crc, size, self.base, self.count, self.epoch, self.first_us, self.max_us, self.synced, self.data_bytes,
         self.codec, self.flags, version, log) = struct.unpack_from("<IIQIIqqQIBBH16s", header, 8)
        if log != uuid or version != 1:
            raise Damaged(f"byte {at}: a batch of another log or version")
        self.at = at
        self.payload_at = at + BATCH_HEADER_BYTES
        self.end = self.payload_at + size
        if self.end > end:
            raise Damaged(f"byte {at}: a batch is cut off")

    def payload(self, segment, trust):
        data = segment[self.payload_at : self.end]
        if not trust and crc32c(data) != self.payload_crc:
            raise Damaged(f"byte {self.at}: the payload's CRC does not match")
        return Payload(data, self.count, self.codec)


def sealed_end(segment, uuid):
    """Where the batches of a sealed segment end; None if it is not sealed."""
    trailer = segment[-TRAILER_BYTES:]
    try:
        check(trailer, b"MSF1", "trailer")
    except Damaged:
        return None
    (body_crc, _, _, body, _, _, _, _, _, _, _, _, _, log) = struct.unpack_from("<IHHQQQQQqqIII4x16s", trailer, 8)
    if log != uuid or body > len(segment) - TRAILER_BYTES:
        return None
    if crc32c(segment[body:-TRAILER_BYTES]) != body_crc:
        raise Damaged(f"byte {body}: the footer's CRC does not match")
    return body


def was_synced(segment, at, uuid):
    """True if a batch after `at` says that it was written when `at` had been synced."""
    while (at := segment.find(b"MSB1", at + 1)) >= 0:
        try:
            if Batch(segment, at, len(segment), uuid).synced > at:
                return True
        except Damaged:
            pass
    return False


def read_segment(path, uuid, last, clean, trust):
    """All batches of a segment with their payloads."""
    segment = read_whole(path)
    size = struct.unpack_from("<I", segment, 8)[0] if len(segment) >= 64 else 64
    check(segment[:size], b"MSS1", "byte 0")
    end = sealed_end(segment, uuid)
    if end is None and not last:
        raise Damaged(f"byte {len(segment)}: not sealed, though another segment follows")
    at, limit = size, len(segment) if end is None else end
    while at < limit:
        try:
            batch = Batch(segment, at, limit, uuid)
            payload = batch.payload(segment, trust)
        except Damaged:
            if end is not None or clean or was_synced(segment, at, uuid):
                raise
            return  # an unfinished tail
        yield batch, payload
        at = batch.end


def covered(gaps, first, end):
    """True if a repair has removed all of [first, end)."""
    for gap_first, gap_end in sorted(gaps):
        if gap_first <= first < gap_end:
            first = gap_end
    return first >= end


def read_partition(folder, uuid, first_offset, trust):
    state = State(os.path.join(folder, "state"), uuid)
    names = sorted(name for name in os.listdir(folder) if re.fullmatch(r"\d{20}\.seg", name))
    expected = None
    for name in names:
        path = os.path.join(folder, name)
        try:
            last = name == names[-1]
            if not last and int(names[names.index(name) + 1][:20]) <= first_offset:
                continue
            for batch, payload in read_segment(path, uuid, last, state.clean, trust):
                if expected is not None and batch.base != expected:
                    if batch.base < expected or not covered(state.gaps, expected, batch.base):
                        raise Damaged(f"byte {batch.at}: offset {batch.base} where {expected} was expected")
                expected = batch.base + batch.count
                yield batch, payload
        except Damaged as damage:
            raise Damaged(f"{path}: {damage}") from None


def print_events(partition, batch, payload, first_offset, out):
    stamps, erased, attributes = payload.stamps(batch.first_us), payload.erased(), payload.attributes()
    for row, data in enumerate(payload.data()):
        if batch.base + row < first_offset:
            continue
        event = {"partition": partition, "epoch": batch.epoch, "offset": batch.base + row, "ingested_at_us": stamps[row]}
        for name in ATTRIBUTES:
            value = attributes.get(name, [None] * batch.count)[row]
            if value is not None:
                event[name] = value.decode() if isinstance(value, bytes) else value
        if erased[row]:
            event["erased"] = True
        text = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
        out.write(text[:-1] + b',"data":' + (data or b"null") + b"}\n")


def main():
    parser = argparse.ArgumentParser(description="Reads a Millstream log.")
    parser.add_argument("--partition-of", nargs=2, metavar=("KEY", "PARTITIONS"))
    parser.add_argument("log", nargs="?")
    parser.add_argument("stream", nargs="?")
    parser.add_argument("--partition", type=int)
    parser.add_argument("--from", type=int, default=0, dest="first_offset")
    parser.add_argument("--receipts", action="store_true")
    parser.add_argument("--trust-payloads", action="store_true", help="do not check the payloads' CRC (slow in Python)")
    options = parser.parse_args()
    if options.partition_of:
        print(partition_of(options.partition_of[0].encode(), int(options.partition_of[1])))
        return 0
    if not options.log or not options.stream:
        parser.error("LOG and STREAM are needed")
    out = sys.stdout.buffer
    try:
        _, _, uuid = read_identity(os.path.join(options.log, "log.id"), b"MSL1")
        partitions, function, own = read_identity(os.path.join(options.log, options.stream, "stream.id"), b"MST1")
        if own != uuid or function != 1:
            raise Damaged("stream.id: of another log, or of another hash function")
        for partition in range(partitions):
            if options.partition not in (None, partition):
                continue
            folder = os.path.join(options.log, options.stream, str(partition))
            for batch, payload in read_partition(folder, uuid, options.first_offset, options.trust_payloads):
                if not options.receipts:
                    print_events(partition, batch, payload, options.first_offset, out)
                    continue
                for receipt in payload.receipts():
                    line = {"partition": partition, "base": batch.base, **receipt}
                    out.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    except Damaged as damage:
        out.flush()
        print(f"log_reader: {damage}", file=sys.stderr)
        return 1
    out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
