"""Feeds: what the network says, read into checked routes and refusals. One module a format, one `Feed` for all.

A feed's rows carry a *kind*: the number of a distinct way to be heard. `set_of` and `origin_of` say, for each kind,
which of the feed's announcement sets its prefixes have and from which origin AS. So the millions of rows stay columns,
and Python looks only at what differs.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib
import lzma
import zlib
from array import array
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from _fastpath import rib
from steering.errors import FeedError
from steering.model import Announcement, Fleet, Refusal

MAX_TEXT: Final = 4 << 30  # bytes of a feed once unpacked; 16 M routes take about 1 GB

Kind = Literal["asn", "csv"]


@dataclasses.dataclass(frozen=True, slots=True)
class FeedSource:
    """Where a feed is read from; kind `asn` with an empty path is the shipped table."""

    kind: Kind
    path: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Feed:
    """The checked routes of one feed. `refusals` holds the first of `refused` rows."""

    name: str
    sha256: str
    columns: dict[int, rib.Columns]
    sets: list[tuple[Announcement, ...]]
    set_of: array[int]
    origin_of: array[int]
    refusals: list[Refusal]
    refused: int
    unheard: int = 0

    @property
    def accepted(self) -> int:
        """Return how many rows were taken."""
        return len(self.columns[4]) + len(self.columns[6])

    def describe(self) -> dict[str, Any]:
        """Return its name, hash and counts, for reports and records."""
        return {
            "feed": self.name,
            "sha256": self.sha256,
            "accepted": self.accepted,
            "refused": self.refused,
            "unheard": self.unheard,
        }


def read_feed(source: FeedSource, fleet: Fleet) -> Feed:
    """Return the feed's routes for the fleet's clusters. A bad row becomes a refusal.

    Raises FeedError where the feed as a whole cannot be used: unreadable, cut off, or without a single route.
    """
    module = importlib.import_module(f"steering.control.network.feeds.{source.kind}")
    feed: Feed = module.read(source.path, fleet)
    if not feed.accepted:
        first = f"; the first of {feed.refused} refused rows: {feed.refusals[0]}" if feed.refusals else ""
        raise FeedError(f"{feed.name}: holds no route for this fleet{first}")
    return feed


def read_text(path: Path) -> tuple[bytes, str]:
    """Return a feed's text, unpacked by its ending (.gz, .xz), and the SHA-256 of the file.

    Raises FeedError where it cannot be read, is cut off, or is over 4 GiB.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with open_packed(path) as unpacked:
            text = unpacked.read(MAX_TEXT + 1)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise FeedError(f"{path.name}: cut off or damaged: {error}") from error
    except OSError as error:
        raise FeedError(f"{path}: {error.strerror}") from error
    if len(text) > MAX_TEXT:
        raise FeedError(f"{path.name}: over {MAX_TEXT >> 30} GiB once unpacked")
    if not text.strip():
        raise FeedError(f"{path.name}: is empty")
    if not text.endswith(b"\n"):
        raise FeedError(f"{path.name}: cut off: its last line has no line end", hint="the sender did not finish it")
    return text, digest


def open_packed(path: Path) -> BinaryIO | gzip.GzipFile | lzma.LZMAFile:
    """Return a file opened for reading what it unpacks to."""
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    return lzma.open(path, "rb") if path.suffix == ".xz" else path.open("rb")


def refusals_of(name: str, found: list[tuple[int, str, str]]) -> list[Refusal]:
    """Return what the compiled reader refused as refusals of this feed."""
    return [Refusal(name, row, value, rule) for row, value, rule in found]
