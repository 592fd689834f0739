#!/usr/bin/python3
"""Holds a Millstream against what its producers were told. Shares no code with it: the log is read by log_reader.py, filters are computed here.

    checker.py DATA_FOLDER JOURNAL [--server URL]

What must hold, of each stream that producers wrote and of each sink behind it:
- every acknowledged event is in the log, byte for byte; a refused one is not; one whose fate is unknown is there at most once; nothing else is there;
- offsets of a partition are dense but for the gaps that a repair has stored, epochs grow, and what was read once reads the same ever after;
- the events of one producer with one key lie in the order in which they were sent;
- the control log's hashes chain;
- each table, file and derived stream holds, as a multiset, what its pipeline's filters make of the log, each offset by the version that owns it by the
  control log (an upsert: the last row of a key; an aggregate: counts and sums);
- no sink stands beyond the end of the log.
Filters are of the few shapes that MODELS knows; another one is an error, never skipped.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
import threading
import urllib.request
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import log_reader

FATES = ("acknowledged", "refused", "unknown")


def line_of(event):
    """An event's bytes, as producers send it."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


class Journal:
    """What was sent, and what was said to it. Ids are `PRODUCER-NUMBER`; a producer's numbers grow. Thread-safe."""

    def __init__(self, path=None):
        self.acknowledged, self.refused, self.unknown, self.statuses = {}, {}, {}, Counter()
        self.lock = threading.Lock()
        self.file = open(path, "ab") if path else None  # noqa: SIM115: as long as the journal

    def record(self, fate, events, status=0):
        with self.lock:
            self.statuses[status] += 1
            for event in events:
                getattr(self, fate)[event["id"]] = line_of(event)
                if self.file:
                    entry = {"fate": fate, "id": event["id"], "line": base64.b64encode(line_of(event)).decode()}
                    self.file.write(json.dumps(entry).encode() + b"\n")
            if self.file:
                self.file.flush()

    @staticmethod
    def read(path):
        journal = Journal()
        for text in Path(path).read_bytes().splitlines():
            entry = json.loads(text)
            getattr(journal, entry["fate"])[entry["id"]] = base64.b64decode(entry["line"])
        return journal


@dataclass
class Event:
    partition: int
    epoch: int
    offset: int
    data: bytes
    op: str = ""

    def value(self):
        return json.loads(self.data)


class Wrong(AssertionError):
    pass


def holds(condition, message):
    if not condition:
        raise Wrong(message)


def same(what, actual, expected):
    missing, more = expected - actual, actual - expected
    holds(not missing and not more,
          f"{what}: {missing.total()} rows are missing, such as {list(missing)[:3]}; {more.total()} too many, such as {list(more)[:3]}")


class Log:
    """All streams of a data folder, read from its files."""

    def __init__(self, folder):
        self.folder = Path(folder) / "log"
        _, _, self.uuid = log_reader.read_identity(self.folder / "log.id", b"MSL1")

    def read(self, stream):
        partitions, _, own = log_reader.read_identity(self.folder / stream / "stream.id", b"MST1")
        holds(own == self.uuid, f"{stream}: of another log")
        events = []
        for partition in range(partitions):
            last_epoch = 0
            for batch, payload in log_reader.read_partition(self.folder / stream / str(partition), self.uuid, 0, False):
                holds(batch.epoch >= last_epoch, f"{stream}/{partition}: epoch {batch.epoch} after {last_epoch}")
                last_epoch = batch.epoch
                events += [Event(partition, batch.epoch, batch.base + row, data) for row, data in enumerate(payload.data())]
        return events


class Control:
    """Pipelines by name: the versions with the offsets that they own."""

    def __init__(self, log):
        self.pipelines, self.definitions, self.streams, last = {}, {}, {}, "0" * 64
        for event in log.read("_control"):
            value = event.value()
            holds(value["prev"] == last, f"_control: the chain is broken at offset {event.offset}")
            last = hashlib.sha256(event.data).hexdigest()
            if value["kind"] == "apply":
                self.definitions[value["version"]] = value["root"]
                self.streams = value["root"].get("streams", {})
                self.pipelines = {name: self.pipelines.get(name, []) for name in value["root"].get("pipelines", {})}
            elif value["kind"] == "activated":
                self.pipelines.setdefault(value["name"], []).append(
                    ({int(p): o for p, o in value["boundary"].items()}, self.definitions[value["version"]]["pipelines"][value["name"]]))

    def owner(self, name, event):
        owner = None
        for boundary, pipeline in self.pipelines[name]:
            if event.offset >= boundary.get(event.partition, 0):
                owner = pipeline
        return owner


