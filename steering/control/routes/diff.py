"""The difference between two tables: prefixes added, removed and changed, and clients that move to other clusters.

A client moves if the set of clusters at rank 0 of its ranking changes. Moved clients are counted in address space, over
the overlaid intervals of both tables: IPv4 by address, IPv6 by /48, or with a traffic file by traffic. Only address
space that a route covers in one of the tables counts; the rest is served by fallback clusters before and after.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from _fastpath import prefix_rows, rib
from _fastpath.intervals import Intervals, Pairs, measure, overlay, pair_up
from steering.control.routes.traffic import Traffic
from steering.model.fleet import Fleet
from steering.model.route import Announcement
from steering.state.routes import RouteRows, Routes, prefix_text
from steering.state.sections import StateFile
from steering.state.table import BuiltTable, Zone, ranking_entries_of, read_zones

SHOWN: Final = 100  # partners and clusters, most moved first

Clusters = frozenset[int]


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """One of two tables: its rows and intervals, and by zone the clusters at rank 0 and whether it has a route."""

    version: int | None  # None for a table that is not published
    rows: Mapping[int, prefix_rows.Columns]  # values are indices into `sets`
    origins: Mapping[int, array[int]]
    sets: Sequence[frozenset[Announcement]]
    intervals: Mapping[int, Intervals]
    nearest: Sequence[Clusters]
    routed: Sequence[bool]
    partners: Sequence[int]


def side_of_table(table: BuiltTable) -> Side:
    """Return the side of a table in memory."""
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
    """Return the side of a table on disk. Raises SnapshotError."""
    file = StateFile(state / f"table.{version}", "table")
    routes = Routes(state / f"routes.{version}")
    rows, intervals = {}, {}
    for family in (4, 6):
        mapped: Any = routes.columns[family]  # not copied: there may be gigabytes
        high, low, lengths, sets, origins = mapped
        zone_high, zone_low = routes.zones[family]
        # RPKI states are not compared.
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
    intervals: Mapping[int, Intervals],
    announcements: Sequence[Announcement],
    set_first: array[int],
    set_members: array[int],
    zones: Sequence[Zone],
    ranking_entries: array[int],
) -> Side:
    """Return one side of a comparison."""
    # The feed is not compared.
    items = [dataclasses.replace(item, feed="") for item in announcements]
    columns = {}
    for family, side in rows.items():
        columns[family] = prefix_rows.Columns()
        columns[family].high, columns[family].low = side.high, side.low if family == 6 else array("Q")
        columns[family].length, columns[family].value = side.lengths, side.sets
    nearest, routed = [], []
    for zone in zones:
        ranking = list(ranking_entries_of(zone, ranking_entries))
        nearest.append(frozenset(cluster for cluster, rank, _ in ranking if not rank))
        routed.append(any(not is_fallback for _, _, is_fallback in ranking))
    return Side(
        version,
        columns,
        {family: side.origins for family, side in rows.items()},
        [
            frozenset(items[member] for member in set_members[set_first[i] : set_first[i + 1]])
            for i in range(len(set_first) - 1)
        ],
        intervals,
        nearest,
        routed,
        [zone.partner for zone in zones],
    )


def compare(
    before: Side, after: Side, fleet: Fleet, examples: int = 20, traffic: Traffic | None = None
) -> dict[str, Any]:
    """Return the differences as a report; shares are of the address space or traffic with a route in either table."""
    names = {cluster.number: cluster.id for cluster in fleet.clusters}
    partners = {partner.number: partner.id for partner in fleet.partners}
    moves = {family: find_moves(before, after, family, traffic) for family in (4, 6)}
    return {
        "weighed_by": traffic.name if traffic else None,
        "before": before.version,
        "after": after.version,
        "prefixes": compare_prefixes(before, after, examples),
        "moved": {f"v{family}": move.share() for family, move in moves.items()},
        "routed": {f"v{family}": move.routed for family, move in moves.items()},
        "no_ranking_entry": sum(not clusters for clusters in after.nearest) if all(before.nearest) else 0,
        "partners": largest(
            {
                partners.get(number, f"#{number}" if number else None): {
                    f"v{family}": move.share_of(move.by_partner[number]) for family, move in moves.items()
                }
                for number in sorted({number for move in moves.values() for number in move.by_partner})
            },
            "partner",
        ),
        "clusters": largest(
            {
                names.get(number, f"#{number}"): {
                    f"{verb}_v{family}": move.share_of(counted[number])
                    for family, move in moves.items()
                    for verb, counted in (("gained", move.gained), ("lost", move.lost))
                }
                for number in sorted({number for move in moves.values() for number in {**move.gained, **move.lost}})
            },
            "cluster",
        ),
    }


def largest(rows: dict[str | None, dict[str, float]], name: str) -> list[dict[str, Any]]:
    """Return the rows with the largest shares first."""
    ordered = sorted(rows.items(), key=lambda row: (-max(row[1].values()), row[0] or ""))
    return [{name: key, **shares} for key, shares in ordered[:SHOWN]]


def compare_prefixes(before: Side, after: Side, examples: int) -> dict[str, Any]:
    """Return by family the counts of prefixes, added, removed and changed ones, and the first few of each."""
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
        added, removed, changed, counts = rib.compare(sides[0], sides[1], examples)

        def texts(columns: prefix_rows.Columns, rows: list[int], family: int = family) -> list[str]:
            numbers = [columns.high[i] << 64 | (columns.low[i] if family == 6 else 0) for i in rows]
            return [prefix_text(family, number, columns.length[i]) for number, i in zip(numbers, rows, strict=True)]

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
    """Address space or traffic of one family: routed, moved, and moved by partner and by cluster."""

    routed: float = 0.0
    moved: float = 0.0
    by_partner: defaultdict[int, float] = dataclasses.field(default_factory=lambda: defaultdict(float))
    gained: defaultdict[int, float] = dataclasses.field(default_factory=lambda: defaultdict(float))
    lost: defaultdict[int, float] = dataclasses.field(default_factory=lambda: defaultdict(float))

    def share_of(self, extent: float) -> float:
        """Return an extent as a share of the routed one."""
        return round(extent / self.routed, 6) if self.routed else 0.0

    def share(self) -> float:
        """Return the share that moves."""
        return self.share_of(self.moved)


def find_moves(before: Side, after: Side, family: int, traffic: Traffic | None) -> Moves:
    """Return the moves of one family, weighed by traffic if given."""
    pairs = Pairs()
    both = overlay(before.intervals[family], after.intervals[family], pairs)
    moves = Moves()
    extents = traffic.weigh(both, family, len(pairs)) if traffic else measure(both, family, len(pairs))
    for number, extent in enumerate(extents):
        old, new = pairs.left[number], pairs.right[number]
        if not (before.routed[old] or after.routed[new]):
            continue
        moves.routed += extent
        gained, lost = after.nearest[new] - before.nearest[old], before.nearest[old] - after.nearest[new]
        if gained or lost:
            moves.moved += extent
            moves.by_partner[before.partners[old] or after.partners[new]] += extent
        for cluster in gained:
            moves.gained[cluster] += extent
        for cluster in lost:
            moves.lost[cluster] += extent
    return moves
