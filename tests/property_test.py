"""Any cut of batches gives the same rows: random events, requests, kills, restarts and pauses against a row-at-a-time oracle.

The seed of a failure is in its test's name and its message; MILLSTREAM_SEED=N runs that one alone.
"""

import http.client
import json
import os
import random
import subprocess
import threading
from collections import Counter
from decimal import Decimal

import pytest
from property_oracle import COUNTRIES, Oracle, click, sale

from harness import BINARY, VERB_SECONDS_MAX, environment, eventually

PROJECT = """
server: {limits: {batch_events: BATCH}}
streams:
  countries: {contract: {code: varchar, name: varchar, rate: "decimal(6,4)"}}
  sales:
    key: customer
    partitions: 3
    contract:
      id: varchar not null
      customer: varchar not null
      op: varchar
      amount: decimal(12,2) check (amount >= 0)
      price: varchar
      qty: integer
      country: varchar
      note: varchar
      lines: struct(sku varchar, qty integer)[]
  clicks: {partitions: 2, key: user}
  derived: {partitions: TARGETS, key: customer}
pipelines:
  countries: {from: countries, to: {table: countries}}
  lines:
    from: sales
    filters:
      - kept: |
          SELECT id, CASE WHEN amount IS NULL THEN 'none' WHEN amount >= 50 THEN 'big' ELSE 'small' END AS size, lines
          FROM input WHERE op IS DISTINCT FROM 'd'
      - each: SELECT id, size, l.sku AS sku, l.qty * 2 AS twice FROM (SELECT id, size, UNNEST(lines) AS l FROM input)
    to: {table: lines}
  priced:
    from: sales
    filters:
      - sold: SELECT id, customer, price, qty FROM input WHERE op IS NULL OR op <> 'd'
      - cost: SELECT id, customer, CAST(price AS DECIMAL(12,2)) * qty AS cost FROM input
    to:
      - table: priced
      - table:
          name: spend
          key: customer
          values: {n: count(*), total: sum(cost), low: min(cost), high: max(cost), latest: last(id)}
  newest:
    from: sales
    filters:
      - noted: SELECT customer, id, amount, coalesce(note, '-') || '/' || length(coalesce(note, '')) AS note, op FROM input
    to: {table: {name: newest, key: customer, delete_when: op = 'd'}}
  taxed:
    from: sales
    filters:
      - tax: |
          SELECT i.id, c.name, i.amount * c.rate AS tax FROM input i LEFT JOIN countries c ON c.code = i.country
          WHERE c.rate IS NULL OR c.rate > 0.05
    to: {table: taxed}
  chain:
    from: sales
    filters:
      - parts: SELECT id, customer, UNNEST(CASE WHEN amount < 100 THEN [1, 2] ELSE [3] END) AS part, amount FROM input
    to: {stream: {name: derived, key: customer}}
  derived:
    from: derived
    filters:
      - typed: SELECT data->>'$.id' AS id, data->>'$.customer' AS customer, CAST(data->>'$.part' AS INTEGER) AS part FROM input
    to:
      - table: derived_table
      - table: {name: chained, key: customer, values: {n: count(*), total: sum(part), latest: last(id), part: last(part)}}
  clicks:
    from: clicks
    filters:
      - typed: |
          SELECT data->>'$.id' AS id, data->>'$.user' AS "user", CAST(data->>'$.n' AS BIGINT) AS n, data->>'$.at.city' AS city,
                 data->'$.tags' AS tags FROM input WHERE data->>'$.user' IS NOT NULL
      - tagged: SELECT id, "user", n, city, UNNEST(CAST(tags AS VARCHAR[])) AS tag FROM input
    to: {table: clicks}
"""
COLUMNS = {
    "lines": "id, size, sku, twice",
    "priced": "id, cost",
    "spend": "customer, n, total, low, high, latest",
    "newest": "customer, id, amount, note",
    "taxed": "id, name, tax",
    "derived_table": "id, part",
    "chained": "customer, n, total, latest, part",
    "clicks": "id, \"user\", n, city, tag",
}
PIPELINES = ["lines", "priced", "newest", "taxed", "chain", "derived", "clicks"]
SEEDS = [int(os.environ["MILLSTREAM_SEED"])] if "MILLSTREAM_SEED" in os.environ else [1, 2, 3]
SALES, CLICKS = 700, 350
LOST = (OSError, http.client.HTTPException, json.JSONDecodeError)


