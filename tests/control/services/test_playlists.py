"""Playlists on record: what is registered is served, also after a crash; what came from an origin is asked for again."""

from __future__ import annotations

import asyncio
import dataclasses
import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from click.testing import CliRunner

from _fastpath.request import Client
from steering.cli import main
from steering.control.jobs import refresh_playlists
from steering.control.jobs.refresh_playlists import RefreshPlaylists
from steering.control.routes.feeds import FeedSource
from steering.control.services import playlists as playlist_service
from steering.control.services.control import Control
from steering.control.services.playlists import bring
from steering.decision.snapshot import Snapshot
from steering.errors import FeedError, RequestError
from steering.model.fleet import Fleet
from steering.model.service import Pathway, Service
from steering.playback.http import playback
from steering.playback.http.app import make_app
from steering.playback.server.follower import Follower
from steering.settings import Settings
from tests.control.playlists.test_prepare import HLS, MPD
from tests.support.control_app import running_control_app

T = TypeVar("T")


class Origin:
    """An origin that has one text for every path, and counts who asks."""

    def __init__(self) -> None:
        self.text = HLS
        self.status = 200
        self.tags = '"{}"'
        self.asked: list[tuple[str, str | None]] = []
        origin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                tag = origin.tags.format(hash(origin.text))
                known = self.headers["if-none-match"]
                origin.asked.append((self.path, known))
                body = origin.text.encode()
                status = 304 if known == tag and origin.status == 200 else origin.status
                self.send_response(status)
                self.send_header("etag", tag)
                self.send_header("content-length", str(len(body) if status != 304 else 0))
                self.end_headers()
                if status != 304:
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def origin() -> Iterator[Origin]:
    found = Origin()
    yield found
    found.close()


def with_origin(fleet: Fleet, url: str) -> Fleet:
    return dataclasses.replace(fleet, services=(dataclasses.replace(fleet.services[0], origin=url),))


def served(state: Path, path: str, **settings: Any) -> httpx.Response:
    """Return what a player in the tiny fleet's ISP gets."""
    follower = Follower(state, 0.1)
    follower.step()
    transport = httpx.ASGITransport(app=make_app(follower, Settings(**settings)), client=("203.0.113.9", 1))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.get(path)

    return asyncio.run(ask())


def test_a_registered_playlist_is_made_for_each_client(serving: Control, settings: Settings) -> None:
    report = serving.playlists.put("video", "80100172", "hls", HLS.encode(), "test")
    assert (report["made"], report["bytes"], report["url"], report["problem"]) == (True, len(HLS), "", "")
    found = served(
        settings.state, "/v1/hls/video/80100172/master.m3u8?session=s%201", public_url="https://steer.example/x"
    )
    assert (found.status_code, found.headers["content-type"]) == (200, "application/vnd.apple.mpegurl")
    assert found.headers["access-control-allow-origin"] == "*"
    picks = Snapshot.map(settings.state).picks("203.0.113.9", "80100172", service="video", session="s 1")
    tag = f'#EXT-X-CONTENT-STEERING:SERVER-URI="https://steer.example/x/v1/hls/video/80100172?session=s%201",PATHWAY-ID="{picks[0].appliance}"'
    assert tag in found.text
    for pick in picks[:3]:
        assert f"https://{pick.host}/v/80100172/low/v.m3u8\n" in found.text
    assert "https://origin.example/v/80100172/low/v.m3u8\n" in found.text
    steering = served(settings.state, "/v1/hls/video/80100172?session=s%201").json()
    assert steering["PATHWAY-PRIORITY"][0] == picks[0].appliance, "the first answer moves nobody"

    serving.playlists.put("video", "80100172", "dash", MPD.encode(), "test")
    found = served(
        settings.state, "/v1/dash/video/80100172/manifest.mpd", query_before_start=True, public_url="http://s.example"
    )
    assert found.headers["content-type"] == "application/dash+xml"
    assert f'serviceLocation="{picks[0].appliance}">https://{picks[0].host}/v/80100172/media/<' in found.text
    assert 'queryBeforeStart="true">http://s.example/v1/dash/video/80100172</' in found.text


