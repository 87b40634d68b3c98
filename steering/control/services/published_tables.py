"""The tables on record: which serves, which are kept, the pin and the canary, and what a verb requires of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steering.control.records.audit import Entry
from steering.control.records.database import Records, Transaction
from steering.control.records.rows import Rows
from steering.control.records.versions import Pin, Version
from steering.control.routes.feeds import KINDS, FeedSource
from steering.control.routes.fetch import is_url
from steering.control.services.hand_over import HandOver
from steering.errors import RequestError
from steering.state.current import Current
from steering.state.folder import number_of, versioned_files
from steering.state.table import read_meta


@dataclasses.dataclass(eq=False, repr=False)
class PublishedTables:
    """What is on record of the tables of one state folder; `tables.Tables` has the verbs."""

    state: Path
    records: Records
    hand_over: HandOver

    def serving_table(self) -> int | None:
        """Return the version of the table that serves."""
        return number_of(self.hand_over.current.table) if self.hand_over.current else None

    def find_canary(self) -> dict[str, Any] | None:
        """Return the canary that serves, None where none does."""
        current = self.hand_over.current
        canary = read_meta(self.state / current.table).get("canary") if current else None
        return dict(canary) if canary else None

    def list(self) -> Rows:
        """Return every version ever published, newest first; safe from any thread."""
        with self.records.reading() as records:
            pin = records.pins.get()
            return [self.describe(version, pin) for version in records.versions.all()]

    def get(self, version: int) -> dict[str, Any]:
        """Return what is on record of a published version; safe from any thread. Raises RequestError 404."""
        with self.records.reading() as records:
            return self.describe(find_version(records, version), records.pins.get())

    def describe(self, version: Version, pin: Pin | None) -> dict[str, Any]:
        """Return a version as reports have it."""
        return {
            **dataclasses.asdict(version),
            "serving": version.table == self.serving_table(),
            "pinned": pin is not None and version.table == pin.table,
            "kept": self.is_kept(version.table),
        }

    def is_kept(self, version: int) -> bool:
        """Return whether the files of a version are still there."""
        return (self.state / f"table.{version}").exists()

    def take_versions(self, count: int) -> Sequence[int]:
        """Return so many new versions. A database restored from a backup is behind the files written since."""
        written = max((number for _, kind, number in versioned_files(self.state) if kind == "table"), default=0)
        with self.records.transaction() as transaction:
            return [transaction.versions.take(written) for _ in range(count)]

    def served_from(self, sources: Sequence[FeedSource]) -> Current | None:
        """Return what serves, where its table is the newest, is not pinned, and was made from these sources."""
        latest = self.records.versions.latest()
        if latest is None or latest.table != self.serving_table() or self.records.pins.get():
            return None
        return self.hand_over.current if sources_of(latest) == list(dict.fromkeys(sources)) else None

    def give_back(self, versions: Sequence[int]) -> None:
        """Let versions be taken again for which no file was made."""
        with self.records.transaction() as transaction:
            transaction.versions.give_back(versions[-1], len(versions))

    def record_written(self, versions: Sequence[int], report: dict[str, Any], who: str, why: str) -> None:
        """Record tables that are written and do not serve yet."""
        sources = [
            {key: value for key, value in source.items() if key not in ("refusals", "warnings")}
            for source in (*report["feeds"], *report["other_sources"])
        ]
        fleet = self.records.fleet.version()
        with self.records.transaction() as transaction:
            for version in versions:
                transaction.versions.add_written(
                    version, fleet=fleet, who=who, why=why, sources=sources, counts=report["counts"]
                )

    def record_published(self, versions: Sequence[int], current: Current, pin: Pin | None, entry: Entry | None) -> None:
        """Record tables that serve; with an entry, by whom, and the pin from here on."""
        with self.records.transaction() as transaction:
            for version in versions:
                transaction.versions.set_published(version, number_of(current.fleet), current.published_at)
            if entry:
                transaction.pins.set(pin)
                transaction.audit.add(entry)

    def set_pin(self, pin: Pin | None) -> None:
        """Put a pin, or that there is none, on record."""
        with self.records.transaction() as transaction:
            transaction.pins.set(pin)

    def require_serving(self) -> int:
        """Return the table that serves. Raises RequestError 409 before the first publish."""
        table = self.serving_table()
        if table is None:
            raise nothing_published()
        return table

    def require_no_canary(self, share: float) -> int:
        """Return the table that serves and that a canary can stand beside. Raises RequestError."""
        if not 0 < share < 1:
            raise RequestError.of_parameter("canary", str(share), "a share of clients, more than 0 and less than 1")
        table = self.serving_table()
        if table is None:
            raise nothing_published("publish without a canary first")
        if self.find_canary():
            raise RequestError("a canary serves already", hint="steering table promote, or withdraw", status=409)
        return table

    def require_unpinned(self) -> None:
        """Raise RequestError 409 where a table is pinned."""
        if pin := self.records.pins.get():
            ends = "promote, or steering table withdraw" if self.find_canary() else "unpin, or steering table publish"
            raise RequestError(
                f"table {pin.table} is pinned by {pin.who}: {pin.why or 'no reason given'}",
                hint=f"steering table {ends}",
                status=409,
            )

    def require_kept(self, version: int) -> None:
        """Raise RequestError 404 for a table that was never published, 409 where its files are gone."""
        find_version(self.records, version)
        if not self.is_kept(version):
            raise RequestError(
                f"table {version}: its files were removed", hint="the setting retain keeps more", status=409
            )


def find_version(records: Transaction, version: int) -> Version:
    """Return a published version. Raises RequestError 404."""
    row = records.versions.get(version)
    if row is None:
        raise RequestError(
            f"table {version}: none of this version was ever published", hint="steering table list", status=404
        )
    return row


def nothing_published(hint: str = "steering table publish") -> RequestError:
    """Return the error for what needs a table that serves."""
    return RequestError("nothing was published yet", hint=hint, status=409)


def sources_of(version: Version) -> list[FeedSource]:
    """Return the feeds that a version was made from, as they were named, to be read again."""
    sources = []
    for item in version.sources:
        named = item.get("named", "")
        if item["kind"] not in KINDS:
            continue
        if item["kind"] == "bgp" or not named:
            sources.append(FeedSource(item["kind"], "" if named else item["path"]))
        else:
            sources.append(FeedSource(item["kind"] if is_url(named) else "folder", named))
    return list(dict.fromkeys(sources))
