"""Steering manifests: what players send is read leniently, and what they get obeys the rules whatever they sent."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from _fastpath.hashing import ttl_of, viewer_of
from _fastpath.hints import Hints
from steering.model.fleet import Fleet
from steering.model.service import Pathway, Service, jitter_s
from steering.playback.answers import steering_manifests as manifests
from steering.playback.http.app import make_app
from steering.playback.server.follower import Follower
from steering.settings import Settings
from tests.players.tools import modules
from tests.support import reference
from tests.support.steering_rules import broken_rules

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@given(st.integers(1, 86_400), st.floats(0, 0.5), st.text(max_size=20), st.text(max_size=20))
def test_a_ttl_is_a_whole_number_of_at_least_one_and_near_what_was_set(
    ttl_s: int, share: float, session: str, title: str
) -> None:
    viewer = viewer_of(session, bytes([203, 0, 113, 7]))
    result = ttl_of(ttl_s, jitter_s(ttl_s, share), title, viewer)
    assert result >= 1
    assert abs(result - ttl_s) <= ttl_s * share
    assert result == reference.ttl_of(ttl_s, share, title, reference.viewer_of(session, "203.0.113.200"))


def test_viewers_do_not_all_ask_at_once() -> None:
    ttls = Counter(ttl_of(30, 3, "80100172", viewer_of(f"viewer {i}", b"")) for i in range(7000))
    assert sorted(ttls) == [27, 28, 29, 30, 31, 32, 33]
    assert min(ttls.values()) > 800


def test_a_static_body_can_be_made_ahead_and_lives_longer() -> None:
    video = Service("video", "https://{host}/v/{title}", "https://origin.example/v/{title}", steer_ttl_s=100)
    hints = Hints(pathways=("c002",), declared=("c001", "c002"), failed=("c003",))
    for service, least, most in ((video, 450, 550), (None, 270, 330)):
        result = json.loads(manifests.static_body(service, hints, 7, "t"))
        assert result["PATHWAY-PRIORITY"] == ["c002", "c001", "cdn"]
        assert least <= result["TTL"] <= most
        assert json.loads(manifests.static_body(service))["PATHWAY-PRIORITY"] == ["cdn"]
    assert b'["c001","cdn","c002"]' in manifests.static_body(video, hints, 7, "t", ["c002"])
    failed = hints._replace(failed=("c002",))
    assert b'["c001","cdn","c002"]' in manifests.static_body(video, failed, 7, "t")


Asking = Callable[..., Any]


@pytest.fixture
def players_fleet(fleet: Fleet) -> Fleet:
    """The tiny fleet with a service of each kind."""
    (video,) = fleet.services
    mapped = dataclasses.replace(
        video,
        id="mapped",
        pathways=(
            Pathway("embedded", classes=("embedded",)),
            Pathway("exchanges", classes=("exchange",)),
            Pathway("other", host="cdn.example.net"),
        ),
        clones=("hls-js",),
        steer_ttl_s=1,
        ttl_jitter=0.5,
    )
    return dataclasses.replace(fleet, services=(mapped, video))


@pytest.fixture
def ask(tmp_path: Path, publish: Callable[..., Path], players_fleet: Fleet) -> Asking:
    follower = Follower(publish(tmp_path / "state", fleet=players_fleet), 0.1)
    follower.step()
    app = make_app(follower, Settings())
    clients: dict[str, httpx.AsyncClient] = {}

    async def send(path: str, peer: str = "203.0.113.9", method: str = "GET") -> httpx.Response:
        if peer not in clients:
            transport = httpx.ASGITransport(app=app, client=(peer, 1234), raise_app_exceptions=False)
            clients[peer] = httpx.AsyncClient(transport=transport, base_url="http://steering")
        return await clients[peer].request(method, path)

    return send


async def test_a_player_gets_its_appliances_and_the_fallback(ask: Asking) -> None:
    steered = (await ask("/v1/steer?title=80100172&n=6")).json()  # twice as many as playlists name
    result = await ask("/v1/hls/video/80100172")
    assert broken_rules(result.status_code, dict(result.headers), result.content) == []
    body = result.json()
    assert body["PATHWAY-PRIORITY"] == [
        target["appliance"] for target in steered["targets"] if "appliance" in target
    ] + ["cdn"]
    assert 27 <= body["TTL"] <= 33
    assert (await ask("/v1/dash/video/80100172")).content == result.content
    assert (await ask("/v1/hls/video/80100172", method="HEAD")).headers["content-length"] == str(len(result.content))
    assert result.headers["access-control-expose-headers"] == "Retry-After"


async def test_mapped_pathways_follow_the_ranking(ask: Asking) -> None:
    near, far = await ask("/v1/hls/mapped/t"), await ask("/v1/hls/mapped/t", peer="198.51.100.9")
    assert near.json()["PATHWAY-PRIORITY"] == ["embedded", "exchanges", "other"]
    assert far.json()["PATHWAY-PRIORITY"] == ["exchanges", "other", "embedded"]
    clones = (await ask("/v1/hls/mapped/t?player=hls-js")).json()
    assert [clone["BASE-ID"] for clone in clones["PATHWAY-CLONES"]] == ["embedded", "embedded", "embedded"]
    assert "PATHWAY-CLONES" not in (await ask("/v1/hls/mapped/t?player=media3")).json()


async def test_a_preflight_is_answered(ask: Asking) -> None:
    for path in ("/v1/hls/video/t", "/v1/dash/video/t", "/v1/hls/video/t/master.m3u8", "/v1/hls/a/b/c/d"):
        result = await ask(path, method="OPTIONS")
        assert (result.status_code, result.headers["access-control-allow-origin"]) == (204, "*")


STATIC = [
    ("an unknown service gets the default one's", "/v1/hls/nosuch/t", ["cdn"]),
    ("no title", "/v1/hls/video", ["cdn"]),
    ("an empty one", "/v1/hls/video/", ["cdn"]),
    ("dots", "/v1/dash/video/%2E%2E", ["cdn"]),
    ("a title beyond all", "/v1/hls/video/" + "x" * 300, ["cdn"]),
    ("no UTF-8", "/v1/hls/mapped/%FF%FE" + "x" * 300, ["embedded", "exchanges", "other"]),
    ("a path of another shape", "/v1/hls/video/a/b/c", ["cdn"]),
    ("a playlist's name one level too deep", "/v1/hls/video/a/b/master.m3u8", ["cdn"]),
    ("and it leaves players where they are", "/v1/hls/nosuch/t?_HLS_pathway=c001-bom001", ["c001-bom001", "cdn"]),
    ("with all that their playlists declare", "/v1/hls/nosuch/t?_HLS_pathway=%22c002-bom001%22&declared=c001-bom001%2Cc002-bom001",
     ["c002-bom001", "c001-bom001", "cdn"]),
    ("before they play too", "/v1/dash/video/%2E?declared=c001-bom001,c002-bom001", ["c001-bom001", "c002-bom001", "cdn"]),
    ("one that failed is last", "/v1/dash/video/?declared=c001-bom001,c002-bom001&failed=c001-bom001&_DASH_pathway=c001-bom001",
     ["c002-bom001", "cdn", "c001-bom001"]),
    ("declared by no id", "/v1/hls/nosuch/t?declared=%20,,a%2Fb,c001-bom001,c001-bom001", ["c001-bom001", "cdn"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "path", "expected"), STATIC, ids=[row[0] for row in STATIC])
async def test_nothing_is_refused(ask: Asking, name: str, path: str, expected: list[str]) -> None:
    result = await ask(path)
    assert broken_rules(result.status_code, dict(result.headers), result.content) == []
    assert result.json()["PATHWAY-PRIORITY"] == expected
    assert result.json()["TTL"] > 100


async def test_before_the_first_publish_players_get_the_static_body(tmp_path: Path) -> None:
    app = make_app(Follower(tmp_path, 0.1), Settings())
    transport = httpx.ASGITransport(app=app, client=("203.0.113.9", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://steering") as client:
        result = await client.get("/v1/hls/video/t")
    assert broken_rules(result.status_code, dict(result.headers), result.content) == []


async def test_ip_is_used_for_trusted_callers_only_and_is_never_an_error(ask: Asking) -> None:
    plain = await ask("/v1/hls/mapped/t")
    assert (await ask("/v1/hls/mapped/t?ip=198.51.100.9")).json() == plain.json()
    asked = await ask("/v1/hls/mapped/t?ip=198.51.100.9", peer="127.0.0.1")
    assert asked.json()["PATHWAY-PRIORITY"][0] == "exchanges"
    assert (await ask("/v1/hls/mapped/t?ip=nonsense", peer="127.0.0.1")).status_code == 200


def fuzzed(random: random.Random) -> tuple[str, str]:
    """Return a path with its query, and the service that answers it."""

    def noise(most: int) -> str:
        return quote(
            bytes(random.randrange(256) for _ in range(random.randrange(most))), safe=random.choice(["", '%&=+,;"'])
        )

    service = random.choice(["video", "mapped", "mapped", "nosuch", noise(8)])
    title = random.choice(
        ["80100172", f"t{random.randrange(1000)}", noise(40), "x" * random.randrange(400), "%2E%2E", "a%2Fb"]
    )
    names = [
        "c001-bom001",
        "c002-bom001",
        "c001-lhr001",
        "cdn",
        "embedded",
        "other",
        "A",
        "nonsense!",
        noise(20),
        "x" * 70,
    ]
    parts = []
    for _ in range(random.randrange(6)):
        name = random.choice(
            [
                "_HLS_pathway",
                "_DASH_pathway",
                "_HLS_throughput",
                "_DASH_throughput",
                "session",
                "player",
                "ip",
                "family",
                "CMCD",
                noise(8),
            ]
        )
        values = {
            "player": ["hls-js", "shaka", noise(5)],
            "ip": ["198.51.100.7", "203.0.113.5", "2001:db8::5", "nonsense", noise(9)],
            "family": ["4", "6", "5", noise(3)],
        }.get(name, [*names, "5140000", "-1", "1e9", "9" * 400, noise(60)])
        value = ",".join(random.choice(values) for _ in range(random.choice([1, 1, 2, 20])))
        parts.append(f"{name}={random.choice([value, f'%22{value}%22', quote(value)])}")
    query = random.choice(["&", "&", "&&", ";"]).join(parts)
    return f"/v1/{random.choice(['hls', 'dash'])}/{service}/{title}?{query}", service


async def bodies_of(ask: Asking, seed: int, count: int) -> set[str]:
    """Ask so many fuzzed requests, hold each answer against the rules, and return the bodies."""
    source = random.Random(seed)
    bodies = set()
    peers = ["203.0.113.9", "198.51.100.9", "127.0.0.1", "2001:db8::9", "192.0.2.1"]
    for _ in range(count):
        path, service = fuzzed(source)
        result = await ask(path, peer=source.choice(peers))
        declared = ("embedded", "exchanges", "other") if service == "mapped" else ()
        assert broken_rules(result.status_code, dict(result.headers), result.content, declared) == [], path
        bodies.add(result.content.decode())
    return bodies


async def test_every_body_of_4_000_fuzzed_requests_obeys_the_rules(ask: Asking) -> None:
    assert len(await bodies_of(ask, 6, 4000)) > 500


async def test_the_streaming_alliances_validator_takes_every_body(ask: Asking, tmp_path: Path) -> None:
    folder = modules()
    bodies = tmp_path / "bodies.json"
    asked = sorted(await bodies_of(ask, 7, 2000))
    bodies.write_text(json.dumps([*map(json.loads, asked), {"VERSION": 1, "TTL": 30, "PATHWAY-PRIORITY": []}]))
    script = tmp_path / "judge.cjs"
    script.write_text(
        "const { isValidSteeringManifest } = require('@svta/common-media-library/contentsteering');\n"
        "const bodies = JSON.parse(require('node:fs').readFileSync(process.argv[2]));\n"
        "console.log(bodies.filter(isValidSteeringManifest).length);\n"
    )
    ran = subprocess.run(
        [shutil.which("node") or "", str(script), str(bodies)],
        env={**os.environ, "NODE_PATH": str(folder / "node_modules")},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert int(ran.stdout) == len(asked), "all of ours, and not the one that is wrong"
