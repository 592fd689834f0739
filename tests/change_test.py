"""Changes of what runs as a user makes them: plan, apply, filter, PUT and DELETE, files that are watched, with and without a server."""

import harness

PROJECT = """
streams:
  orders: {contract: {id: varchar not null, n: bigint}}
pipelines:
  p:
    from: orders
    filters:
      - small: SELECT id, n FROM input WHERE n < 100
      - even: SELECT id, n FROM input WHERE n % 2 = 0
    to:
      - table: kept
"""
SQL = {"Content-Type": "application/sql"}


def ids(server, position):
    return sorted(row["id"] for row in server.query("SELECT id FROM kept", wait=position))


def send(server, *numbers):
    return server.ingest("orders", [{"id": f"o{n}", "n": n} for n in numbers])["position"]


def test_definitions_over_http(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        assert ids(server, send(server, 1, 2)) == ["o2"]
        path = "/v1/pipelines/p/filters/even"
        etag = server.http("GET", path).headers["ETag"]
        planned = server.http("PUT", path + "?dry_run=true", b"SELECT id, n FROM input WHERE n % 3 = 0", SQL).json()
        assert [change["how"] for change in planned["changes"]] == ["live"] and "version" not in planned
        changed = server.http("PUT", path, b"SELECT id, n FROM input WHERE n % 3 = 0", {**SQL, "If-Match": etag}).json()
        assert changed["version"] == 2 and changed["changes"][0]["from"] == "orders/0:2"
        assert server.http("PUT", path, b"SELECT 1 AS n FROM input", {**SQL, "If-Match": etag}).status == 412
        assert ids(server, send(server, 3, 4)) == ["o2", "o3"]
        refused = server.http("PUT", path, b"SELECT nothing FROM input", SQL)
        assert refused.status == 422 and "nothing" in refused.json()["faults"][0]["message"]
        assert server.http("PUT", path + "?new=true", b"SELECT id, n FROM input", SQL).status == 409
        assert server.http("DELETE", "/v1/pipelines/p/filters/nothing").status == 404
        answer = server.http("PUT", "/v1/pipelines/p/filters/run", {"exec": {"command": ["cat"]}})
        assert answer.status == 422 and "only files" in answer.json()["detail"], answer.body
        assert server.http("PUT", "/v1/streams/more", {"contract": {"id": "varchar"}}).status == 200
        assert server.http("PUT", "/v1/pipelines/q", {"from": "more", "to": [{"table": "other"}]}).status == 200
        position = server.ingest("more", [{"id": "x"}])["position"]
        assert server.query("SELECT id FROM other", wait=position) == [{"id": "x"}]
        assert server.http("DELETE", "/v1/streams/more").status == 422, "q reads it"
        assert server.http("DELETE", "/v1/pipelines/q").status == 200
        assert server.http("DELETE", "/v1/streams/more").json()["changes"][0]["how"] == "kept", "it holds an event"
        assert server.http("DELETE", "/v1/streams/more?purge=true").json()["changes"][0]["how"] == "live"
        harness.eventually(lambda: not list(shop.data.glob("log/*more*")))
        assert server.http("GET", "/v1/streams/more").status == 404
        server.kill()
        server.start()
        assert ids(server, send(server, 6, 8)) == ["o2", "o3", "o6"], "what was changed live survives a kill"


def test_a_stale_plan_and_a_conflict(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        shop.write({"millstream.yaml": PROJECT.replace("n < 100", "n < 50")})
        plan = shop.verb("plan", "--json").json()["plan"]
        shop.verb("filter", "set", "p", "even", "SELECT id, n FROM input")
        stale = shop.verb("apply", "--plan", plan, expect=1)
        assert "stale" in stale.stderr
        # The files change `small` only, and have `even` as it was: the files win, as plan says.
        assert "filters.even" in shop.verb("plan").stdout
        shop.write({"millstream.yaml": PROJECT.replace("n % 2 = 0", "n % 5 = 0")})
        planned = shop.verb("plan").stdout
        assert "pipelines.p.filters.even  conflict" in planned
        assert "conflict" in shop.verb("apply", expect=1).stdout
        assert ids(server, send(server, 5, 7)) == ["o5", "o7"], "it stays as it is live"
        shop.verb("apply", "--force")
        assert ids(server, send(server, 9, 10)) == ["o10", "o5", "o7"]
        assert shop.verb("plan", "--expect-same").stdout == "no changes\n"
        shop.verb("apply", "--at-version", "1")
        shop.verb("plan", "--expect-same", expect=1)
        assert ids(server, send(server, 11, 12)) == ["o10", "o12", "o5", "o7"]


def test_what_cannot_be_changed_is_a_problem(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        send(server, 1, 2)
        path, keyed = "/v1/streams/orders", {"key": "id", "contract": {"id": "varchar not null", "n": "bigint"}}
        etag = server.http("GET", path).headers["ETag"]
        refused = server.http("PUT", path, keyed)
        problem = refused.json()
        assert (refused.status, problem["code"], refused.headers["Content-Type"]) == (409, "conflict", "application/problem+json")
        assert problem["faults"][0]["path"] == "streams.orders.key" and "nothing was changed: streams.orders.key cannot be changed" in problem["detail"]
        assert [change["how"] for change in problem["plan"]["changes"]] == ["refused"]
        assert server.http("GET", path).headers["ETag"] == etag and len(server.http("GET", "/v1/history").json()) == 3
        dry = server.http("PUT", path + "?dry_run=true", keyed)
        assert dry.status == 200 and dry.json()["changes"][0]["how"] == "refused"
        # Without a way to make its table anew a filter that changes a column's type changes nothing either.
        text = b"SELECT id, n::varchar AS n FROM input"
        held = server.http("PUT", "/v1/pipelines/p/filters/even", text, SQL)
        assert held.status == 409 and "cannot be changed in place" in held.json()["detail"], held.body
        assert "cannot be changed in place" in shop.verb("filter", "set", "p", "even", text.decode(), expect=1).stderr
        assert server.http("PUT", "/v1/pipelines/p/filters/even?rebuild=true", text, SQL).status == 202


def test_history_of_what_never_was(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        assert "did you mean 'pipelines.p'?" in shop.verb("history", "--item", "p", expect=1).stderr
        assert "nothing is or was called 'nope'" in shop.verb("history", "--item", "nope", expect=1).stderr
        assert server.http("GET", "/v1/history?item=nope").status == 404
        assert shop.verb("history", "--item", "pipelines.p.filters.even", "--since", "0s", "--json").json() == []
        server.http("DELETE", "/v1/pipelines/p/filters/even")
        assert len(shop.verb("history", "--item", "pipelines.p.filters.even", "--json").json()) >= 2
    assert "nothing is or was called 'nope'" in shop.verb("history", "--item", "nope", expect=1).stderr


def test_files_that_are_watched(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server("--watch") as server:
        version = lambda: server.http("GET", "/v1/status").json()["catalog_version"]  # noqa: E731
        shop.write({"millstream.yaml": PROJECT.replace("n % 2 = 0", "n % 3 = 0")})
        harness.eventually(lambda: version() == 2)
        for broken in (PROJECT + "streams: {", PROJECT.replace("n % 2", "nothing % 2")):
            before = server.stderr().count("runs on")
            shop.write({"millstream.yaml": broken})
            harness.eventually(lambda: server.stderr().count("runs on") > before)  # noqa: B023
        assert version() == 2
        assert ids(server, send(server, 2, 3)) == ["o3"]
        shop.write({"millstream.yaml": PROJECT})
        harness.eventually(lambda: version() == 3)


def test_without_a_server(project):
    shop = project({"millstream.yaml": PROJECT})
    shop.verb("ingest", "orders", "-", stdin='{"id":"a","n":1}\n{"id":"b","n":2}\n')
    shop.verb("filter", "set", "p", "even", "SELECT id, n FROM input")
    shop.verb("ingest", "orders", "-", stdin='{"id":"c","n":3}\n{"id":"d","n":400}\n')
    assert sorted(row["id"] for row in shop.verb("query", "SELECT id FROM kept", "--json").json()["rows"]) == ["b", "c"]
    shop.write({"millstream.yaml": PROJECT.replace("  p:", "  q:").replace("table: kept", "table: others")})
    assert "kept" in shop.verb("plan").stdout
    assert shop.verb("apply", "--prune", expect=1).stderr.count("--yes") == 1
    shop.verb("apply", "--prune", "--yes")
    assert [event["kind"] for event in shop.verb("history", "--json", "--item", "pipelines.q").json()] == ["apply", "activated"]
    assert shop.verb("history", "diff", "2", "3").stdout.startswith("pipelines.q add\n")
    shop.write({"millstream.yaml": PROJECT.replace("  p:", "  q:").replace("table: kept", "table: {name: others, key: id}")})
    shop.verb("apply", "--rebuild", "others", "--yes")
    last = shop.verb("history", "--json").json()[-1]["version"]
    diff = shop.verb("history", "diff", "3", str(last)).stdout
    assert diff == "pipelines.q.to.table:others edit\n  - table: others\n  + table:\n  +   name: others\n  +   key: id\n", diff


def test_a_contract_whose_new_type_a_table_does_not_take_waits(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        assert ids(server, send(server, 1, 2)) == ["o2"]
        shop.write({"millstream.yaml": PROJECT.replace("n: bigint", "n: double")})
        for arguments in (["plan"], ["apply", "--yes"]):
            done = shop.verb(*arguments, expect=0 if arguments == ["plan"] else 1)
            assert "~ streams.orders           rebuild  pipeline p, sink table:kept: table kept: column n is BIGINT" in done.stdout, done.stdout
            assert "and DOUBLE in the rows: cast it, or give the sink another table name, or make the table anew (--rebuild kept)" in done.stdout
        assert ids(server, send(server, 3, 4)) == ["o2", "o4"]
        # With a filter that casts it back it is live.
        shop.write({"millstream.yaml": PROJECT.replace("n: bigint", "n: double").replace("SELECT id, n FROM input WHERE n <", "SELECT id, n::bigint AS n FROM input WHERE n <")})
        shop.verb("apply", "--yes", "--force")
        assert ids(server, send(server, 6)) == ["o2", "o4", "o6"]


def test_a_plan_says_what_a_new_contract_would_refuse(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        send(server, 1, 2, 3)
        send(server, 40, 50)
        tighter = PROJECT.replace("n: bigint", "n: bigint check (n < 45), more: varchar")
        for more, refused in ((tighter, 1), (tighter.replace("more: varchar", "more: varchar not null"), 5)):
            shop.write({"millstream.yaml": more})
            planned = shop.verb("plan").stdout
            assert f"of the newest 5 events {refused} would be refused" in planned, planned
        assert server.http("GET", "/v1/status").json()["streams"][0]["events"] == 5, "nothing came of it"
    planned = shop.verb("plan").stdout
    assert "of the newest 5 events 5 would be refused" in planned, planned


def test_the_table_of_a_removed_pipeline_stays_as_it_is(project):
    shop = project({"millstream.yaml": PROJECT})
    other = PROJECT.split("pipelines:")[0] + "pipelines:\n  q: {from: orders, to: {table: others}}\n"
    renamed = PROJECT.replace("  p:", "  r:")
    with shop.server() as server:
        assert ids(server, send(server, 1, 2)) == ["o2"]
        assert server.http("DELETE", "/v1/pipelines/p").status == 200
        again = server.http("PUT", "/v1/pipelines/p", {"from": "orders", "to": [{"table": "kept"}]})
        assert again.status == 409 and "millstream table drop kept" in again.json()["detail"], again.body
        for arguments in (["apply", "--force"], ["apply", "--at-version", "1"]):
            done = shop.verb(*arguments, expect=1).stdout
            assert "pipelines.p  refused" in done and "'kept' holds rows of pipeline 'p'" in done, done
        shop.write({"millstream.yaml": renamed})
        assert "pipelines.r  refused" in shop.verb("plan").stdout, "nor does one of another name"
        # Beside one that lives on, another may begin to write a table; the same one may not come back to it.
        shop.write({"millstream.yaml": other})
        shop.verb("apply")
        both = other + "  p: {from: orders, to: {table: others}}\n"
        shop.write({"millstream.yaml": both})
        assert "backfill" in shop.verb("apply").stdout
        harness.eventually(lambda: len(server.query("SELECT id FROM others")) == 4)
        shop.write({"millstream.yaml": other})
        shop.verb("apply", "--prune", "--yes")
        shop.write({"millstream.yaml": both})
        assert "pipelines.p  refused" in shop.verb("apply", expect=1).stdout
        # Nor does one come to it with a table that is made anew.
        shop.write({"millstream.yaml": other.replace("{table: others}", "[{table: {name: others, key: id}}, {table: kept}]")})
        assert "'kept' holds rows of pipeline 'p'" in shop.verb("apply", "--rebuild", "others", "--yes", expect=1).stderr
        # A start is no way round.
        shop.write({"millstream.yaml": PROJECT})
        server.stop()
        server.start()
        assert "pipelines.p: cannot be added; table 'kept'" in server.stderr()
        assert ids(server, send(server, 4)) == ["o2"]
    assert "pipelines.p  refused" in shop.verb("plan").stdout, "nor is one without a server"
    shop.verb("table", "drop", "kept")
    shop.verb("apply")
    shop.verb("run", "--once")
    assert sorted(row["id"] for row in shop.verb("query", "SELECT id FROM kept", "--json").json()["rows"]) == ["o2", "o4"]


def test_a_start_binds_what_the_files_changed(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        assert ids(server, send(server, 1, 2)) == ["o2"]
        server.stop()
        shop.write({"millstream.yaml": PROJECT.replace("n: bigint", "n: double") + "  q: {from: orders, to: {table: more}}\n"})
        planned = shop.verb("plan").stdout
        assert "streams.orders" in planned and "column n is BIGINT in the table and DOUBLE in the rows" in planned
        server.start()
        assert "streams.orders: cannot be changed in place; " in server.stderr(), "one is told, and the rest goes on"
        assert "pipelines.q: add (backfill)" in server.stderr()
        assert ids(server, send(server, 4)) == ["o2", "o4"]
        server.stop()
        shop.write({"millstream.yaml": PROJECT.replace("SELECT id, n FROM input WHERE n % 2 = 0", "SELECT id, n::varchar AS n FROM input")})
        server.start()
        assert "pipelines.p: cannot be changed in place" in server.stderr()
        assert ids(server, send(server, 6)) == ["o2", "o4", "o6"], "the version before goes on"


def test_each_change_that_is_held_back_is_told(project):
    """A filter that makes another type, two pipelines of it, and a contract that would too."""
    second = """  other:
    from: orders
    filters:
      - same: SELECT id, n FROM input
    to: {table: others}
"""
    shop = project({"millstream.yaml": PROJECT + second})
    with shop.server() as server:
        position = send(server, 1, 2)
        server.query("SELECT id FROM others", wait=position)
        texts = (PROJECT + second).replace("SELECT id, n FROM input WHERE n %", "SELECT id, n || 'x' AS n FROM input WHERE n %")
        shop.write({"millstream.yaml": texts.replace("same: SELECT id, n", "same: SELECT id, n || 'x' AS n").replace("n: bigint", "n: double")})
        told = shop.verb("plan").stdout
        for path in ("pipelines.p ", "pipelines.other ", "streams.orders "):
            assert f"~ {path}" in told, told


def test_what_was_held_back_is_looked_at_again(project):
    shop = project({"millstream.yaml": PROJECT})
    with shop.server() as server:
        send(server, 1, 2)
        shop.verb("filter", "set", "p", "small", "SELECT id, n FROM input WHERE n < 50")
        shop.write({"millstream.yaml": PROJECT.replace("n < 100", "n < 10")})
        versions = len(server.http("GET", "/v1/history").json())
        for _ in range(2):  # a conflict stays one until somebody decides
            assert "conflict" in shop.verb("apply", expect=1).stdout
        assert len(server.http("GET", "/v1/history").json()) == versions, "nothing was changed"
        assert ids(server, send(server, 40, 60)) == ["o2", "o40"]
        shop.verb("apply", "--force")
        assert ids(server, send(server, 4, 42)) == ["o2", "o4", "o40"]
        # What was refused is no conflict with what comes in its place.
        now = PROJECT.replace("n < 100", "n < 10")
        shop.write({"millstream.yaml": now.replace("orders: {", "orders: {partitions: 3, ")})
        assert "refused" in shop.verb("apply", expect=1).stdout
        shop.write({"millstream.yaml": now.replace("orders: {", "orders: {retain: {age: 90d}, ")})
        done = shop.verb("apply").stdout
        assert "conflict" not in done and "streams.orders" in done and "live" in done, done


def test_a_plan_knows_the_rates_of_an_earlier_process(project):
    shop = project({"millstream.yaml": PROJECT})
    more = PROJECT + "  q: {from: orders, to: {table: more}}\n"
    backfill = lambda: shop.verb("plan", "--json").json()["changes"][0]  # noqa: E731
    with shop.server() as server:
        shop.write({"millstream.yaml": more})
        assert "seconds" not in backfill(), "nothing was measured"
        server.ingest("orders", [{"id": f"o{n}", "n": n} for n in range(20_000)])
        harness.eventually(lambda: "seconds" in backfill())
        assert backfill()["events"] == 20_000
    assert backfill()["seconds"] < 20
    shop.write({"millstream.yaml": PROJECT})
    with shop.server() as server:
        server.kill()
        shop.write({"millstream.yaml": more})
        assert backfill()["seconds"] < 20