SELECT = re.compile(r"SELECT (?P<items>.+?) FROM input(?: WHERE (?P<column>\w+) (?P<compare>>=|<) (?P<bound>\d+))?$")
MODELS = [
    (re.compile(r"(\w+)$"), lambda row, m: (m[1], row[m[1]])),
    (re.compile(r"(\w+) \* (\d+) AS (\w+)$"), lambda row, m: (m[3], None if row[m[1]] is None else row[m[1]] * int(m[2]))),
    (re.compile(r"(\d+) AS (\w+)$"), lambda row, m: (m[2], int(m[1]))),
    (re.compile(r"data->>'\$\.(\w+)' AS (\w+)$"), lambda row, m: (m[2], row.get(m[1]))),
    (re.compile(r"CAST\(data->>'\$\.(\w+)' AS BIGINT\) AS (\w+)$"), lambda row, m: (m[2], None if row.get(m[1]) is None else int(row[m[1]]))),
]


def apply_filter(sql, row):
    """The row that a filter makes of a row, or None."""
    parsed = SELECT.match(sql)
    holds(parsed, f"the checker has no model of the filter {sql}")
    if parsed["column"]:
        value, bound = row[parsed["column"]], int(parsed["bound"])
        if value is None or (value < bound if parsed["compare"] == ">=" else value >= bound):
            return None
    made = {}
    for item in parsed["items"].split(", "):
        model = next(((match, make) for pattern, make in MODELS if (match := pattern.match(item))), None)
        holds(model, f"the checker has no model of '{item}' in {sql}")
        name, value = model[1](row, model[0])
        made[name] = value
    return made