def test_the_first_answer_for_a_mapped_playlist_moves_no_player_that_takes_clones(
    serving: Control, settings: Settings, fleet: Fleet
) -> None:
    ways = (Pathway("embedded", classes=("embedded",)), Pathway("other", host="cdn.example.net"))
    mapped = dataclasses.replace(fleet.services[0], pathways=ways, clones=("hls-js",))
    serving.fleet.replace(dataclasses.replace(fleet, services=(mapped,)), "test")
    serving.playlists.put("video", "t", "hls", HLS.encode(), "test")
    playlist = served(
        settings.state, "/v1/hls/video/t/master.m3u8?player=hls-js", public_url="https://steer.example"
    ).text
    url, first = re.findall(r'SERVER-URI="https://steer.example(.*?)",PATHWAY-ID="(.*?)"', playlist)[0]
    best, second, *_ = Snapshot.map(settings.state).picks("203.0.113.9", "t", service="video")
    assert (first, f"https://{best.host}/v/t/low/v.m3u8" in playlist) == ("embedded", True)
    for current in ("", "&_HLS_pathway=embedded"):
        body = served(settings.state, url + current).json()
        assert body["PATHWAY-PRIORITY"][0] == "embedded"
        clones = [clone["URI-REPLACEMENT"]["HOST"] for clone in body["PATHWAY-CLONES"]]
        assert (best.host in clones, second.host in clones) == (False, True)
    assert "declared" not in served(settings.state, "/v1/hls/video/t/master.m3u8", public_url="https://x.example").text


def test_what_is_not_registered_is_404_and_deleted_is_gone(serving: Control, settings: Settings) -> None:
    path = "/v1/hls/video/a%2Fb/master.m3u8"
    assert served(settings.state, path).status_code == 404
    serving.playlists.put("video", "a/b", "hls", HLS.encode(), "test")
    assert served(settings.state, path).status_code == 200
    assert served(settings.state, "/v1/dash/video/a%2Fb/manifest.mpd").status_code == 404
    serving.playlists.delete("video", "a/b", "hls", "test")
    found = served(settings.state, path)
    assert (found.status_code, found.json()["parameter"]) == (404, "title")
    assert serving.hand_over.current is not None
    assert serving.hand_over.current.playlists == ""
    with pytest.raises(RequestError, match="none is registered"):
        serving.playlists.delete("video", "a/b", "hls", "test")


def test_a_playlist_before_the_first_publish_waits_for_it(
    control: Control, settings: Settings, fleet: Fleet, write_feed: Callable[..., FeedSource]
) -> None:
    control.fleet.replace(fleet, "test")
    control.playlists.put("video", "t", "hls", HLS.encode(), "test")
    control.tables.publish([write_feed("203.0.113.0/24,bom001-a,64500,0\n")], "test", "first")
    assert served(settings.state, "/v1/hls/video/t/master.m3u8").status_code == 200


def test_other_publishes_keep_the_playlists_and_old_files_go(
    serving: Control, settings: Settings, fleet: Fleet, write_feed: Callable[..., FeedSource]
) -> None:
    for title in ("a", "b", "c", "d"):
        serving.playlists.put("video", title, "hls", HLS.encode(), "test")
    names = {path.name for path in settings.state.glob("playlists.*")}
    serving.tables.publish([write_feed("203.0.113.0/24,bom001-a,64500,0\n")], "test")
    serving.fleet.replace(dataclasses.replace(fleet, appliances=fleet.appliances[:-1]), "test")
    assert serving.hand_over.current is not None
    assert serving.hand_over.current.playlists in names
    assert len(list(settings.state.glob("playlists.*"))) == 1
    assert served(settings.state, "/v1/hls/video/d/master.m3u8").status_code == 200


