"""Signed answers as both doors give them: what an appliance is sent, it serves; without a key there is the fallback."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from steering.keys import Key, write_keys
from steering.model import Fleet
from steering.playback.follow import Follower
from steering.playback.keyring import Keyring
from steering.playback.signer import Signer
from steering.playback.signing import STEP_S, Verdict, verify
from steering.settings import Settings
from tests.playback.doors import Listening

ISP, STRANGER = "203.0.113.9", "198.51.100.7"
PACKED = bytes([203, 0, 113, 9])
SECRETS = {"k1": "1" * 43, "k2": "2" * 43}
URLS = {
    "path": "https://{host}/{token}/v/{title}/master.m3u8",
    "query": "https://{host}/v/{title}?a=b&{token}",
    "secure_link": "https://{host}/v/{title}?{token}",
}
TITLE = "Äon/1 {token}?"
Publish = Callable[..., Path]


def write(state: Path, *names: str) -> None:
    write_keys(state, {name: Key(SECRETS[name], 1.5) for name in names})


@pytest.fixture
def follower(tmp_path: Path, publish: Publish, fleet: Fleet) -> Follower:
    """Return what serves a plain service and one of each form of token, bound and not, with a key."""
    video = fleet.services[0]
    services = [video]
    for form, url in URLS.items():
        for bind in (False, True):
            services.append(
                dataclasses.replace(
                    video,
                    id=f"{form.replace('_', '-')}-{bind:d}",
                    url=url,
                    token=form,
                    token_bind=bind,
                    keys=("k2", "k1"),
                )
            )
    services.sort(key=lambda service: service.id)
    state = publish(tmp_path / "state", fleet=dataclasses.replace(fleet, services=tuple(services)))
    write(state, "k1")
    found = Follower(state, 0.1)
    found.step()
    return found


def ask(follower: Follower, *queries: dict[str, Any], lane: bool = True) -> list[httpx.Response]:
    """Return the answers of a worker's door."""

    async def run() -> list[httpx.Response]:
        listening = Listening(follower, Settings(lane=lane))
        await listening.start()
        try:
            url = f"http://127.0.0.1:{listening.address[1]}/v1/steer"
            async with httpx.AsyncClient() as client:
                return [await client.get(url, params={"title": TITLE, "ip": ISP} | query) for query in queries]
        finally:
            await listening.stop()

    return asyncio.run(run())


@pytest.mark.parametrize("lane", [True, False])
@pytest.mark.parametrize("form", URLS)
def test_every_target_is_signed_for_its_client(follower: Follower, form: str, lane: bool) -> None:
    services = [f"{form.replace('_', '-')}-{bind}" for bind in (0, 1)]
    now = time.time()
    anybodys, bound = ask(follower, *({"service": service, "n": 4} for service in services), lane=lane)
    for answer in (anybodys, bound):
        targets = answer.json()["targets"]
        assert len(targets) == 4
        for target in targets:
            assert target["url"].startswith(f"https://{target['appliance']}.cdn.example/")
            assert verify(form, target["url"], ISP, SECRETS, now) is Verdict.good
            assert verify(form, target["url"], "203.0.113.200", SECRETS, now) is Verdict.good
    others = [verify(form, answer.json()["targets"][0]["url"], STRANGER, SECRETS, now) for answer in (anybodys, bound)]
    assert others == [Verdict.good, Verdict.altered]


def test_a_redirect_and_its_links_are_signed_too(follower: Follower) -> None:
    (answer,) = ask(follower, {"service": "path-1", "redirect": 1})
    assert answer.status_code == 302
    links = re.findall(r"<([^>]+)>", answer.headers["link"])
    assert len(links) == 2
    for url in (answer.headers["location"], *links):
        assert verify("path", url, ISP, SECRETS, time.time()) is Verdict.good


def test_a_service_that_is_not_signed_is_answered_as_before(follower: Follower) -> None:
    snapshot = follower.snapshot
    assert snapshot
    body = snapshot.steer(ISP, TITLE, service="video")
    assert ask(follower, {"service": "video"})[0].content == body
    assert b"{token}" not in body
    assert list(snapshot.plain_services) == ["video"]


def test_a_reason_is_shown_without_a_token(follower: Follower) -> None:
    (answer,) = ask(follower, {"service": "query-0", "explain": 1})
    assert answer.json()["targets"][0]["url"].endswith("?a=b&{token}")


def test_keys_are_changed_while_it_serves_and_without_any_the_fallback_answers_alone(
    follower: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot, state = follower.snapshot, follower.state
    assert snapshot
    clock = [1_767_225_600.0]
    signer = Signer(follower.keyring, lambda: clock[0])

    def first(n: int = 3) -> str:
        body = snapshot.steer(PACKED, TITLE, service="query-0", n=n)
        targets = json.loads(signer.signed(body, snapshot, "query-0", TITLE, PACKED))["targets"]
        return "&".join(part for part in str(targets[0]["url"]).split("&") if part.startswith(("k=", "e=")))

    assert first() == "k=k1&e=1767268800"
    clock[0] += STEP_S - 1
    assert first() == "k=k1&e=1767269100"
    write(state, "k1", "k2")
    follower.step()
    assert first() == "k=k2&e=1767269100"
    write(state, "k2")
    follower.step()
    assert first() == "k=k2&e=1767269100"
    write(state)
    follower.step()
    for _ in range(2):
        body = signer.signed(snapshot.steer(PACKED, TITLE, service="query-0"), snapshot, "query-0", TITLE, PACKED)
        url = "https://origin.example/v/%C3%84on%2F1%20%7Btoken%7D%3F"
        assert json.loads(body) == {"table": 1, "ttl": 300, "targets": [{"url": url, "fallback": True}]}
        whole = snapshot.steer(PACKED, TITLE, service="video", n=8)
        assert whole.startswith(body[: body.index(b"[")])
    assert [record.message for record in caplog.records] == [
        "service query-0: none of its keys is there; answered with its fallback alone"
    ]
    (answer,) = ask(follower, {"service": "query-0"})
    assert answer.json()["targets"][0]["fallback"] is True
    write(state, "k1")
    follower.step()
    assert first() == "k=k1&e=1767269100"


def test_a_key_made_later_is_taken_by_a_running_worker(follower: Follower) -> None:
    keyring = Keyring(follower.state)
    keyring.step()
    assert list(keyring.keys) == list(follower.keyring.keys) == ["k1"]
    write(follower.state, "k1", "k2")
    follower.step()
    assert list(follower.keyring.keys) == ["k1", "k2"]
