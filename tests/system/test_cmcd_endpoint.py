"""POST /v1/cmcd, through ASGI: always 204 within its limits, counted, open to pages of any origin."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from _fastpath.client import Trust
from _fastpath.counters import Counters
from _fastpath.fast_path import FastPath
from steering.playback.http.app import make_app
from steering.playback.server.follower import Follower
from steering.playback.signing.tags import tag_for
from steering.playback.telemetry import player_reports as quality
from steering.playback.telemetry.cmcd import MAX_BODY
from steering.playback.telemetry.player_reports import PlayerReports
from steering.settings import Settings
from steering.state.keys import Key, write_keys

pytestmark = pytest.mark.anyio

ISP = "203.0.113.9"
NEAR = "https://c001-bom001.cdn.example/v/x"


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """The app, and what it counts."""

    follower: Follower
    counters: Counters
    send: Callable[..., Any]

    def reports(self) -> dict[int, int]:
        return {slot: row[0] for slot, row in self.counters.quality_of_appliances().items()}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def endpoint(state_folder: Path) -> Endpoint:
    write_keys(state_folder, {"tag-1": Key("s" * 40, 1.0)})
    follower = Follower(state_folder, 0.1)
    follower.step()
    assert follower.snapshot
    assert follower.snapshot.appliances_by_name
    counters = Counters(str(state_folder / "worker.1"), 16, writable=True)
    signer = follower.signer
    player_signal = PlayerReports(
        counters, lambda: signer.keyring.keys, FastPath(Trust([]), "x-forwarded-for", cmcd_sample=2), 2
    )
    app = make_app(follower, Settings(), counters, None, signer.sign_below, signer.tag, player_signal)

    async def send(
        body: bytes = b"", path: str = "/v1/cmcd", method: str = "POST", peer: str = ISP, **headers: str
    ) -> httpx.Response:
        transport = httpx.ASGITransport(app=app, client=(peer, 1234), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://steering") as client:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.request(method, path, content=body, headers=named)

    return Endpoint(follower, counters, send)


TEXT = f'e=rr,rc=200,url="{NEAR}"\ne=ps,sta=p\n\ngarbage\n'.encode()
JSON = json.dumps([{"e": "rr", "rc": 200, "url": NEAR}, {"e": "ps", "sta": "p"}, "garbage"]).encode()


@pytest.mark.parametrize("kind", ["application/cmcd", "text/plain;charset=UTF-8", "application/json", ""])
@pytest.mark.parametrize("body", [TEXT, JSON])
async def test_reports_are_taken_in_every_form(endpoint: Endpoint, body: bytes, kind: str) -> None:
    result = await endpoint.send(body, **({"content_type": kind} if kind else {}))
    assert (result.status_code, result.content) == (204, b"")
    assert result.headers["access-control-allow-origin"] == "*"
    assert endpoint.reports() == {0: 1, -1: 1}
    assert endpoint.counters.events()["unread_reports"] == 1
    assert endpoint.counters.answers() == {("fallback", "cmcd", 204): 1}


@pytest.mark.parametrize("body", [b"", b"\xff\xfe\x00", b"{" * 1000, b"[" * MAX_BODY, b"\n" * 1000])
async def test_what_cannot_be_read_is_no_error(endpoint: Endpoint, body: bytes) -> None:
    assert (await endpoint.send(body)).status_code == 204
    assert endpoint.reports() == {}


async def test_a_body_that_is_too_large_is_refused(endpoint: Endpoint) -> None:
    assert (await endpoint.send(b"x" * MAX_BODY)).status_code == 204
    result = await endpoint.send(b"x" * (MAX_BODY + 1))
    assert result.status_code == 413
    assert result.headers["content-type"] == "application/problem+json"
    assert str(MAX_BODY) in result.json()["detail"]


async def test_a_page_of_another_origin_may_send_them(endpoint: Endpoint) -> None:
    result = await endpoint.send(method="OPTIONS", origin="https://page.example", access_control_request_method="POST")
    assert result.status_code == 204
    assert "POST" in result.headers["access-control-allow-methods"]
    assert result.headers["access-control-allow-headers"] == "*"


async def test_a_whole_batch_is_counted(endpoint: Endpoint) -> None:
    await endpoint.send(b"br=3000\n" * 150)
    assert endpoint.reports() == {-1: 150}


async def test_who_is_asking_is_found_by_the_usual_rules(endpoint: Endpoint) -> None:
    assert endpoint.follower.snapshot
    for peer, forwarded in (("127.0.0.1", ISP), (ISP, "192.0.2.1"), ("192.0.2.1", ISP)):
        await endpoint.send(b"br=3000", peer=peer, x_forwarded_for=forwarded)
    assert {number: row[0] for number, row in endpoint.counters.quality_of_partners().items()} == {1: 2, 0: 1}


async def test_the_first_reports_after_a_publish_wait_until_appliances_are_known_by_name(endpoint: Endpoint) -> None:
    vars(endpoint.follower.snapshot).pop("appliances_by_name")
    await asyncio.gather(*(endpoint.send(f'e=rr,url="{NEAR}"'.encode()) for _ in range(20)))
    assert endpoint.reports() == {0: 20}


async def test_no_more_than_so_many_reports_wait_and_not_for_ever(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "MAX_WAITING", 3)
    monkeypatch.setattr(quality, "LEARNING_S", 0.5)
    monkeypatch.setattr(PlayerReports, "knows_names", lambda *_: False)
    vars(endpoint.follower.snapshot).pop("appliances_by_name")

    async def waited_s() -> float:
        began = time.monotonic()
        assert (await endpoint.send(f'e=rr,url="{NEAR}"'.encode())).status_code == 204
        return time.monotonic() - began

    waited = await asyncio.gather(*(waited_s() for _ in range(20)))
    assert sum(took_s >= 0.5 for took_s in waited) == 3
    assert max(waited) < 5.0
    assert endpoint.reports() == {}


async def test_a_report_with_a_tag_on_the_url_is_attested(endpoint: Endpoint) -> None:
    result = await endpoint.send(path="/v1/hls/video/x?session=s", method="GET")
    assert result.status_code == 200
    signer = endpoint.follower.signer
    tag = tag_for(signer.keyring.keys, "video", "s", bytes([203, 0, 113, 9]), signer.clock())
    assert tag == signer.tag("video", "s", bytes([203, 0, 113, 9]))
    await endpoint.send(f'e=e,url="{NEAR}"'.encode(), f"/v1/cmcd?tag={tag}")
    await endpoint.send(f'e=e,url="{NEAR}"'.encode(), f"/v1/cmcd?tag={tag}x")
    assert endpoint.counters.attested() == {0: (1, 1)}
    assert endpoint.reports() == {0: 2}


async def test_steering_requests_carry_reports(endpoint: Endpoint) -> None:
    encoded = quote('bs,mtp=3000,sid="x"', safe="")
    for path in (
        f"/v1/hls/video/x?_HLS_pathway=c001-bom001&CMCD={encoded}",
        f"/v1/dash/video/x?_DASH_pathway=%22cdn%2Cc001-bom001%22&CMCD={encoded}",
        f"/v1/steer?title=x&CMCD={encoded}",
    ):
        for _ in range(2):
            await endpoint.send(path=path, method="GET")
    result = {slot: row[:3] for slot, row in endpoint.counters.quality_of_appliances().items()}
    assert result == {0: (6, 6, 18_000)}  # the last by its session


async def test_before_anything_is_published_reports_are_taken_and_forgotten(tmp_path: Path) -> None:
    app = make_app(Follower(tmp_path, 0.1), Settings())
    transport = httpx.ASGITransport(app=app, client=(ISP, 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://steering") as client:
        assert (await client.post("/v1/cmcd", content=TEXT)).status_code == 204
