"""Feeds of routes, read into checked rows and refusals. One module for each format, one `Feed` for all of them.

Rows stay columns, because there may be millions. A row's value is an *attributes number*: rows with equal attributes
share one, so Python handles each distinct set of attributes once. `set_of` and `origin_of` give, for each attributes
number, the index of its set of announcements and its origin AS.

To add a format: write a module here with `read(path, fleet) -> Feed`, and add its name to `Kind` and its file ending to
`SUFFIXES`. `jsonl.py` is a short example.
"""

from __future__ import annotations

import dataclasses
import importlib
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args

from _fastpath import prefix_rows
from steering.control.feed_files import MAX_LISTED, rule_of
from steering.errors import FeedError
from steering.model.fleet import Fleet
from steering.model.route import Announcement, Refusal
from steering.state.routes import prefix_at

MAX_REASON: Final = 500  # characters
PREFIX_RULE: Final = "a prefix is written address/length"

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
DUMP_NAMES: Final = ("bview.", "rib.", "latest-bview")  # how RIPE RIS and RouteViews name table dumps


@dataclasses.dataclass(frozen=True, slots=True)
class FeedSource:
    """A feed's format (`kind`) and its path: a file, a URL, or for `folder` a folder whose files are all feeds.

    `asn` with an empty path is the shipped table. `named` is the URL or folder that the path was found by, if any.
    """

    kind: Kind
    path: str = ""
    named: str = ""


@dataclasses.dataclass(frozen=True)
class CheckedRows:
    """The checked rows of a file; `refusals` lists the first 1,000 of the rows that `refused_by` counts by rule."""

    name: str
    sha256: str
    columns: dict[int, prefix_rows.Columns]
    refusals: list[Refusal]
    refused_by: Counter[str]

    @property
    def accepted(self) -> int:
        return len(self.columns[4]) + len(self.columns[6])

    @property
    def refused(self) -> int:
        return self.refused_by.total()

    def describe(self) -> dict[str, Any]:
        return {"feed": self.name, "sha256": self.sha256, "accepted": self.accepted, "refused": self.refused}


@dataclasses.dataclass(frozen=True)
class Feed(CheckedRows):
    """The checked routes of one feed. `unheard` counts rows that no cluster of the fleet receives.

    `state_of` is an Rpki by attributes number, None if the feed was not validated. `skipped` counts the records of a
    dump that hold no routes of it, by what they are.
    """

    sets: list[tuple[Announcement, ...]]
    set_of: array[int]
    origin_of: array[int]
    unheard: int = 0
    state_of: array[int] | None = None
    skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        counted = {"refused_by": dict(self.refused_by.most_common()), "skipped": dict(self.skipped)}
        return {**super().describe(), **counted, "unheard": self.unheard}


class AttributeTable:
    """The distinct attributes of a feed's rows, numbered in the order they are added; some are refused, by a rule."""

    def __init__(self) -> None:
        self.indices: dict[tuple[Announcement, ...], int] = {}
        self.set_of, self.origin_of = array("I"), array("I")
        self.rules: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.set_of)

    def add(self, members: tuple[Announcement, ...], origin: int) -> int:
        """Return the number of new attributes: a set of announcements, and an origin AS (0 if unknown)."""
        self.set_of.append(self.indices.setdefault(members, len(self.indices)))
        self.origin_of.append(origin)
        return len(self.set_of) - 1

    def refuse(self, rule: str) -> int:
        """Return the number of new attributes whose rows are refused."""
        self.rules[len(self.set_of)] = rule
        return self.add((), 0)