@dataclass
class Checker:
    folder: Path                 # the data folder
    journal: Journal
    stream: str = "orders"       # that the journal's producers write
    key: str = "customer"
    unmodelled: tuple = ()       # pipelines that are left out
    read_before: dict = field(default_factory=dict)

    def check_log(self):
        """The stream against the journal. Returns its events."""
        events = Log(self.folder).read(self.stream)
        ids, sent = Counter(), {**self.journal.unknown, **self.journal.acknowledged}
        last = {}
        for event in events:
            value = event.value()
            name = value["id"]
            ids[name] += 1
            holds(name not in self.journal.refused, f"{name} was refused and is in the log")
            holds(name in sent, f"{name} is in the log, and nobody sent it")
            holds(event.data == sent[name], f"{name}: sent as {sent[name]}, in the log as {event.data}")
            producer, _, number = name.rpartition("-")
            where = (producer, value[self.key])
            holds(last.get(where, -1) < int(number), f"{name} lies behind {producer}-{last.get(where)} of the same key")
            last[where] = int(number)
        twice = [name for name, count in ids.items() if count > 1]
        holds(not twice, f"twice in the log: {twice[:5]}")
        lost = [name for name in self.journal.acknowledged if name not in ids]
        holds(not lost, f"{len(lost)} acknowledged events are lost, such as {lost[:5]}")
        self.check_unchanged(self.stream, events)
        return events

    def check_unchanged(self, stream, events):
        now = {(event.partition, event.offset): hash(event.data) for event in events}
        for place, before in self.read_before.get(stream, {}).items():
            holds(now.get(place) == before, f"{stream}/{place[0]}:{place[1]} reads otherwise than before")
        self.read_before[stream] = now

    def check_sinks(self, read_table, project_folder):
        """Every sink of the live pipelines. `read_table(name, columns)` answers tuples."""
        log = Log(self.folder)
        control, streams = Control(log), {}
        for name, versions in control.pipelines.items():
            if name in self.unmodelled:
                continue
            source = versions[-1][1]["from"]
            if source not in streams:
                streams[source] = sorted(log.read(source), key=lambda event: (event.partition, event.offset))
                self.check_unchanged(source, streams[source])
            fields = list(control.streams[source].get("contract", {}))
            rows = self.recompute(name, control, streams[source], fields)
            to = versions[-1][1]["to"]
            for sink in to if isinstance(to, list) else [to]:
                (kind, options), = sink.items()
                options = options if isinstance(options, dict) else {"name": options, "path": options}
                check = {"table": self.check_table, "file": self.check_file, "stream": self.check_stream}[kind]
                check(options, rows, fields, read_table, Path(project_folder), log)
        return streams

    @staticmethod
    def recompute(name, control, events, fields):
        rows = []
        for event in events:
            value = event.value()
            row = {column: value.get(column) for column in fields} | value
            filters = control.owner(name, event).get("filters", [])
            for step in filters:
                (sql,) = step.values()
                row = row and apply_filter(sql, row)
            if row is not None:
                rows.append(row if filters else {column: row[column] for column in fields})
        return rows

    @staticmethod
    def check_table(options, rows, fields, read_table, _folder, _log):
        name, key = options["name"], options.get("key")
        if "values" in options:
            groups = defaultdict(list)
            for row in rows:
                groups[row[key]].append(row)
            compute = {"count(*)": len, **{f"sum({c})": lambda group, c=c: sum(row[c] for row in group) for c in fields}}
            values = options["values"]
            expected = Counter((group, *(compute[sql](members) for sql in values.values())) for group, members in groups.items())
            return same(name, Counter((row[0], *map(int, row[1:])) for row in read_table(name, [key, *values])), expected)
        if not rows:
            return same(name, Counter(read_table(name, ["1"])), Counter())
        columns = list(rows[0])
        if key:
            rows = {row[key]: row for row in rows}.values()  # in the order of the log, and a key lies in one partition
        same(name, Counter(map(tuple, read_table(name, columns))), Counter(tuple(row[c] for c in columns) for row in rows))

    @staticmethod
    def check_file(options, rows, _fields, _read_table, folder, _log):
        path = folder / options["path"]
        text = path.read_bytes() if path.exists() else b""
        holds(not text or text.endswith(b"\n"), f"{path} ends within a line")
        same(options["path"], Counter(text.splitlines()), Counter(line_of(row) for row in rows))

    def check_stream(self, options, rows, _fields, _read_table, _folder, log):
        events = log.read(options["name"])
        self.check_unchanged(options["name"], events)
        same(options["name"], Counter(line_of(event.value()) for event in events), Counter(line_of(row) for row in rows))

    def check_offsets(self, status):
        """`status` as GET /v1/status answers, of one moment: what a sink has delivered is in the log."""
        ends = {}
        for stream in status["streams"]:
            ends[stream["name"]] = [partition["end"] for partition in stream["partitions"]]
        for pipeline in status["pipelines"]:
            for sink in pipeline["sinks"]:
                for place in sink.get("next", []):
                    partition, following = place["partition"], place["offset"]
                    holds(following <= ends[pipeline["stream"]][partition],
                          f"{pipeline['name']}, {sink['id']}: stands at {following} of {pipeline['stream']}/{partition}, which ends at "
                          f"{ends[pipeline['stream']][partition]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("journal", type=Path)
    parser.add_argument("--server", help="its tables are checked too")
    parser.add_argument("--project", type=Path, help="where file sinks write (default: the folder of DATA)")
    options = parser.parse_args()
    checker = Checker(options.data, Journal.read(options.journal))

    def read_table(name, columns):
        body = json.dumps({"sql": f"SELECT {', '.join(columns)} FROM {name}"}).encode()
        request = urllib.request.Request(f"{options.server}/v1/query", body, {"Content-Type": "application/json"})
        return [tuple(row.values()) for row in json.load(urllib.request.urlopen(request))["rows"]]

    try:
        events = checker.check_log()
        if options.server:
            checker.check_sinks(read_table, options.project or options.data.parent)
    except (Wrong, log_reader.Damaged) as wrong:
        print(f"checker: {wrong}", file=sys.stderr)
        return 1
    print(f"{len(events)} events in the log; {', '.join(f'{len(getattr(checker.journal, fate))} {fate}' for fate in FATES)}: all holds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
