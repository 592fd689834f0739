"""Commands: decided over tables that hold every earlier event of the key, appended once, refused with the reason.

The bank's balance never falls below zero, whatever clients, plain events and SIGKILL do: that is recomputed from the bytes of the log by
log_reader.py, event by event in their order.
"""

import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections import defaultdict
from decimal import Decimal

import harness
from poison_test import cpu_seconds

BANK = (harness.ROOT / "examples" / "bank" / "millstream.yaml").read_text().replace("      file: deposits.ndjson", "      file: none.ndjson")
LOG_READER = harness.ROOT / "tests" / "log_reader.py"


def command(server, name, body, headers=None, query=""):
    return server.http("POST", f"/v1/commands/{name}{query}", body, headers)


def events_of(project):
    """Of the log, per account in the order of offsets: (type, amount)."""
    read = subprocess.run([sys.executable, LOG_READER, project.data / "log", "accounts"], capture_output=True, check=True)
    accounts = defaultdict(list)
    for line in read.stdout.splitlines():
        data = json.loads(line)["data"]
        data = json.loads(data, parse_float=Decimal) if isinstance(data, str) else data
        accounts[data["account"]].append((data["type"], Decimal(str(data["amount"]))))
    return accounts


def check_balances(accounts):
    """Never below zero after a withdrawal by a command; returns the last balances."""
    balances = {}
    for account, events in accounts.items():
        balance = Decimal(0)
        for kind, amount in events:
            balance += amount if kind == "deposited" else -amount
            assert balance >= 0, (account, events)
        balances[account] = balance
    return balances


def table_of(server):
    rows = server.query("SELECT account, balance::VARCHAR AS balance FROM balances")
    return {row["account"]: Decimal(row["balance"]) for row in rows}


def test_decides_over_what_came_before(project):
    bank = project({"millstream.yaml": BANK})
    with bank.server() as server:
        assert command(server, "withdraw", {"account": "a", "amount": 1}).status == 409  # nothing is there yet
        first = command(server, "deposit", {"account": "a", "amount": 10})
        assert first.status == 200, first.body
        assert first.json()["events"] == 1
        partition, _, offset = first.json()["position"].partition("/")[2].partition(":")
        assert first.json()["version"] == offset and first.headers["ETag"] == f'"{offset}"'
        assert command(server, "withdraw", {"account": "a", "amount": 7}).status == 200
        refused = command(server, "withdraw", {"account": "a", "amount": 7})
        assert (refused.status, refused.json()["code"], refused.json()["detail"]) == (409, "refused", "not enough money")
        assert refused.headers["Content-Type"] == "application/problem+json"
        server.ingest("accounts", [{"account": "a", "type": "deposited", "amount": 4}])
        held = command(server, "withdraw", {"account": "a", "amount": 7}, query="?wait_table=balances")
        assert held.status == 200
        assert server.query("SELECT entries FROM balances WHERE account = 'a'") == [{"entries": 4}]
        event = server.http("GET", f"/v1/streams/accounts/events?from=accounts/{partition}:{held.json()['version']}&limit=1").lines()[0]
        assert (event["source"], event["type"]) == ("/v1/commands/withdraw", "withdrawn")
    assert check_balances(events_of(bank)) == {"a": 0}


def test_rows_that_were_folded_and_rows_that_were_not(project):
    bank = project({"millstream.yaml": BANK})
    bank.write({"deposits.ndjson": "".join(f'{{"account":"a{i}","type":"deposited","amount":3}}\n' for i in range(500))})
    bank.verb("ingest", "accounts", "deposits.ndjson")
    with bank.server() as server:
        for _ in range(3):
            for i in range(20):
                answer = command(server, "withdraw", {"account": f"a{i}", "amount": 1})
                assert answer.status == 200, answer.body
        assert command(server, "withdraw", {"account": "a7", "amount": 1}).status == 409
    assert check_balances(events_of(bank))["a7"] == 0


def test_what_is_refused_before_it_is_decided(project):
    bank = project({"millstream.yaml": BANK})
    with bank.server() as server:
        wrong = command(server, "deposit", {"account": "a", "amount": "many"})
        assert (wrong.status, wrong.json()["faults"][0]["path"]) == (422, "/amount")
        assert command(server, "deposit", {"amount": 1}).json()["faults"][0]["path"] == "/account"
        assert command(server, "deposit", {"account": "a", "amount": -1}).status == 422
        assert [fault["path"] for fault in command(server, "deposit", {"amount": "many"}).json()["faults"]] == ["/account", "/amount"]
        assert command(server, "deposit", b"{", {"Content-Type": "application/json"}).status == 422
        missing = command(server, "desposit", {"account": "a", "amount": 1})
        assert missing.status == 404 and "did you mean 'deposit'?" in missing.json()["detail"]
        assert command(server, "deposit", {"account": "a", "amount": 1}, {"If-Match": "x"}).status == 400
        assert command(server, "deposit", {"account": "a", "amount": 1}, query="?wait_table=nothing").status == 404
        assert command(server, "deposit", b"a=1", {"Content-Type": "application/x-www-form-urlencoded"}).status == 415
    assert not events_of(bank)


