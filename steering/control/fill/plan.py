"""A fill plan from its inputs: catalogue and forecast -> placement -> layout -> the columns of `plan.<version>`.

Needs numpy. Nothing of it is on a request's way: a plan becomes fact only through what appliances report.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from _fastpath.holdings_builder import HoldingsBuilder
from _fastpath.layout import lay_out
from steering.control.fill.network import EVERYWHERE, Disk, Network
from steering.control.fill.placement import FILLED, ClusterPlan, Placement, Prices
from steering.model.fleet import Appliance, Fleet, lies_in
from steering.state.plan import ClusterMeta, PlanFile, PlanMeta
from steering.state.sections import Data

Progress = Callable[[str, float], None]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The titles of all services as columns: key (service, id), bytes, recipe, and the plays a day by area."""

    keys: list[tuple[str, str]]
    sizes: NDArray[np.float64]
    recipes: list[str]
    areas: list[str]
    rates: NDArray[np.float32]


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
        self.members: dict[int, list[Appliance]] = {}
        numbers = {cluster.id: cluster.number for cluster in fleet.clusters}
        self.names = {cluster.number: cluster.id for cluster in fleet.clusters}
        for appliance in sorted(fleet.appliances, key=lambda appliance: appliance.slot):
            if appliance.disk_bytes:
                self.members.setdefault(numbers[appliance.cluster], []).append(appliance)
        self.to_index = self.indexes_before()

    def indexes_before(self) -> NDArray[np.int64]:
        """Return the index in this plan of each title of the plan before, -1 for those that went."""
        if self.before is None:
            return np.zeros(0, np.int64)
        index = {key: number for number, key in enumerate(self.wanted.keys)}
        holdings = self.before.holdings
        return np.array([index.get(holdings.title(old), -1) for old in range(holdings.titles)], np.int64)

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

    def before_of(self, cluster: int, slot: int) -> NDArray[np.bool_] | None:
        """Return which titles of this plan an appliance should hold by the plan before."""
        bitmap = self.before.holdings.bitmap(cluster, slot) if self.before else None
        if bitmap is None:
            return None
        old = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")[: len(self.to_index)]
        kept = self.to_index[np.flatnonzero(old)]
        held = np.zeros(len(self.wanted.keys), bool)
        held[kept[kept >= 0]] = True
        return held

    def held_in(self, disk: Disk) -> NDArray[np.bool_]:
        """Return which titles a cluster should hold by the plan before."""
        held = np.zeros(len(self.wanted.keys), bool)
        for appliance in self.members.get(disk.cluster, ()):
            own = self.before_of(disk.cluster, appliance.slot)
            if own is not None:
                held |= own
        return held

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
        count = len(self.wanted.keys)
        added, highest, copies, planned = 0, 0.0, 0, 0
        if members:
            before = [self.before_of(plan.disk.cluster, appliance.slot) for appliance in members]
            bitmaps = [bytearray(-(-count // 8)) for _ in members]
            _, highest = lay_out(
                plan.titles,
                plan.plays * sizes[plan.titles],
                np.ascontiguousarray(sizes[plan.titles]),
                plan.copies,
                [appliance.capacity_gbps for appliance in members],
                [appliance.disk_bytes * FILLED for appliance in members],
                [None if held is None else np.packbits(held, bitorder="little").tobytes() for held in before],
                bitmaps,
            )
            services = sorted({service for service, _ in self.wanted.keys})
            slots = [appliance.slot for appliance in members]
            builder.set_cluster(plan.disk.cluster, slots, [services] * len(members), [bytes(bits) for bits in bitmaps])
            for held, bits in zip(before, bitmaps, strict=True):
                inside = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")[:count].astype(bool)
                copies += int(inside.sum())
                planned += int(sizes[inside].sum())
                added += int(sizes[inside if held is None else inside & ~held].sum())
        name = self.names[plan.disk.cluster]
        area = self.wanted.areas[plan.area] if plan.area >= 0 else EVERYWHERE
        return ClusterMeta(name, area, plan.price, len(plan.titles), copies, planned, added, highest)
