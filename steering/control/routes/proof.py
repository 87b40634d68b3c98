"""The last check before a table serves: addresses looked up in the files, mapped as workers map them."""

from __future__ import annotations

from typing import Final

from steering.decision.snapshot import Snapshot
from steering.errors import SnapshotError
from steering.state.routes import aligned, prefix_text
from steering.state.table import BuiltTable

SAMPLE: Final = 5000  # intervals a family, evenly spread: 20,000 lookups, about 10 ms


def prove(snapshot: Snapshot, table: BuiltTable) -> None:
    """Check that the mapped files have the table's zones at both ends of a sample of its intervals.

    Raises SnapshotError with the first address whose zone differs.
    """
    for family in (4, 6):
        intervals, size = table.intervals[family], 4 if family == 4 else 16
        count = len(intervals.value)
        for i in (*range(0, count, max(1, count // SAMPLE)), count - 1):
            start = intervals.high[i] << 64 | (intervals.low[i] if family == 6 else 0)
            end = 1 << 128
            if i + 1 < count:
                end = intervals.high[i + 1] << 64 | (intervals.low[i + 1] if family == 6 else 0)
            last = end - (1 << 128 - size * 8)
            for number in (start, last):
                address = (number >> 128 - size * 8).to_bytes(size, "big")
                if snapshot.prefixes.lookup(address) != intervals.value[i]:
                    text = prefix_text(family, aligned(address)[1], size * 8)
                    raise SnapshotError(
                        f"{snapshot.current.table}: {text} is in zone {snapshot.prefixes.lookup(address)}, "
                        f"but by its routes in {intervals.value[i]}"
                    )
    if snapshot.routes.meta["version"] != snapshot.table_version:
        raise SnapshotError(f"{snapshot.current.routes}: belongs to table {snapshot.routes.meta['version']}")
