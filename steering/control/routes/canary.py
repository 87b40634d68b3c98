"""A canary: a table in which a share of the clients that would move have moved, and the others have not.

Both tables' intervals are laid over one another. Where a client's ranking, region and partner are the same in both,
nothing is to be chosen. Elsewhere address space is cut into blocks, and a hash of the block's address says which side
it is on: the same blocks for the same share, more of them for a larger one. So requests need to know nothing of it.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Sequence
from pathlib import Path

from _fastpath.intervals import Intervals, Pairs, mix, overlay
from steering.state.routes import Routes
from steering.state.sections import StateFile
from steering.state.table import BuiltTable, Zone, ranking_entries_of, read_zones

BLOCK: dict[int, int] = {4: 20, 6: 44}  # prefix lengths; a wide interval has at most 4,096 blocks, larger ones


def mixed_with_serving(state: Path, before: int, after: int, table: BuiltTable, share: float) -> BuiltTable:
    """Return a table in which a share of what a new table, version `after`, moves has moved. Raises SnapshotError.

    Zones from number `meta["canary"]["zones"]` on are the new table's, and its routes are those beside it.
    """
    file = StateFile(state / f"table.{before}", "table")
    routes = Routes(state / f"routes.{before}")
    zones, ranking_entries = read_zones(file), array("I", file["ranking_entries"].cast("I"))
    split = len(zones)
    behind = [dataclasses.replace(zone, first=zone.first + len(ranking_entries) // 2) for zone in table.zones]
    was, becomes = signature(zones, ranking_entries), signature(table.zones, table.ranking_entries)
    pairs = Pairs()
    intervals = {}
    for family in (4, 6):
        high, low = routes.zones[family]
        old = Intervals(
            array("Q", high),
            array("Q", low) if low is not None else array("Q", bytes(8 * len(high))),
            array("I", routes.zone_of[family]),
        )
        new = table.intervals[family]
        both = overlay(old, Intervals(new.high, new.low, new.value), pairs)
        numbers = range(len(pairs))
        same = array("B", (was[pairs.left[number]] == becomes[pairs.right[number]] for number in numbers))
        intervals[family] = mix(both, pairs, same, split, BLOCK[family], round(share * (1 << 32)))
    return dataclasses.replace(
        table,
        intervals=intervals,
        zones=[*zones, *behind],
        ranking_entries=ranking_entries + table.ranking_entries,
        meta=table.meta | {"canary": {"before": before, "after": after, "share": share, "zones": split}},
    )


def signature(zones: Sequence[Zone], ranking_entries: array[int]) -> list[tuple[object, ...]]:
    """Return what a client is sent by, of each zone."""
    known: dict[tuple[int, int], tuple[tuple[int, int, bool], ...]] = {}
    found: list[tuple[object, ...]] = []
    for zone in zones:
        place = zone.first, zone.count
        if place not in known:
            known[place] = tuple(ranking_entries_of(zone, ranking_entries))
        found.append((known[place], zone.region, zone.partner))
    return found
