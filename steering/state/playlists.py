"""`playlists.<version>`: the registered playlists and catalogues, written by control and mapped by playback.

Control parses each playlist and cuts it where a client's pathways go in; playback joins the texts. A playlist has

    head      the text before the pathways
    pathway   the text of each pathway, with PATHWAY for its id and BASE for its URL
    tail      the text behind the pathways

A catalogue of streams has no pathways and is a head alone (`steering/model/streams.py`).

Sections: `meta` (JSON: `version`, and `digest`, which identifies the rows of the database), `keys`, a sorted 64-bit
number of each entry; `places`, the offset of each entry in `text`, and the end of the last one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from steering.errors import SnapshotError
from steering.state.sections import StateFile, write_sections

KINDS: Final = ("hls", "dash", "streams")
PATHWAY: Final = "\x01"
BASE: Final = "\x02"
SEPARATOR: Final = "\0"  # between the texts of an entry; no playlist has control characters


@dataclasses.dataclass(frozen=True, slots=True)
class Playlist:
    """A registered playlist, cut for joining. `prefix` is that of DASH elements, such as `mpd:`."""

    service: str
    title: str
    kind: str
    head: str
    pathway: str
    tail: str
    prefix: str = ""


def key_of(service: str, title: str, kind: str) -> int:
    """Return the 64-bit key of a playlist."""
    text = SEPARATOR.join((kind, service, title)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def write_playlists(state: Path, version: int, digest: str, playlists: Iterable[Playlist]) -> str:
    """Write `playlists.<version>` and return its name."""
    keys, places, text = array("Q"), array("Q", [0]), bytearray()
    keyed = [(key_of(item.service, item.title, item.kind), item) for item in playlists]
    for key, playlist in sorted(keyed, key=lambda pair: pair[0]):
        keys.append(key)
        text += SEPARATOR.join(dataclasses.astuple(playlist)).encode()
        places.append(len(text))
    meta = {"version": version, "digest": digest, "playlists": len(keys)}
    write_sections(
        state / f"playlists.{version}",
        "playlists",
        {"meta": json.dumps(meta).encode(), "keys": keys, "places": places, "text": text},
    )
    return f"playlists.{version}"


class Playlists:
    """The mapped playlists. Raises SnapshotError."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        file = StateFile(path, "playlists")
        self.meta: dict[str, Any] = json.loads(bytes(file["meta"]))
        self.keys = file["keys"].cast("Q")
        self.places = file["places"].cast("Q")
        self.text = file["text"]

    def __len__(self) -> int:
        return len(self.keys)

    def playlist(self, entry: int) -> Playlist:
        """Return a playlist by its position. SnapshotError: the checksums match, but the content is none of ours."""
        try:
            text = bytes(self.text[self.places[entry] : self.places[entry + 1]])
            return Playlist(*text.decode().split(SEPARATOR))
        except (ValueError, TypeError, IndexError) as error:
            raise SnapshotError(f"{self.name}: playlist {entry} is unusable: {type(error).__name__}: {error}") from None

    def find(self, service: str, title: str, kind: str) -> Playlist | None:
        """Return a playlist, None without a registered one."""
        key = key_of(service, title, kind)
        entry = bisect_left(self.keys, key)
        while entry < len(self.keys) and self.keys[entry] == key:
            playlist = self.playlist(entry)
            if (playlist.service, playlist.title, playlist.kind) == (service, title, kind):
                return playlist
            entry += 1
        return None
