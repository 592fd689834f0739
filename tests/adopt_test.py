"""A pipeline that was removed and comes back: with `adopt` it goes on where it stood, in each of its sinks; without, `plan` says what comes twice."""

from harness import eventually

STREAMS = """
streams:
  orders: {key: customer, partitions: 2, contract: {id: varchar not null, customer: varchar not null, n: bigint}}
  big: {key: customer, contract: {id: varchar, customer: varchar, n: bigint}}
pipelines:
  all_orders:
    from: orders
    to: {table: all_orders}
"""
PIPELINE = """
  p:
    from: orders
    filters:
      - big: SELECT id, customer, n, 1 AS v FROM input WHERE n >= 10
    to:
      - table: {name: rows}
      - stream: big
      - file: {path: out.ndjson}
"""
AGAIN = PIPELINE.replace("1 AS v", "2 AS v") + "    adopt: true\n"


def orders(first, count):
    return [{"id": f"o{n}", "customer": f"c{n % 7}", "n": n} for n in range(first, first + count)]


def test_a_pipeline_that_adopts_goes_on_where_it_stood(project):
    shop = project({"millstream.yaml": STREAMS + PIPELINE})
    in_stream = "SELECT data->>'$.id' AS id, (data->>'$.v')::INTEGER AS v FROM _streams.big"
    written = lambda: (shop.folder / "out.ndjson").read_text().splitlines()  # noqa: E731

    def is_exact(first_of_second, count):
        wanted = [{"id": f"o{n}", "v": 1 if n < first_of_second else 2} for n in range(10, count)]
        wanted.sort(key=lambda row: row["id"])
        for rows in ("SELECT id, v FROM rows", in_stream):
            eventually(lambda: server.query(rows + " ORDER BY id") == wanted, 20)  # noqa: B023
        eventually(lambda: len(written()) == count - 10, 20)
        assert len({line for line in written()}) == count - 10

    with shop.server() as server:
        server.ingest("orders", orders(0, 1_000))
        is_exact(1_000, 1_000)
        shop.write({"millstream.yaml": STREAMS})
        shop.verb("apply", "--prune", "--yes")
        server.ingest("orders", orders(1_000, 500))

        shop.write({"millstream.yaml": STREAMS + PIPELINE.replace("name: rows", "name: other")})
        plan = shop.verb("plan").stdout
        assert "a pipeline of this name was removed: stream:big, file:out.ndjson would get rows a second time (adopt: true goes on" in plan, plan
        shop.write({"millstream.yaml": STREAMS + PIPELINE})
        assert "go on where it stood (adopt: true)" in shop.verb("plan").stdout

        shop.write({"millstream.yaml": STREAMS + AGAIN})
        plan = shop.verb("plan").stdout
        assert "500 events, less than a second; goes on where it stood when it was removed (adopt)" in plan, plan
        shop.verb("apply", "--yes")
        is_exact(1_000, 1_500)
        server.kill()
        server.start()
        server.ingest("orders", orders(1_500, 100))
        is_exact(1_000, 1_600)
        # What was answered before is as it was: each event by the version that owned it.
        past = server.http("POST", "/v1/query", {"sql": "SELECT v, count(*) AS n FROM rows GROUP BY v ORDER BY v", "as_of": "0s"}).json()
        assert past["rows"] == [{"v": 1, "n": 990}, {"v": 2, "n": 600}], past


def test_a_start_adopts_too(project):
    shop = project({"millstream.yaml": STREAMS + PIPELINE})
    with shop.server() as server:
        server.ingest("orders", orders(0, 100))
        eventually(lambda: server.query("SELECT count(*) AS n FROM rows") == [{"n": 90}])
        shop.write({"millstream.yaml": STREAMS})
        shop.verb("apply", "--prune", "--yes")
    shop.write({"millstream.yaml": STREAMS + AGAIN})
    with shop.server() as server:
        server.ingest("orders", orders(100, 10))
        eventually(lambda: server.query("SELECT v, count(*) AS n FROM rows GROUP BY v ORDER BY v") == [{"v": 1, "n": 90}, {"v": 2, "n": 10}])


def test_one_that_adopts_is_bound_before_it_is_taken_back(project):
    shop = project({"millstream.yaml": STREAMS + PIPELINE})
    other = STREAMS + AGAIN.replace("id, customer, n,", "id, customer, n || 'x' AS n,")
    with shop.server() as server:
        server.ingest("orders", orders(0, 100))
        eventually(lambda: server.query("SELECT count(*) AS n FROM rows") == [{"n": 90}])
        shop.write({"millstream.yaml": STREAMS})
        shop.verb("apply", "--prune", "--yes")
        shop.write({"millstream.yaml": other})

        def refused():
            text = shop.verb("plan").stdout
            assert "+ pipelines.p  refused" in text and "column n is BIGINT in the table and VARCHAR in the rows" in text, text
            assert "adopt it with the filters that it had, then change them" in text, text

        refused()
        assert "pipelines.p" not in str(server.http("GET", "/v1/pipelines").json())
    refused()  # without a server too
    shop.write({"millstream.yaml": STREAMS + AGAIN})
    shop.verb("apply", "--yes")
    shop.write({"millstream.yaml": other})
    shop.verb("apply", "--rebuild", "rows", "--yes")
    with shop.server() as server:
        assert server.query("SELECT count(*) AS n FROM rows WHERE n LIKE '%x'") == [{"n": 90}]
