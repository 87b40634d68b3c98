"""The oracle: the least cost of serving all demand of a moment, by a linear program (HiGHS).

It knows the demand of every group and what every cluster can deliver in that moment. It may divide a group's demand
over clusters in any shares, and move all viewers in every step. So no steering can be cheaper: it is a lower bound.

    minimize    sum of price * x                 x[zone, cluster] >= 0: Gbit/s; the origin serves the rest
    each zone   x of all its clusters <= demand
    each zone   x of its clusters without IPv6 <= demand over IPv4
    cluster     x of all zones <= what its living appliances can deliver

A cluster where some appliances have IPv6 counts as one with IPv6, which can only lower the bound. Zones with the same
options are one.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array, vstack

from steering.simulation.scorecard.conditions import Conditions
from steering.simulation.scorecard.world import COST_OF_ORIGIN, ORIGIN, SOURCES, Floats, Ints, World, sums


@dataclasses.dataclass(frozen=True, slots=True)
class Optimum:
    """The oracle's answer for a moment: cost, and Gbit/s in all, from rank 0 and by source."""

    cost: float
    gbps: float
    rank_0: float
    sources: Floats


class Oracle:
    """The linear program of a world; only demand and capacities change."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.solved: dict[tuple[bytes, ...], Optimum] = {}
        zones, self.merged = merge_zones(world)
        options = world.options
        rows, picked = [], []
        for number, zone in enumerate(zones):
            for option in range(options.first[zone], options.first[zone + 1]):
                # The origin is cheaper than the others, and has room for all.
                if options.price[option] < COST_OF_ORIGIN and world.clusters.count[options.cluster[option]]:
                    rows.append(number)
                    picked.append(option)
        self.zone: Ints = np.array(rows, np.int64)
        self.option: Ints = np.array(picked, np.int64)
        self.cluster = options.cluster[self.option]
        self.saving = options.price[self.option] - COST_OF_ORIGIN
        columns = np.arange(len(self.option))
        ones = np.ones(len(self.option))
        self.zones = len(zones)
        shape = (self.zones, len(columns))
        self.of_zones = csr_array(coo_array((ones, (self.zone, columns)), shape=shape))
        shape = (len(world.clusters.ids), len(columns))
        self.of_clusters = csr_array(coo_array((ones, (self.cluster, columns)), shape=shape))

    def solve(self, demand: Floats, conditions: Conditions) -> Optimum:
        """Return the least cost for the demand of each group under the conditions of a moment."""
        moment = demand.tobytes(), conditions.gbps.tobytes(), conditions.ipv6.tobytes()
        if moment not in self.solved:  # many moments are alike
            self.solved[moment] = self.minimize(demand, conditions)
        return self.solved[moment]

    def minimize(self, demand: Floats, conditions: Conditions) -> Optimum:
        """Solve the linear program."""
        groups = self.world.groups
        wanted = sums(self.merged, demand, self.zones)
        over_ipv4 = sums(self.merged, demand * (groups.family == 4), self.zones)
        capacity = conditions.capacity_of_clusters()
        parts, bounds = [self.of_zones, self.of_clusters], [wanted, capacity]
        without = np.flatnonzero((capacity > 0) & (conditions.ipv6_of_clusters() == 0))
        columns = np.flatnonzero(np.isin(self.cluster, without))
        if len(columns):
            shape = (self.zones, len(self.option))
            limited = coo_array((np.ones(len(columns)), (self.zone[columns], columns)), shape=shape)
            kept = np.unique(self.zone[columns])
            parts.append(csr_array(limited)[kept])
            bounds.append(over_ipv4[kept])
        solved = linprog(self.saving, A_ub=vstack(parts), b_ub=np.concatenate(bounds), method="highs")
        assert solved.status == 0, f"HiGHS ended with status {solved.status}: {solved.message}"
        served = np.maximum(solved.x, 0.0)
        total = float(wanted.sum())
        options = self.world.options
        sources = sums(options.source[self.option], served, len(SOURCES))
        sources[ORIGIN] = max(total - served.sum(), 0.0)
        rank_0 = float(served[options.rank[self.option] == 0].sum())
        return Optimum(float(solved.fun) + COST_OF_ORIGIN * total, total, rank_0, sources)


def merge_zones(world: World) -> tuple[list[int], Ints]:
    """Return one zone of each set with the same options, and for each group the number of its set."""
    options = world.options
    numbers: dict[tuple[bytes, bytes], int] = {}
    zones: list[int] = []
    number_of: dict[int, int] = {}
    for zone in np.unique(world.groups.zone).tolist():
        part = slice(options.first[zone], options.first[zone + 1])
        key = options.cluster[part].tobytes(), options.price[part].tobytes()
        if key not in numbers:
            numbers[key] = len(zones)
            zones.append(zone)
        number_of[zone] = numbers[key]
    return zones, np.array([number_of[zone] for zone in world.groups.zone.tolist()], np.int64)
