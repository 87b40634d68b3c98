"""A fill plan from its inputs: catalogue and forecast -> placement -> layout -> the columns of `plan.<version>`.

Needs numpy. Nothing of it is on a request's way: a plan becomes fact only through what appliances report.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence, Set

import numpy as np
from numpy.typing import NDArray

from _fastpath.holdings_builder import HoldingsBuilder
from _fastpath.layout import lay_out
from steering.control.fill.areas import WORLD
from steering.control.fill.exchange_plan import Progress
from steering.control.fill.network import Disk, Network
from steering.control.fill.placement import FILLED, ClusterPlan, Placement, Prices
from steering.control.fill.plan_before import PlanBefore, titles_and_bytes
from steering.model.fleet import Appliance, Fleet, lies_in
from steering.state.plan import ClusterMeta, PlanFile, PlanMeta
from steering.state.sections import Data


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The titles of all services as columns: key (service, id), bytes, recipe, and the plays a day by area."""

    keys: list[tuple[str, str]]
    sizes: NDArray[np.float64]
    recipes: list[str]
    areas: list[str]
    parents: Mapping[str, str]  # of each area the one above it
    rates: NDArray[np.float32]


def with_own_plays(wanted: Wanted, watched: Set[str]) -> Wanted:
    """Return the plays of each area without those of the areas below it: a viewer is of the smallest area alone.

    `watched` are the areas that zones of the network lie in; plays of another one stay in the area above it.
    """
    rows = {area: row for row, area in enumerate(wanted.areas)}
    rates = wanted.rates.copy()
    for area in watched:
        above = wanted.parents.get(area, "")
        while above and above not in watched and above != wanted.parents.get(above, ""):
            above = wanted.parents.get(above, "")
        if above in watched and above != area:
            rates[rows[above]] -= wanted.rates[rows[area]]
    others = [row for area, row in rows.items() if area not in watched]
    rates[others] = 0
    return dataclasses.replace(wanted, rates=rates.clip(min=0))


@dataclasses.dataclass(frozen=True)
class Made:
    """A plan that is ready to be written."""

    meta: PlanMeta
    builder: HoldingsBuilder
    columns: Mapping[str, Data]


def without_forbidden(rates: NDArray[np.float32], areas: Sequence[str], regions: Mapping[int, Sequence[str]]) -> None:
    """Take away the plays of titles in areas outside the regions where they may be played, by the title's index."""
    for index, allowed in regions.items():
        for row, area in enumerate(areas):
            if len(area.partition("-")[0]) == len("XX") and area.isupper() and not lies_in(area, allowed):
                rates[row, index] = 0


