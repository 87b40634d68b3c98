"""The FastAPI app, through ASGI, over a real snapshot in a temporary folder."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from steering.decision.snapshot import Snapshot
from steering.playback.http.app import make_app
from steering.playback.server.follower import Follower
from steering.settings import Settings
from steering.state.sections import write_sections

pytestmark = pytest.mark.anyio

ISP = "203.0.113.9"
Ask = Callable[..., Any]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def follower(state_folder: Path) -> Follower:
    result = Follower(state_folder, 0.1)
    result.step()
    return result


@pytest.fixture
def ask(follower: Follower) -> Ask:
    """Return a function that sends one request from a peer, on loopback unless said."""
    app = make_app(follower, Settings())

    async def send(path: str, peer: str = "127.0.0.1", method: str = "GET", **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(app=app, client=(peer, 1234), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://steering") as client:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.request(method, path, headers=named)

    return send


async def test_a_client_gets_the_snapshots_answer(ask: Ask, snapshot: Snapshot) -> None:
    result = await ask("/v1/steer?title=80100172", peer=ISP)
    assert result.status_code == 200
    assert result.content == snapshot.steer(ISP, "80100172", service="video")
    assert result.headers["content-type"] == "application/json"
    assert result.headers["cache-control"] == "no-store"
    assert result.headers["access-control-allow-origin"] == "*"


async def test_every_parameter_reaches_the_snapshot(ask: Ask, snapshot: Snapshot) -> None:
    result = await ask("/v1/steer?title=a%2Fb+c&service=video&session=s&n=5&family=6&ip=2001:db8::1")
    assert result.content == snapshot.steer("2001:db8::1", "a/b c", service="video", session="s", n=5, family=6)


ERRORS = [
    # query, peer, status, parameter
    ("", ISP, 400, "title"),
    ("title=", ISP, 400, "title"),
    ("title=..", ISP, 400, "title"),
    ("title=" + "x" * 10_000, ISP, 400, "title"),
    ("title=%zz", ISP, 400, "title"),
    ("title=%ff", ISP, 400, "title"),
    ("title=a&title=b", ISP, 400, "title"),
    ("title=t&service=nosuch", ISP, 404, "service"),
    ("title=t&session=" + "s" * 257, ISP, 400, "session"),
    ("title=t&n=0", ISP, 400, "n"),
    ("title=t&n=99", ISP, 400, "n"),
    ("title=t&family=5", ISP, 400, "family"),
    ("title=t&explain=2", ISP, 400, "explain"),
    ("title=t&explain=1", ISP, 403, "explain"),
    ("title=t&ip=8.8.8.8", ISP, 403, "ip"),
    ("title=t&ip=8.8.8", "127.0.0.1", 400, "ip"),
]


@pytest.mark.parametrize(("query", "peer", "status", "parameter"), ERRORS, ids=[row[0][:30] for row in ERRORS])
async def test_a_wrong_request_gets_a_problem_that_names_the_parameter(
    ask: Ask, query: str, peer: str, status: int, parameter: str
) -> None:
    result = await ask(f"/v1/steer?{query}", peer=peer)
    assert result.status_code == status
    assert result.headers["content-type"] == "application/problem+json"
    document = result.json()
    assert (document["status"], document["parameter"]) == (status, parameter)
    assert document["rule"]
    assert len(result.content) < 600


ESCAPED_PATHS = [
    # path, status
    ("/v1%2Fhls", 404),
    ("/v1%2Fhls/video/t", 404),
    ("/v1%2Fdash/video/t/manifest.mpd", 404),
    ("/v1/hls%2Fvideo/t", 404),
    ("/v1%2Fsteer?title=t", 404),
    ("/%2Fv1/hls", 404),
    ("%2Fv1/hls/video/t", 404),
    ("/v1/hls/%ff%fe/%ed%a0%80", 200),
    ("/v1/hls/video/a%2Fb", 200),
    ("/v1/hls/video%2Ft", 200),
    ("/v1/h%6Cs/video/t", 200),
    ("/v1/hls/video/%74%2e%2E%25%0A", 200),
    ("/%76%31/st%65er?title=t", 200),
    ("/v1/hls//", 200),
    ("/v1/hlsx", 404),
    ("/v1/hls?%", 200),
]


@pytest.mark.parametrize(("path", "status"), ESCAPED_PATHS)
async def test_a_path_is_matched_as_it_is_sent(follower: Follower, path: str, status: int) -> None:
    app = make_app(follower, Settings())
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    raw_path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [],
        "client": (ISP, 1234),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    assert sent[0]["status"] == status
    assert json.loads(sent[1]["body"])


async def test_a_failed_target_is_passed_over_for_that_answer(ask: Ask, snapshot: Snapshot) -> None:
    first, second, *_ = snapshot.picks(ISP, "t", service="video")
    plain = (await ask("/v1/steer?title=t", peer=ISP)).json()
    assert plain["targets"][0]["appliance"] == first.appliance
    for failed in (first.appliance, first.host, f"nobody,{first.appliance}", f"{first.appliance}.0123abcd"):
        result = (await ask(f"/v1/steer?title=t&failed={failed}", peer=ISP)).json()
        assert result["targets"][0]["appliance"] == second.appliance
        assert first.appliance not in [target.get("appliance") for target in result["targets"]]
        redirected = await ask(f"/v1/steer?title=t&redirect=1&failed={failed}", peer=ISP)
        assert second.host in redirected.headers["location"]
        steered = (await ask(f"/v1/hls/video/t?_HLS_pathway={first.appliance}&failed={failed}", peer=ISP)).json()
        assert steered["PATHWAY-PRIORITY"][0] == second.appliance
    assert (await ask("/v1/steer?title=t", peer=ISP)).json() == plain
    both = (await ask(f"/v1/steer?title=t&n=8&failed={first.host},{second.appliance}", peer=ISP)).json()
    assert {first.appliance, second.appliance}.isdisjoint(target.get("appliance") for target in both["targets"])
    explained = (await ask(f"/v1/steer?title=t&failed={first.appliance}&explain=1&ip={ISP}")).json()["explain"]
    reasons = {candidate["appliance"]: candidate["reason"] for candidate in explained["candidates"]}
    assert reasons[first.appliance] == "X"
    assert explained["reasons"]["X"]
    for wrong in ("", ",", "a,,b", "a b", "a/b", ",".join("abcdefghi"), "x" * 254, "%C3%A9"):
        refused = await ask(f"/v1/steer?title=t&failed={wrong}", peer=ISP)
        assert (refused.status_code, refused.json()["parameter"]) == (400, "failed")
    playing = (await ask(f"/v1/hls/video/t?failed={'x' * 300}", peer=ISP)).json()
    assert playing["PATHWAY-PRIORITY"][0] == first.appliance


SPOOFS = [
    # name, peer, header, the client that is answered
    ("an untrusted caller's header is not read", "198.51.100.7", {"x_forwarded_for": ISP}, "198.51.100.7"),
    ("a local proxy's is", "127.0.0.1", {"x_forwarded_for": f"10.1.1.1, {ISP}"}, ISP),
    ("the header not configured is not", "127.0.0.1", {"forwarded": f"for={ISP}"}, "127.0.0.1"),
]


@pytest.mark.parametrize(("name", "peer", "headers", "client"), SPOOFS, ids=[row[0] for row in SPOOFS])
async def test_no_client_becomes_another(
    ask: Ask, snapshot: Snapshot, name: str, peer: str, headers: dict[str, str], client: str
) -> None:
    result = await ask("/v1/steer?title=t", peer=peer, **headers)
    assert result.content == snapshot.steer(client, "t", service="video")


async def test_behind_a_local_proxy_no_client_becomes_trusted(ask: Ask) -> None:
    for query in ("ip=8.8.8.8", "explain=1"):
        result = await ask(f"/v1/steer?title=t&{query}", x_forwarded_for=ISP)
        assert result.status_code == 403


async def test_head_is_get_without_a_body(ask: Ask) -> None:
    for path in ("/v1/steer?title=t", "/healthz", "/readyz", "/version", "/openapi.json", "/docs"):
        got, head = await ask(path), await ask(path, method="HEAD")
        assert head.status_code == got.status_code == 200
        assert head.headers == got.headers


async def test_a_redirect_goes_to_the_first_target(ask: Ask, snapshot: Snapshot) -> None:
    result = await ask("/v1/steer?title=t&redirect=1", peer=ISP)
    urls = [target["url"] for target in json.loads(snapshot.steer(ISP, "t", service="video"))["targets"]]
    assert result.status_code == 302
    assert result.headers["location"] == urls[0]
    assert result.headers.get_list("link") == [
        f'<{url}>; rel="duplicate"; pri={place}' for place, url in enumerate(urls[1:], 2)
    ]


async def test_explain_is_the_answer_and_why(ask: Ask, snapshot: Snapshot) -> None:
    result = (await ask(f"/v1/steer?title=t&explain=1&ip={ISP}")).json()
    why = result.pop("explain")
    assert result == json.loads(snapshot.steer(ISP, "t", service="video"))
    assert why["prefix"] == "203.0.113.0/24"


SPOILED: list[tuple[str, Callable[[Path], object]]] = [
    ("gone", lambda path: path.unlink()),
    ("torn", lambda path: path.write_bytes(path.read_bytes()[:100])),
    ("written by another", lambda path: (path.unlink(), write_sections(path, "routes", {"meta": b"{"}))),
]


@pytest.mark.parametrize("spoil", [row[1] for row in SPOILED], ids=[row[0] for row in SPOILED])
async def test_an_explanation_names_the_file_that_it_cannot_read(
    ask: Ask, state_folder: Path, spoil: Callable[[Path], object]
) -> None:
    spoil(state_folder / "routes.1")
    result = await ask(f"/v1/steer?title=t&explain=1&ip={ISP}")
    assert (result.status_code, result.headers["content-type"]) == (503, "application/problem+json")
    assert result.json()["detail"].startswith("routes.1")
    assert (await ask("/v1/steer?title=t", peer=ISP)).status_code == 200


async def test_players_on_any_page_may_ask(ask: Ask) -> None:
    result = await ask(
        "/v1/steer", method="OPTIONS", origin="https://player.example", access_control_request_method="GET"
    )
    assert result.status_code == 204
    assert result.headers["access-control-allow-origin"] == "*"
    assert "GET" in result.headers["access-control-allow-methods"]


async def test_other_paths_and_methods_are_problems_too(ask: Ask) -> None:
    cases = [
        ("/nosuch", "GET", 404, None),
        ("/v1/steer/?title=t", "GET", 404, None),
        ("/v1/steer", "POST", 405, "GET, HEAD, OPTIONS"),
        ("/healthz", "DELETE", 405, "GET, HEAD"),
        ("/v1/playback", "GET", 405, "OPTIONS, POST"),
        ("/v1/cmcd", "PUT", 405, "OPTIONS, POST"),
        ("/v1/hls/video/t", "POST", 405, "GET, HEAD, OPTIONS"),
        ("/v1/dash/video/t/manifest.mpd", "DELETE", 405, "GET, HEAD, OPTIONS"),
        ("/v1/hls", "PATCH", 405, "GET, HEAD, OPTIONS"),
        ("/v1/dash/a%2Fb/c/d/e", "POST", 405, "GET, HEAD, OPTIONS"),
        ("/metrics", "POST", 405, "GET, HEAD"),
    ]
    for path, method, status, allow in cases:
        result = await ask(path, method=method)
        assert result.status_code == status
        assert result.headers.get("allow") == allow
        assert result.headers["content-type"] == "application/problem+json"
        assert result.json()["status"] == status


TRUSTED_PAGES = ["/version", "/openapi.json", "/docs"]


@pytest.mark.parametrize("path", TRUSTED_PAGES)
async def test_pages_about_the_service_are_for_trusted_callers(ask: Ask, path: str) -> None:
    assert (await ask(path)).status_code == 200
    assert (await ask(path, peer=ISP)).status_code == 403
    assert (await ask(path, x_forwarded_for=ISP)).status_code == 403


async def test_health_and_readiness_are_for_everybody(ask: Ask, follower: Follower) -> None:
    assert (await ask("/healthz", peer=ISP)).text == "ok\n"
    result = (await ask("/readyz", peer=ISP)).json()
    assert (result["ready"], result["table"], result["generation"], result["refused"]) == (True, 1, 1, None)
    (follower.state / "current").write_bytes(b"torn")
    follower.step()
    assert "torn" in (await ask("/readyz")).json()["refused"]


async def test_before_the_first_publish_the_answer_names_the_reason(tmp_path: Path) -> None:
    transport = httpx.ASGITransport(app=make_app(Follower(tmp_path, 0.1), Settings()), client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://steering") as client:
        for path in ("/v1/steer?title=t", "/readyz"):
            result = await client.get(path)
            assert result.status_code == 503
            assert result.headers["retry-after"] == "1"
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/version")).json()["serving"] is None


async def test_an_error_of_ours_shows_no_traceback(
    follower: Follower, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Snapshot, "steer", fail)
    result = await ask("/v1/steer?title=t", peer=ISP)
    assert result.status_code == 500
    assert "secret" not in result.text
    assert result.json()["detail"] == "an error of ours; it is in the log"


async def test_the_docs_page_stands_alone_and_carries_the_attribution(ask: Ask) -> None:
    result = await ask("/docs")
    assert "default-src 'none'" in result.headers["content-security-policy"]
    assert not re.search(r"<(script|img|link|iframe)|src=|url\(", result.text)
    outside = set(re.findall(r'href="(https?://[^"]+)"', result.text))
    assert "https://db-ip.com" in outside
    for name in ("title", "service", "session", "n", "family", "ip", "explain", "redirect"):
        assert f"<code>{name}</code>" in result.text


async def test_openapi_documents_every_parameter(ask: Ask) -> None:
    document = (await ask("/openapi.json")).json()
    operation = document["paths"]["/v1/steer"]["get"]
    assert [item["name"] for item in operation["parameters"]] == [
        "title", "service", "session", "n", "family", "ip", "explain", "redirect", "failed",
    ]  # fmt: skip
    assert {"200", "302", "400", "403", "404", "503"} <= set(operation["responses"])
    body = document["paths"]["/v1/playback"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert sorted(body["properties"]) == [
        "device", "failed", "family", "files", "ip", "n", "service", "session", "title",
    ]  # fmt: skip
    assert body["properties"]["failed"]["type"] == "array"
