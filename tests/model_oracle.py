"""What the tables, streams and dead letters of a data folder must hold: recomputed from the bytes of its log, for model_test.py.

    Folder(data)            the events of each stream, the letters, and what `_control` says was decided, read by log_reader.py
    Oracle(folder).tables   the rows of each table, as a multiset
    Oracle(folder).check()  raises Wrong where streams or letters are not what the decisions make of the events

What is taken from `_control` are decisions: which definitions were applied, from which offset each holds, which letters were sent again, when a table
was made anew. What follows from them is computed here, one event after another, in plain Python: no SQL, nothing of the program's. Filters are of the few
shapes of STEPS; another one is an error.
"""

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import log_reader
from checker import holds, same

COLUMNS = "id, customer, n, text, v"
MODULUS = 9973


class Refused(Exception):
    """A filter cannot compute an event."""


class Row(NamedTuple):
    id: str
    customer: str
    n: int | None
    text: str | None
    v: int = 0


# --- filters ----------------------------------------------------------------------------------------------------------------


def parsed(text):
    if text is None:
        return None
    if not re.fullmatch(r"-?\d+", text):
        raise Refused
    return int(text)


def plus(row, amount):
    return [row._replace(n=None if row.n is None or amount is None else row.n + amount)]


def refuse(row, a, b):
    if row.n is not None and row.n % a == b:
        raise Refused
    return [row]


def mend(row):
    try:
        return plus(row, parsed(row.text) or 0)
    except Refused:
        return plus(row, 0)


STEPS = {  # name: the SQL, and what it makes of a row
    "shape": ("SELECT id, customer, n, text, {} AS v FROM input", lambda row, v: [row._replace(v=v)]),
    "scale": (f"SELECT id, customer, (n * {{}} + {{}}) % {MODULUS} AS n, text, v FROM input",
              lambda row, a, b: [row._replace(n=None if row.n is None else (row.n * a + b) % MODULUS)]),
    "keep": ("SELECT id, customer, n, text, v FROM input WHERE n % {} <> {}",
             lambda row, a, b: [row] if row.n is not None and row.n % a != b else []),
    "parse": ("SELECT id, customer, n + CAST(text AS BIGINT) AS n, text, v FROM input", lambda row: plus(row, parsed(row.text))),
    "mend": ("SELECT id, customer, n + coalesce(TRY_CAST(text AS BIGINT), 0) AS n, text, v FROM input", mend),
    "refuse": ("SELECT id, customer, CASE WHEN n % {} = {} THEN error('no') ELSE n END AS n, text, v FROM input", refuse),
    "named": ("SELECT id, customer, n, text, v FROM input WHERE text IS NULL OR length(text) <> {}",
              lambda row, a: [row] if row.text is None or len(row.text) != a else []),
    "split": ("SELECT id, customer, n + part AS n, text, v FROM "
              "(SELECT id, customer, n, text, v, UNNEST(CASE WHEN n % 3 = 0 THEN [1, 2] ELSE [5] END) AS part FROM input)",
              lambda row: [one for part in ((1, 2) if row.n is not None and row.n % 3 == 0 else (5,)) for one in plus(row, part)]),
}
PATTERNS = [(re.compile(re.escape(sql).replace(r"\{\}", r"(\d+)")), run) for sql, run in STEPS.values()]


def sql_of(kind, *numbers):
    return STEPS[kind][0].format(*numbers)


def compiled(filters):
    """[(name, function)] of a pipeline's filters as its definition has them."""
    chain = []
    for step in filters or []:
        ((name, sql),) = step.items()
        match, run = next(((m, run) for pattern, run in PATTERNS if (m := pattern.fullmatch(sql))), (None, None))
        holds(match, f"no model of the filter {sql}")
        numbers = tuple(map(int, match.groups()))
        chain.append((name, lambda row, run=run, numbers=numbers: run(row, *numbers)))
    return chain


def run_chain(chain, row):
    """(rows, None), or ((), the filter that refuses)."""
    rows = [row]
    for name, run in chain:
        try:
            rows = [made for one in rows for made in run(one)]
        except Refused:
            return (), name
    return tuple(rows), None


