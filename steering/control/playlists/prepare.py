"""Checks registered playlists and cuts them where the pathways of a client go, so that playback only joins texts.

    #EXT-X-STREAM-INF:BANDWIDTH=250000,AUDIO="aac"        repeated for each pathway of a client,
    low/v.m3u8                                            as https://<appliance>/…/<title>/low/v.m3u8

A playlist that cannot be given other hosts is refused, with the line and the rule. Catalogues of streams are JSON
(`steering/model/streams.py`).
"""

from __future__ import annotations

from typing import Final

import msgspec

from steering.control.playlists.dash import cut_dash
from steering.control.playlists.hls import cut_hls
from steering.control.playlists.references import Folder
from steering.errors import FeedError
from steering.model.streams import read_catalogue
from steering.state.playlists import Playlist

MAX_PLAYLIST: Final = 1 << 20  # bytes: thousands of representations
MAX_PATHWAY: Final = 96 << 10  # bytes that an answer has for each pathway: hundreds of variants


def prepare(service: str, title: str, kind: str, body: bytes, url: str = "") -> Playlist:
    """Return a playlist ready to be published, given the URL that it was fetched from. FeedError: line and rule."""
    name = f"{kind} playlist of {service}/{title}"
    if len(body) > MAX_PLAYLIST:
        raise FeedError(f"{name}: {len(body)} bytes; at most {MAX_PLAYLIST}")
    try:
        cut = {"hls": cut_hls, "dash": cut_dash, "streams": cut_streams}[kind](body, Folder(url))
        if (size := len(cut[1].encode())) > MAX_PATHWAY:
            raise FeedError(f"needs {size} bytes for each pathway; at most {MAX_PATHWAY}", hint="it has many variants")
    except FeedError as error:
        raise FeedError(f"{name}: {error.message}", error.hint) from None
    return Playlist(service, title, kind, *cut)


def cut_streams(body: bytes, _: Folder) -> tuple[str, str, str]:
    try:
        return msgspec.json.encode(read_catalogue(body)).decode(), "", ""
    except ValueError as error:
        raise FeedError(str(error)) from None
