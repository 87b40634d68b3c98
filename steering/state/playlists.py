"""The file of registered playlists and catalogues, `playlists.<version>`: written by control, mapped by playback.

Control has parsed each and cut it where a client's pathways go in; playback joins texts. A prepared playlist has

    head      what comes before the pathways
    pathway   what is repeated for each of them: PATHWAY stands where its id, BASE where its URL goes
    tail      what comes behind

and a catalogue of streams, which nobody's pathways go in, is a head alone (`steering/streams.py`).

Sections: `meta` (JSON: `version`, and `digest`, which tells what the database had), `keys`, a sorted 64-bit number for
each; `places`, where each entry begins in `text`, and where the last one ends.
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

from steering.state.sections import StateFile, write_sections

KINDS: Final = ("hls", "dash", "streams")
PATHWAY: Final = "\x01"
BASE: Final = "\x02"
BETWEEN: Final = "\0"  # of the texts of an entry; no playlist has control characters


@dataclasses.dataclass(frozen=True, slots=True)
class Playlist:
    """One registered playlist, prepared. `prefix` is that of DASH elements, such as `mpd:`."""

    service: str
    title: str
    kind: str
    head: str
    pathway: str
    tail: str
    prefix: str = ""


def key_of(service: str, title: str, kind: str) -> int:
    """Return the 64-bit number that a playlist is looked up by."""
    text = BETWEEN.join((kind, service, title)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def write_playlists(state: Path, version: int, digest: str, playlists: Iterable[Playlist]) -> str:
    """Write `playlists.<version>` and return its name."""
    keys, places, text = array("Q"), array("Q", [0]), bytearray()
    keyed = [(key_of(item.service, item.title, item.kind), item) for item in playlists]
    for key, playlist in sorted(keyed, key=lambda pair: pair[0]):
        keys.append(key)
        text += BETWEEN.join(dataclasses.astuple(playlist)).encode()
        places.append(len(text))
    meta = {"version": version, "digest": digest, "playlists": len(keys)}
    write_sections(
        state / f"playlists.{version}",
        "playlists",
        {"meta": json.dumps(meta).encode(), "keys": keys, "places": places, "text": text},
    )
    return f"playlists.{version}"


class Playlists:
    """A mapped file of playlists. Raises SnapshotError where it cannot be used."""

    def __init__(self, path: Path) -> None:
        file = StateFile(path, "playlists")
        self.meta: dict[str, Any] = json.loads(bytes(file["meta"]))
        self.keys = file["keys"].cast("Q")
        self.places = file["places"].cast("Q")
        self.text = file["text"]

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, service: str, title: str, kind: str) -> Playlist | None:
        """Return a playlist, None where none is registered."""
        key = key_of(service, title, kind)
        at = bisect_left(self.keys, key)
        while at < len(self.keys) and self.keys[at] == key:
            found = Playlist(*bytes(self.text[self.places[at] : self.places[at + 1]]).decode().split(BETWEEN))
            if (found.service, found.title, found.kind) == (service, title, kind):
                return found
            at += 1
        return None
