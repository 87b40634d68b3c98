"""Signed answers as both doors give them: what an appliance is sent, it serves; without a key there is the fallback."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from _fastpath.fast_path import Peer
from steering.decision.explain import explain
from steering.decision.snapshot import Snapshot
from steering.model.fleet import Fleet
from steering.playback.server.connections import Connections
from steering.playback.server.follower import Follower
from steering.playback.signing.signer import Keyring
from steering.playback.signing.tokens import STEP_S
from steering.settings import Settings
from steering.state.keys import FILE, Key, write_keys
from tests.support import reference
from tests.support.playback_app import Listening
from tests.support.token_verifier import Verdict, verify

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


def ask(follower: Follower, *queries: dict[str, Any], fast_path: bool = True) -> list[httpx.Response]:
    """Return the answers of a worker's door."""

    async def run() -> list[httpx.Response]:
        listening = Listening(follower, Settings(fast_path=fast_path))
        await listening.start()
        try:
            url = f"http://127.0.0.1:{listening.address[1]}/v1/steer"
            async with httpx.AsyncClient() as client:
                return [await client.get(url, params={"title": TITLE, "ip": ISP} | query) for query in queries]
        finally:
            await listening.stop()

    return asyncio.run(run())


@pytest.mark.parametrize("fast_path", [True, False])
@pytest.mark.parametrize("form", URLS)
def test_every_target_is_signed_for_its_client(follower: Follower, form: str, fast_path: bool) -> None:
    services = [f"{form.replace('_', '-')}-{bind}" for bind in (0, 1)]
    now = time.time()
    anybodys, bound = ask(follower, *({"service": service, "n": 4} for service in services), fast_path=fast_path)
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


def test_whoever_has_no_keys_explains_with_the_place_of_the_token(follower: Follower) -> None:
    found = explain(Snapshot.map(follower.state), ISP, "t", service="query-0")
    assert found["targets"][0]["url"].endswith("/v/t?a=b&{token}")


def test_both_doors_sign_alike(follower: Follower) -> None:
    follower.signer.clock = lambda: 1_767_225_600.0
    clients = [ISP, STRANGER, "2001:db8::1", "2002:cb00:7109::1", "::ffff:203.0.113.9", "64:ff9b::cb00:7109"]
    queries = [
        {"service": f"{form.replace('_', '-')}-{bind}", "ip": client, "n": n, "title": title}
        for form in URLS
        for bind in (0, 1)
        for client in clients
        for n, title in ((1, "t"), (8, TITLE), (3, "%2e/x"))
    ]
    hot, cold = ask(follower, *queries), ask(follower, *queries, fast_path=False)
    assert [answer.content for answer in hot] == [answer.content for answer in cold]
    assert {answer.status_code for answer in hot} == {200}
    connections = Connections(Settings())
    assert follower.snapshot
    connections.serve(follower.snapshot)
    head = b"GET /v1/steer?title=t&service=path-1&ip=203.0.113.9 HTTP/1.1\r\nhost: a\r\n\r\n"
    assert connections.fast_path.answer(head, 0, Peer(bytes([127, 0, 0, 1]), True)), "the fast_path leaves it to nobody"
    assert all(target["url"].count("token") <= 1 for answer in hot for target in answer.json()["targets"])


def test_keys_are_changed_while_it_serves_and_without_any_the_fallback_answers_alone(
    follower: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    state = follower.state
    clock = [1_767_225_600.0]
    follower.signer.clock = lambda: clock[0]
    snapshot = follower.snapshot
    assert snapshot

    def first() -> str:
        targets = json.loads(snapshot.steer(PACKED, TITLE, service="query-0"))["targets"]
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
    url = "https://origin.example/v/%C3%84on%2F1%20%7Btoken%7D%3F"
    ttl = reference.ttl_of(300, 0.1, TITLE, reference.viewer_of("", ISP))
    fallback = {"table": 1, "ttl": ttl, "targets": [{"url": url, "fallback": True}]}
    for fast_path in (True, False):
        (answer,) = ask(follower, {"service": "query-0"}, fast_path=fast_path)
        assert answer.json() == fallback
    assert [record.message for record in caplog.records] == [
        "service query-0: none of its keys is in the keys file; its answers name the fallback alone"
    ]
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


ONE, OTHER = "1" * 43, "2" * 43


def test_keys_are_followed_as_they_are_made_changed_and_taken_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    keyring = Keyring(tmp_path)
    keyring.step()
    assert keyring.keys == {}
    write_keys(tmp_path, {"k1": Key(ONE, 1)})
    keyring.step()
    (before,) = keyring.keys.values()
    assert (before.id, before.secret) == ("k1", ONE.encode())
    keyring.step()
    assert keyring.keys["k1"] is before, "an unchanged file is not read again"
    write_keys(tmp_path, {"k1": Key(OTHER, 1), "k2": Key(ONE, 1)})
    keyring.step()
    assert [(key.id, key.secret) for key in keyring.keys.values()] == [("k1", OTHER.encode()), ("k2", ONE.encode())]
    (tmp_path / FILE).unlink()
    keyring.step()
    assert keyring.keys == {}
    assert ONE not in caplog.text
    assert OTHER not in caplog.text


def test_a_file_that_cannot_be_used_is_logged_once_and_the_old_keys_go_on_signing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keyring = Keyring(tmp_path)
    write_keys(tmp_path, {"k1": Key(ONE, 1)})
    keyring.step()
    (tmp_path / FILE).chmod(0o644)
    keyring.step()
    keyring.step()
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / FILE}: mode 0644 lets others read secrets; the old keys go on signing"
    ]
    assert list(keyring.keys) == ["k1"]
    (tmp_path / FILE).chmod(0o600)
    write_keys(tmp_path, {"k2": Key(OTHER, 1)})
    keyring.step()
    assert list(keyring.keys) == ["k2"]
