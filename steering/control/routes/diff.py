"""The difference between two tables: prefixes added, removed and changed, and clients that move to other clusters.

A client moves if the set of clusters at rank 0 of its ranking changes. Moved clients are counted in address space, over
the overlaid intervals of both tables: IPv4 by address, IPv6 by /48, or with a traffic file by traffic. Only address
space that a route covers in one of the tables counts; the rest is served by fallback clusters before and after.
"""

from __future__ import annotations

import dataclasses
import itertools
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from _fastpath import prefix_rows, rib
from _fastpath.intervals import Intervals, Pairs, measure, overlay, pair_up
from steering.control.routes.traffic import Traffic
from steering.model.fleet import Fleet
from steering.model.route import Announcement
from steering.state.routes import prefix_at
from steering.state.table import BuiltTable, ranking_entries_of

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


def side_of(table: BuiltTable, version: int | None = None) -> Side:
    """Return a table, built or read back, as one side of a comparison. Feeds and RPKI states are not compared."""
    items = [dataclasses.replace(item, feed="") for item in table.announcements]
    columns = {}
    for family, side in table.rows.items():
        columns[family] = prefix_rows.Columns()
        columns[family].high, columns[family].low = side.high, side.low
        columns[family].length, columns[family].value = side.lengths, side.sets
    nearest, routed = [], []
    for zone in table.zones:
        ranking = list(ranking_entries_of(zone, table.ranking_entries))
        nearest.append(frozenset(cluster for cluster, rank, _ in ranking if not rank))
        routed.append(any(not is_fallback for _, _, is_fallback in ranking))
    sets = (table.set_members[first:end] for first, end in itertools.pairwise(table.set_first))
    return Side(
        version,
        columns,
        {family: side.origins for family, side in table.rows.items()},
        [frozenset(items[member] for member in members) for members in sets],
        table.intervals,
        nearest,
        routed,
        [zone.partner for zone in table.zones],
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

        report[f"v{family}"] = {
            **dict(zip(("before", "after", "added", "removed", "changed"), counts, strict=True)),
            "first": {
                name: [prefix_at(family, columns, row) for row in rows]
                for name, columns, rows in (
                    ("added", sides[1], added),
                    ("removed", sides[0], removed),
                    ("changed", sides[1], changed),
                )
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
        return round(extent / self.routed, 6) if self.routed else 0.0

    def share(self) -> float:
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
