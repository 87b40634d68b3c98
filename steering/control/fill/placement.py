"""Which titles each cluster should hold, and a proof of how near to the best that is. Needs numpy.

    lists of plays ─> groups alone ─> exchanges on what is left ─> groups again, knowing the exchanges ─> exchanges

The value of a plan is the bytes a day that cost less than from outside, each times its gain, and a small share for
further copies. `Proof.bound` is an upper bound of any plan's value (`_fastpath/placement.pyx`).
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from _fastpath.placement import SHARES, SiteGroup
from _fastpath.title_list import TitleList
from steering.control.fill.exchange_plan import ExchangePlan, Progress, quiet
from steering.control.fill.network import Disk, Network, Viewers

Floats = NDArray[np.float64]
Sets = NDArray[np.uint16]

FILLED: Final = 0.99  # of a disk: titles do not fit to the byte
TRIALS: Final = 120
TRIALS_AGAIN: Final = 24  # from prices that are nearly right
MARGIN: Final = 0.05  # of its price that a copy which is there costs less
STILL: Final = 0.002  # of its value that a group, or the exchanges, must gain by any change
BUSY: Final = 0.5  # of an appliance's speed that one title may use before it gets a further copy


@dataclasses.dataclass(frozen=True, slots=True)
class Prices:
    """The price of a byte of disk: by group and cluster, and by exchange."""

    groups: Sequence[Sequence[float]]
    exchanges: Sequence[float]


@dataclasses.dataclass(frozen=True, slots=True)
class Proof:
    """The value of a plan in bytes a day, and an upper bound of what any plan is worth."""

    value: float
    bound: float

    @property
    def gap(self) -> float:
        """How far the plan is from the best at most."""
        return 1 - self.value / self.bound if self.bound else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class ClusterPlan:
    """The titles of one cluster, hottest first: plays a day there, and copies.

    `price` is that of a byte of its disk. `area` is the row of the list of plays, -1 for an exchange.
    """

    disk: Disk
    price: float
    area: int
    titles: NDArray[np.uint32]
    plays: Floats
    copies: NDArray[np.uint8]


class PlayList:
    """The titles of an area, most played first; `order` has their indexes."""

    def __init__(self, area: int, rates: NDArray[np.float32], sizes: Floats, order: NDArray[np.uint32] | None) -> None:
        self.area = area
        self.order = np.argsort(-rates[area], kind="stable").astype(np.uint32) if order is None else order
        self.plays = rates[area][self.order].astype(np.float64)
        self.sizes = sizes[self.order]
        self.loads = self.plays * self.sizes
        self.highest_load = float(self.loads.max(initial=0.0) / (self.loads.sum() or 1.0))
        self.titles = TitleList(self.plays, self.sizes, None)

    def with_levels(self, levels: NDArray[np.uint8]) -> TitleList:
        """Return the titles with what exchanges serve of each, by the title's index."""
        return TitleList(self.plays, self.sizes, levels[self.order])

    def reserved(self, disk: Disk) -> float:
        """Return the bytes of a cluster's disks that the copies for load need beyond the first one of each title."""
        if self.highest_load * disk.appliances <= BUSY:
            return 0.0
        return float(((copies_for_load(self.loads, disk.appliances) - 1) * self.sizes).sum())