class Planner:
    """Makes the plan of a network for wanted titles; `before` is the plan in force."""

    def __init__(
        self, network: Network, fleet: Fleet, wanted: Wanted, before: PlanFile | None, progress: Progress
    ) -> None:
        self.network, self.wanted, self.before, self.progress = network, wanted, before, progress
        self.services = sorted({service for service, _ in wanted.keys})
        self.members: dict[int, list[Appliance]] = {}
        numbers = {cluster.id: cluster.number for cluster in fleet.clusters}
        self.names = {cluster.number: cluster.id for cluster in fleet.clusters}
        for appliance in sorted(fleet.appliances, key=lambda appliance: appliance.slot):
            if appliance.disk_bytes:
                self.members.setdefault(numbers[appliance.cluster], []).append(appliance)
        slots = {cluster: [appliance.slot for appliance in members] for cluster, members in self.members.items()}
        self.planned = PlanBefore(before, wanted.keys, slots) if before else None

    def make(self, version: int, now: float, day: int, no_recipe: int) -> Made:
        """Return the plan."""
        wanted = self.wanted
        held, by_exchanges = (self.held, self.held_by_exchanges()) if self.before else (None, None)
        placement = Placement(self.network, wanted.areas, wanted.rates, wanted.sizes, held, by_exchanges, self.progress)
        prices, proof = placement.solve(self.prices_before())
        builder = HoldingsBuilder(None, wanted.keys)
        clusters = {plan.disk.cluster: self.lay_out(plan, builder) for plan in placement.plans(prices)}
        bytes_wanted = self.bytes_wanted()
        meta = PlanMeta(
            version=version,
            made_at=now,
            day=day,
            titles=len(wanted.keys),
            plays=float(wanted.rates.sum(dtype=np.float64)),
            value=proof.value,
            bound=proof.bound,
            offload=proof.value / bytes_wanted if bytes_wanted else 0.0,
            group_prices=[list(group) for group in prices.groups],
            exchange_prices=list(prices.exchanges),
            areas=list(wanted.areas),
            clusters=clusters,
            no_recipe=no_recipe,
        )
        columns: dict[str, Data] = {
            "sizes": wanted.sizes.astype(np.uint64).data.cast("B"),
            "recipes": "\n".join(wanted.recipes).encode(),
            "plays": wanted.rates.sum(axis=0).astype(np.float32).data.cast("B"),
            "area_plays": np.ascontiguousarray(wanted.rates).reshape(-1).view(np.uint8).data,
        }
        return Made(meta, builder, columns)

    def bytes_wanted(self) -> float:
        """Return the bytes a day that the network's viewers watch."""
        rows = {name: index for index, name in enumerate(self.wanted.areas)}
        by_area = self.wanted.rates @ self.wanted.sizes
        return float(sum(row.volume * by_area[rows[row.area]] for row in self.network.viewers))

    def prices_before(self) -> Prices | None:
        """Return the prices of the plan before, where the groups and exchanges are the same."""
        if self.before is None:
            return None
        meta = self.before.meta
        shape = [len(group) for group in self.network.groups]
        if [len(group) for group in meta.group_prices] != shape or len(meta.exchange_prices) != len(
            self.network.exchanges
        ):
            return None
        return Prices(meta.group_prices, meta.exchange_prices)

    # ---- what stands now

    def held_in(self, disk: Disk) -> NDArray[np.bool_]:
        """Return which titles a cluster should hold by the plan before."""
        return self.planned.of_cluster(disk.cluster) if self.planned else np.zeros(len(self.wanted.keys), bool)

    def held(self, group: int) -> NDArray[np.uint16]:
        """Return the same of a group's clusters, as bit masks by title."""
        sets = np.zeros(len(self.wanted.keys), np.uint16)
        for number, disk in enumerate(self.network.groups[group]):
            sets |= self.held_in(disk).astype(np.uint16) << np.uint16(number)
        return sets

    def held_by_exchanges(self) -> NDArray[np.uint8]:
        """Return the same by title and exchange."""
        held = np.zeros((len(self.wanted.keys), len(self.network.exchanges)), np.uint8)
        for index, disk in enumerate(self.network.exchanges):
            held[:, index] = self.held_in(disk)
        return held

    # ---- appliances

    def lay_out(self, plan: ClusterPlan, builder: HoldingsBuilder) -> ClusterMeta:
        """Give the titles of a cluster to its appliances, and return what the plan says of it."""
        members, sizes = self.members.get(plan.disk.cluster, []), self.wanted.sizes
        length = -(-len(self.wanted.keys) // 8)
        added, highest, copies, planned = 0, 0.0, 0, 0
        if members:
            before = self.planned.of_appliances(plan.disk.cluster) if self.planned else [None] * len(members)
            bitmaps = [bytearray(length) for _ in members]
            _, highest = lay_out(
                plan.titles,
                plan.plays * sizes[plan.titles],
                np.ascontiguousarray(sizes[plan.titles]),
                plan.copies,
                [appliance.capacity_gbps for appliance in members],
                [appliance.disk_bytes * FILLED for appliance in members],
                before,
                bitmaps,
            )
            slots = [appliance.slot for appliance in members]
            rows = [bytes(bits) for bits in bitmaps]
            builder.set_cluster(plan.disk.cluster, slots, [self.services] * len(members), rows)
            inside = np.frombuffer(b"".join(rows), np.uint8).reshape(len(members), length)
            held = np.frombuffer(b"".join(bits or bytes(length) for bits in before), np.uint8).reshape(inside.shape)
            copies, planned = titles_and_bytes(inside, sizes)
            _, added = titles_and_bytes(inside & ~held, sizes)
        name = self.names[plan.disk.cluster]
        area = self.wanted.areas[plan.area] if plan.area >= 0 else WORLD
        return ClusterMeta(name, area, plan.price, len(plan.titles), copies, planned, added, highest)
