"""Callers of control: no token, no entry; each role sees its own objects, and nothing of others."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import re
import socket
import sqlite3
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from steering.control.api import make_router, protocol
from steering.control.api import report_endpoint as reports
from steering.control.api.endpoints import Api
from steering.control.records.database import NAME
from steering.control.remote import RemoteControl
from steering.control.services.events import Hub
from steering.errors import RequestError
from steering.model.fleet import Appliance, Cluster, Fleet, Partner, Site
from steering.model.route import RouteClass
from steering.settings import Settings
from tests.support.control_app import ControlApp, running_control_app
from tests.support.control_fixtures import Clock

DAY_S = 86_400


@pytest.fixture
def fleet_of_two(fleet: Fleet) -> Fleet:
    """The tiny fleet, and a second partner with a site of its own and a cluster beside the first partner's."""
    return dataclasses.replace(
        fleet,
        partners=(*fleet.partners, Partner("as64511", "Another ISP", "GB", (64511,))),
        sites=(*fleet.sites, Site("man001", "GB", "Manchester", 53.4, -2.2)),
        clusters=(
            *fleet.clusters,
            Cluster("man001-a", "man001", RouteClass.embedded, "as64511"),
            Cluster("bom001-z", "bom001", RouteClass.private, "as64511"),
        ),
        appliances=(
            *fleet.appliances,
            Appliance("c001-man001", "man001-a", "c001-man001.example", 100),
            Appliance("c009-bom001", "bom001-z", "c009-bom001.example", 100),
        ),
    )


@pytest.fixture
def service(settings: Settings, clock: Clock, fleet_of_two: Fleet) -> Iterator[ControlApp]:
    """Return a control app with the fleet of two partners on record."""
    with running_control_app(settings, clock) as actual:
        actual.thread.submit(actual.control.fleet.replace, fleet_of_two, "test").result()
        yield actual


