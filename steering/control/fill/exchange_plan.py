"""The exchanges' part of a placement: demand that partners leave, prices of disk, holders, and their proof."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from _fastpath.exchange_placement import Exchanges
from _fastpath.fill_demand import read_demand, read_worth
from steering.control.fill.network import Disk, Network, Viewers

Floats = NDArray[np.float64]
Progress = Callable[[str, float], None]

BLOCK: Final = 1_024  # titles at a time
SAMPLE: Final = 4_096  # titles by which prices are found
TRIALS: Final = 28
TRIALS_AGAIN: Final = 8
WORTH_FILLING: Final = 0.002  # of the disks


@dataclasses.dataclass(frozen=True, slots=True)
class Worth:
    """What exchanges are worth at most: `levels` by group and title, and `bound` for all other viewers.

    `demand` is what partners leave to exchanges, by title.
    """

    levels: NDArray[np.uint8]
    demand: Floats
    bound: float


def quiet(_step: str, _share: float) -> None:
    """Report no progress."""


class ExchangePlan:
    """The exchanges of a network, for titles of `sizes` bytes. `rows` are the rows of areas in `rates`."""

    def __init__(
        self,
        network: Network,
        viewers: Sequence[Viewers],
        rows: Mapping[str, int],
        rates: NDArray[np.float32],
        sizes: Floats,
        filled: float,
    ) -> None:
        self.disks, self.rates, self.sizes, self.gain = network.exchanges, rates, sizes, network.exchange_gain
        self.usable = np.array([disk.disk_bytes * filled for disk in network.exchanges])
        self.total = totals_by_group(viewers)
        viewers = [row for row in viewers if row.exchanges]
        audiences: dict[tuple[int, ...], int] = {}
        number = [audiences.setdefault(row.exchanges, len(audiences)) for row in viewers]
        self.audience = np.array(number, np.uint32)
        self.area = np.array([rows[row.area] for row in viewers], np.uint32)
        self.group = np.array([row.group for row in viewers], np.intc)
        self.volume = np.array([row.volume for row in viewers])
        self.audiences = list(audiences)
        self.solver = Exchanges(
            self.usable,
            list(audiences),
        )
        self.prices: list[float] = [0.0] * len(self.disks)
        self.copies = np.zeros((len(sizes), len(self.disks)), np.uint8)

    def demand(self, sets: NDArray[np.uint16], titles: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the demand of some titles by audience, and what of it partners serve already."""
        demand = np.empty((len(self.audiences), len(titles)), np.float32)
        spare = np.empty_like(demand)
        read_demand(
            np.ascontiguousarray(self.rates[:, titles]),
            np.ascontiguousarray(sets[:, titles]),
            self.audience,
            self.area,
            self.group,
            self.volume,
            self.gain,
            demand,
            spare,
        )
        return demand, spare

    def find_prices(self, sets: NDArray[np.uint16], prices: Sequence[float] | None) -> None:
        """Find the prices at which a sample of the titles fills the disks."""
        if not self.audiences:
            return
        step = max(len(self.sizes) // SAMPLE, 1)
        # Titles of every popularity: the sample takes each step-th one by plays.
        sample = np.argsort(-self.rates.sum(axis=0), kind="stable")[step // 2 :: step]
        demand, _ = self.demand(sets, sample)
        weight = self.sizes.sum() / self.sizes[sample].sum()
        trials = TRIALS if prices is None else TRIALS_AGAIN
        self.prices = self.solver.solve(demand, self.sizes[sample], prices, trials, weight)

    def blocks(self, order: NDArray[Any], progress: Progress, step: str) -> Iterator[NDArray[Any]]:
        """Yield an order in blocks, and report progress."""
        for first in range(0, len(order), BLOCK):
            progress(step, first / len(order))
            yield order[first : first + BLOCK]

    def prove(self, sets: NDArray[np.uint16], progress: Progress) -> Worth:
        """Return what exchanges are worth at most, at the prices that were found."""
        worth = Worth(np.zeros(sets.shape, np.uint8), np.zeros(len(self.sizes)), 0.0)
        bound = float(self.usable @ np.array(self.prices))
        volumes = np.array([self.total.get(group, 0.0) for group in range(len(sets))])
        for titles in self.blocks(np.arange(len(self.sizes)), progress, "exchanges"):
            demand, spare = self.demand(sets, titles)
            wanted, spared = np.empty_like(demand), np.empty_like(demand)
            self.solver.prove(demand, spare, self.prices, wanted, spared)
            bound += self.gain * read_worth(
                np.ascontiguousarray(self.rates[:, titles]),
                np.ascontiguousarray(sets[:, titles]),
                self.sizes[titles],
                self.audience,
                self.area,
                self.group,
                self.volume,
                wanted,
                spared,
                volumes,
                worth.levels,
                int(titles[0]),
            )
            worth.demand[titles] = demand.sum(axis=0)
        return dataclasses.replace(worth, bound=bound)

    def assign(
        self,
        sets: NDArray[np.uint16],
        wanted: Floats,
        held: NDArray[np.uint8] | None,
        still: float,
        progress: Progress,
    ) -> float:
        """Choose the exchanges of each title, those most wanted first; return the value.

        The exchanges keep what they should hold by the plan before, where a change gains less than a share `still`.
        """
        value = value_of_held = 0.0
        order = np.argsort(-wanted, kind="stable")
        self.solver.start(self.prices)
        for titles in self.blocks(order, progress, "exchanges again"):
            demand, _ = self.demand(sets, titles)
            copies = np.zeros((len(titles), len(self.disks)), np.uint8)
            value += self.solver.assign(demand, self.sizes[titles], self.prices, copies)
            self.copies[titles] = copies
            if held is not None:
                value_of_held += self.solver.value(demand, self.sizes[titles], np.ascontiguousarray(held[titles]))
        if self.solver.room_share() >= WORTH_FILLING:
            value += self.top_up(sets, order, progress)
        if held is not None and value <= value_of_held * (1 + still) and ((self.sizes @ held) <= self.usable).all():
            self.copies[:] = held
            return value_of_held
        return value

    def top_up(self, sets: NDArray[np.uint16], order: NDArray[Any], progress: Progress) -> float:
        """Fill the room that is left with what still gains anything, most wanted first; return the value."""
        value = 0.0
        for titles in self.blocks(order, progress, "exchanges again"):
            demand, _ = self.demand(sets, titles)
            copies = np.ascontiguousarray(self.copies[titles])
            value += self.solver.top_up(demand, self.sizes[titles], 0.0, self.prices, copies)
            self.copies[titles] = copies
        return value

    def plans(self, sets: NDArray[np.uint16]) -> Iterator[tuple[Disk, NDArray[np.uint32], Floats, NDArray[np.uint8]]]:
        """Yield each exchange with its titles, most played there first, their plays and copies."""
        plays = self.plays(sets)
        for index, disk in enumerate(self.disks):
            held = np.flatnonzero(self.copies[:, index])
            titles = held[np.argsort(-plays[held, index], kind="stable")].astype(np.uint32)
            yield disk, titles, plays[titles, index].astype(np.float64), self.copies[titles, index]

    def plays(self, sets: NDArray[np.uint16]) -> NDArray[np.float32]:
        """Return the plays a day of each title at each exchange: an audience goes to its first holder."""
        plays = np.zeros(self.copies.shape, np.float32)
        for titles in self.blocks(np.arange(len(self.sizes)), quiet, ""):
            demand, _ = self.demand(sets, titles)
            copies, out = np.ascontiguousarray(self.copies[titles]), np.zeros((len(titles), len(self.disks)))
            self.solver.plays(demand, copies, out)
            plays[titles] = out / self.gain
        return plays


def totals_by_group(viewers: Sequence[Viewers]) -> dict[int, float]:
    """Return the volume of each group's viewers, also of those who reach no exchange."""
    total: dict[int, float] = defaultdict(float)
    for row in viewers:
        total[row.group] += row.volume
    return total
