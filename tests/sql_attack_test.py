"""SQL as an attack (F13): what nobody may do is denied by name, as query and as filter; queries without end, and those that are heavy within one vector of
rows, end at their deadline or are refused, the memory stays bounded, and pipelines go on beside. A filter that is too heavy for an event makes a dead letter of it."""

import contextlib
import http.client
import threading
import time

import pytest

import sql_attacks
from harness import SLOWNESS, stretch
from sizes import size

DEADLINE_SECONDS, GRACE_SECONDS = 1, 1
# server.memory, what the process may hold beyond it (src/sql/allowance.cc), and what one allocation is late by.
RESIDENT_MIB_MAX = 512 + 512 + 128
PROJECT = """
server: {memory: 512MiB, query: {deadline: 1s, concurrent: 4}}
streams:
  events: {contract: {id: varchar, n: bigint, note: varchar}}
  others: {contract: {id: varchar, n: bigint}}
pipelines:
  rows:
    from: events
    filters:
      - keep: SELECT * FROM input
    to: {table: {name: rows, key: id}}
  others:
    from: others
    to: {table: {name: others, key: id}}
"""


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """One server for all statements: what it loses to one of them, the next ones show."""
    from harness import Project
    project = Project(tmp_path_factory.mktemp("attack") / "project", {"millstream.yaml": PROJECT})
    with project.server() as server:
        position = server.ingest("events", [{"id": str(i), "n": i, "note": "x" * (i % 50)} for i in range(3_000)])["position"]
        server.query("SELECT count(*) FROM rows", wait=position, timeout="30s")
        yield server
        assert server.query("SELECT count(*) AS n FROM rows WHERE NOT starts_with(id, 'table')") == [{"n": 3_000}]
    project.close()


def ask(server, sql):
    """Status and detail of a query."""
    answer = server.http("POST", "/v1/query", {"sql": sql}, timeout=30 * SLOWNESS)
    return answer.status, "" if answer.status == 200 else answer.json()["detail"]


def put_filter(server, sql):
    """The same of a filter, by its faults too."""
    answer = server.http("PUT", "/v1/pipelines/rows/filters/attack", sql.encode(), {"Content-Type": "application/sql"}, timeout=60 * SLOWNESS)
    said = answer.json()
    return answer.status, said.get("detail", "") + " ".join(fault["message"] for fault in said.get("faults", []))


@pytest.mark.parametrize("sql", sql_attacks.DENIED, ids=lambda sql: sql[:40])
def test_what_nobody_may_do_is_denied_by_name(attacked, sql):
    status, detail = ask(attacked, sql)
    assert 400 <= status < 500 and status != 429, (status, detail)
    assert not sql.strip(" ;") or sql_attacks.DENIED[sql].lower() in detail.lower(), detail
    status, detail = put_filter(attacked, sql or " ")
    assert 400 <= status < 500 and status != 429 and detail, (status, detail)
    assert attacked.process.poll() is None, attacked.stderr()[-2000:]


@pytest.mark.parametrize("name", sql_attacks.ENDLESS)
def test_queries_without_end_end(attacked, name):
    begun = time.monotonic()
    try:
        status, detail = ask(attacked, sql_attacks.ENDLESS[name])
        assert status in (429, 504), (status, detail)  # memory, or the deadline
    except http.client.IncompleteRead:
        pass  # an answer that had begun is cut off
    assert time.monotonic() - begun < (DEADLINE_SECONDS + GRACE_SECONDS) * stretch()
    assert attacked.process.poll() is None, attacked.stderr()[-2000:]


def resident_mib(server):
    """The most that the process ever held."""
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))


@pytest.mark.parametrize("name", sql_attacks.HEAVY_QUERIES)
def test_what_is_heavy_within_a_vector_ends(attacked, name):
    begun = time.monotonic()
    status, detail = ask(attacked, sql_attacks.HEAVY_QUERIES[name])
    took = time.monotonic() - begun
    assert status in (422, 429, 504), (status, detail)  # refused by name, memory, or the deadline
    assert took < (DEADLINE_SECONDS + GRACE_SECONDS) * stretch()
    assert attacked.process.poll() is None, attacked.stderr()[-2000:]
    assert resident_mib(attacked) < RESIDENT_MIB_MAX


def letters_of_attack(server):
    return sum(letter["at"] == "rows.attack" for letter in server.http("GET", "/v1/dead/events?limit=1000").json()["letters"])


