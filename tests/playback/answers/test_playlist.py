"""Playlists for one client, and those whose URLs are signed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from _fastpath.client import Trust
from _fastpath.status_words import StatusWords
from steering.decision.snapshot import Snapshot
from steering.errors import RequestError
from steering.model.fleet import Fleet
from steering.model.service import Service
from steering.playback.answers.players import read_request
from steering.playback.answers.playlist import Sign, base_of, make_playlist
from steering.settings import Settings
from steering.state.current import read_current, write_current
from steering.state.playlists import BASE, PATHWAY, Playlist, Playlists, write_playlists

VIDEO = Service("video", "https://{host}/v/{title}", "https://o.example/v/{title}.mp4?x=1")
SIGNED = dataclasses.replace(VIDEO, url="https://{host}/{token}/v/{title}/index.mp4", token="path", keys=("k1",))
CLIENT = bytes([203, 0, 113, 9])


def sign(service: Service, host: str, path: str, packed: bytes) -> str | None:
    return f"~{service.keys[0]}~{path.strip('/').replace('/', '.')}~{packed.hex()}"


BASES = [
    # name, service, host, title, signs, URL
    ("an appliance", VIDEO, "a.example", "80100172", None, "https://a.example/v/80100172/"),
    ("the fallback, as far as its title", VIDEO, None, "80100172", None, "https://o.example/v/80100172/"),
    ("a title is escaped", VIDEO, "a.example", "a/b é", None, "https://a.example/v/a%2Fb%20%C3%A9/"),
    ("signed", SIGNED, "a.example", "a b", sign, "https://a.example/~k1~v.a%20b~cb007109/v/a%20b/"),
    ("no key: the fallback", SIGNED, "a.example", "t", lambda *_: None, "https://o.example/v/t/"),
    ("the fallback needs none", SIGNED, None, "t", sign, "https://o.example/v/t/"),
]


@pytest.mark.parametrize(("name", "service", "host", "title", "signs", "url"), BASES, ids=[row[0] for row in BASES])
def test_where_a_titles_files_lie(
    name: str, service: Service, host: str | None, title: str, signs: Sign | None, url: str
) -> None:
    assert base_of(service, host, title, CLIENT, signs) == url


def published(state: Path, publish: Callable[..., Path], fleet: Fleet, service: Service) -> Snapshot:
    """Return a snapshot in which one playlist of a service is registered."""
    publish(state, fleet=dataclasses.replace(fleet, services=(service,)))
    playlist = Playlist("video", "t", "hls", "head\n", f"{PATHWAY} {BASE}\n", "tail\n")
    current = dataclasses.replace(read_current(state), playlists=write_playlists(state, 5, "digest", [playlist]))
    write_current(state, current)
    return Snapshot.map(state)


def test_signed_urls_are_signed_for_the_client_on_every_pathway(
    tmp_path: Path, publish: Callable[..., Path], fleet: Fleet
) -> None:
    snapshot = published(tmp_path / "state", publish, fleet, SIGNED)
    asked = read_request(b"/v1/hls/video/t/master.m3u8", b"", "203.0.113.9", [], Trust(()), "x-forwarded-for")
    head, *lines, tail = make_playlist(snapshot, asked, Settings(), sign).decode().splitlines()
    assert (head, tail) == ("head", "tail")
    assert len(lines) == SIGNED.n + 2  # the fallback, and one that is not of the ISP
    for line in lines[:-1]:
        name, url = line.split(" ")
        assert url == f"https://{name}.cdn.example/~k1~v.t~cb007109/v/t/"
    assert lines[-1] == "cdn https://o.example/v/t/"
    with pytest.raises(RequestError, match="has no hls playlist"):
        make_playlist(snapshot, asked, Settings(), None)


OUTSIDERS = [
    # name, client, the service's n, the sites that its playlist declares; then it may declare an exchange
    ("an ISP's client", "203.0.113.9", 3, ["bom001", "bom001", "del001"], True),
    ("of two, at two sites, too", "203.0.113.9", 2, ["bom001", "del001"], True),
    ("of one nothing is lost", "203.0.113.9", 1, ["bom001"], False),
    ("where another is declared already", "203.0.113.9", 5, ["bom001", "bom001", "del001", "del001"], False),
    ("who comes from nowhere has no ISP", "8.8.8.8", 3, [], False),
]


@pytest.mark.parametrize(("client", "n", "sites", "more"), [r[1:] for r in OUTSIDERS], ids=[r[0] for r in OUTSIDERS])
def test_a_playlist_declares_one_appliance_that_outlives_the_isp(
    tmp_path: Path, publish: Callable[..., Path], fleet: Fleet, client: str, n: int, sites: list[str], more: bool
) -> None:
    snapshot = published(tmp_path / "state", publish, fleet, dataclasses.replace(VIDEO, n=n))
    asked = read_request(b"/v1/hls/video/t/master.m3u8", b"", client, [], Trust(()), "x-forwarded-for")
    _, *lines, _ = make_playlist(snapshot, asked, Settings(), None).decode().splitlines()
    *declared, fallback = [line.split(" ")[0].partition("-")[2] for line in lines]
    assert declared[: len(sites)] == sites
    assert len(set(lines)) == n + 1 + more
    assert not more or declared[-1] in {"bom002", "lhr001"}
    assert fallback == ""


def test_a_playlist_declares_nobody_else_where_none_can_serve(
    tmp_path: Path, publish: Callable[..., Path], fleet: Fleet
) -> None:
    snapshot = published(tmp_path / "state", publish, fleet, VIDEO)
    words = StatusWords(str(tmp_path / "state" / snapshot.current.status), writable=True)
    for appliance in fleet.appliances:
        if appliance.cluster in {"bom002-a", "lhr001-a"}:
            words.set_word(appliance.slot, 0)
    asked = read_request(b"/v1/hls/video/t/master.m3u8", b"", "203.0.113.9", [], Trust(()), "x-forwarded-for")
    _, *lines, _ = make_playlist(snapshot, asked, Settings(), None).decode().splitlines()
    assert [line.split(" ")[0].partition("-")[2] for line in lines] == ["bom001", "bom001", "del001", ""]


def test_a_token_in_the_query_covers_no_segment(tmp_path: Path, publish: Callable[..., Path], fleet: Fleet) -> None:
    query = dataclasses.replace(VIDEO, token="query", keys=("k1",))
    snapshot = published(tmp_path / "state", publish, fleet, query)
    asked = read_request(b"/v1/hls/video/t/master.m3u8", b"", "203.0.113.9", [], Trust(()), "x-forwarded-for")
    with pytest.raises(RequestError) as caught:
        make_playlist(snapshot, asked, Settings(), sign)
    assert caught.value.status == 404


def test_playlists_are_found_by_service_title_and_kind(tmp_path: Path) -> None:
    rows = [
        Playlist(service, f"t{i}", kind, f"{service}{i}{kind}", "", "")
        for service in ("a", "b")
        for i in range(300)
        for kind in ("hls", "dash")
    ]
    result = Playlists(tmp_path / write_playlists(tmp_path, 1, "d", rows))
    assert len(result) == len(rows)
    assert all(result.find(row.service, row.title, row.kind) == row for row in rows)
    assert result.find("a", "t300", "hls") is result.find("c", "t1", "hls") is result.find("a", "t1", "smooth") is None