# --- what the folder says ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    partition: int
    offset: int
    us: int
    data: bytes
    extensions: str = ""

    def row(self):
        value = json.loads(self.data)
        return Row(value["id"], value["customer"], value.get("n"), value.get("text"))


@dataclass
class Version:
    number: int
    boundary: dict
    chain: list

    def owns(self, event):
        return event.offset >= self.boundary.get(event.partition, 0)


@dataclass
class Letters:
    """A `dead_replay` or `dead_dropped`: which letters, and where they go again."""

    id: int
    stream: str
    numbers: set
    parts: dict  # (pipeline, sink): version


@dataclass
class Replay:
    """Of history into a place of its own."""

    id: int
    pipeline: str
    spec: dict
    versions: list
    state: str = "running"


def offsets(map_of_text):
    return {int(partition): int(offset) for partition, offset in (map_of_text or {}).items()}


def numbers_of(text):
    chosen = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        chosen.update(range(int(first), int(last or first) + 1))
    return chosen


@dataclass
class Folder:
    data: Path
    streams: dict = field(default_factory=dict)  # name: events by partition and offset

    def __post_init__(self):
        self.log = Path(self.data) / "log"
        self.uuid = log_reader.read_identity(self.log / "log.id", b"MSL1")[2]
        for folder in sorted(self.log.iterdir()):
            if (folder / "stream.id").exists():
                self.streams[folder.name] = list(self.read(folder))
        self.letters = {name.removeprefix("_dead_"): {event.offset: json.loads(event.data) for event in events}
                        for name, events in self.streams.items() if name.startswith("_dead_")}
        self.read_control()

    def read(self, folder):
        partitions, _, _ = log_reader.read_identity(folder / "stream.id", b"MST1")
        for partition in range(partitions):
            for batch, payload in log_reader.read_partition(folder / str(partition), self.uuid, 0, False):
                stamps, extensions = payload.stamps(batch.first_us), payload.attributes().get("extensions") or [None] * batch.count
                for row, data in enumerate(payload.data()):
                    yield Event(partition, batch.base + row, stamps[row], data, (extensions[row] or b"").decode())

    def read_control(self):
        self.roots, self.versions, self.rebuilt, self.rebuilds, self.replays = {}, defaultdict(list), {}, {}, {}
        self.again, self.dropped, self.kinds = [], [], Counter()
        self.control = [json.loads(event.data) for event in self.streams["_control"]]
        for value in self.control:
            kind = value["kind"]
            self.kinds[kind] += 1
            if kind in ("apply", "cutover"):
                self.roots[int(value["version"])] = value["root"]
            if kind == "cutover":
                self.cut_over(value, int(value["replay"]["id"]))
            elif kind == "activated":
                number = int(value["version"])
                self.versions[value["name"]].append(Version(number, offsets(value["boundary"]), self.chain(value["name"], number)))
            elif kind == "replay_started" and "into" not in value["replay"]:
                live = self.roots[max(self.roots)]["pipelines"]
                self.rebuilds[int(value["replay"]["id"])] = {**live, **value["replay"].get("definitions", {})}
            elif kind == "replay_started":
                spec = value["replay"]
                ((pipeline, _),) = spec["starts"].items()
                self.replays[int(spec["id"])] = Replay(int(spec["id"]), pipeline, spec, list(self.versions[pipeline]))
            elif kind in ("replay_finished", "replay_cancelled") and int(value["replay"]["id"]) in self.replays:
                self.replays[int(value["replay"]["id"])].state = kind.removeprefix("replay_")
            elif kind in ("dead_replay", "dead_dropped"):
                parts = {(part["pipeline"], part["sink"]): int(part["version"]) for part in value.get("parts", [])}
                letters = Letters(int(value.get("letter_replay", 0)), value["name"], numbers_of(value["letters"]), parts)
                (self.again if kind == "dead_replay" else self.dropped).append(letters)

    def cut_over(self, value, replay):
        """A table that was made anew: the letters that it had are over."""
        obsolete = defaultdict(set)
        for pipeline, sinks in value["rebuilt"].items():
            stream = value["starts"][pipeline]["stream"]
            before = int(value["letters_before"][stream])
            self.rebuilt.update({(pipeline, sink): (before, int(value["version"]), replay) for sink in sinks})
            obsolete[stream] |= {number for number, letter in self.letters.get(stream, {}).items()
                                 if number < before and letter.get("pipeline") == pipeline and letter.get("sink") in sinks and letter.get("rebuild") != replay}
        for stream, numbers in obsolete.items():
            told = numbers_of(value.get("obsolete_letters", {}).get(stream, ""))
            holds(told == numbers, f"letters of {stream} that replay {replay} made obsolete: {sorted(numbers)}, told: {sorted(told)}")
            taken = {number for letters in [*self.again, *self.dropped] if letters.stream == stream for number in letters.numbers}
            self.dropped.append(Letters(0, stream, numbers - taken, {}))

    def chain(self, pipeline, version):
        return compiled(self.roots[version]["pipelines"][pipeline].get("filters"))

    def pipelines(self):
        return pipelines_of(self.roots[max(self.roots)])


