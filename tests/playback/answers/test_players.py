"""What a request of a player asks for."""

from __future__ import annotations

import json

import pytest

from _fastpath.client import Trust
from steering.decision.snapshot import Snapshot
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