class Placement:
    """Places titles of `sizes` bytes. `rates` are the plays a day by area and title; `areas` names the rows.

    `held` returns the set of a group's clusters that should hold each title by the plan before, as bit masks, or None;
    `held_by_exchanges` has the same by title and exchange. `progress` receives a step and its share that is done.
    """

    def __init__(
        self,
        network: Network,
        areas: Sequence[str],
        rates: NDArray[np.float32],
        sizes: Floats,
        held: Callable[[int], Sets] | None = None,
        held_by_exchanges: NDArray[np.uint8] | None = None,
        progress: Progress = quiet,
    ) -> None:
        self.held_by_exchanges = held_by_exchanges
        self.network, self.rates, self.sizes, self.held, self.progress = network, rates, sizes, held, progress
        rows = {name: index for index, name in enumerate(areas)}
        totals = rates.sum(axis=1, dtype=np.float64)
        viewers = by_one_list(network, {name: float(totals[row]) for name, row in rows.items()})
        self.area = [0] * len(network.groups)
        self.gains: list[dict[tuple[float, ...], float]] = [defaultdict(float) for _ in network.groups]
        for row in viewers:
            if row.group >= 0:
                self.area[row.group] = rows[row.area]
                self.gains[row.group][row.gains] += row.volume
        self.sets = np.zeros((len(network.groups), len(sizes)), np.uint16)
        self.exchanges = ExchangePlan(network, viewers, rows, rates, sizes, FILLED)
        self.orders: dict[int, NDArray[np.uint32]] = {}
        self.list: PlayList | None = None

    def solve(self, prices: Prices | None = None) -> tuple[Prices, Proof]:
        """Choose the clusters of each title; return the prices, for the next plan to begin with, and the proof."""
        by_group = self.first_prices(prices)
        self.exchanges.find_prices(self.sets, prices.exchanges if prices else None)
        worth = self.exchanges.prove(self.sets, self.progress)
        bound, value = worth.bound, 0.0
        for group in self.in_order("groups again"):
            by_group[group], group_bound, group_value = self.solve_group(
                group, by_group[group], TRIALS_AGAIN, worth.levels[group]
            )
            bound += group_bound
            value += group_value
        self.exchanges.find_prices(self.sets, self.exchanges.prices)
        value += self.exchanges.assign(self.sets, worth.demand, self.held_by_exchanges, STILL, self.progress)
        used = Prices([by_group[group] for group in range(len(by_group))], self.exchanges.prices)
        return used, Proof(value, max(bound, value))

    def first_prices(self, prices: Prices | None) -> dict[int, list[float]]:
        """Fill `sets` as far as exchanges need them to begin with, and return the prices of each group.

        After a plan these are its sets and its prices; without one the groups are solved as if no exchange existed.
        """
        if prices is not None and self.held is not None:
            for group in self.in_order("groups"):
                self.sets[group] = self.held(group)
            return {group: list(row) for group, row in enumerate(prices.groups)}
        trials = TRIALS if prices is None else TRIALS_AGAIN
        return {
            group: self.solve_group(group, prices.groups[group] if prices else None, trials, None)[0]
            for group in self.in_order("groups")
        }

    def order_of_groups(self) -> list[int]:
        """Return the groups, those of one area together, so that each list is made once."""
        return sorted(range(len(self.network.groups)), key=lambda group: (self.area[group], group))

    def in_order(self, step: str) -> Iterator[int]:
        """Yield the groups and report progress."""
        order = self.order_of_groups()
        for done, group in enumerate(order):
            self.progress(step, done / len(order))
            yield group

    def list_of(self, group: int) -> PlayList:
        """Return a group's list of plays; the last one is kept, and the order of each."""
        area = self.area[group]
        if self.list is None or self.list.area != area:
            self.list = PlayList(area, self.rates, self.sizes, self.orders.get(area))
            self.orders[area] = self.list.order
        return self.list

    def own(self, group: int) -> list[float]:
        """Return the volume of the viewers for whom each cluster is the nearest; equally near ones share it."""
        own = [0.0] * len(self.network.groups[group])
        for gains, volume in self.gains[group].items():
            first = [number for number, gain in enumerate(gains) if gain == max(gains)]
            for number in first:
                own[number] += volume / len(first)
        return own

    def solver(self, group: int) -> SiteGroup:
        """Return the solver of a group."""
        disks = self.network.groups[group]
        return SiteGroup(
            [(volume, gains) for gains, volume in self.gains[group].items()],
            usable(disks),
            self.own(group),
            [disk.appliances for disk in disks],
            self.network.exchange_gain,
        )

    def solve_group(
        self, group: int, prices: Sequence[float] | None, trials: int, levels: NDArray[np.uint8] | None
    ) -> tuple[list[float], float, float]:
        """Choose the clusters of a group for each title; return the prices, the bound and the value."""
        played, solver, disks = self.list_of(group), self.solver(group), self.network.groups[group]
        titles = played.titles if levels is None else played.with_levels(levels)
        prices, bound = solver.solve(titles, prices, trials)
        sets = np.zeros(titles.count, np.uint16)
        copies = np.zeros((titles.count, len(disks)), np.uint8)
        reserved = np.array([played.reserved(disk) for disk in disks])
        in_order = np.ascontiguousarray(self.held(group)[played.order]) if self.held else None
        value = solver.assign(titles, prices, reserved, in_order, MARGIN, sets, copies)
        if in_order is not None and may_stay(solver, titles, in_order, sets, usable(disks) - reserved):
            value += solver.first_copies(titles, in_order)[0] - solver.first_copies(titles, sets)[0]
            sets = in_order
        self.sets[group, played.order] = sets
        return prices, bound, value

    def plans(self, prices: Prices) -> Iterator[ClusterPlan]:
        """Yield the plan of each cluster, those at partners first."""
        for group in self.in_order("clusters"):
            played, own, sets = self.list_of(group), self.own(group), self.sets[group]
            in_order = sets[played.order]
            for number, disk in enumerate(self.network.groups[group]):
                inside = (in_order >> number & 1).astype(bool)
                plays = played.plays[inside] * max(own[number], 1e-12)
                price = prices.groups[group][number]
                copies = copies_of(plays, played.sizes[inside], price, disk)
                yield ClusterPlan(disk, price, self.area[group], played.order[inside], plays, copies)
        exchanges = zip(self.exchanges.plans(self.sets), prices.exchanges, strict=True)
        for (disk, titles, plays, copies), price in exchanges:
            needed = copies_for_load(plays * self.sizes[titles], disk.appliances)
            yield ClusterPlan(disk, price, -1, titles, plays, np.maximum(copies, needed))