@pytest.mark.parametrize("name", sql_attacks.HEAVY_FILTERS)
def test_what_is_too_heavy_for_an_event_makes_a_dead_letter(attacked, name):
    sql = f"SELECT * FROM input WHERE ({sql_attacks.HEAVY[name]}) IS NOT NULL"
    status, detail = put_filter(attacked, sql)
    try:
        if status == 200:
            begun, before = time.monotonic(), letters_of_attack(attacked)
            position = attacked.ingest("events", [{"id": f"heavy {name}", "n": 2_999, "note": "x" * 49}])["position"]
            beside = attacked.ingest("others", [{"id": name, "n": 1}])["position"]
            assert attacked.http("GET", f"/v1/wait?position={beside}&table=others&timeout=30s").status == 200
            assert attacked.http("GET", f"/v1/wait?position={position}&table=rows&timeout=30s").status == 200
            took = time.monotonic() - begun
            assert letters_of_attack(attacked) == before + 1
            assert took < 10 * stretch()
        else:
            assert status == 422, (status, detail)
    finally:
        attacked.http("DELETE", "/v1/pipelines/rows/filters/attack")
    assert attacked.process.poll() is None, attacked.stderr()[-2000:]
    assert resident_mib(attacked) < RESIDENT_MIB_MAX


@pytest.mark.parametrize("name", sql_attacks.HEAVY_VALUES)
def test_what_a_table_computes_is_bounded_too(attacked, name):
    """`values` and `delete_when` run when a table takes its rows: of an event that is too heavy for them a dead letter is made, and the others are there."""
    heavy, table = sql_attacks.HEAVY[name], f"heavy{sql_attacks.HEAVY_VALUES.index(name)}"
    pipeline = {"from": "events", "start": "latest", "filters": [{"mine": f"SELECT * FROM input WHERE starts_with(id, 'table {name}')"}],
                "to": [{"table": {"name": table, "key": "id", "values": {"events": "count(*)", "most": f"max({heavy})"}}},
                       {"table": {"name": table + "_rows", "key": "id", "delete_when": f"({heavy}) IS NULL"}}]}
    answer = attacked.http("PUT", "/v1/pipelines/heavy", pipeline, timeout=60 * SLOWNESS)
    try:
        assert answer.status == 200, answer.body
        begun = time.monotonic()
        events = [{"id": f"table {name} {n}", "n": n, "note": "x" * 49} for n in (1, 2_999, 2)]
        position = attacked.ingest("events", events)["position"]
        for each in (table, table + "_rows"):
            rows = attacked.query(f"SELECT id FROM {each} ORDER BY id", wait=position, timeout="30s")
            assert rows == [{"id": f"table {name} 1"}, {"id": f"table {name} 2"}], rows
        assert time.monotonic() - begun < 10 * stretch()
        letters = [letter for letter in attacked.http("GET", "/v1/dead/events?limit=1000").json()["letters"] if letter["sink"].startswith(f"table:{table}")]
        assert len(letters) == 2, letters
    finally:
        attacked.http("DELETE", "/v1/pipelines/heavy")
    assert attacked.process.poll() is None, attacked.stderr()[-2000:]
    assert resident_mib(attacked) < RESIDENT_MIB_MAX


def p99_seconds(server, seconds):
    """From an event's sending until its row is in the table, 99 of 100."""
    took, until, i = [], time.monotonic() + seconds, 0
    while time.monotonic() < until:
        begun = time.monotonic()
        position = server.ingest("others", [{"id": str(i % 100), "n": i}])["position"]
        assert server.http("GET", f"/v1/wait?position={position}&table=others").status == 200
        took.append(time.monotonic() - begun)
        i += 1
    return sorted(took)[len(took) * 99 // 100]


def test_pipelines_go_on_beside_queries_without_end(attacked):
    quiet = p99_seconds(attacked, size("attack_seconds") / 2)
    until, done = time.monotonic() + size("attack_seconds"), [0]

    def attack():
        while time.monotonic() < until:
            for sql in sql_attacks.ENDLESS.values():
                with contextlib.suppress(OSError, http.client.HTTPException):
                    ask(attacked, sql)
                done[0] += 1
                if time.monotonic() > until:
                    return

    attackers = [threading.Thread(target=attack) for _ in range(2)]
    for attacker in attackers:
        attacker.start()
    beside = p99_seconds(attacked, size("attack_seconds"))
    for attacker in attackers:
        attacker.join()
    print(f"p99 {1000 * quiet:.1f} ms quiet, {1000 * beside:.1f} ms beside {done[0]} queries")
    # The goal, less than doubled, is not asked for: it hangs on what else the machine does. It must not stand still.
    assert beside < 2 * SLOWNESS