def test_versions(project):
    bank = project({"millstream.yaml": BANK})
    with bank.server() as server:
        version = command(server, "deposit", {"account": "a", "amount": 10}).json()["version"]
        second = command(server, "deposit", {"account": "a", "amount": 1}, {"If-Match": f'"{version}"'})
        assert second.status == 200
        stale = command(server, "deposit", {"account": "a", "amount": 1}, {"If-Match": f'"{version}"'})
        assert (stale.status, stale.json()["code"], stale.json()["version"]) == (412, "version", second.json()["version"])
        assert command(server, "deposit", {"account": "b", "amount": 1}, {"If-Match": version}).status == 412
        server.kill()
        server.start()  # versions of before are found in the log
        assert command(server, "deposit", {"account": "a", "amount": 1}, {"If-Match": f'"{version}"'}).status == 412
        third = command(server, "deposit", {"account": "a", "amount": 1}, {"If-Match": second.json()["version"]})
        assert third.status == 200
        # Of many who saw the same version one wins.
        outcomes = []
        def race():
            outcomes.append(command(server, "deposit", {"account": "a", "amount": 1}, {"If-Match": third.json()["version"]}).status)
        threads = [threading.Thread(target=race) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == [200] + 11 * [412]


def test_versions_of_before_the_start_hold_nobody_up(project):
    bank = project({"millstream.yaml": BANK})
    bank.write({"deposits.ndjson": "".join(f'{{"account":"a{i % 5000}","type":"deposited","amount":3}}\n' for i in range(100_000))})
    bank.verb("ingest", "accounts", "deposits.ndjson")
    with bank.server() as server:
        ends = {each["partition"]: each["end"] for each in server.http("GET", "/v1/streams/accounts").json()["status"]["partitions"]}
        outcomes = []

        def ask(account, version):
            outcomes.append(command(server, "deposit", {"account": account, "amount": 1}, {"If-Match": str(version)}))
        threads = [threading.Thread(target=ask, args=(f"a{i}", i % 3)) for i in range(40)]
        for thread in threads:
            thread.start()
        # Others go on meanwhile.
        assert command(server, "deposit", {"account": "other", "amount": 1}).status == 200
        for thread in threads:
            thread.join()
        assert {answer.status for answer in outcomes} == {412}
        versions = [int(answer.json()["version"]) for answer in outcomes]
        assert all(version < max(ends.values()) for version in versions)
        again = command(server, "deposit", {"account": "a7", "amount": 1}, {"If-Match": "0"}).json()["version"]
        assert command(server, "deposit", {"account": "a7", "amount": 1}, {"If-Match": again}).status == 200


def test_idempotency_key(project):
    bank = project({"millstream.yaml": BANK})
    with bank.server() as server:
        body, key = {"account": "a", "amount": 5}, {"Idempotency-Key": "k1"}
        first = command(server, "deposit", body, key)
        again = command(server, "deposit", body, key)
        assert again.json() == first.json() and again.headers["Idempotent-Replayed"] == "true"
        assert "Idempotent-Replayed" not in first.headers
        assert command(server, "deposit", {"account": "a", "amount": 6}, key).status == 422
        assert command(server, "withdraw", body, key).status == 422  # another command is another request
        server.kill()
        server.start()
        after = command(server, "deposit", body, key)
        assert after.json() == first.json() and after.headers["Idempotent-Replayed"] == "true"
        assert command(server, "deposit", {"account": "z", "amount": 6}, key).status == 422
        # What was refused is decided anew.
        refused, retry = {"account": "b", "amount": 1}, {"Idempotency-Key": "k2"}
        assert command(server, "withdraw", refused, retry).status == 409
        assert command(server, "deposit", {"account": "b", "amount": 1}).status == 200
        assert command(server, "withdraw", refused, retry).status == 200
    assert check_balances(events_of(bank)) == {"a": 5, "b": 0}


def test_a_table_that_stands_still_is_waited_for(project):
    bank = project({"millstream.yaml": BANK})
    with bank.server() as server:
        assert command(server, "deposit", {"account": "a", "amount": 10}, query="?wait_table=balances").status == 200
        assert server.http("POST", "/v1/pipelines/balances/pause").status == 200
        assert command(server, "deposit", {"account": "a", "amount": 1}).status == 200  # reads no table
        late = command(server, "withdraw", {"account": "a", "amount": 1}, query="?timeout=300ms")
        assert late.status == 503 and "table 'balances' holds" in late.json()["detail"]
        late = command(server, "deposit", {"account": "a", "amount": 1}, query="?timeout=300ms&wait_table=balances")
        assert (late.status, late.json()["code"]) == (504, "deadline") and late.json()["position"].startswith("accounts/")
        assert command(server, "withdraw", {"account": "b", "amount": 1}).status == 409  # another key waits for nothing
        assert server.http("POST", "/v1/pipelines/balances/resume").status == 200
        assert command(server, "withdraw", {"account": "a", "amount": 12}).status == 200


def test_what_waits_for_a_table_uses_no_processor(project):
    """Also after rounds of many, which the next ones are gathered for."""
    bank = project({"millstream.yaml": BANK})

    def together(name, accounts, query=""):
        threads = [threading.Thread(target=command, args=(server, name, {"account": each, "amount": 1}, None, query)) for each in accounts]
        for thread in threads:
            thread.start()
        return threads
    with bank.server() as server:
        accounts = [f"a{n}" for n in range(16)]
        for _ in range(10):
            for thread in together("deposit", accounts):
                thread.join()
        assert server.http("POST", "/v1/pipelines/balances/pause").status == 200
        assert command(server, "deposit", {"account": "a0", "amount": 1}).status == 200
        waiting = together("withdraw", accounts[:1], "?timeout=3s")
        time.sleep(0.5)
        began = time.monotonic(), cpu_seconds(server)
        time.sleep(2)
        used, seconds = cpu_seconds(server) - began[1], time.monotonic() - began[0]
        assert used < seconds / 4, f"{used} s of CPU in {seconds} s"
        waiting[0].join()


def test_definitions_change_while_they_are_used(project):
    bank = project({"millstream.yaml": BANK})
    with bank.server() as server:
        assert [each["name"] for each in server.http("GET", "/v1/commands").json()] == ["deposit", "withdraw"]
        assert command(server, "deposit", {"account": "a", "amount": 10}).status == 200
        definition = server.http("GET", "/v1/commands/withdraw").json()["definition"]
        definition["require"].append({"too much": "SELECT 1 WHERE $input.amount > 3"})
        changed = server.http("PUT", "/v1/commands/withdraw", definition)
        assert changed.status == 200 and changed.json()["changes"][0]["path"] == "commands.withdraw"
        assert command(server, "withdraw", {"account": "a", "amount": 4}).json()["detail"] == "too much"
        definition["require"][0] = {"x": "SELECT 1 FROM nothing"}
        assert server.http("PUT", "/v1/commands/withdraw", definition).status == 422
        assert server.http("DELETE", "/v1/commands/withdraw").status == 200
        assert command(server, "withdraw", {"account": "a", "amount": 1}).status == 404
        # A stream that only now gets its first command: what came before is seen.
        server.ingest("accounts", [{"account": "b", "type": "deposited", "amount": 2}])
        definition["require"] = definition["require"][1:]
        assert server.http("PUT", "/v1/commands/withdraw", definition).status == 200
        assert command(server, "withdraw", {"account": "b", "amount": 2}).status == 200


SHAPES = """  shape:
    input: {account: varchar not null, amount: "decimal(12,2) not null", kind: varchar}
    key: account
    require:
      - plain: SELECT 1 WHERE $input.kind = 'plain'
      - unknown: SELECT 1 WHERE NULL AND $input.kind IS NULL
      - rich: SELECT 1 FROM balances WHERE account = $input.account AND balance > $input.amount AND $input.kind = 'rich'
      - either: SELECT 1 WHERE $input.kind = 'either' UNION ALL SELECT 1 WHERE false
      - limited: SELECT 1 WHERE $input.kind = 'limited' LIMIT 0
      - unnested: SELECT unnest([1]) WHERE $input.kind = 'unnested'
      - no element: SELECT unnest([]::INTEGER[]) WHERE $input.kind = 'no element'
      - same as someone: SELECT 1 WHERE $input.kind = 'same' AND $input.amount IN (SELECT balance FROM balances)
      - named: WITH n AS (SELECT $input.kind AS k) SELECT 1 FROM n WHERE k = 'named'
      - own: SELECT 1 WHERE $input.kind = 'own' AND (SELECT balance FROM balances WHERE account = $input.account) = $input.amount
      - counted: SELECT 1 WHERE $input.kind = 'counted' AND (SELECT count(*) FROM balances WHERE account = $input.account) > 0
    emit: {accounts: "SELECT $input.account AS account, 'deposited' AS type, unnest([$input.amount, $input.amount + 1]) AS amount WHERE $input.kind <> 'nothing'"}
  always:
    input: {account: varchar not null}
    key: account
    require: [{an aggregate has a row: SELECT count(*) WHERE $input.account = 'nobody'}]
    emit: {accounts: "SELECT $input.account AS account, 'deposited' AS type, 1 AS amount"}
"""


def test_rules_of_every_shape(project):
    bank = project({"millstream.yaml": BANK + SHAPES})
    with bank.server() as server:
        assert command(server, "deposit", {"account": "a", "amount": 50}, query="?wait_table=balances").status == 200

        def decided(account, amount, kind):
            answer = command(server, "shape", {"account": account, "amount": amount, "kind": kind})
            return answer.json()["detail"] if answer.status == 409 else answer.json()["events"]
        for amount, kind, expected in [
                (1, "plain", "plain"), (1, "rich", "rich"), (50, "rich", 2), (1, "either", "either"), (1, "limited", 2), (1, "unnested", "unnested"),
                (1, "no element", 2), (50, "same", "same as someone"), (51, "same", 2), (1, "named", "named"), (50, "own", "own"), (49, "own", 2),
                (1, "counted", "counted"), (1, "nothing", 0), (1, None, 0)]:
            account = "a" if isinstance(expected, str) else f"b {kind}"  # that one is not changed
            if (amount, kind) == (50, "rich"):
                account = "c"
            assert decided(account, amount, kind) == expected, (amount, kind)
        refused = command(server, "always", {"account": "a"})
        assert (refused.status, refused.json()["detail"]) == (409, "an aggregate has a row")


def test_verbs(project):
    bank = project({"millstream.yaml": BANK})
    with bank.server():
        pass
    assert bank.verb("check").stdout == "ok: 1 stream, 1 source, 1 pipeline, 1 table, 2 commands\n"
    listed = bank.verb("command", "list").stdout.splitlines()
    assert listed[0].split() == ["COMMAND", "KEY", "RULES"] and listed[2].split() == ["withdraw", "account", "1"]
    assert bank.verb("command", "show", "deposit", "--yaml").stdout.startswith("commands:\n  deposit:\n    input:")


class Clients:
    """Many that deposit, withdraw and ingest plain deposits until told to stop; a connection that breaks is made anew."""

    def __init__(self, server, count, accounts, seed):
        self.server, self.accounts, self.stop = server, accounts, threading.Event()
        self.lock = threading.Lock()
        self.done = defaultdict(int)
        self.threads = [threading.Thread(target=self.run, args=(random.Random(seed * 1000 + i), i % 8 == 7)) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, chance, is_plain):
        connection = None
        while not self.stop.is_set():
            account = "hot" if chance.random() < 0.3 else chance.choice(self.accounts)
            if is_plain:
                path, body = "/v1/streams/accounts/events", {"account": account, "type": "deposited", "amount": 1}
            else:
                name = chance.choice(["deposit", "withdraw", "withdraw"])
                path, body = f"/v1/commands/{name}", {"account": account, "amount": chance.randint(1, 3)}
            try:
                connection = connection or self.server.connection(timeout=30)
                connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                with self.lock:
                    self.done[answer.status] += 1
            except (OSError, http.client.HTTPException):
                connection = None
                self.stop.wait(0.05)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def test_no_account_falls_below_zero(project):
    bank = project({"millstream.yaml": BANK})
    server = bank.server().start()
    clients = Clients(server, 16, [f"a{i}" for i in range(40)], seed=5)
    try:
        for _ in range(3):
            threading.Event().wait(1.5 * harness.SLOWNESS)
            server.kill()
            server.start()
        threading.Event().wait(1.5 * harness.SLOWNESS)
    finally:
        clients.end()
    assert set(clients.done) <= {200, 409, 503}, clients.done
    assert clients.done[200] > 100 and clients.done[409] > 0, clients.done
    ends = server.http("GET", "/v1/streams/accounts").json()["status"]["partitions"]
    assert len(ends) == 2
    last = command(server, "deposit", {"account": "last", "amount": 1}, query="?wait_table=balances")
    assert last.status == 200
    def agrees():
        expected = check_balances(events_of(bank))
        assert table_of(server) == expected
        return True
    harness.eventually(agrees)
    server.stop()
    check_balances(events_of(bank))