# --- what must be there ------------------------------------------------------------------------------------------------------


def pipelines_of(root):
    """(name, stream, its sinks as (kind, options)) of each."""
    for name, pipeline in root["pipelines"].items():
        to = pipeline["to"] if isinstance(pipeline["to"], list) else [pipeline["to"]]
        sinks = [next(iter(sink.items())) for sink in to]
        yield name, pipeline["from"], [(kind, options if isinstance(options, dict) else {"name": options}) for kind, options in sinks]


def owner_of(versions, event):
    return next(version for index, version in reversed(list(enumerate(versions))) if index == 0 or version.owns(event))


def chain_in(folder, pipeline, event, since):
    """Of the version that owns the event in a sink, which has nothing of versions before `since`: 0, or the one that made it anew."""
    if not since:
        return owner_of(folder.versions[pipeline], event).chain
    later = [version for version in folder.versions[pipeline] if version.number > since and version.owns(event)]
    return later[-1].chain if later else folder.chain(pipeline, since)


def us_of(when):
    return round(datetime.fromisoformat(when).timestamp() * 1e6)


def tie_of(pipeline):
    """What decides between rows of one key that came at the same time from two pipelines: FNV-1a of the name (docs/decisions/0006-tables.md)."""
    number = 2166136261
    for byte in pipeline.encode():
        number = (number ^ byte) * 16777619 % 2**32
    return number


def in_order(event, rows, pipeline):
    """With what decides which row of a key is the newest."""
    return [((event.us, tie_of(pipeline), event.partition, event.offset, ordinal), row) for ordinal, row in enumerate(rows)]


class Sink:
    """One sink of a pipeline: the rows that it has got, and the letters that must and may be there."""

    def __init__(self, folder, pipeline, stream, sink):
        self.folder, self.pipeline, self.stream, self.sink = folder, pipeline, stream, sink
        self.letters_before, self.since, self.rebuild = folder.rebuilt.get((pipeline, sink), (0, 0, 0))
        self.rows = []     # ((us, tie, partition, offset, ordinal), row)
        self.refused = {}  # (partition, offset): filter, of the versions that own the events
        self.events = {(event.partition, event.offset): event for event in folder.streams[stream]}
        for event in folder.streams[stream]:
            if refusing := self.take(event, chain_in(folder, pipeline, event, self.since)):
                self.refused[event.partition, event.offset] = refusing
        self.again = {}    # number of a letter: whether its replay was refused
        for replay in folder.again:
            if replay.stream == stream and (pipeline, sink) in replay.parts:
                self.send_again(replay)

    def take(self, event, chain):
        rows, refusing = run_chain(chain, event.row())
        self.rows += in_order(event, rows, self.pipeline)
        return refusing

    def send_again(self, replay):
        chain = self.folder.chain(self.pipeline, replay.parts[self.pipeline, self.sink])
        for number in sorted(replay.numbers):
            letter = self.folder.letters[self.stream][number]
            if (letter.get("pipeline"), letter.get("sink")) != (self.pipeline, self.sink):
                continue
            if not self.holds(number, letter):
                continue  # the table was made anew since, which ran the event
            event = self.events[letter["partition"], letter["offset"]]
            self.again[number] = self.take(event, chain) is not None

    def holds(self, number, letter):
        """Whether a letter concerns the table as it is: it is of the rebuild that made it, or came later."""
        return letter["rebuild"] == self.rebuild if "rebuild" in letter else number >= self.letters_before

    def check_letters(self):
        place = lambda letter: (letter["partition"], letter["offset"])  # noqa: E731
        letters = {number: letter for number, letter in self.folder.letters.get(self.stream, {}).items()
                   if (letter.get("pipeline"), letter.get("sink")) == (self.pipeline, self.sink)}
        what = f"letters of {self.pipeline}, {self.sink}"
        first = {number: letter for number, letter in letters.items() if not letter.get("replay")}
        at = Counter((*place(letter), letter["filter"]) for number, letter in first.items() if self.holds(number, letter))
        same(what, at, Counter((*where, name) for where, name in self.refused.items()))
        for letter in first.values():
            chain = compiled(self.folder.rebuilds[letter["rebuild"]][self.pipeline].get("filters")) if "rebuild" in letter else self.folder.chain(self.pipeline, letter["version"])
            _, refusing = run_chain(chain, self.events[place(letter)].row())
            holds(refusing == letter["filter"], f"{what}: {letter} is refused by {refusing}")
        new = Counter(letter["replay_of"] for letter in letters.values() if letter.get("replay"))
        for number, refused in self.again.items():
            holds(new[number] == refused, f"{what}: letter {number} was sent again, refused: {refused}; new letters: {new[number]}")


