"""Who may do what over HTTP: hosts, origins, content types, tokens and roles."""

import re

import pytest

from shop import SHOP


def test_content_types_that_a_web_page_may_send_are_refused(shop):
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        answer = shop.http("POST", "/v1/streams/notes/events", b'{"a":1}', {"Content-Type": kind})
        assert answer.status == 415
        assert "-H 'Content-Type: application/json'" in answer.json()["detail"]
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        answer = shop.http("POST", "/v1/streams/notes/events", {"a": 1}, headers)
        assert answer.status == 403, headers
    assert shop.query("SELECT count(*) AS n FROM _streams.notes") == [{"n": 0}]


def test_tokens(project):
    yaml = SHOP + """server:
  tokens:
    - {name: reader, role: read, token: "${env:READER}"}
    - {name: writer, role: write, token: "${env:WRITER}"}
    - {name: boss, role: admin, token: "${env:BOSS}"}
"""
    secrets = {"READER": "r-1", "WRITER": "w-1", "BOSS": "b-1"}
    with project({"millstream.yaml": yaml}).server(extra_environment=secrets) as server:
        def status(method, path, token, body=None):
            return server.http(method, path, body, {"Authorization": f"Bearer {token}"} if token else {}).status
        assert status("GET", "/health/live", None) == 200
        assert status("GET", "/v1/status", None) == 401 and status("GET", "/v1/status", "x") == 401
        assert status("GET", "/v1/status", "r-1") == 200
        assert status("POST", "/v1/streams/notes/events", "r-1", {"a": 1}) == 403
        assert status("POST", "/v1/streams/notes/events", "w-1", {"a": 1}) == 200
        assert status("POST", "/v1/pipelines/revenue/pause", "w-1") == 403
        assert status("POST", "/v1/pipelines/revenue/pause", "b-1") == 200


def test_each_route_holds_to_its_role(project):
    tokens = "".join(f'    - {{name: {role}, role: {role}, token: "${{env:T_{role.upper()}}}"}}\n' for role in ("read", "write", "admin"))
    secrets = {"T_READ": "r-1", "T_WRITE": "w-1", "T_ADMIN": "a-1"}
    with project({"millstream.yaml": SHOP + "server:\n  tokens:\n" + tokens}).server(extra_environment=secrets) as server:
        ranks = {None: 0, "read": 1, "write": 2, "admin": 3}
        seen = set()
        for path, operations in server.http("GET", "/openapi.json").json()["paths"].items():
            for method, operation in operations.items():
                needed = operation.get("x-role")
                seen.add(needed)
                for role, token in ((None, None), ("read", "r-1"), ("write", "w-1"), ("admin", "a-1")):
                    answer = server.http(method.upper(), re.sub(r"{\w+}", "nope", path) + "?at=nope&position=x", b"{}" if "requestBody" in operation else None,
                                         {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})})
                    refused = 401 if role is None else 403
                    if ranks[role] < ranks[needed]:
                        assert answer.status == refused, (method, path, role, answer.status)
                        if refused == 401:
                            assert answer.headers["WWW-Authenticate"] == "Bearer"
                    else:
                        assert answer.status not in (401, 403), (method, path, role, answer.body)
        assert seen == {None, "read", "write", "admin"}
        assert server.http("GET", "/v1/status", headers={"Authorization": "Basic r-1"}).status == 401
        assert server.http("GET", "/v1/status", headers={"Authorization": "Bearer r-1", "Origin": "https://evil.example"}).status == 403


def test_other_addresses_than_loopback_want_tokens(project):
    refused = project({"millstream.yaml": SHOP}).verb("run", "--listen", "0.0.0.0:0", expect=None)
    assert refused.code != 0 and "server.tokens" in refused.stderr, refused.stderr


@pytest.mark.parametrize("headers", [
    {"Host": "evil.example"}, {"Host": "localhost.evil.example"}, {"Host": "127.0.0.1.evil.example"}, {"Host": "evil.example:80"}, {"Host": ""},
    {"Origin": "null"}, {"Origin": "https://evil.example"}, {"Origin": "http://localhost.evil.example"}, {"Origin": "http://localhost@evil.example"},
])
def test_no_foreign_page_gets_an_answer(shop, headers):
    for method, path in (("GET", "/v1/tables/revenue"), ("POST", "/v1/streams/notes/events"), ("GET", "/nope"), ("OPTIONS", "/v1/query")):
        answer = shop.http(method, path, b"{}" if method == "POST" else None, {"Content-Type": "application/json", **headers})
        if headers.get("Host") or "Origin" in headers:
            assert answer.status in (400, 403) and "Access-Control-Allow-Origin" not in answer.headers, (method, path, answer.body)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.0.0.1:80", "[::1]:8410", "shop.localhost", "localhost."])
def test_names_of_this_machine_are_ours(shop, host):
    assert shop.http("GET", "/v1/status", headers={"Host": host}).status == 200
    assert shop.http("GET", "/v1/status", headers={"Origin": f"http://{host}"}).status == 200


def test_methods_that_a_route_does_not_have(shop):
    for method in ("OPTIONS", "PUT", "PATCH", "TRACE", "GET"):
        answer = shop.http(method, "/v1/query")
        assert answer.status == 405 and answer.headers["Allow"] == "POST" and answer.json()["code"] == "method_not_allowed"


def test_verbs_say_how_a_token_is_given(project):
    yaml = SHOP + 'server:\n  tokens: [{name: boss, role: admin, token: "${env:BOSS}"}]\n'
    shop = project({"millstream.yaml": yaml, "a.ndjson": '{"a":1}\n'})
    with shop.server(extra_environment={"BOSS": "b-1"}):
        for verb in (("query", "SELECT 1"), ("top", "--once"), ("tap", "stream:notes"), ("ingest", "notes", "a.ndjson"), ("stream", "list")):
            done = shop.verb(*verb, expect=1, extra_environment={"BOSS": "b-1"})
            assert done.stderr == "millstream: this server wants a token (--token TOKEN, or MILLSTREAM_TOKEN)\n", verb
        done = shop.verb("query", "SELECT 1", "--token", "x", expect=1, extra_environment={"BOSS": "b-1"})
        assert done.stderr == "millstream: the token is not known (--token TOKEN, or MILLSTREAM_TOKEN)\n"
        shop.verb("query", "SELECT 1", "--token", "b-1", extra_environment={"BOSS": "b-1"})
