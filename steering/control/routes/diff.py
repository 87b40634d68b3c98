"""What another table would change: prefixes added, removed and changed, and which clients would be sent elsewhere.

A client moves where the set of clusters of its ranking's rank 0 changes. How many move is counted in address space, over
the intervals of both tables laid together: IPv4 by address, IPv6 by /48, and of both only what a route covers in one of
the tables; with a traffic file, by the traffic of that space. Clients that no route leads to are served from fallback
ranking_entries either way, and are left out.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from _fastpath import prefix_diff, prefix_rows
from _fastpath.intervals import Intervals, Pairs, measure, overlay, pair_up
from steering.control.routes.traffic import Traffic
from steering.model.fleet import Fleet
from steering.model.route import Announcement
from steering.state.routes import Intervals as ZoneIntervals
from steering.state.routes import RouteRows, Routes, prefix_text
from steering.state.sections import StateFile
from steering.state.table import BuiltTable, Zone, ranking_entries_of, read_zones

SHOWN: Final = 100  # partners and clusters, most moved first

Clusters = frozenset[int]


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """One of two tables: its rows, its intervals by zone, and of each zone the nearest clusters, routed or not."""

    version: int | None  # None of what is not published
    rows: Mapping[int, prefix_rows.Columns]  # values are sets, below `announcements`' length
    origins: Mapping[int, array[int]]
    sets: Sequence[frozenset[Announcement]]
    intervals: Mapping[int, Intervals]
    nearest: Sequence[Clusters]
    routed: Sequence[bool]
    partners: Sequence[int]


def side_of_table(table: BuiltTable) -> Side:
    """Return a table that is in memory."""
    return make_side(
        None,
        table.rows,
        table.intervals,
        table.announcements,
        table.set_first,
        table.set_members,
        table.zones,
        table.ranking_entries,
    )


def side_of_files(state: Path, version: int) -> Side:
    """Return a table that was written. Raises SnapshotError."""
    file = StateFile(state / f"table.{version}", "table")
    routes = Routes(state / f"routes.{version}")
    rows, intervals = {}, {}
    for family in (4, 6):
        mapped: Any = routes.columns[family]  # not copied: there may be gigabytes
        high, low, lengths, sets, origins = mapped
        zone_high, zone_low = routes.zones[family]
        # What validation found is no difference.
        rows[family] = RouteRows(high, low if low is not None else array("Q"), lengths, sets, origins, array("B"))
        intervals[family] = Intervals(
            array("Q", zone_high),
            array("Q", zone_low) if zone_low is not None else array("Q", bytes(8 * len(zone_high))),
            array("I", routes.zone_of[family]),
        )
    return make_side(
        version,
        rows,
        intervals,
        routes.announcements,
        array("I", routes.set_first),
        array("I", routes.set_members),
        read_zones(file),
        array("I", file["ranking_entries"].cast("I")),
    )


def make_side(
    version: int | None,
    rows: Mapping[int, RouteRows],
    intervals: Mapping[int, ZoneIntervals],
    announcements: Sequence[Announcement],
    set_first: array[int],
    set_members: array[int],
    zones: Sequence[Zone],
    ranking_entries: array[int],
) -> Side:
    """Return one side of a comparison."""
    # Which file said it is no difference.
    items = [dataclasses.replace(item, feed="") for item in announcements]
    columns = {}
    for family, found in rows.items():
        columns[family] = prefix_rows.Columns()
        columns[family].high, columns[family].low = found.high, found.low if family == 6 else array("Q")
        columns[family].length, columns[family].value = found.lengths, found.sets
    nearest, routed = [], []
    for zone in zones:
        ranking = list(ranking_entries_of(zone, ranking_entries))
        nearest.append(frozenset(cluster for cluster, rank, _ in ranking if not rank))
        routed.append(any(not is_fallback for _, _, is_fallback in ranking))
    return Side(
        version,
        columns,
        {family: found.origins for family, found in rows.items()},
        [
            frozenset(items[member] for member in set_members[set_first[place] : set_first[place + 1]])
            for place in range(len(set_first) - 1)
        ],
        {family: Intervals(found.high, found.low, found.value) for family, found in intervals.items()},
        nearest,
        routed,
        [zone.partner for zone in zones],
    )


def compare(
    before: Side, after: Side, fleet: Fleet, examples: int = 20, traffic: Traffic | None = None
) -> dict[str, Any]:
    """Return what is different, as a report; shares are of what a route covers in either, address space or traffic."""
    names = {cluster.number: cluster.id for cluster in fleet.clusters}
    partners = {partner.number: partner.id for partner in fleet.partners}
    moves = {family: find_moves(before, after, family, traffic) for family in (4, 6)}
    return {
        "weighed_by": traffic.name if traffic else None,
        "before": before.version,
        "after": after.version,
        "prefixes": compare_prefixes(before, after, examples),
        "moved": {f"v{family}": found.share() for family, found in moves.items()},
        "routed": {f"v{family}": found.routed for family, found in moves.items()},
        "no_ranking_entry": sum(not clusters for clusters in after.nearest) if all(before.nearest) else 0,
        "partners": largest(
            {
                partners.get(number, f"#{number}" if number else None): {
                    f"v{family}": found.share_of(found.by_partner[number]) for family, found in moves.items()
                }
                for number in sorted({number for found in moves.values() for number in found.by_partner})
            },
            "partner",
        ),
        "clusters": largest(
            {
                names.get(number, f"#{number}"): {
                    f"{verb}_v{family}": found.share_of(counted[number])
                    for family, found in moves.items()
                    for verb, counted in (("gained", found.gained), ("lost", found.lost))
                }
                for number in sorted({number for found in moves.values() for number in {**found.gained, **found.lost}})
            },
            "cluster",
        ),
    }


def largest(rows: dict[str | None, dict[str, float]], name: str) -> list[dict[str, Any]]:
    """Return the rows with the largest shares first."""
    ordered = sorted(rows.items(), key=lambda row: (-max(row[1].values()), row[0] or ""))
    return [{name: key, **shares} for key, shares in ordered[:SHOWN]]


def compare_prefixes(before: Side, after: Side, examples: int) -> dict[str, Any]:
    """Return by family how many prefixes there are, were added, removed and changed, and the first few of each."""
    numbers: dict[frozenset[Announcement], int] = {}
    labels = [
        array("I", (numbers.setdefault(members, len(numbers)) for members in side.sets)) for side in (before, after)
    ]
    report = {}
    for family in (4, 6):
        pairs = Pairs()
        sides = []
        for side, label in zip((before, after), labels, strict=True):
            columns = side.rows[family].alias()
            columns.value = pair_up(prefix_rows.relabel(columns.value, label), side.origins[family], pairs)
            sides.append(columns)
        added, removed, changed, counts = prefix_diff.compare(sides[0], sides[1], examples)

        def texts(columns: prefix_rows.Columns, places: list[int], family: int = family) -> list[str]:
            numbers = [columns.high[at] << 64 | (columns.low[at] if family == 6 else 0) for at in places]
            return [prefix_text(family, number, columns.length[at]) for number, at in zip(numbers, places, strict=True)]

        report[f"v{family}"] = {
            **dict(zip(("before", "after", "added", "removed", "changed"), counts, strict=True)),
            "first": {
                "added": texts(sides[1], added),
                "removed": texts(sides[0], removed),
                "changed": texts(sides[1], changed),
            },
        }
    return report


@dataclasses.dataclass(slots=True)
class Moves:
    """Address space of one family by where its clients go, before and after."""

    routed: float = 0.0
    moved: float = 0.0
    by_partner: defaultdict[int, float] = dataclasses.field(default_factory=lambda: defaultdict(float))
    gained: defaultdict[int, float] = dataclasses.field(default_factory=lambda: defaultdict(float))
    lost: defaultdict[int, float] = dataclasses.field(default_factory=lambda: defaultdict(float))

    def share_of(self, extent: float) -> float:
        """Return a part of what is routed."""
        return round(extent / self.routed, 6) if self.routed else 0.0

    def share(self) -> float:
        """Return the share that moves."""
        return self.share_of(self.moved)


def find_moves(before: Side, after: Side, family: int, traffic: Traffic | None) -> Moves:
    """Return the moves of one family."""
    pairs = Pairs()
    both = overlay(before.intervals[family], after.intervals[family], pairs)
    found = Moves()
    extents = traffic.weigh(both, family, len(pairs)) if traffic else measure(both, family, len(pairs))
    for number, extent in enumerate(extents):
        old, new = pairs.left[number], pairs.right[number]
        if not (before.routed[old] or after.routed[new]):
            continue
        found.routed += extent
        gained, lost = after.nearest[new] - before.nearest[old], before.nearest[old] - after.nearest[new]
        if gained or lost:
            found.moved += extent
            found.by_partner[before.partners[old] or after.partners[new]] += extent
        for cluster in gained:
            found.gained[cluster] += extent
        for cluster in lost:
            found.lost[cluster] += extent
    return found