# Every endpoint by who may come in at all. A new endpoint that is not here fails the walk.
OPS, OWNERS, EVERY_ROLE = {"ops"}, {"ops", "partner"}, {"ops", "partner", "appliance"}
ENDPOINTS: dict[tuple[str, str], set[str]] = {
    ("POST", "/v1/tables/check"): OPS,
    ("POST", "/v1/tables/publish"): OPS,
    ("GET", "/v1/tables"): OPS,
    ("GET", "/v1/tables/{version}"): OPS,
    ("GET", "/v1/tables/{before}/diff/{after}"): OPS,
    ("POST", "/v1/tables/{version}/rollback"): OPS,
    ("POST", "/v1/canary/promote"): OPS,
    ("POST", "/v1/canary/withdraw"): OPS,
    ("POST", "/v1/pin"): OPS,
    ("DELETE", "/v1/pin"): OPS,
    ("GET", "/v1/routes"): OPS,
    ("GET", "/v1/sessions"): OPS,
    ("GET", "/v1/reports/routes"): OWNERS,
    ("GET", "/v1/missing"): OWNERS,
    ("GET", "/v1/quality"): OWNERS,
    ("POST", "/v1/reports"): {"ops", "appliance"},
    ("GET", "/v1/explain"): OPS,
    ("GET", "/v1/what-if"): OPS,
    ("POST", "/v1/reload"): OPS,
    ("GET", "/v1/fleet"): OPS,
    ("POST", "/v1/fleet"): OPS,
    ("GET", "/v1/overrides"): OWNERS,
    ("POST", "/v1/overrides"): OWNERS,
    ("GET", "/v1/ejections"): OPS,
    ("POST", "/v1/ejections/release"): OPS,
    ("GET", "/v1/windows"): OWNERS,
    ("POST", "/v1/windows"): OWNERS,
    ("DELETE", "/v1/windows/{number}"): OWNERS,
    ("GET", "/v1/state"): OPS,
    ("GET", "/v1/alarms"): OWNERS,
    ("GET", "/v1/events"): EVERY_ROLE,
    ("GET", "/v1/tokens"): OPS,
    ("POST", "/v1/tokens"): OPS,
    ("DELETE", "/v1/tokens/{number}"): OPS,
    ("GET", "/v1/keys"): OPS,
    ("POST", "/v1/keys"): OPS,
    ("DELETE", "/v1/keys/{name}"): OPS,
    ("GET", "/v1/audit"): OPS,
    **{("GET", f"/v1/{kind}{name}"): OWNERS for kind in ("partners", "sites", "clusters") for name in ("", "/{name}")},
    ("GET", "/v1/appliances"): EVERY_ROLE,
    ("GET", "/v1/appliances/{name}"): EVERY_ROLE,
    ("GET", "/v1/playlists"): OPS,
    **{(method, "/v1/playlists/{service}/{title:path}/{kind}"): OPS for method in ("GET", "PUT", "DELETE")},
    ("GET", "/v1/catalogue/{service}"): OPS,
    ("PUT", "/v1/catalogue/{service}"): OPS,
    ("GET", "/v1/catalogue/{service}/{recipe}"): {"ops", "appliance"},
    ("PUT", "/v1/catalogue/{service}/{recipe}"): OPS,
    ("DELETE", "/v1/catalogue/{service}/titles/{title:path}"): OPS,
    ("POST", "/v1/fill/plays/{service}"): OPS,
    ("POST", "/v1/fill/launches/{service}"): OPS,
    ("POST", "/v1/fill/plans"): OPS,
    ("GET", "/v1/fill/plans"): OPS,
    ("POST", "/v1/fill/plans/{version}/rollback"): OPS,
    ("POST", "/v1/fill/pin"): OPS,
    ("DELETE", "/v1/fill/pin"): OPS,
    ("GET", "/v1/fill/status"): OPS,
    ("GET", "/v1/fill/explain"): OPS,
    ("GET", "/v1/fill/manifest"): {"ops", "appliance"},
    ("POST", "/v1/fill/sources"): {"appliance"},
    ("GET", "/v1/services"): OPS,
    ("GET", "/v1/services/{name}"): OPS,
    **{
        (method, f"/v1/{kind}/{{name}}"): OPS
        for kind in ("partners", "sites", "clusters", "appliances", "services")
        for method in ("PUT", "DELETE")
    },
}  # fmt: skip
BODIES: dict[str, Any] = {
    "/v1/tables/check": {},
    "/v1/tables/publish": {},
    "/v1/overrides": {"appliances": ["c001-man001"], "enabled": True},
    "/v1/tokens": {"role": "ops"},
    "/v1/keys": {"id": "k1"},
    "/v1/windows": {"kind": "site", "subject": "man001", "ends_at": 0, "why": "new disks"},
    "/v1/fleet": {},
    "/v1/reports": {"appliance": "c001-bom001", "boot": "1", "seq": 1},
    "/v1/fill/sources": {"service": "video", "titles": ["t1"]},
}
KINDS = {
    "partners": ("as64500", "as64511"),
    "sites": ("del001", "man001"),
    "clusters": ("bom001-a", "man001-a"),
    "appliances": ("c001-bom001", "c001-man001"),
}


def endpoints(service: ControlApp) -> list[tuple[str, str]]:
    """Return every (method, path) of the API but /healthz and the description of them all."""

    routes = make_router(Api(service.control, service.thread, Hub())).routes
    assert {route.path for route in service.app.routes if isinstance(route, Route)} == {"/openapi.json"}
    actual = [(method, route.path) for route in routes if isinstance(route, APIRoute) for method in route.methods]
    actual.append(("POST", reports.PATH))  # which goes before FastAPI
    assert len({path for _, path in actual}) == len(service.app.openapi()["paths"])
    return [(method, path) for method, path in actual if path != "/healthz"]


def ask(client: httpx.Client, method: str, path: str, name: str = "as64511") -> httpx.Response:
    """Ask an endpoint as a request that its body does not fail."""
    kind = path.split("/")[2]
    name = KINDS[kind][1] if kind in KINDS else name
    path = path.replace("{name}", name).replace("{number}", "99")
    path = re.sub(r"\{(version|before|after)\}", "1", path)
    body = {"json": BODIES.get(path, {})} if method in ("POST", "PUT") else {}
    params = {"/v1/routes": {"prefix": "203.0.113.0/24"}, "/v1/explain": {"ip": "203.0.113.1"}}.get(path, {})
    with client.stream(method, path, params=params, **body) as answer:
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return answer  # it has no end
        answer.read()
    return answer


def test_the_walk_knows_every_endpoint(service: ControlApp) -> None:
    assert set(endpoints(service)) == set(ENDPOINTS)


