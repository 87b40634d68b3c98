"""Feeds: what the network says, read into checked routes and refusals. One module a format, one `Feed` for all.

A feed's rows carry a *kind*: the number of a distinct way to be heard. `set_of` and `origin_of` say, for each kind,
which of the feed's announcement sets its prefixes have and from which origin AS. So the millions of rows stay columns,
and Python looks only at what differs.

A rule says what every row must obey; behind a semicolon it may say more of the row it refuses. Refusals are counted by
rule.
"""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import hashlib
import importlib
import lzma
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, get_args

from _fastpath import prefix_rows
from steering.errors import FeedError
from steering.model.fleet import Fleet
from steering.model.route import Announcement, Refusal

MAX_TEXT: Final = 4 << 30  # bytes of a feed once unpacked; 16 M routes take about 1 GB
KEPT: Final = 1000  # refusals with their rows; the rest are counted

Kind = Literal["asn", "bgp", "csv", "folder", "jsonl", "mmdb", "mrt", "zones"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


SUFFIXES: Final[dict[str, Kind]] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".mmdb": "mmdb",
    ".mrt": "mrt",
    ".json": "zones",
}
DUMP_NAMES: Final = ("bview.", "rib.", "latest-bview")  # as the archives name them


@dataclasses.dataclass(frozen=True, slots=True)
class FeedSource:
    """Where a feed is read from: a file, or a URL; of kind `folder`, all the files of a folder.

    Kind `asn` with an empty path is the shipped table. `named` is what was named where the path is what it led to.
    """

    kind: Kind
    path: str = ""
    named: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Feed:
    """The checked routes of one feed. `refusals` holds the first 1,000 of the rows that `refused_by` counts by rule."""

    name: str
    sha256: str
    columns: dict[int, prefix_rows.Columns]
    sets: list[tuple[Announcement, ...]]
    set_of: array[int]
    origin_of: array[int]
    refusals: list[Refusal]
    refused_by: Counter[str]
    unheard: int = 0
    state_of: array[int] | None = None  # an Rpki by kind; None where nothing was validated

    @property
    def accepted(self) -> int:
        """Return how many rows were taken."""
        return len(self.columns[4]) + len(self.columns[6])

    @property
    def refused(self) -> int:
        """Return how many rows were not."""
        return self.refused_by.total()

    def describe(self) -> dict[str, Any]:
        """Return its name, hash and counts, for reports and records."""
        return {
            "feed": self.name,
            "sha256": self.sha256,
            "accepted": self.accepted,
            "refused": self.refused,
            "refused_by": dict(self.refused_by.most_common()),
            "unheard": self.unheard,
        }


class Kinds:
    """The distinct ways to be heard, numbered as a reader meets them; the rows of some are refused, by a rule."""

    def __init__(self) -> None:
        self.places: dict[tuple[Announcement, ...], int] = {}
        self.set_of, self.origin_of = array("I"), array("I")
        self.rules: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.set_of)

    def add(self, members: tuple[Announcement, ...], origin: int) -> int:
        """Return the number of a new kind, heard by these announcements from an origin AS (0: not known)."""
        self.set_of.append(self.places.setdefault(members, len(self.places)))
        self.origin_of.append(origin)
        return len(self.set_of) - 1

    def refuse(self, rule: str) -> int:
        """Return the number of a new kind whose rows are refused."""
        self.rules[len(self.set_of)] = rule
        return self.add((), 0)