def usable(disks: Sequence[Disk]) -> Floats:
    """Return the bytes of each cluster's disks that a plan fills."""
    return np.array([disk.disk_bytes * FILLED for disk in disks])


def may_stay(solver: SiteGroup, titles: TitleList, held: Sets, chosen: Sets, room: Floats) -> bool:
    """Return whether a group may keep what it holds: it fits, and a change would gain less than STILL of it."""
    value, used = solver.first_copies(titles, held)
    return bool((np.array(used) <= room).all()) and solver.first_copies(titles, chosen)[0] <= value * (1 + STILL)


def copies_of(plays: Floats, sizes: Floats, price: float, disk: Disk) -> NDArray[np.uint8]:
    """Return the copies of each title: further ones where they are worth their price and fit, or needed for load."""
    further = np.zeros(len(plays), np.uint8)
    for share in SHARES:
        further += share * plays >= price
    further = np.minimum(further, max(disk.appliances - 1, 0)).astype(np.uint8)
    further[np.cumsum(further * sizes) > disk.disk_bytes * FILLED - sizes.sum()] = 0
    return np.maximum(copies_for_load(plays * sizes, disk.appliances), further + 1)


def copies_for_load(loads: Floats, appliances: int) -> NDArray[np.uint8]:
    """Return how many copies each title needs so that none uses more than BUSY of an appliance's speed."""
    total = loads.sum()
    needed = np.ceil(loads * (appliances / BUSY / total)) if total else np.ones(len(loads))
    return np.clip(needed, 1, max(appliances, 1)).astype(np.uint8)


def by_one_list(network: Network, totals: Mapping[str, float]) -> list[Viewers]:
    """Return the viewers, those of a group all with the area of most of them; their plays stay as many.

    `totals` are the plays of each area.
    """
    plays: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in network.viewers:
        plays[row.group][row.area] += row.volume * totals[row.area]
    main = {group: max(sorted(by_area), key=lambda area: by_area[area]) for group, by_area in plays.items()}
    return [
        row
        if row.group < 0 or row.area == main[row.group] or not totals[main[row.group]]
        else dataclasses.replace(
            row, area=main[row.group], volume=row.volume * totals[row.area] / totals[main[row.group]]
        )
        for row in network.viewers
    ]
