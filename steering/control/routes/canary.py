"""A canary: a table that gives a share of clients the new table's zones, and the others those of the serving table.

Both tables' intervals are overlaid. If an address has the same ranking, region and partner in both, nothing changes.
Elsewhere, address space is cut into blocks, and a hash of the block's address chooses its table: equal shares choose
equal blocks, a larger share chooses more. The request path does not change.
"""

from __future__ import annotations

import dataclasses
from array import array
from pathlib import Path

from _fastpath.intervals import Pairs, mix, overlay
from steering.state.table import BuiltTable, ranking_entries_of, read_table

BLOCK: dict[int, int] = {4: 20, 6: 44}  # prefix lengths; a wide interval has at most 4,096 blocks, larger ones


def mixed_with_serving(state: Path, before: int, after: int, table: BuiltTable, share: float) -> BuiltTable:
    """Return the canary of a new table, version `after`, over version `before`. Raises SnapshotError.

    Zones from number `meta["canary"]["zones"]` on are the new table's, and so are the canary's routes.
    """
    serving = read_table(state, before)
    split = len(serving.zones)
    entries = serving.ranking_entries
    new_zones = [dataclasses.replace(zone, first=zone.first + len(entries) // 2) for zone in table.zones]
    old_keys, new_keys = zone_keys(serving), zone_keys(table)
    pairs = Pairs()
    intervals = {}
    for family in (4, 6):
        both = overlay(serving.intervals[family], table.intervals[family], pairs)
        numbers = range(len(pairs))
        same = array("B", (old_keys[pairs.left[number]] == new_keys[pairs.right[number]] for number in numbers))
        intervals[family] = mix(both, pairs, same, split, BLOCK[family], round(share * (1 << 32)))
    return dataclasses.replace(
        table,
        intervals=intervals,
        zones=[*serving.zones, *new_zones],
        ranking_entries=entries + table.ranking_entries,
        meta=table.meta | {"canary": {"before": before, "after": after, "share": share, "zones": split}},
    )


def zone_keys(table: BuiltTable) -> list[tuple[object, ...]]:
    """Return the ranking, region and partner of each zone, comparable between tables."""
    rankings: dict[tuple[int, int], tuple[tuple[int, int, bool], ...]] = {}
    keys: list[tuple[object, ...]] = []
    for zone in table.zones:
        span = zone.first, zone.count
        if span not in rankings:
            rankings[span] = tuple(ranking_entries_of(zone, table.ranking_entries))
        keys.append((rankings[span], zone.region, zone.partner))
    return keys