class FeedBuilder:
    """A feed while it is read: its rows so far, and its refusals."""

    def __init__(self, name: str, columns: dict[int, prefix_rows.Columns]) -> None:
        self.name = name
        self.columns = columns
        self.refusals: list[Refusal] = []
        self.refused_by: Counter[str] = Counter()

    @classmethod
    def from_lines(cls, name: str, text: bytes, first_row: int = 1, start: int = 0) -> tuple[FeedBuilder, list[bytes]]:
        """Return the builder of lines `prefix tail`, and the distinct tails; a row's value is the index of its tail."""
        columns, tails, refusals, refused_by = prefix_rows.read(text, first_row, start)
        builder = cls(name, columns)
        builder.refusals = [Refusal(name, row, value, rule) for row, value, rule in refusals]
        builder.refused_by.update(refused_by)
        return builder, tails

    @property
    def rows(self) -> int:
        return len(self.columns[4]) + len(self.columns[6])

    def relabel(self, tails: list[bytes]) -> None:
        """Replace each row's value by the number that its tail contains."""
        labels = array("I", map(int, tails))
        for columns in self.columns.values():
            columns.value = prefix_rows.relabel(columns.value, labels)

    def refuse(self, row: int, value: str, rule: str) -> None:
        """Add a refusal for a row that is not in the columns."""
        self.refused_by[rule_of(rule)] += 1
        self.list_refusal(row, value, rule)

    def list_refusal(self, row: int, value: str, rule: str) -> None:
        """Add a refusal that is counted elsewhere to the listed ones."""
        if len(self.refusals) < MAX_LISTED:
            self.refusals.append(Refusal(self.name, row, value[:80], rule))

    def refuse_values(self, count: int, rules: dict[int, str], text_of: Callable[[int], str] | None = None) -> None:
        """Remove the rows whose value, below `count`, has a rule among `rules`.

        They are listed with the text of the value, or without `text_of` with the prefix.
        """
        for family in (4, 6) if rules else ():
            columns = self.columns[family]
            for i in prefix_rows.rows_with_values(columns, rules, MAX_LISTED):
                value = columns.value[i]
                text = text_of(value) if text_of else prefix_at(family, columns, i)
                self.refusals.append(Refusal(self.name, columns.row[i], text[:80], rules[value]))
            counts = prefix_rows.count_values(columns, count)
            for value, rule in rules.items():
                if counts[value]:
                    self.refused_by[rule_of(rule)] += counts[value]
            self.columns[family] = prefix_rows.keep_values(
                columns, array("B", (value not in rules for value in range(count)))
            )

    def feed(self, sha256: str, attributes: AttributeTable, text_of: Callable[[int], str], unheard: int = 0) -> Feed:
        """Return the feed, without the rows whose attributes are refused."""
        self.refuse_values(len(attributes), attributes.rules, text_of)
        sets, set_of, origin_of = list(attributes.indices), attributes.set_of, attributes.origin_of
        return Feed(*self.checked(sha256), sets, set_of, origin_of, unheard)

    def checked(self, sha256: str) -> tuple[str, str, dict[int, prefix_rows.Columns], list[Refusal], Counter[str]]:
        """Return the fields of `CheckedRows`, the refusals by row."""
        refusals = sorted(self.refusals, key=lambda refusal: refusal.row)[:MAX_LISTED]
        return self.name, sha256, self.columns, refusals, self.refused_by


class RowCollector:
    """The rows of a format without lines `prefix tail`; they are numbered from 1 as they are added."""

    def __init__(self) -> None:
        self.rows = 0
        self.text = bytearray()
        self.refusals: list[tuple[int, str, str]] = []
        self.refused_by: Counter[str] = Counter()

    def skip(self) -> None:
        self.rows += 1
        self.text += b"\n"

    def add(self, prefix: Any, value: int) -> None:
        """Add a row. ValueError: the prefix is no text of one word."""
        if not (isinstance(prefix, str) and prefix.isascii() and prefix.isprintable()) or {" ", ","} & set(prefix):
            raise ValueError(PREFIX_RULE)
        self.rows += 1
        self.text += f"{prefix} {value}\n".encode()

    @property
    def lists(self) -> bool:
        """Whether the next refusal is listed; without that, nothing uses its value."""
        return len(self.refusals) < MAX_LISTED

    def refuse(self, value: str, rule: str) -> None:
        """Add a row that breaks a rule."""
        self.skip()
        self.refuse_also(value, rule)

    def refuse_also(self, value: str, rule: str) -> None:
        """Refuse a part of the row that was added last."""
        self.refused_by[rule_of(rule)] += 1
        if self.lists:
            self.refusals.append((self.rows, value, rule))

    def builder(self, name: str) -> FeedBuilder:
        """Return the builder of the feed: the prefixes are parsed, and the rows have their values."""
        builder, tails = FeedBuilder.from_lines(name, bytes(self.text))
        builder.relabel(tails)
        for refusal in self.refusals:
            builder.list_refusal(*refusal)
        builder.refused_by += self.refused_by
        return builder


def kind_of(path: Path) -> Kind:
    """Return the format of a feed by its file's name; `asn` for any other name."""
    if path.name.startswith(DUMP_NAMES):
        return "mrt"
    return next((SUFFIXES[suffix] for suffix in path.suffixes if suffix in SUFFIXES), "asn")


def files_of(folder: Path) -> list[Path]:
    """Return the feeds of a folder, by name, without folders, hidden and unfinished files (.tmp, .part).

    What is no file (a pipe, a link to nothing) is returned too: its reader refuses it by name.
    """
    return sorted(
        path
        for path in folder.iterdir()
        if not path.is_dir() and not path.name.startswith(".") and path.suffix not in (".tmp", ".part")
    )


def read_feed(source: FeedSource, fleet: Fleet) -> Feed:
    """Return the feed's routes for the fleet's clusters. A bad row becomes a refusal.

    Raises FeedError if the feed cannot be used: unreadable, cut off, or without any route.
    """
    # Live sessions are kept as a CSV feed.
    name = "csv" if source.kind == "bgp" else source.kind
    module = importlib.import_module(f"steering.control.routes.feeds.{name}")
    try:
        feed: Feed = module.read(source.path, fleet)
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:
        reason = f"cannot be read as {source.kind}: {type(error).__name__}: {error}"
        raise FeedError(f"{source.path or source.kind}: {reason}"[:MAX_REASON]) from error
    if not feed.accepted and source.kind != "bgp":  # all sessions may have withdrawn all their routes
        # The file may be no feed at all, and its text a secret: it is not shown.
        first = feed.refusals[0] if feed.refusals else None
        rows = f"; the first of {feed.refused} refused rows is row {first.row}: {rule_of(first.rule)}" if first else ""
        raise FeedError(f"{feed.name}: holds no route for this fleet{rows}")
    return feed
