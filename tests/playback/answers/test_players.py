"""What a request of a player asks for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from _fastpath.client import Trust
from _fastpath.status_words import DISABLED, IPV4_UP, IPV6_UP, NO_HEADROOM, STALE, UNHEALTHY, StatusWords
from steering.decision.snapshot import Snapshot
from steering.playback.answers.pathways import digest_of
from steering.playback.answers.players import read_request, steer
from steering.settings import Settings

CLIENT = bytes([203, 0, 113, 9])


PATHS = [
    # path, protocol, service, title, name
    (b"/v1/hls/video/80100172", "hls", "video", "80100172", ""),
    (b"/v1/dash/video/a%2Fb", "dash", "video", "a/b", ""),
    (b"/v1/hls/video/t/master.m3u8", "hls", "video", "t", "master.m3u8"),
    (b"/v1/hls/video/master.m3u8", "hls", "video", "master.m3u8", ""),
    (b"/v1/dash/video/t/master.m3u8", "dash", "video", "", ""),
    (b"/v1/hls/video", "hls", "video", "", ""),
    (b"/v1/hls", "hls", "", "", ""),
    (b"/v1/hls/a/b/c/d", "hls", "a", "", ""),
]


@pytest.mark.parametrize(
    ("path", "protocol", "service", "title", "name"), PATHS, ids=[row[0].decode() for row in PATHS]
)
def test_a_path_is_read(path: bytes, protocol: str, service: str, title: str, name: str) -> None:
    result = read_request(path, b"", "203.0.113.9", [], Trust(()), "x-forwarded-for")
    assert (result.protocol, result.service, result.title, result.name) == (protocol, service, title, name)
    assert result.client.packed == CLIENT


def test_steering_does_not_need_the_playlists(snapshot: Snapshot) -> None:
    asked = read_request(b"/v1/hls/video/t", b"_HLS_pathway=nobody", "203.0.113.9", [], Trust(()), "x-forwarded-for")
    result = steer(snapshot, asked, Settings())
    assert result.moves
    assert json.loads(result.body)["PATHWAY-PRIORITY"][-1] == "cdn"


SERVING = 1000 | IPV4_UP | IPV6_UP
CLONE = f"c001-bom001.{digest_of('embedded', 'c001-bom001.cdn.example')}"

# The status word of the appliance that the player uses, what it uses, the family it asks for; whether it stays there.
JUDGED = [
    ("serving", SERVING, "c001-bom001", "", True),
    ("full", SERVING | NO_HEADROOM, "c001-bom001", "", True),
    ("disabled", SERVING | DISABLED, "c001-bom001", "", False),
    ("stale", SERVING | STALE, "c001-bom001", "", False),
    ("up on no family", 1000, "c001-bom001", "", False),
    ("a clone, serving", SERVING, CLONE, "", True),
    ("a clone, unhealthy", SERVING | UNHEALTHY, CLONE, "", False),
    ("a clone, up on no family", 1000, CLONE, "", False),
    ("up on the other family", 1000 | IPV6_UP, "c001-bom001", "&family=4", False),
    ("up on the family", 1000 | IPV6_UP, "c001-bom001", "&family=6", True),
    ("up on one of both", 1000 | IPV4_UP, "c001-bom001", "", True),
    ("of another network", 0, "c001-bom0.0123456", "", True),
    ("no clone's id", 0, "c001-bom001.", "", True),
]


@pytest.mark.parametrize(
    ("name", "word", "current", "family", "stays"), JUDGED, ids=[row[0] for row in JUDGED]
)  # fmt: skip
def test_a_static_body_leaves_a_player_only_where_its_appliance_is_not_known_to_be_unfit(
    state_folder: Path, snapshot: Snapshot, name: str, word: int, current: str, family: str, stays: bool
) -> None:
    StatusWords(str(state_folder / snapshot.current.status), writable=True).set_word(0, word)
    query = f"_HLS_pathway={current}&declared={current},c002-bom001{family}"
    asked = read_request(b"/v1/hls/nosuch/t", query.encode(), "203.0.113.9", [], Trust(()), "x-forwarded-for")
    result = json.loads(steer(snapshot, asked, Settings()).body)["PATHWAY-PRIORITY"]
    assert result == ([current, "c002-bom001", "cdn"] if stays else ["c002-bom001", "cdn", current])


def test_every_pathway_of_a_static_body_is_judged(state_folder: Path, snapshot: Snapshot) -> None:
    StatusWords(str(state_folder / snapshot.current.status), writable=True).set_word(0, SERVING | DISABLED)
    declared = [*(f"other-{number}" for number in range(15)), "c001-bom001"]
    query = f"_DASH_pathway=other-3&declared={','.join(declared)}"
    asked = read_request(b"/v1/dash/nosuch/t", query.encode(), "203.0.113.9", [], Trust(()), "x-forwarded-for")
    result = json.loads(steer(snapshot, asked, Settings()).body)["PATHWAY-PRIORITY"]
    assert (result[0], result[-1], len(result)) == ("other-3", "c001-bom001", 17)
