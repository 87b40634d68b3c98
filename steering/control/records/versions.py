"""Published tables, the pin, and the numbers of tables and of generations, which are never given twice."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Iterable
from typing import Any, Final

from steering.control.records.rows import Repository, insert

PUBLISHED: Final = "WHERE published_at IS NOT NULL ORDER BY version DESC"


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """A published table: with which fleet, when and by whom."""

    table: int
    fleet: int
    published_at: float
    who: str


@dataclasses.dataclass(frozen=True, slots=True)
class Version(Published):
    """A published table with its reason, its sources (SHA-256 each) and its counts."""

    why: str
    sources: list[dict[str, Any]]
    counts: dict[str, int]


class VersionRepository(Repository):
    """The versions of one kind, and the table `generation`."""

    table = "versions"  # of prefix tables

    def take(self, above: int) -> int:
        """Return a table version that was never given before and is higher than `above`."""
        row = self.connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (self.table,)).fetchone()
        version = max(row["seq"] if row else 0, above) + 1
        self.connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (self.table,))
        insert(self.connection, "sqlite_sequence", {"name": self.table, "seq": version})
        return int(version)

    def give_back(self, version: int, count: int) -> None:
        """Let the newest numbers, with `version` the last, be given again: no file ever had one of them."""
        self.connection.execute(
            "UPDATE sqlite_sequence SET seq = ? WHERE name = ? AND seq = ?", (version - count, self.table, version)
        )

    def add_written(
        self, version: int, *, fleet: int, who: str, why: str, sources: list[dict[str, Any]], counts: dict[str, int]
    ) -> None:
        """Record a table version as written; it is not published yet."""
        row = {"version": version, "fleet": fleet, "who": who, "why": why}
        insert(self.connection, self.table, row | {"sources": json.dumps(sources), "counts": json.dumps(counts)})

    def set_published(self, version: int, fleet: int, now: float) -> None:
        """Record that a version started to serve; one that was published before keeps its time."""
        self.connection.execute(
            f"UPDATE {self.table} SET published_at = ?, fleet = ? WHERE version = ? AND published_at IS NULL",
            (now, fleet, version),
        )

    def all(self) -> list[Version]:
        """Return every published version, newest first."""
        rows = self.connection.execute(f"SELECT * FROM {self.table} {PUBLISHED}")
        return [version_of(row) for row in rows]

    def published(self) -> list[Published]:
        """Return every published version, newest first, without sources and counts: no JSON is parsed."""
        rows = self.connection.execute(f"SELECT version, fleet, published_at, who FROM {self.table} {PUBLISHED}")
        return [Published(row["version"], row["fleet"], row["published_at"], row["who"]) for row in rows]

    def latest(self) -> Version | None:
        """Return the newest published version, None before the first publish."""
        row = self.connection.execute(f"SELECT * FROM {self.table} {PUBLISHED} LIMIT 1").fetchone()
        return version_of(row) if row else None

    def get(self, version: int) -> Version | None:
        """Return one published version, None where it was never published."""
        row = self.connection.execute(
            f"SELECT * FROM {self.table} WHERE published_at IS NOT NULL AND version = ?", (version,)
        ).fetchone()
        return version_of(row) if row else None

    def forget(self, tables: Iterable[int]) -> None:
        """Delete versions, as if they had never been published."""
        self.connection.executemany(f"DELETE FROM {self.table} WHERE version = ?", ((table,) for table in tables))

    def next_generation(self, above: int) -> int:
        """Return a generation for `current` that is higher than `above` and than any given before."""
        self.connection.execute("UPDATE generation SET number = max(number, ?) + 1", (above,))
        return int(self.connection.execute("SELECT number FROM generation").fetchone()["number"])


@dataclasses.dataclass(frozen=True, slots=True)
class Pin:
    """The pinned table, since when, by whom, and why."""

    table: int
    at: float
    who: str
    why: str


class PlanVersionRepository(VersionRepository):
    """The versions of fill plans."""

    table = "plan_versions"


class PinRepository(Repository):
    """A pin: a table of at most one row."""

    table = "pin"  # of the prefix table

    def get(self) -> Pin | None:
        """Return the pin, None where no table is pinned."""
        row = self.connection.execute(f"SELECT * FROM {self.table}").fetchone()
        return Pin(row["version"], row["at"], row["who"], row["why"]) if row else None

    def set(self, pin: Pin | None) -> None:
        """Replace the pin, or remove it with None."""
        self.connection.execute(f"DELETE FROM {self.table}")
        if pin:
            insert(self.connection, self.table, {"version": pin.table, "at": pin.at, "who": pin.who, "why": pin.why})


class PlanPinRepository(PinRepository):
    """The pin of the fill plan."""

    table = "plan_pin"


def version_of(row: sqlite3.Row) -> Version:
    """Return a row as a version."""
    fields = {**row, "sources": json.loads(row["sources"]), "counts": json.loads(row["counts"])}
    return Version(table=fields.pop("version"), **fields)
