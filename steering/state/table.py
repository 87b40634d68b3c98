"""`table.<version>`: the prefix table, its zones and their rankings."""

from __future__ import annotations

import dataclasses
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from _fastpath.intervals import Intervals
from _fastpath.lpm import PrefixTable
from _fastpath.ranking import FALLBACK, PRICE, RANK, ZONE
from _fastpath.status_words import MOST_PRESSURE
from steering.errors import SnapshotError
from steering.model.route import Announcement, Refusal
from steering.state.routes import Locations, RouteRows, Routes, routes_sections
from steering.state.sections import Data, StateFile, write_sections, written_by_us


@dataclasses.dataclass(frozen=True, slots=True)
class Zone:
    """What an address resolves to: the entries of its ranking, its partner's number, its region."""

    first: int
    count: int
    partner: int
    region: str


@dataclasses.dataclass(frozen=True, slots=True)
class BuiltTable:
    """A table before it is written. Intervals hold zone numbers; zone 0 is the default.

    `ranking_entries` are cluster and rank word in turn: the RANK, FALLBACK where no route leads, and the price.
    """

    intervals: Mapping[int, Intervals]
    zones: Sequence[Zone]
    ranking_entries: array[int]
    rows: dict[int, RouteRows]
    announcements: Sequence[Announcement]
    set_first: array[int]
    set_members: array[int]
    meta: dict[str, Any]
    counts: dict[str, int]
    duplicates: int = 0
    conflicts: tuple[str, ...] = ()
    other_sources: Sequence[Mapping[str, Any]] = ()  # the map, geofeeds, RPKI: as reports describe a feed
    refusals: Sequence[Refusal] = ()
    locations: Locations | None = None


class TableFile(StateFile):
    """A mapped table. Raises SnapshotError."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "table")
        self.meta: dict[str, Any] = json.loads(bytes(self["meta"]))
        self.version: int = self.meta["version"]
        self.zones = self["zones"]
        self.ranking_entries = self["ranking_entries"].cast("I")
        try:
            self.prefixes = PrefixTable(self["prefixes"])
        except ValueError as error:
            raise SnapshotError(f"{path.name}: {error}") from error

    def zone(self, number: int) -> Zone:
        """Return a zone by its number, which `prefixes` looks up."""
        first, count, partner, region = ZONE.unpack_from(self.zones, number * ZONE.size)
        return Zone(first, count, partner, region.rstrip(b"\0").decode())

    def ranking(self, zone: Zone) -> Iterator[tuple[int, int, bool]]:
        """Yield a zone's ranking, nearest first: cluster, rank, and whether no route leads there."""
        return ranking_entries_of(zone, self.ranking_entries)

    def prices(self, zone: Zone) -> list[float]:
        """Return the price of each entry of a zone's ranking, as a share of what the fallback costs."""
        words = self.ranking_entries[2 * zone.first + 1 : 2 * (zone.first + zone.count) : 2]
        return [word // PRICE / MOST_PRESSURE for word in words]


def ranking_entries_of(zone: Zone, ranking_entries: Sequence[int]) -> Iterator[tuple[int, int, bool]]:
    """Yield a zone's ranking, nearest first: cluster, rank, and whether no route leads there."""
    for entry in range(zone.first, zone.first + zone.count):
        rank = ranking_entries[2 * entry + 1]
        yield ranking_entries[2 * entry], rank & RANK, bool(rank & FALLBACK)


def read_zones(table: StateFile) -> list[Zone]:
    """Return the zones of a mapped table."""
    return [
        Zone(first, count, partner, region.rstrip(b"\0").decode())
        for first, count, partner, region in ZONE.iter_unpack(table["zones"])
    ]


def read_table(state: Path, version: int) -> BuiltTable:
    """Return a written table. Its columns are mapped, not copied: there may be gigabytes. Raises SnapshotError."""
    with written_by_us(f"table.{version} or routes.{version}"):
        file, routes = StateFile(state / f"table.{version}", "table"), Routes(state / f"routes.{version}")
        rows, intervals = {}, {}
        for family in (4, 6):
            mapped, origins, states = routes.rows(family), routes.columns[family][4], routes.states[family]
            columns: Any = (mapped.high, mapped.low, mapped.length, mapped.value, origins, states)
            rows[family] = RouteRows(*columns)
            cuts: Any = routes.zones[family]
            zones: Any = routes.zone_of[family]
            intervals[family] = Intervals(cuts[0], cuts[1] or array("Q", bytes(8 * len(zones))), zones)
        return BuiltTable(
            intervals,
            read_zones(file),
            array("I", file["ranking_entries"].cast("I")),
            rows,
            routes.announcements,
            array("I", routes.set_first),
            array("I", routes.set_members),
            routes.meta,
            routes.meta["counts"],
        )


def read_meta(table: Path) -> dict[str, Any]:
    """Return the description of a written table. Raises SnapshotError."""
    with written_by_us(table.name):
        meta: dict[str, Any] = json.loads(bytes(StateFile(table, "table")["meta"]))
    return meta


def write_table(state: Path, version: int, table: BuiltTable) -> tuple[str, str]:
    """Write `table.<version>` and `routes.<version>`, and return their names; `write_current` makes them served."""
    write_sections(state / f"table.{version}", "table", sections_of(version, table))
    write_sections(state / f"routes.{version}", "routes", routes_of(version, table))
    return f"table.{version}", f"routes.{version}"


def is_written(state: Path, version: int, table: BuiltTable) -> bool:
    """Return whether the files of a version hold this very table. Raises SnapshotError."""
    for kind, make in (("routes", routes_of), ("table", sections_of)):
        written, made = StateFile(state / f"{kind}.{version}", kind).sections, make(version, table)
        if written.keys() != made.keys() or any(
            part != memoryview(made[name]).cast("B") for name, part in written.items()
        ):
            return False
    return True


def sections_of(version: int, table: BuiltTable) -> dict[str, Data]:
    """Return the sections of `table.<version>`."""
    prefixes = PrefixTable.build(table.intervals[4], table.intervals[6], len(table.zones))
    return {
        "meta": json.dumps(meta_of(version, table)).encode(),
        "prefixes": prefixes.block(),
        "zones": b"".join(
            ZONE.pack(zone.first, zone.count, zone.partner, zone.region.encode()) for zone in table.zones
        ),
        "ranking_entries": table.ranking_entries,
    }


def routes_of(version: int, table: BuiltTable) -> dict[str, Data]:
    """Return the sections of `routes.<version>`."""
    return routes_sections(
        meta_of(version, table),
        table.rows,
        table.intervals,
        table.announcements,
        table.set_first,
        table.set_members,
        table.refusals,
        table.locations,
    )


def meta_of(version: int, table: BuiltTable) -> dict[str, Any]:
    """Return the description of a table."""
    return {**table.meta, "version": version, "counts": table.counts}