class Storm:
    """Sends chunks of events in order, each until it is taken, while the server is killed, restarted and paused around it."""

    def __init__(self, project, seed, targets):
        self.random = random.Random(seed)
        self.targets = targets
        self.project = project({"millstream.yaml": self.text(8)})
        self.server = self.project.server()
        self.killer = None
        self.happened = Counter()
        self.requests = 0

    def text(self, batch):
        return PROJECT.replace("BATCH", str(batch)).replace("TARGETS", str(self.targets))

    def start(self):
        """With another size of batches each time; again, if it is killed on its way."""
        while True:
            self.project.write({"millstream.yaml": self.text(self.random.choice([1, 2, 3, 7, self.random.randint(8, 64)]))})
            try:
                return self.server.start()
            except RuntimeError:
                if self.server.process.returncode != -9:
                    raise
                self.happened["killed at start"] += 1

    def arm(self):
        """Kills the server, or the one after it, within a moment."""
        self.disarm()

        def kill():
            process = self.server.process
            if process.poll() is None:
                process.kill()
                process.wait()
                self.happened["kill"] += 1
        self.killer = threading.Timer(self.random.choice([0.01, 0.05, 0.4]) * self.random.random(), kill)
        self.killer.start()

    def disarm(self):
        if self.killer:
            self.killer.cancel()
            self.killer.join()
        if self.server.process.poll() is not None:
            self.start()

    def surely(self, what):
        """Calls `what` until it is answered; a killed server is started first."""
        while True:
            try:
                return what()
            except LOST:
                assert self.server.process.wait(10) == -9, self.server.stderr()[-4000:]
                self.happened["lost answer"] += 1
                self.start()

    def post(self, stream, events):
        self.requests += 1
        headers = {"Idempotency-Key": f"k{self.requests}"}
        body = "".join(event.line + "\n" for event in events).encode()
        answer = self.surely(lambda: self.server.ingest(stream, body, headers))
        refused = sum(event.refused is not None for event in events)
        assert (answer["accepted"], answer["quarantined"]) == (len(events) - refused, refused), answer

    def take_file(self, stream, events):
        """By the verb: beside a server that may die, or without one and killed itself; again until it says that it is done."""
        self.requests += 1
        name = f"file{self.requests}.ndjson"
        self.project.write({name: "".join(event.line + "\n" for event in events)})
        alone = self.random.random() < 0.4
        if alone:
            self.disarm()
            self.server.stop()
        arguments = [BINARY, "ingest", stream, name, *(["--no-deliver"] if self.random.random() < 0.5 else [])]
        for attempt in range(10):
            verb = subprocess.Popen(arguments, cwd=self.project.folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            if alone and attempt < 2:
                threading.Timer(self.random.random() * 0.5, verb.kill).start()
            said = verb.communicate(timeout=VERB_SECONDS_MAX)[1].decode(errors="replace")
            self.happened["file"] += 1
            if self.server.process.poll() is not None and not alone:
                self.start()
            if verb.returncode == 0:
                break
            self.happened["file again"] += 1
            assert verb.returncode in (-9, 3, 1, 74), (verb.returncode, said)
        else:
            raise AssertionError(f"not taken: {said}")
        if alone:
            self.start()

    def pause_or_resume(self):
        verb, name = self.random.choice(["pause", "resume"]), self.random.choice(PIPELINES)
        self.surely(lambda: self.server.http("POST", f"/v1/pipelines/{name}/{verb}"))
        self.happened[verb] += 1

    def restart(self):
        self.disarm()
        self.server.stop()
        self.start()
        self.happened["restart"] += 1

    def chunks(self, stream, events):
        begin = 0
        while begin < len(events):
            size = self.random.choice([1, self.random.randint(2, 30), self.random.randint(30, 150), self.random.randint(1, 500)])
            yield stream, events[begin:begin + size]
            begin += size

    def send(self, sales, clicks):
        """The events of a stream go in their order, one chunk after another; streams by turns."""
        queues = [list(self.chunks("sales", sales)), list(self.chunks("clicks", clicks))]
        while any(queues):
            queue = self.random.choice([queue for queue in queues if queue])
            stream, events = queue.pop(0)
            for step, odds in ((self.arm, 0.4), (self.pause_or_resume, 0.3), (self.restart, 0.08)):
                if self.random.random() < odds:
                    step()
            (self.take_file if self.random.random() < 0.15 else self.post)(stream, events)
        self.disarm()
        for name in PIPELINES:
            assert self.server.http("POST", f"/v1/pipelines/{name}/resume").status == 200

    def rows(self, sql):
        """A multiset of tuples, numbers exact."""
        answer = self.server.http("POST", "/v1/query", {"sql": sql})
        assert answer.status == 200, answer.body
        return Counter(tuple(row.values()) for row in json.loads(answer.body, parse_float=Decimal)["rows"])

    def dead(self):
        letters = Counter()
        for stream in ("sales", "clicks", "derived", "countries"):
            listed = self.server.http("GET", f"/v1/dead/{stream}?limit=100000").json()
            assert len(listed["letters"]) == listed["total"]
            for letter in listed["letters"]:
                data = self.server.http("GET", f"/v1/dead/{stream}/{letter['number']}").json()["data"]
                letters[data, letter["at"], letter["code"], letter.get("path", ""), letter.get("sink", "")] += 1
        return letters

    def is_delivered(self):
        return not any(lag for (lag,) in self.rows("SELECT lag_events FROM _pipelines"))


def same(what, actual, expected):
    missing, more = expected - actual, actual - expected
    assert not missing and not more, (
        f"{what}: {missing.total()} rows are missing, such as {list(missing)[:3]}; {more.total()} too many, such as {list(more)[:3]}")


def compare(storm, oracle):
    for table, columns in COLUMNS.items():
        same(table, storm.rows(f"SELECT {columns} FROM {table}"), oracle.tables[table])
    stream = storm.server.http("POST", "/v1/query", {"sql": "SELECT data, ce_id FROM _streams.derived"})
    rows = [(row["ce_id"], row["data"]) for row in json.loads(stream.body, parse_float=Decimal)["rows"]]
    assert len({ce_id for ce_id, _ in rows}) == len(rows), "the chained stream holds a ce_id twice"
    same("derived", Counter(tuple(data[name] for name in ("id", "customer", "part", "amount")) for _, data in rows), oracle.tables["derived"])
    same("dead letters", storm.dead(), oracle.dead)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("targets", [1, 2])
def test_any_cut_gives_the_same_rows(project, seed, targets):
    storm = Storm(project, seed, targets)
    events = random.Random(-seed - 1)
    sales = [sale(events, number) for number in range(SALES)]
    clicks = [click(events, number) for number in range(CLICKS)]
    oracle = Oracle()
    oracle.sales(sales)
    oracle.clicks(clicks)
    try:
        storm.start()
        names = ("code", "name", "rate")
        position = storm.server.ingest("countries", [dict(zip(names, row, strict=True)) for row in COUNTRIES])["position"]
        storm.server.query("SELECT 1 FROM countries", wait=position)  # at rest before anything is looked up in it
        storm.send(sales, clicks)
        eventually(lambda: storm.is_delivered() and storm.is_delivered(), 60)
        eventually(lambda: compare(storm, oracle) is None, 5)
        storm.restart()
        eventually(storm.is_delivered, 30)
        compare(storm, oracle)
        storm.server.stop()
        assert storm.project.verb("verify", "--log").code == 0
    except BaseException:
        print(f"MILLSTREAM_SEED={seed}; {dict(storm.happened)}")
        raise
    finally:
        if storm.killer:
            storm.killer.cancel()
    print(dict(storm.happened))


FORKED = """
server: {limits: {batch_events: 1}}
streams:
  one: {}
  two: {partitions: 2, key: k}
pipelines:
  chain:
    from: one
    filters:
      - f: SELECT data->>'$.k' AS k, data->>'$.n' AS n FROM input
    to: {stream: {name: two, key: k}}
"""


def test_a_chain_into_two_partitions_starts_again_without_doubling(project):
    shop = project({"millstream.yaml": FORKED})
    # All lie in one partition, so the other one's receipt stays behind.
    shop.verb("ingest", "one", "-", "--format", "ndjson", stdin="".join(f'{{"k":"w","n":{n}}}\n' for n in range(5)))
    for _ in range(3):
        rows = shop.verb("query", "SELECT data->>'$.n' AS n FROM _streams.two ORDER BY 1", "--format", "ndjson").lines()
        assert [row["n"] for row in rows] == ["0", "1", "2", "3", "4"]
        shop.verb("run", "--once")
