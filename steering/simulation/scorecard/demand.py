"""The viewers of a scenario: seats, each with one session after another.

A *seat* is a share of a group's demand. It is taken while the group's level is above the seat's threshold, so demand
follows its curve exactly, and chance decides only which titles are played. When a session ends, the next one begins in
its seat, with another title and another viewer. Every policy gets the same sessions.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from _fastpath.hashing import content_key_of, key_of
from steering.simulation.concentration import TITLES
from steering.simulation.popularity import regional_shares
from steering.simulation.scorecard.scenarios import LENGTH_S, Scenario
from steering.simulation.scorecard.world import Flags, Floats, Ints, World, sums

MEAN_SESSION_S: Final = 1800.0
MOST_GBPS_OF_APPLIANCE: Final = 100.0  # a seat is a hundredth of it at most
FEWEST_SEATS: Final = 4  # of a group
FIRST_TITLE: Final = 80_000_000
SURGE: Final = 3.0  # the most that demand grows in that country
SURGE_MOST: Final = 0.02  # of all demand: the country of a live event is the largest one below it
Keys = NDArray[np.uint64]


class Asked(NamedTuple):
    """Requests as columns: the group, the title's number, and the viewer's key."""

    group: Ints
    title: Ints
    viewer: Keys


class Titles:
    """The titles: their popularity by region, and their keys. The last title is the flash title."""

    def __init__(self, regions: int, service: str, seed: int, count: int = TITLES) -> None:
        shares = regional_shares(regions, np.random.default_rng([seed, 3]), count)
        self.cumulated = (shares + np.arange(regions)[:, None]).ravel()
        self.count = count
        names = [str(FIRST_TITLE + index) for index in range(count + 1)]
        self.keys: Keys = np.array([key_of(name) for name in names], np.uint64)
        self.content_keys = [content_key_of(service, name) for name in names]

    def draw(self, regions: Ints, flash: float, rng: np.random.Generator) -> Ints:
        """Return a title for each viewer's region; `flash` is the share of the flash title."""
        drawn = rng.random(len(regions)) + regions
        titles = np.minimum(np.searchsorted(self.cumulated, drawn) - regions * self.count, self.count - 1)
        return np.where(rng.random(len(regions)) < flash, self.count, titles)


class Demand:
    """The seats of a scenario. `sessions` is how many seats are taken when demand equals capacity."""

    def __init__(self, world: World, titles: Titles, scenario: Scenario, sessions: int, seed: int) -> None:
        self.groups, self.titles, self.scenario = world.groups, titles, scenario
        self.rng = np.random.default_rng([seed, 4])
        self.extra_rng = np.random.default_rng([seed, 5])
        self.surging: Flags = world.groups.region == self.surge_region()
        highest = max(level for _, level in scenario.levels) + scenario.spread
        peaks = highest * np.where(self.surging, SURGE, 1.0)
        spread = np.random.default_rng([seed, 8]).uniform(-scenario.spread, scenario.spread, len(world.groups.regions))
        self.deviation: Floats = spread[world.groups.region] / scenario.level(0.0)
        # As many seats for each appliance, whatever its size: so chance weighs the same everywhere.
        needed = world.groups.gbps / np.minimum(world.groups.appliance_gbps, MOST_GBPS_OF_APPLIANCE)
        seats = np.maximum(np.rint(sessions * needed / needed.sum()), FEWEST_SEATS)
        counts = np.ceil(seats * peaks).astype(np.int64)
        self.group: Ints = np.repeat(np.arange(len(counts)), counts)
        offsets = np.arange(len(self.group)) - np.repeat(np.cumsum(counts) - counts, counts)
        self.threshold: Floats = (offsets + self.rng.random(len(counts))[self.group]) / seats[self.group]
        self.gbps: Floats = (world.groups.gbps / seats)[self.group]
        self.taken: Flags = np.zeros(len(self.group), np.bool_)
        self.title: Ints = np.zeros(len(self.group), np.int64)
        self.viewer: Keys = np.zeros(len(self.group), np.uint64)
        self.ends: Ints = np.full(len(self.group), -1, np.int64)
        self.due: dict[int, list[Ints]] = defaultdict(list)
        self.level: Floats = np.zeros(0)

    def surge_region(self) -> int:
        """Return the country of a live event."""
        wanted = sums(self.groups.region, self.groups.gbps, len(self.groups.regions))
        below = np.where(wanted <= SURGE_MOST * wanted.sum(), wanted, -1.0)
        return int(np.argmax(below if below.max() > 0 else wanted))

    def surge_factor(self, now: float) -> float:
        return 1.0 + (self.scenario.surge.at(now) if self.scenario.surge else 0.0)

    def levels(self, now: float) -> Floats:
        """Return the demand of each group as a share of its planned demand."""
        return self.scenario.level(now) * (1.0 + self.deviation) * np.where(self.surging, self.surge_factor(now), 1.0)

    def advance(self, now: int) -> tuple[Ints, Ints]:
        """Advance to a second; return the seats that were left, and those where a session begins."""
        levels = self.levels(float(now))
        ended = [seats[(self.ends[seats] == now) & self.taken[seats]] for seats in self.due.pop(now, [])]
        left: Ints = np.zeros(0, np.int64)
        if not np.array_equal(levels, self.level):
            self.level = levels
            wanted = self.threshold < levels[self.group]
            left = np.flatnonzero(self.taken & ~wanted)
            ended.append(np.flatnonzero(wanted & ~self.taken))
            self.taken = wanted
        begun = np.unique(np.concatenate(ended)) if ended else left
        begun = begun[self.taken[begun]] if len(ended) else np.zeros(0, np.int64)
        if len(begun):
            self.begin(begun, now)
        return left, begun

    def begin(self, seats: Ints, now: int) -> None:
        """Begin a session in each of these seats."""
        flash = self.scenario.flash.at(float(now)) if self.scenario.flash else 0.0
        self.title[seats] = self.titles.draw(self.groups.region[self.group[seats]], flash, self.rng)
        self.viewer[seats] = self.rng.integers(0, 1 << 64, len(seats), np.uint64)
        ends = now + np.maximum(np.rint(self.rng.exponential(MEAN_SESSION_S, len(seats))), 1).astype(np.int64)
        self.ends[seats] = ends
        schedule(self.due, ends, seats, LENGTH_S)

    def requests(self, count: int, now: float) -> Asked:
        """Return a sample of the sessions that begin everywhere in a second: what workers count besides the seats."""
        flash = self.scenario.flash.at(now) if self.scenario.flash else 0.0
        cumulated = np.cumsum(self.groups.gbps * self.level)
        drawn = self.extra_rng.random(count) * cumulated[-1]
        group = np.minimum(np.searchsorted(cumulated, drawn), len(cumulated) - 1)
        title = self.titles.draw(self.groups.region[group], flash, self.extra_rng)
        return Asked(group, title, self.extra_rng.integers(0, 1 << 64, count, np.uint64))

    def by_group(self) -> Floats:
        """Return the demand of each group now, in Gbit/s."""
        return sums(self.group[self.taken], self.gbps[self.taken], len(self.groups.gbps))


def schedule(due: dict[int, list[Ints]], times: Ints, seats: Ints, last: int) -> None:
    """Add seats to the seconds at which they are due, up to the last one."""
    order = np.argsort(times, kind="stable")
    sorted_times = times[order]
    cuts = np.flatnonzero(np.diff(sorted_times)) + 1
    for part in np.split(order, cuts):
        if len(part) and (time := int(times[part[0]])) <= last:
            due[time].append(seats[part])