NO_TOKENS: list[dict[str, str]] = [
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": "Bearer steering-1-" + "A" * 43},
    {"authorization": "Bearer steering-99-" + "A" * 43},
    {"authorization": "Basic b3BzOm9wcw=="},
    {"steering-who": "ops"},
    {"authorization": "Bearer steering-1-"},
    {"authorization": "Bearer steering-0-" + "A" * 43},
    {"authorization": "Bearer steering--1-" + "A" * 43},
    {"authorization": "Bearer steering-1 -" + "A" * 43},
    {"authorization": "Bearer steering-01-" + "A" * 43},
    {"authorization": "Bearer steering-1-" + "A" * 42},
    {"authorization": "Bearer steering-1-" + "A" * 5000},
    {"authorization": "Bearer steering-99999999999999999999-" + "A" * 43},
    {"authorization": "Bearer steering-1-" + "%ff" * 14},
    {"authorization": "Bearer STEERING-1-" + "A" * 43},
    {"authorization": "Bearer null"},
    {"authorization": "Bearer ' OR 1=1 --"},
    {"authorization": "Bearer ops"},
    {"authorization": "Token steering-1-" + "A" * 43},
    {"authorization": "Digest username=ops"},
    {"proxy-authorization": "Bearer steering-1-" + "A" * 43},
    {"cookie": "token=steering-1-" + "A" * 43},
    {"x-forwarded-for": "127.0.0.1"},
    {"x-original-url": "/healthz"},
]


def test_without_a_good_token_every_request_is_refused(service: ControlApp) -> None:
    service.make_token("ops")
    with service.client() as client:
        for headers in NO_TOKENS:
            client.headers = httpx.Headers(headers)
            for method, path in [*endpoints(service), ("GET", "/openapi.json"), ("GET", "/no/such/thing")]:
                answer = ask(client, method, path) if path.startswith("/v1/") else client.request(method, path)
                assert answer.status_code == 401, (headers, method, path)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.headers["content-type"] == "application/problem+json"
            assert client.get("/healthz").status_code == 200