class Past:
    """What `_control` says of a moment: who lived, what had been made anew, and how far those had come that were gone."""

    def __init__(self, folder, moment):
        self.folder = folder
        self.roots, self.rebuilt, self.removed, self.gone = {}, {}, {}, set()
        for place, value in enumerate(folder.control):
            if us_of(value["when"]) > moment:
                break
            if value["kind"] not in ("apply", "cutover"):
                continue
            live = value["root"]["pipelines"]
            for name in {*self.roots, *live}:
                if name in live:
                    self.roots[name] = value["root"]
                    self.removed.pop(name, None)
                    self.gone = {sink for sink in self.gone if sink[0] != name}
                else:
                    self.removed.setdefault(name, place)
            for name, sinks in value.get("rebuilt", {}).items():
                self.rebuilt.update({(name, sink): int(value["version"]) for sink in sinks})
                self.gone |= {(removed, sink) for removed in self.removed for sink in sinks}

    def pipelines(self):
        for name, root in self.roots.items():
            yield from (each for each in pipelines_of(root) if each[0] == name)

    def chain_of(self, pipeline, sink, event):
        """Of the version that owned the event, be it a later one: it may have waited."""
        return chain_in(self.folder, pipeline, event, self.rebuilt.get((pipeline, sink), 0))

    def limit(self, pipeline, sink):
        """The offset below which the sink had the events of a partition; None: not known."""
        if pipeline not in self.removed:
            return lambda partition: 1 << 62
        if (pipeline, sink) in self.gone:
            return lambda partition: 0
        for value in self.folder.control[self.removed[pipeline]:]:
            if value.get("name") == pipeline and (value["kind"] == "activated" or (value["kind"], value.get("sink")) == ("pipeline_ended", sink)):
                return lambda partition, stood=offsets(value["boundary"]): stood.get(partition, 0)
        return None