class Reading:
    """A feed being read: its rows so far, and what was refused of it."""

    def __init__(self, name: str, columns: dict[int, prefix_rows.Columns]) -> None:
        self.name = name
        self.columns = columns
        self.refusals: list[Refusal] = []
        self.refused_by: Counter[str] = Counter()

    @classmethod
    def of_lines(cls, name: str, text: bytes, first_row: int = 1, start: int = 0) -> tuple[Reading, list[bytes]]:
        """Return the reading of lines `prefix tail`, and the distinct tails: a row's value is the place of its own."""
        columns, tails, found, refused_by = prefix_rows.read(text, first_row, start)
        reading = cls(name, columns)
        reading.refusals = [Refusal(name, row, value, rule) for row, value, rule in found]
        reading.refused_by.update(refused_by)
        return reading, tails

    @property
    def rows(self) -> int:
        """Return how many rows there are."""
        return len(self.columns[4]) + len(self.columns[6])

    def relabel(self, tails: list[bytes]) -> None:
        """Make each row's value the number that its tail is."""
        labels = array("I", map(int, tails))
        for columns in self.columns.values():
            columns.value = prefix_rows.relabel(columns.value, labels)

    def refuse(self, row: int, value: str, rule: str) -> None:
        """Refuse a row that is not in the columns."""
        self.refused_by[rule_of(rule)] += 1
        if len(self.refusals) < KEPT:
            self.refusals.append(Refusal(self.name, row, value[:80], rule))

    def refuse_kinds(self, kinds: int, rules: dict[int, str], value_of: Callable[[int], str]) -> None:
        """Take the rows of some of so many kinds out of the columns, by the rule of each."""
        for family in (4, 6) if rules else ():
            columns = self.columns[family]
            for place in prefix_rows.rows_with_values(columns, rules, KEPT):
                kind = columns.value[place]
                self.refusals.append(Refusal(self.name, columns.row[place], value_of(kind)[:80], rules[kind]))
            counts = prefix_rows.count_values(columns, kinds)
            for kind, rule in rules.items():
                if counts[kind]:
                    self.refused_by[rule_of(rule)] += counts[kind]
            self.columns[family] = prefix_rows.keep_values(
                columns, array("B", (kind not in rules for kind in range(kinds)))
            )

    def feed(self, sha256: str, kinds: Kinds, value_of: Callable[[int], str], unheard: int = 0) -> Feed:
        """Return the feed, without the rows of refused kinds."""
        self.refuse_kinds(len(kinds), kinds.rules, value_of)
        refusals = sorted(self.refusals, key=lambda refusal: refusal.row)[:KEPT]
        columns, sets = self.columns, list(kinds.places)
        return Feed(self.name, sha256, columns, sets, kinds.set_of, kinds.origin_of, refusals, self.refused_by, unheard)


def rule_of(text: str) -> str:
    """Return a rule without what it says of one row."""
    return text.partition(";")[0]


def kind_of(path: Path) -> Kind:
    """Return the kind of a feed that a file's name tells; `asn` where it tells nothing."""
    if path.name.startswith(DUMP_NAMES):
        return "mrt"
    return next((SUFFIXES[suffix] for suffix in path.suffixes if suffix in SUFFIXES), "asn")


def files_of(folder: Path) -> list[Path]:
    """Return the feeds of a folder, by name; hidden files and those still being written (.tmp, .part) are none."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith(".") and path.suffix not in (".tmp", ".part")
    )


def read_feed(source: FeedSource, fleet: Fleet) -> Feed:
    """Return the feed's routes for the fleet's clusters. A bad row becomes a refusal.

    Raises FeedError where the feed as a whole cannot be used: unreadable, cut off, or without a single route.
    """
    module = importlib.import_module(f"steering.control.routes.feeds.{source.kind}")
    feed: Feed = module.read(source.path, fleet)
    if not feed.accepted and source.kind != "bgp":  # all sessions may have withdrawn all they said
        first = f"; the first of {feed.refused} refused rows: {feed.refusals[0]}" if feed.refusals else ""
        raise FeedError(f"{feed.name}: holds no route for this fleet{first}")
    return feed


def lines_of_rows(rows: Iterable[tuple[str, int] | None]) -> bytes:
    """Return `prefix kind` lines for `Reading.of_lines`; None leaves a line empty, and its number to its row."""
    return b"\n".join(b"" if row is None else f"{row[0]} {row[1]}".encode() for row in rows) + b"\n"


def read_text(path: Path) -> tuple[bytes, str]:
    """Return a feed's text, unpacked, and the SHA-256 of the file.

    Raises FeedError where it cannot be read, is empty or cut off, or is over 4 GiB.
    """
    text, digest = read_bytes(path)
    if not text or text.isspace():
        raise FeedError(f"{path.name}: is empty")
    if not text.endswith(b"\n"):
        raise FeedError(f"{path.name}: cut off: its last line has no line end", hint="the sender did not finish it")
    return text, digest


def read_bytes(path: Path) -> tuple[bytes, str]:
    """Return a feed's bytes, unpacked by its ending (.gz, .bz2, .xz), and the SHA-256 of the file. Raises FeedError."""
    try:
        digest = sha256_of(path)
        with open_packed(path) as unpacked:
            found = unpacked.read(MAX_TEXT + 1)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise FeedError(f"{path.name}: cut off or damaged: {error}") from error
    except OSError as error:
        damaged = error.strerror is None  # as bz2 says it
        raise FeedError(f"{path.name}: damaged: {error}" if damaged else f"{path}: {error.strerror}") from error
    if len(found) > MAX_TEXT:
        raise FeedError(f"{path.name}: over {MAX_TEXT >> 30} GiB once unpacked")
    return found, digest


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_packed(path: Path) -> BinaryIO | gzip.GzipFile | lzma.LZMAFile | bz2.BZ2File:
    """Return a file opened for reading what it unpacks to."""
    match path.suffix:
        case ".gz":
            return gzip.open(path, "rb")
        case ".bz2":
            return bz2.open(path, "rb")
        case ".xz":
            return lzma.open(path, "rb")
    return path.open("rb")