def test_a_body_is_not_read_before_the_token_is_good(service: ControlApp) -> None:
    with socket.create_connection(service.address, timeout=5) as connection:
        connection.sendall(b"POST /v1/fleet HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


BEFORE_THE_BODY: list[tuple[str, str, str, int]] = [
    ("partner:as64500", "POST /v1/tables/publish", "Content-Length: 63000000", 403),
    ("partner:as64500", "POST /v1/fleet", "Content-Length: 63000000", 403),
    ("partner:as64500", "PUT /v1/appliances/c001-bom001", "Content-Length: 63000000", 403),
    ("partner:as64500", "PUT /v1/playlists/video/a/b/hls", "Content-Length: 63000000", 403),
    ("partner:as64500", "POST /v1/overrides", "Content-Length: 63000000", 413),
    ("appliance:c001-bom001", "POST /v1/overrides", "Content-Length: 63000000", 403),
    ("appliance:c001-bom001", "POST /v1/reports", "Content-Length: 63000000", 413),
    ("ops", "POST /v1/tables/check", "Content-Length: 65537", 413),
    ("ops", "POST /v1/pin", "Content-Length: 65537", 413),
    ("ops", "PUT /v1/services/video", "Content-Length: 65537", 413),
    ("ops", "PUT /v1/playlists/video/a/b/hls", "Content-Length: 1048577", 413),
    ("ops", "POST /v1/fleet", "Content-Length: 67108865", 413),
    ("ops", "POST /v1/overrides", "Transfer-Encoding: chunked", 411),
    ("ops", "GET /v1/tables", "Content-Length: 63000000", 413),
    ("ops", "POST /no/such/thing", "Content-Length: 63000000", 413),
    ("ops", "PATCH /v1/fleet", "Content-Length: 63000000", 405),
]


def test_role_method_and_length_are_looked_at_before_a_body_is_read(service: ControlApp) -> None:
    tokens = {role: service.make_token(role)["authorization"] for role in {row[0] for row in BEFORE_THE_BODY}}
    for role, request, length, status in BEFORE_THE_BODY:
        with socket.create_connection(service.address, timeout=20) as connection:
            head = f"{request} HTTP/1.1\r\nHost: x\r\nAuthorization: {tokens[role]}\r\n{length}\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(100).split()[1] == str(status).encode(), (role, request)


def test_control_redirects_nowhere_and_names_the_allowed_methods(service: ControlApp) -> None:
    with service.client(service.make_token("ops")) as client:
        for path in ("/v1/tables/", "/v1/fleet/", "//v1/tables"):
            assert client.get(path, headers={"host": "evil.example"}).status_code == 404
        refused = client.patch("/v1/overrides")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, POST")
        assert client.post("/openapi.json").headers["allow"] in ("GET", "GET, HEAD", "HEAD, GET")


@pytest.mark.parametrize("role", ["partner:as64500", "appliance:c001-bom001", "ops"])
def test_each_role_comes_in_where_it_may_and_nowhere_else(service: ControlApp, role: str) -> None:
    with service.client(service.make_token(role)) as client:
        for (method, path), roles in ENDPOINTS.items():
            answer = ask(client, method, path)
            if role.partition(":")[0] in roles:
                assert answer.status_code not in (401, 403), (method, path, answer.text)
            else:
                assert answer.status_code == 403, (method, path, answer.text)
                assert answer.json()["detail"].endswith(f"not for the role {role.partition(':')[0]}")


def test_a_token_that_was_good_and_one_that_is_nearly_good_are_refused(service: ControlApp, clock: Clock) -> None:
    revoked, expired = service.make_token("ops"), service.make_token("ops", days=1)
    good, other = (service.make_token("ops")["authorization"] for _ in range(2))
    with service.client({"authorization": good}) as client:
        assert client.delete("/v1/tokens/1").status_code == 200
    clock.ahead_s = DAY_S
    scheme, number, secret = good.split("-", 2)
    nearly = [
        f"{scheme}-{number}-{other.split('-', 2)[2]}",  # another token's secret
        f"{good[:-1]}{'A' if good[-1] != 'A' else 'B'}",
        f"{good}A",
        good[:-1],
        good.swapcase(),
        f"{scheme}-{number}-{secret[::-1]}",
        f"{good}, {good}",
        f"{good},{good}"[:-1],
        good.replace("Bearer ", "Bearer\t\t"),
        good.replace("Bearer ", "bearer:"),
    ]
    for text in (revoked["authorization"], expired["authorization"], *nearly):
        with service.client({"authorization": text}) as client:
            for method, path in endpoints(service):
                assert ask(client, method, path).status_code == 401, (text[:30], method, path)
    bare = good.removeprefix("Bearer ")
    with service.client() as client:
        for name in ("token", "access_token", "authorization"):
            assert client.get("/v1/tables", params={name: bare}).status_code == 401
    with service.client({"authorization": good}) as client:
        assert client.get("/v1/tables").status_code == 200


HOSTILE: list[Any] = [
    "\ud800",
    "a\0b",
    "x" * 70_000,
    10**400,
    float("nan"),
    True,
    None,
    [],
    {"a": {"b": []}},
    "..",
    "\u202e/",
    -1,
]
LONG_WORK = {"/v1/tables/publish", "/v1/tables/check", "/v1/reload", "/v1/events"}
ODD_PATHS = [
    "/v1%2Ftables", "/v1/tables%2F1", "/%2e%2e/v1/tables", "/v1/tables/..%2f..", "/v1/%ff", "/v1/partners/%00", "/%",
    "/v1/tables/%ed%a0%80", "//", "/v1//tables", "/v1/tables;x=1", "/v1/playlists/a%2Fb/c/hls", "/v1/tables/" + "9" * 5000,
]  # fmt: skip


def hostile_requests(service: ControlApp, value: Any) -> Iterator[tuple[str, str, bytes]]:
    """Yield requests that have a value in each place of each endpoint: the path, the query, the body and its members."""
    paths = service.app.openapi()["paths"]
    schemas = service.app.openapi()["components"]["schemas"]
    text = value if isinstance(value, str) else json.dumps(value)
    raw = "".join(f"%{byte:02x}" for byte in text[:300].encode("utf-8", "surrogatepass"))
    for method, path in ENDPOINTS:
        if path in LONG_WORK:
            continue
        about = paths.get(path, {}).get(method.lower(), {})
        plain, body = re.sub(r"\{[^}]*\}", "1", path), b"{}" if method in ("POST", "PUT") else b""
        if "{" in path:
            yield method, re.sub(r"\{[^}]*\}", raw, path), body
        for parameter in about.get("parameters", []):
            if parameter["in"] == "query":
                yield method, f"{plain}?{parameter['name']}={raw}", body
        if body:
            schema = about.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            schema = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
            yield method, plain, json.dumps(value).encode()
            for name in schema.get("properties", ["id", "name"]):
                yield method, plain, json.dumps(BODIES.get(path, {}) | {name: value}).encode()


def test_no_value_in_any_place_is_an_error_of_ours(service: ControlApp, caplog: pytest.LogCaptureFixture) -> None:
    headers = service.make_token("ops") | {"content-type": "application/json"}
    with service.client(headers) as client:
        requests = [request for value in HOSTILE for request in hostile_requests(service, value)]
        for method, path, body in [*requests, *(("GET", path, b"") for path in ODD_PATHS)]:
            answer = client.request(
                method, path, content=body, headers={"if-none-match": "*"} if method == "PUT" else {}
            )
            assert answer.status_code < 500, (method, path[:80], body[:80], answer.text)
            assert answer.is_success or answer.headers["content-type"] == "application/problem+json"
            assert len(answer.content) < 1 << 20
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def walk_as_partner(service: ControlApp, own: int) -> Iterator[tuple[str, str]]:
    """Yield every endpoint that a partner may read, and all that it says to one, by name and as a list."""
    with service.client(service.make_token(f"partner:{KINDS['partners'][own]}")) as client:
        for (method, path), roles in ENDPOINTS.items():
            if method != "GET" or "partner" not in roles:
                continue
            kind = path.split("/")[2]
            for name in KINDS.get(kind, ("1",)) if "{name}" in path else ("",):
                for query in ("", f"?partner={KINDS['partners'][1 - own]}", "?after=&count=1000", "?ended=true"):
                    if path == "/v1/events":
                        continue  # it has no end; tests/system/test_fleet_views.py
                    yield (
                        f"{path} {name} {query}",
                        client.get(path.replace("{name}", name) + query).text.replace(name or "\0", ""),
                    )


@pytest.mark.parametrize("own", [0, 1])
def test_nothing_that_a_partner_may_read_has_a_word_of_anothers(service: ControlApp, own: int) -> None:
    """Both have overrides, windows, alarms, reports and holdings; each sees that it has, and no name of the other's."""
    appliances = (("c001-bom001", "c001-del001"), ("c001-man001", "c009-bom001"))
    with service.client(service.make_token("ops")) as client:
        until = client.get("/v1/state").json() and service.control.clock() + DAY_S
        for names in appliances:
            assert client.post("/v1/overrides", json={"appliances": [names[1]], "enabled": False}).status_code == 200
            row = {"kind": "appliance", "subject": names[0], "ends_at": until, "why": f"disks of {names[0]}"}
            assert client.post("/v1/windows", json=row).status_code in (200, 201)
            report = {
                "appliance": names[0],
                "boot": "1",
                "seq": 1,
                "health": {"components": {f"disk {names[0]}": "failed"}},
            }
            assert client.post("/v1/reports", json=report).status_code == 200
    service.in_loop(service.control.registry.tick)
    others = {"as64511", "man001", "c001-man001", "c009-bom001", "bom001-z", "Another ISP"}
    mine = {"as64500", "c001-bom001", "c001-del001", "bom001-a", "del001-a", "Example ISP"}
    hidden, shown = (others, mine) if own == 0 else (mine, others)
    seen: set[str] = set()
    for where, text in walk_as_partner(service, own):
        query = where.split(" ")[2]
        words = {name for name in hidden if name in text.replace(query.partition("=")[2] or "\0", "")}
        assert not words, (where, words, text[:300])
        seen |= {name for name in shown if name in text}
    assert {"c001-bom001", "c001-del001"} <= seen or {"c001-man001", "c009-bom001"} <= seen


@pytest.mark.parametrize(("own", "other"), [(0, 1), (1, 0)])
def test_a_partner_sees_its_own_and_not_a_word_of_anothers(service: ControlApp, own: int, other: int) -> None:
    partner = KINDS["partners"][own]
    with service.client(service.make_token(f"partner:{partner}")) as client:
        for kind, names in KINDS.items():
            assert client.get(f"/v1/{kind}/{names[own]}").json()["id"] == names[own]
            hidden, absent = client.get(f"/v1/{kind}/{names[other]}"), client.get(f"/v1/{kind}/nosuch")
            assert (hidden.status_code, absent.status_code) == (404, 404)
            assert hidden.text.replace(names[other], "nosuch") == absent.text
            listed = client.get(f"/v1/{kind}").text
            assert names[own] in listed
            assert names[other] not in listed
        clusters = {row["id"]: row["partner"] for row in client.get("/v1/clusters").json()["clusters"]}
        assert set(clusters.values()) == {partner}
        assert {row["cluster"] for row in client.get("/v1/appliances").json()["appliances"]} <= clusters.keys()


def test_a_partner_drains_only_its_own_appliances(service: ControlApp) -> None:
    own, other = KINDS["appliances"]
    with service.client(service.make_token("partner:as64500", name="noc")) as client:
        assert client.post("/v1/overrides", json={"appliances": [own], "enabled": False}).status_code == 200
        hidden = client.post("/v1/overrides", json={"appliances": [own, other], "enabled": False})
        absent = client.post("/v1/overrides", json={"appliances": [own, "nosuch"], "enabled": False})
        assert hidden.status_code == absent.status_code == 404
        assert hidden.text.replace(other, "nosuch") == absent.text
        assert client.get("/v1/overrides").json() == [
            {"appliance": own, "enabled": False, "weight": None, "health_source": ""}
        ]
    with service.client(service.make_token("partner:as64511")) as client:
        assert client.get("/v1/overrides").json() == []
    with service.client(service.make_token("ops")) as client:
        entry = client.get("/v1/audit", params={"count": 10}).json()[2]
        assert (entry["what"], entry["subject"], entry["who"]) == ("override", own, "token 1 (noc)")
        assert entry["before"] == {own: {"enabled": True, "weight": None, "health_source": ""}}
        assert entry["after"] == {own: {"enabled": False, "weight": None, "health_source": ""}}


def test_an_appliance_sees_itself_alone(service: ControlApp) -> None:
    own, other = KINDS["appliances"]
    with service.client(service.make_token(f"appliance:{own}")) as client:
        assert client.get(f"/v1/appliances/{own}").json()["id"] == own
        assert [row["id"] for row in client.get("/v1/appliances").json()["appliances"]] == [own]
        assert client.get(f"/v1/appliances/{other}").status_code == 404


def test_whoever_opens_the_socket_is_ops_by_the_name_that_is_given(service: ControlApp, settings: Settings) -> None:
    with RemoteControl(settings) as remote:
        remote.overrides.drain(["c001-bom001"], "ålice")
        assert remote.audit.list(1)[0]["who"] == "ålice"


def test_the_name_that_a_holder_of_a_token_gives_is_ignored(service: ControlApp) -> None:
    headers = service.make_token("ops", name="ci")
    with service.client(headers | {"steering-who": "root"}) as client:
        client.post("/v1/overrides", json={"appliances": ["c001-bom001"], "weight": 7})
        assert client.get("/v1/audit", params={"count": 1}).json()[0]["who"] == "token 1 (ci)"


def test_tokens_of_many_are_made_at_once_or_not_at_all(service: ControlApp) -> None:
    roles = [f"appliance:{name}" for name in ("c001-bom001", "c002-bom001")]
    texts = service.thread.submit(service.control.tokens.make_many, roles, "rack", "noc").result()
    for text, role in zip(texts, roles, strict=True):
        with service.client({"authorization": f"Bearer {text}"}) as client:
            name = role.partition(":")[2]
            assert client.get(f"/v1/appliances/{name}").json()["id"] == name
    with service.client(service.make_token("ops")) as client:
        assert [row["name"] for row in client.get("/v1/tokens").json()] == ["rack", "rack", ""]
        assert client.get("/v1/audit").json()[1]["what"] == "make tokens"
        with pytest.raises(RequestError, match="role"):
            service.thread.submit(service.control.tokens.make_many, [*roles, "root"], "rack", "noc").result()
        assert len(client.get("/v1/tokens").json()) == 3


def test_a_revoked_token_is_refused_from_the_next_request_on(service: ControlApp) -> None:
    with service.client(service.make_token("ops")) as client, service.client(service.make_token("ops")) as other:
        assert client.get("/v1/tables").status_code == 200
        assert other.delete("/v1/tokens/1").json() == {"id": 1, "role": "ops", "name": ""}
        assert client.get("/v1/tables").status_code == 401
        assert [row["good"] for row in other.get("/v1/tokens").json()] == [False, True]
        assert other.delete("/v1/tokens/7").status_code == 404


def test_a_token_is_good_for_its_days(service: ControlApp, clock: Clock) -> None:
    with service.client(service.make_token("ops", days=2)) as client:
        clock.ahead_s = 2 * DAY_S - 60
        assert client.get("/v1/tables").status_code == 200
        clock.ahead_s = 2 * DAY_S
        assert client.get("/v1/tables").status_code == 401


def test_a_token_survives_a_restart_and_its_secret_is_nowhere_on_disk_or_in_logs(
    settings: Settings, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with running_control_app(settings) as service:
        headers = service.make_token("ops")
        with service.client(headers) as client:
            assert client.get("/v1/tables").status_code == 200
    with running_control_app(settings) as service, service.client(headers) as client:
        assert client.get("/v1/tables").status_code == 200
        secret = headers["authorization"].split("-", 2)[2].encode()  # a secret may have dashes
        for path in settings.state.iterdir():
            assert path.is_socket() or secret not in path.read_bytes(), path
    assert secret.decode() not in caplog.text


@pytest.mark.parametrize(
    ("role", "rule"),
    [
        ("root", "ops, partner:<id> or appliance:<id>"),
        ("ops:x", "ops, partner:<id> or appliance:<id>"),
        ("partner:", "ops, partner:<id> or appliance:<id>"),
        ("partner:nosuch", "the fleet has none of this id"),
        ("appliance:nosuch", "the fleet has none of this id"),
    ],
)
def test_a_role_that_there_is_not_gets_no_token(service: ControlApp, role: str, rule: str) -> None:
    with pytest.raises(RequestError, match=re.escape(rule)):
        service.make_token(role)


def test_a_connection_beyond_the_limit_takes_the_place_of_an_idle_one_without_a_token(
    service: ControlApp, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(protocol, "IDLE_S", 60)
    with (
        service.client(service.make_token("ops")) as ops,
        service.client(service.make_token("appliance:c001-bom001")) as appliance,
    ):
        assert ops.get("/v1/tables").status_code == 200
        assert appliance.get("/v1/appliances").status_code == 200
        held = [socket.create_connection(service.address, timeout=5) for _ in range(4)]
        assert [is_closed(connection) for connection in held] == [True, True, True, False]
        assert appliance.get("/v1/appliances").status_code == 200
        assert ops.get("/v1/tables").status_code == 200
        with RemoteControl(settings) as remote:
            assert remote.answers()
        for connection in held:
            connection.close()


def is_closed(connection: socket.socket) -> bool:
    """Return whether the other end closes a connection on which nothing was sent, within half a second."""
    connection.settimeout(0.5)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def test_a_request_that_does_not_arrive_ends_its_connection(
    service: ControlApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0)
    monkeypatch.setattr(protocol, "CHECK_S", 0.1)
    with socket.create_connection(service.address, timeout=5) as connection:
        connection.sendall(b"GET /healthz HT")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_the_audit_log_keeps_the_newest(service: ControlApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steering.control.records.audit.AUDIT_KEPT", 3)
    with service.client(service.make_token("ops")) as client:
        for weight in range(5):
            client.post("/v1/overrides", json={"appliances": ["c001-bom001"], "weight": weight})
        entries = client.get("/v1/audit").json()
        assert [entry["after"]["c001-bom001"]["weight"] for entry in entries] == [4, 3, 2]
        older = client.get("/v1/audit", params={"below": entries[0]["number"], "count": 1}).json()
        assert older == entries[1:2]


def test_a_change_that_fails_leaves_no_entry(service: ControlApp) -> None:
    with service.client(service.make_token("ops")) as client:
        before = client.get("/v1/audit").json()
        assert client.post("/v1/overrides", json={"appliances": ["nosuch"], "weight": 1}).status_code == 404
        assert client.post("/v1/fleet", json={"format": 9}).status_code == 422
        assert client.get("/v1/audit").json() == before


def test_the_whole_history_is_listed(service: ControlApp, settings: Settings) -> None:
    with RemoteControl(settings) as remote:
        whats = [entry["what"] for entry in remote.audit.list()]
    assert whats == ["import fleet"]
    connection = sqlite3.connect(settings.state / NAME)
    (after,) = connection.execute("SELECT after FROM audit").fetchone()
    connection.close()
    assert json.loads(after)["appliances"]["added"] == len(service.control.fleet.current().appliances)