class Oracle:
    def __init__(self, folder):
        self.folder, self.tables = folder, {}
        self.sinks = []
        writers = defaultdict(list)
        for pipeline, stream, sinks in folder.pipelines():
            for kind, options in sinks:
                sink = Sink(folder, pipeline, stream, f"{kind}:{options['name']}")
                self.sinks.append(sink)
                writers[kind, options["name"]].append((sink, options))
        self.derived = {}
        for (kind, name), parts in writers.items():
            rows = [row for sink, _ in parts for row in sink.rows]
            if kind == "table":
                self.tables[name] = self.table(rows, parts[0][1])
            else:
                self.derived[name] = rows
        for replay in folder.replays.values():
            self.take_replay(replay)

    @staticmethod
    def table(rows, options):
        key = options.get("key")
        if not key:
            return Counter(row for _, row in rows)
        groups = defaultdict(list)
        for _, row in sorted(rows, key=lambda each: each[0]):
            groups[getattr(row, key)].append(row)
        if "values" not in options:
            return Counter(group[-1] for group in groups.values())
        known = {group: [row.n for row in members if row.n is not None] for group, members in groups.items()}
        return Counter((group, len(members), sum(known[group]) if known[group] else None, members[-1].id) for group, members in groups.items())

    def take_replay(self, replay):
        into = replay.spec["into"]
        if "table" not in into or replay.state != "finished":
            return
        options = into["table"] if isinstance(into["table"], dict) else {"name": into["table"]}
        start, end = replay.spec["starts"][replay.pipeline], replay.spec["ends"][replay.pipeline]
        first, last = offsets(start["next"]), offsets(end["next"])
        own = compiled(replay.spec["filters"]) if "filters" in replay.spec else None
        rows = []
        for event in self.folder.streams[start["stream"]]:
            if first.get(event.partition, 0) <= event.offset < last[event.partition]:
                made, _ = run_chain(owner_of(replay.versions, event).chain if own is None else own, event.row())
                rows += in_order(event, made, replay.pipeline)
        self.tables[options["name"]] = self.table(rows, options)

    def past(self, moment, ends):
        """Tables as of a moment, in µs: of the events below `ends`, by stream and partition, by the versions that owned them; of pipelines that had been
        removed by then as far as they had come. None where that is not known yet."""
        past = Past(self.folder, moment)
        writers = defaultdict(list)
        for pipeline, stream, sinks in past.pipelines():
            for kind, options in sinks:
                if kind == "table":
                    writers[options["name"]].append((pipeline, stream, options))
        for name, parts in writers.items():
            rows, known = [], True
            for pipeline, stream, _ in parts:
                limit = past.limit(pipeline, f"table:{name}")
                known = known and limit is not None
                for event in self.folder.streams[stream] if limit is not None else ():
                    if event.offset < min(ends[stream].get(event.partition, 0), limit(event.partition)):
                        rows += in_order(event, run_chain(past.chain_of(pipeline, f"table:{name}", event), event.row())[0], pipeline)
            yield name, self.table(rows, parts[0][2]) if known else None

    def check(self):
        for sink in self.sinks:
            sink.check_letters()
        for name, rows in self.derived.items():
            values = [json.loads(event.data) for event in self.folder.streams[name]]
            same(f"stream {name}", Counter(Row(**value) for value in values), Counter(row for _, row in rows))

    def open_letters(self, stream):
        taken = [number for letters in [*self.folder.again, *self.folder.dropped] if letters.stream == stream for number in letters.numbers]
        holds(len(taken) == len(set(taken)), f"a letter of {stream} was taken twice: {Counter(taken).most_common(1)}")
        return len(self.folder.letters.get(stream, {})) - len(taken)

    def check_ingest(self, stream, sent):
        """`sent`: each line by its id, None where it is no JSON. Each stands once in the stream, or is a letter; a letter that was sent again is one of both."""
        events, letters = self.folder.streams[stream], self.folder.letters.get(stream, {})
        refused = {number: letter for number, letter in letters.items() if not letter.get("pipeline")}
        in_log = Counter(event.data for event in events)
        holds(all(count == 1 for count in in_log.values()), f"twice in {stream}: {in_log.most_common(1)}")
        again = {number for replay in self.folder.again if replay.stream == stream for number in replay.numbers if number in refused}
        new = Counter(letter["replay_of"] for letter in refused.values() if "replay_of" in letter)
        came = Counter(json.loads(event.extensions)["replayof"] for event in events if "replayof" in event.extensions)
        for number in refused:
            total = new[number] + came[f"{stream}/{number}"]
            holds(total == (number in again), f"letter {number} of {stream}: sent again {number in again}, and {total} came of it")
        first = Counter(letter["data"].encode() for letter in refused.values() if "replay_of" not in letter)
        direct = Counter(event.data for event in events if "replayof" not in event.extensions)
        same(f"lines of {stream}", direct + first, Counter(sent))
