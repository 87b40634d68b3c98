"""`plan.<version>`: which appliance should hold which titles. Only control reads it; playback goes by holdings.

The sections of a holdings file say who should hold what (`_fastpath/holdings.pyx`). Beside them stand, by the same
index of titles, `sizes` in bytes (64 bits), `recipes` (a line a title, empty for none), `plays` of all areas together
(32-bit floats), and `area_plays`, the plays a day by area and title. `meta` has the rest (`PlanMeta`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import msgspec
from msgspec import Struct

from _fastpath.holdings import Holdings
from _fastpath.holdings_builder import HoldingsBuilder
from steering.errors import SnapshotError
from steering.state.sections import Data, StateFile, write_sections, written_by_us


class ClusterMeta(Struct, frozen=True):
    """What a plan says of a cluster: the price of a byte of its disk, titles, copies and bytes, and bytes to add."""

    id: str
    area: str
    price: float
    titles: int
    copies: int
    bytes: int
    added: int
    highest_load: float


class PlanMeta(Struct, frozen=True):
    """A plan in numbers. `value` and `bound` are bytes a day; `prices` by group, then of the exchanges."""

    version: int
    made_at: float
    day: int
    titles: int
    plays: float
    value: float
    bound: float
    offload: float
    group_prices: list[list[float]]
    exchange_prices: list[float]
    areas: list[str]
    clusters: dict[int, ClusterMeta]
    no_recipe: int

    @property
    def gap(self) -> float:
        """How far the plan is from the best at most."""
        return 1 - self.value / self.bound if self.bound else 0.0

    @property
    def added(self) -> int:
        """The bytes that the plan adds to the one before."""
        return sum(cluster.added for cluster in self.clusters.values())


def write_plan(state: Path, meta: PlanMeta, builder: HoldingsBuilder, columns: Mapping[str, Data]) -> str:
    """Write `plan.<version>` and return its name."""
    name = f"plan.{meta.version}"
    write_sections(state / name, "plan", {"meta": msgspec.json.encode(meta), **builder.sections(), **columns})
    return name


class PlanFile(StateFile):
    """A mapped plan. Raises SnapshotError."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "plan")
        with written_by_us(path.name):
            self.meta = msgspec.json.decode(self["meta"], type=PlanMeta)
            self.holdings = Holdings(self.sections)
            self.sizes = self["sizes"].cast("Q")
            self.plays = self["plays"].cast("f")
            self.recipes = bytes(self["recipes"]).decode().split("\n") if self.holdings.titles else []
            lengths = {len(self.sizes), len(self.plays), len(self.recipes), self.holdings.titles}
            if len(lengths) != 1:
                raise SnapshotError(f"{path.name}: its columns have {sorted(lengths)} titles")

    @cached_property
    def indexes(self) -> dict[tuple[str, str], int]:
        """The index of each title (service, id)."""
        return {self.holdings.title(index): index for index in range(self.holdings.titles)}

    def area_plays(self, area: str, index: int) -> float:
        """Return the plays a day of a title that are expected in an area of the plan."""
        row = self.meta.areas.index(area)
        plays: float = self["area_plays"].cast("f")[row * self.holdings.titles + index]
        return plays

    def bits(self, cluster: int, slot: int) -> int | None:
        """Return what an appliance should hold, a bit for each title by index; None where the plan leaves it out."""
        bitmap = self.holdings.bitmap(cluster, slot)
        return None if bitmap is None else int.from_bytes(bitmap, "little")
