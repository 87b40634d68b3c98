"""Areas whose demand is forecast together, as a tree: partner, country, continent, and `*` above all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Final

from steering.errors import FeedError

WORLD: Final = "*"
WORLD_ROW: Final = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Area:
    """An area and the one above it."""

    id: str
    parent: str = WORLD


class AreaTree:
    """Areas with each one's parent before it, `*` first. A row is an area's position. Raises FeedError."""

    def __init__(self, areas: Iterable[Area]) -> None:
        self.areas = in_order(areas)
        self.rows = {area.id: row for row, area in enumerate(self.areas)}
        self.parents = [self.rows.get(area.parent, WORLD_ROW) for area in self.areas]  # that of `*` is itself
        self.rows_above = frozenset(self.parents[1:])  # the areas that have others below

    def __len__(self) -> int:
        return len(self.areas)

    def lies_in(self, row: int, above: int) -> bool:
        """Return whether an area is another one or lies below it."""
        while row > above:  # a parent has the lower row
            row = self.parents[row]
        return row == above

    def topmost(self, ids: Sequence[str]) -> list[int]:
        """Return the rows of areas, without unknown ones and those that lie in another one of them."""
        rows = {self.rows[name] for name in ids if name in self.rows}
        return sorted(row for row in rows if not any(self.lies_in(row, other) for other in rows - {row}))


def in_order(areas: Iterable[Area]) -> list[Area]:
    """Return areas with each one's parent before it, `*` first. Raises FeedError."""
    by_id = {area.id: area for area in areas if area.id != WORLD}
    ordered: dict[str, Area] = {WORLD: Area(WORLD, "")}
    for area in by_id.values():
        path: list[Area] = []
        above = area
        while above.id not in ordered:
            if above in path:
                raise FeedError(f"area {area.id!r}: lies below itself")
            path.append(above)
            if above.parent not in by_id and above.parent != WORLD:
                raise FeedError(f"area {above.id!r}: there is no area {above.parent!r} above it")
            above = by_id.get(above.parent, ordered[WORLD])
        ordered.update((item.id, item) for item in reversed(path))
    return list(ordered.values())
