"""The reader that was written from docs/log-format.md alone reads the golden log, and sees damage in it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GOLDEN = HERE / "golden" / "log"


def read(*arguments):
    return subprocess.run([sys.executable, HERE / "log_reader.py", *map(str, arguments)], capture_output=True, check=False)


def test_the_golden_log_reads_as_its_text_says():
    result = read(GOLDEN / "data", "orders")
    assert result.stderr == b""
    assert result.stdout == (GOLDEN / "orders.ndjson").read_bytes()


def test_one_partition_from_an_offset():
    result = read(GOLDEN / "data", "orders", "--partition", 1, "--from", 50)
    lines = (GOLDEN / "orders.ndjson").read_bytes().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if b'{"partition":1,' in line and b'"offset":50,' in line)
    assert result.stdout == b"".join(lines[first:])


def test_receipts():
    result = read(GOLDEN / "data", "orders", "--receipts")
    assert b'"origin":"pipeline/copy.1/stream:orders","part":"0","position":"77"' in result.stdout
    assert result.stdout.count(b'"origin":"source/old_orders"') > 10


@pytest.mark.parametrize("file", ["log.id", "orders/stream.id", "orders/0/state", "last segment", "first segment"])
def test_a_flipped_bit_is_damage(tmp_path, file):
    log = tmp_path / "log"
    shutil.copytree(GOLDEN / "data", log)
    segments = sorted((log / "orders" / "0").glob("*.seg"))
    path = {"last segment": segments[-1], "first segment": segments[0]}.get(file, log / file)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    result = read(log, "orders")
    assert result.returncode == 1
    assert b"log_reader: " in result.stderr


def test_the_partition_of_a_key():
    pytest.importorskip("xxhash")
    # XXH3-64 of nothing, by its specification.
    assert read("--partition-of", "", 1000).stdout == b"%d\n" % (0x2D06800538D394C2 % 1000)
