"""Standard input of `millstream ingest`, from real pipes: what it holds is noticed, and what the advice for kinds of later prints works."""

import gzip
import json
import os
import re
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from harness import BINARY, environment, eventually  # noqa: E402

STREAM = {"millstream.yaml": "streams:\n  orders: {partitions: 1}\n"}
EVENTS = [{"id": 1, "text": "a\nb"}, {"id": 2, "items": [{"id": 3}]}]
LINES = "".join(json.dumps(event) + "\n" for event in EVENTS).encode()
ARRAY = json.dumps(EVENTS, indent=2).encode()
DOCUMENTS = "\n".join(json.dumps(event, indent=2) for event in EVENTS).encode()


def zstd(data):
    return subprocess.run(["zstd", "-q"], input=data, capture_output=True, check=True).stdout


def taken(here):
    return [json.loads(line)["data"] for line in here.verb("log", "read", "orders", "--json").stdout.splitlines()]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd, lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])], ids=["plain", "gzip", "zstd", "members"])
@pytest.mark.parametrize("text", [LINES, ARRAY, DOCUMENTS, b"\xef\xbb\xbf \n" + ARRAY], ids=["lines", "array", "documents", "marked"])
def test_what_stdin_holds_is_noticed(project, pack, text):
    here = project(STREAM)
    assert "stdin: 2 read, 2 accepted" in here.verb("ingest", "orders", "-", "--strict", stdin=pack(text)).stderr
    assert taken(here) == EVENTS


def test_a_file_whose_name_says_nothing_is_noticed_too(project):
    here = project({**STREAM, "packed": gzip.compress(ARRAY), "one.ndjson": DOCUMENTS})
    here.verb("ingest", "orders", "packed", "--strict")
    assert taken(here) == EVENTS
    assert "quarantined" in here.verb("ingest", "orders", "one.ndjson").stderr  # its name says lines


def test_records_of_stdin_are_those_of_documents(project):
    here = project(STREAM)
    pages = [{"page": n, "items": [{"id": 2 * n}, {"id": 2 * n + 1}]} for n in range(3)]
    for text in (json.dumps(pages[0], indent=2), "".join(json.dumps(page) + "\n" for page in pages[1:])):
        here.verb("ingest", "orders", "-", "--records", "/items/*", "--strict", stdin=text)
    assert taken(here) == [{"id": n} for n in range(6)]
    cut = here.verb("ingest", "orders", "-", "--records", "/items/*", stdin='{"items":[{"id":7}]}\n{"items":\n[', expect=1)
    assert cut.stderr.endswith("millstream: line 3: not JSON: expected a value\n") and taken(here)[-1] == {"id": 7}


def test_parquet_is_refused_with_advice(project):
    here = project({**STREAM, "rows.parquet": b"PAR1" + bytes(100)})
    for arguments, stdin, code in [(("-",), b"PAR1" + bytes(100), 1), (("rows.parquet",), None, 1), (("--format", "parquet"), None, 2)]:
        done = here.verb("ingest", "orders", *arguments, stdin=stdin, expect=code)
        assert " is Parquet, which is not read; " in done.stderr and "(FORMAT json)\" | millstream ingest" in done.stderr
    assert taken(here) == []


def test_damage_in_compressed_stdin_is_told(project):
    here = project(STREAM)
    packed = gzip.compress(LINES)
    assert "breaks off in the middle" in here.verb("ingest", "orders", stdin=packed[:-4], expect=1).stderr
    assert "not sound gzip" in here.verb("ingest", "orders", stdin=packed[:2] + b"nothing of the kind", expect=1).stderr


@pytest.mark.parametrize("text", [LINES, DOCUMENTS + b" ", gzip.compress(LINES)], ids=["lines", "documents", "gzip"])
def test_stdin_is_taken_as_it_comes(project, text):
    """The writer of the pipe stays, as `kcat -C` does; what it wrote is in the log meanwhile."""
    here = project(STREAM)
    with here.server() as server:
        writer = subprocess.Popen([BINARY, "ingest", "orders", "-"], cwd=here.folder, stdin=subprocess.PIPE, env=environment())
        try:
            writer.stdin.write(text)
            writer.stdin.flush()
            eventually(lambda: len(server.http("GET", "/v1/streams/orders/events").lines()) == 2)
        finally:
            writer.stdin.close()
            assert writer.wait(60) == 0


# What the tools of the advice print, and the events that come of it.
PRINTED = {
    "kafka": ("kcat", LINES, EVENTS),
    "kinesis": ("aws", b"eyJpZCI6MX0=\teyJpZCI6Mn0=\n", [{"id": 1}, {"id": 2}]),
    "s3": ("aws", gzip.compress(ARRAY), EVENTS),
    "http": ("curl", json.dumps({"POINTER": EVENTS}, indent=2).encode(), EVENTS),
    "fhir": ("curl", json.dumps({"resourceType": "Bundle", "entry": [{"resource": event} for event in EVENTS]}, indent=4).encode(), EVENTS),
    # A json column keeps its line ends in row_to_json.
    "postgres": ("psql", b'{"id":1,"j":{"a":\n 1}}\n{"id":2,"j":null}\n', [{"id": 1, "j": {"a": 1}}, {"id": 2, "j": None}]),
    "dynamodb": ("aws", json.dumps({"Items": EVENTS, "Count": 2}, indent=4).encode(), EVENTS),
}


@pytest.mark.parametrize("kind", PRINTED)
def test_the_advice_for_a_source_of_later_works_as_printed(project, kind):
    tool, printed, events = PRINTED[kind]
    here = project({**STREAM, "printed": printed, f"bin/{tool}": "#!/bin/sh\nexec cat printed\n"})
    (here.folder / "bin" / tool).chmod(0o755)
    said = here.verb("help", kind).stdout
    line, = re.search(r"source " + kind + r": not there yet.*\n  use instead[^:]*: (.*)", said).groups()
    subprocess.run(["bash", "-e", "-o", "pipefail", "-c", line.replace("STREAM", "orders") + " --strict"], cwd=here.folder, check=True,
                   env={**environment(), "PATH": f"{here.folder}/bin:{BINARY.parent}:{os.environ['PATH']}"})
    assert taken(here) == events