def test_what_was_acknowledged_serves_after_a_crash(
    serving: Control, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving.playlists.put("video", "t", "hls", HLS.encode(), "test")
    monkeypatch.setattr(serving.playlists, "serve", lambda: None)  # killed between the record and the file
    serving.playlists.put("video", "u", "hls", HLS.encode(), "test")
    serving.close()
    assert served(settings.state, "/v1/hls/video/u/master.m3u8").status_code == 404
    with Control(settings):
        assert served(settings.state, "/v1/hls/video/u/master.m3u8").status_code == 200


def test_a_refused_playlist_changes_nothing(serving: Control, settings: Settings) -> None:
    serving.playlists.put("video", "t", "hls", HLS.encode(), "test")
    before = served(settings.state, "/v1/hls/video/t/master.m3u8").content
    with pytest.raises(FeedError, match="line 9"):
        serving.playlists.put("video", "t", "hls", HLS.replace("low/v", "/v").encode(), "test")
    assert served(settings.state, "/v1/hls/video/t/master.m3u8").content == before


REFUSED = [
    ("no such service", ("nosuch", "t", "hls"), "there is no such service"),
    ("no such kind", ("video", "t", "smooth"), "hls, dash, streams"),
    ("no title", ("video", "..", "hls"), "printable UTF-8"),
    ("a title with a line end", ("video", "a\nb", "hls"), "printable UTF-8"),
    ("no origin", ("video", "t", "hls"), "has no origin"),
]


@pytest.mark.parametrize(("name", "key", "said"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_cannot_be_registered_is_said(serving: Control, name: str, key: tuple[str, str, str], said: str) -> None:
    with pytest.raises((RequestError, FeedError), match=said):
        serving.playlists.put(*key, None, "test")


def test_tokens_that_cover_no_segment_have_no_playlists(serving: Control, settings: Settings, fleet: Fleet) -> None:
    serving.playlists.put("video", "t", "hls", HLS.encode(), "test")
    signed = dataclasses.replace(fleet.services[0], token="query", keys=("k1",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving.on_record, "fleet", dataclasses.replace(serving.fleet.current(), services=(signed,)))
        with pytest.raises(RequestError, match="covers no segment"):
            serving.playlists.put("video", "t", "hls", HLS.encode(), "test")
        serving.playlists.put("video", "t", "streams", STREAMS, "test")  # its files have a token each


CLIENT = Client(bytes([203, 0, 113, 9]), True)
STREAMS = b"""{"streams": [
 {"file": "t-v5", "codecs": "hvc1.2.4.L153", "height": 2160, "hdr": true, "protocols": ["dash"]},
 {"file": "t-v4", "codecs": "avc1.640028", "height": 1080},
 {"file": "t-a1", "codecs": "mp4a.40.2"}]}"""


def test_a_catalogue_of_streams_answers_for_a_device(serving: Control, settings: Settings) -> None:
    def files(service: str = "video", title: str = "a/b", **device: Any) -> list[str]:
        body = json.dumps({"service": service, "title": title, "device": device}).encode()
        snapshot = Snapshot.map(settings.state)
        return list(json.loads(playback.answer(snapshot, body, CLIENT, "video"))["files"])

    with pytest.raises(RequestError, match="no catalogue"):
        files()
    assert serving.playlists.put("video", "a/b", "streams", STREAMS, "test")["made"]
    assert files() == ["t-v5", "t-v4", "t-a1"]
    assert files(max_height=1080) == ["t-v4", "t-a1"]
    with pytest.raises(RequestError, match="no catalogue"):
        files(title="a")
    with pytest.raises(RequestError, match="nosuch"):
        files(service="nosuch")
    with pytest.raises(FeedError, match=r"streams\[0\]\.height: Expected `int`, got `str`"):
        serving.playlists.put("video", "a/b", "streams", STREAMS.replace(b"2160", b'"2160"'), "test")
    serving.playlists.delete("video", "a/b", "streams", "test")
    with pytest.raises(RequestError, match="no catalogue"):
        files()


async def play_round(job: RefreshPlaylists, now: float) -> None:
    """Begin the rounds that are due, and wait for them."""
    job.begin(await job.call(job.control.playlists.fetched), now)
    await asyncio.gather(*job.rounds.values())


def test_an_origin_is_asked_at_once_and_again_where_it_changed(
    serving: Control, settings: Settings, fleet: Fleet, origin: Origin
) -> None:
    serving.fleet.replace(with_origin(fleet, origin.url), "test")
    report = serving.playlists.put("video", "a b", "hls", None, "test")
    assert report["url"] == f"{origin.url}/a%20b/master.m3u8"
    assert origin.asked == [("/v/a%20b/master.m3u8", None)]

    async def run(verb: Callable[[], T]) -> T:
        return verb()

    job = RefreshPlaylists(serving, run)
    every = settings.playlist_refresh_s

    def look(now: float) -> dict[str, Any]:
        asyncio.run(play_round(job, now))
        return serving.playlists.get("video", "a b", "hls")

    look(0.0)
    assert len(origin.asked) == 1, "it was fetched when it was registered"
    assert look(every)["who"] == "test"
    assert origin.asked[-1][1] is not None, "asked with its tag, answered 304"
    origin.text = HLS.replace("low/v", "lower/v")
    assert look(3 * every)["who"] == "origin"
    assert "/lower/v.m3u8" in served(settings.state, "/v1/hls/video/a%20b/master.m3u8").text
    origin.text = "what is this"
    assert "the first line is #EXTM3U" in look(5 * every)["problem"]
    assert "/lower/v.m3u8" in served(settings.state, "/v1/hls/video/a%20b/master.m3u8").text, "what served serves on"
    origin.status = 500
    assert "500" in look(7 * every)["problem"]
    asked = len(origin.asked)
    look(8 * every)
    assert len(origin.asked) == asked, "it backs off"
    origin.status, origin.text = 200, HLS
    assert look(12 * every)["problem"] == ""
    assert "/low/v.m3u8" in served(settings.state, "/v1/hls/video/a%20b/master.m3u8").text


def test_an_origin_cannot_send_elsewhere_or_too_much(tmp_path: Path, origin: Origin, fleet: Fleet) -> None:
    service: Service = with_origin(fleet, origin.url).services[0]
    origin.text = "#" * ((1 << 20) + 1)
    assert "at most 1 MiB" in asyncio.run(bring(tmp_path, service, "t", "hls")).problem


async def call_here(verb: Callable[[], T]) -> T:
    return verb()


@pytest.mark.parametrize(
    "tags", ['"caf\xe9-{}"', '"\x7f{}"', "x" * 5000 + "{}", ""], ids=["latin", "control", "long", "none"]
)
def test_an_etag_that_cannot_be_sent_back_stops_no_refresh(
    serving: Control, settings: Settings, fleet: Fleet, origin: Origin, tags: str
) -> None:
    serving.fleet.replace(with_origin(fleet, origin.url), "test")
    origin.tags = tags
    for title in ("a", "b"):
        serving.playlists.put("video", title, "hls", None, "test")
    job = RefreshPlaylists(serving, call_here)
    asyncio.run(play_round(job, 0.0))
    origin.text = HLS.replace("low/v", "lower/v")
    asyncio.run(play_round(job, 2 * settings.playlist_refresh_s))
    for title in ("a", "b"):
        assert serving.playlists.get("video", title, "hls")["who"] == "origin"


def test_one_playlist_that_fails_in_an_unknown_way_stops_no_other(
    serving: Control, settings: Settings, fleet: Fleet, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving.fleet.replace(with_origin(fleet, origin.url), "test")
    for title in ("a", "b", "c", "d"):
        serving.playlists.put("video", title, "hls", None, "test")
    prepare, every = playlist_service.prepare, settings.playlist_refresh_s

    async def bring_all_but_a(state: Path, service: Service, title: str, kind: str) -> Any:
        if title == "a":
            raise LookupError("a fault of ours")
        return await bring(state, service, title, kind)

    def prepare_all_but_b(service: str, title: str, *more: Any) -> Any:
        if title == "b":
            raise RecursionError("another")
        return prepare(service, title, *more)

    monkeypatch.setattr(refresh_playlists, "bring", bring_all_but_a)
    monkeypatch.setattr(playlist_service, "prepare", prepare_all_but_b)
    job = RefreshPlaylists(serving, call_here)
    asyncio.run(play_round(job, 0.0))
    origin.text = HLS.replace("low/v", "lower/v")
    asyncio.run(play_round(job, 2 * every))
    authors = {title: serving.playlists.get("video", title, "hls")["who"] for title in ("a", "b", "c", "d")}
    assert authors == {"a": "test", "b": "test", "c": "origin", "d": "origin"}


def test_a_slow_origin_delays_no_other(
    serving: Control, settings: Settings, fleet: Fleet, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = with_origin(fleet, origin.url).services[0]
    other = dataclasses.replace(video, id="slow")
    serving.fleet.replace(dataclasses.replace(fleet, services=(video, other)), "test")
    for service in ("slow", "video"):
        serving.playlists.put(service, "t", "hls", None, "test")

    async def bring_slowly(state: Path, service: Service, title: str, kind: str) -> Any:
        if service.id == "slow":
            await asyncio.sleep(3600)
        return await bring(state, service, title, kind)

    monkeypatch.setattr(refresh_playlists, "bring", bring_slowly)
    job, every = RefreshPlaylists(serving, call_here), settings.playlist_refresh_s
    origin.text = HLS.replace("low/v", "lower/v")

    async def play() -> None:
        sources = serving.playlists.fetched()
        for number in range(3):
            job.begin(sources, 2 * number * every)
            while "video" in job.rounds and not job.rounds["video"].done():
                await asyncio.sleep(0.01)
        assert not job.rounds["slow"].done()

    asyncio.run(play())
    assert serving.playlists.get("video", "t", "hls")["who"] == "origin"


def test_the_command_line_and_the_door_do_the_same(serving: Control, settings: Settings, tmp_path: Path) -> None:
    serving.close()
    (tmp_path / "m.m3u8").write_text(HLS)
    state = ["--state", str(settings.state)]
    run = CliRunner().invoke

    def rows() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(run(main, ["playlist", "list", "--json", *state]).stdout)
        return [{key: row[key] for key in ("title", "kind", "bytes")} for row in found]

    put = ["playlist", "put", "video", "a/b", "hls", str(tmp_path / "m.m3u8"), *state]
    done = run(main, put)
    assert done.exit_code == 0, done.output
    assert "registered" in done.stdout
    assert "public_url is empty" in done.stderr
    alone = rows()
    with running_control_app(settings) as door, door.client(door.make_token("ops")) as client:
        assert rows() == alone == [{"title": "a/b", "kind": "hls", "bytes": len(HLS)}]
        assert client.get("/v1/playlists/video/a%2Fb/hls").json()["playlist"] == HLS
        assert client.put("/v1/playlists/video/t/dash", content=MPD).status_code == 201
        assert client.put("/v1/playlists/video/t/dash", content=MPD).status_code == 200
        wrong = client.put("/v1/playlists/video/t/dash", content="<MPD/>")
        assert (wrong.status_code, "root is an MPD" in wrong.json()["detail"]) == (422, True)
        assert client.put("/v1/playlists/video/t/dash").json()["detail"].endswith("send the playlist itself")
        assert [row["title"] for row in client.get("/v1/playlists?count=1&after=video/a/b/hls").json()] == ["t"]
        assert run(main, ["playlist", "delete", "video", "t", "dash", *state]).stdout == "dash video/t: deleted\n"
        assert client.get("/v1/playlists/video/t/dash").status_code == 404
        partner = client.get("/v1/playlists", headers=door.make_token("partner:as64500"))
        assert partner.status_code == 403
        assert [entry["what"] for entry in client.get("/v1/audit?count=3").json()][1] == "delete playlist"
