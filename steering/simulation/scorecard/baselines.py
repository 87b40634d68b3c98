"""Other policies, for comparison. Their sessions stay where they start; a player whose appliance fails takes the next.

random       any three appliances of the ranking
geographic   an appliance in each of the three nearest clusters of the ranking
ranking      the compiled picks over status words that never change: the ranking without load
greedy       the appliance with most room in the nearest cluster that has room; it knows at once what it sent where
             and what answers, and takes the capacities of the fleet for true
"""

from __future__ import annotations

import numpy as np

from _fastpath.audience import NONE
from steering.simulation.scorecard.conditions import Conditions
from steering.simulation.scorecard.demand import Demand
from steering.simulation.scorecard.players import ASKED, DECLARED, Picks, Players
from steering.simulation.scorecard.world import Ints, World


class Baseline:
    """A policy whose players never ask again."""

    def __init__(self, world: World, demand: Demand, conditions: Conditions, seed: int) -> None:
        self.world, self.demand, self.conditions = world, demand, conditions
        self.rng = np.random.default_rng([seed, 7])

    def start(self, seats: Ints, now: int) -> Picks:
        """Return the picks of these sessions."""
        raise NotImplementedError

    def start_again(self, seats: Ints, failed: Picks, now: int) -> Picks:
        """Return the picks of these sessions without what failed."""
        return without(self.start(seats, now), failed)

    def poll(self, seats: Ints, players: Players) -> None:
        """Return None: nobody asks again."""


def without(picks: Picks, failed: Picks) -> Picks:
    """Return the first DECLARED picks of each row that are not in the same row of `failed`, NONE behind them."""
    passed_over = (picks[:, :, None] == failed[:, None, :]).any(axis=2) | (picks < 0)
    order = np.argsort(passed_over, axis=1, kind="stable")
    kept = np.where(np.take_along_axis(passed_over, order, axis=1), NONE, np.take_along_axis(picks, order, axis=1))
    return np.ascontiguousarray(kept[:, :DECLARED])


class Random(Baseline):
    """Any three appliances of the ranking."""

    def start(self, seats: Ints, now: int) -> Picks:  # noqa: ARG002
        options, clusters = self.world.options, self.world.clusters
        counts = clusters.count[options.cluster]
        cumulated = np.concatenate([[0], np.cumsum(counts)])
        zones = self.demand.groups.zone[self.demand.group[seats]]
        begin, end = cumulated[options.first[zones]], cumulated[options.first[zones + 1]]
        picks = np.full((len(seats), DECLARED), NONE, np.int32)
        for column in range(ASKED):
            drawn = begin + (self.rng.random(len(seats)) * (end - begin)).astype(np.int64)
            option = np.searchsorted(cumulated, drawn, side="right") - 1
            picks[:, column] = clusters.first[options.cluster[option]] + drawn - cumulated[option]
        return picks


class Geographic(Baseline):
    """An appliance in each of the three nearest clusters."""

    def __init__(self, world: World, demand: Demand, conditions: Conditions, seed: int) -> None:
        super().__init__(world, demand, conditions, seed)
        options = world.options
        zones = np.repeat(np.arange(len(options.first) - 1), np.diff(options.first))
        # Empty clusters behind all others.
        self.nearest = np.lexsort((options.rank, options.km, world.clusters.count[options.cluster] == 0, zones))

    def start(self, seats: Ints, now: int) -> Picks:  # noqa: ARG002
        options, clusters = self.world.options, self.world.clusters
        zones = self.demand.groups.zone[self.demand.group[seats]]
        picks = np.full((len(seats), DECLARED), NONE, np.int32)
        for column in range(ASKED):
            at = options.first[zones] + column
            cluster = options.cluster[self.nearest[np.minimum(at, len(options.cluster) - 1)]]
            drawn = (self.rng.random(len(seats)) * clusters.count[cluster]).astype(np.int64)
            exists = (at < options.first[zones + 1]) & (clusters.count[cluster] > 0)
            picks[:, column] = np.where(exists, clusters.first[cluster] + drawn, NONE)
        return picks


class Greedy(Baseline):
    """The appliance with most room in the nearest cluster that has room."""

    def __init__(self, world: World, demand: Demand, conditions: Conditions, seed: int) -> None:
        super().__init__(world, demand, conditions, seed)
        self.players: Players | None = None  # set when it exists
        ends = world.clusters.first + world.clusters.count
        self.members = [range(begin, end) for begin, end in zip(world.clusters.first, ends, strict=True)]
        self.gbps: list[float] = world.appliances.gbps.tolist()

    def start(self, seats: Ints, now: int) -> Picks:  # noqa: ARG002
        assert self.players is not None
        load: list[float] = self.players.load().tolist()
        alive = self.conditions.alive.tolist()
        can = {4: alive, 6: (self.conditions.alive & self.conditions.ipv6).tolist()}
        options, group = self.world.options, self.demand.group[seats]
        zones, families = self.demand.groups.zone[group].tolist(), self.demand.groups.family[group].tolist()
        first, clusters = options.first.tolist(), options.cluster
        picks = np.full((len(seats), DECLARED), NONE, np.int32)
        rows = zip(zones, families, self.demand.gbps[seats].tolist(), strict=True)
        for row, (zone, family, gbps) in enumerate(rows):
            chosen = self.nearest(clusters[first[zone] : first[zone + 1]].tolist(), gbps, load, can[family])
            picks[row, : len(chosen)] = chosen
            if chosen:
                load[chosen[0]] += gbps
        return picks

    def nearest(self, clusters: list[int], gbps: float, load: list[float], can: list[bool]) -> list[int]:
        """Return up to ASKED appliances, each the one with most room in its cluster."""
        chosen: list[int] = []
        for cluster in clusters:
            best, most = -1, gbps
            for index in self.members[cluster]:
                room = self.gbps[index] - load[index]
                if room >= most and can[index]:
                    best, most = index, room
            if best >= 0:
                chosen.append(best)
                if len(chosen) == ASKED:
                    break
        return chosen
