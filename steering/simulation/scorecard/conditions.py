"""The conditions of the appliances at a time: which are alive, what they can deliver, and what they claim."""

from __future__ import annotations

import numpy as np

from steering.simulation.scorecard.places import CHOICES
from steering.simulation.scorecard.scenarios import Scenario
from steering.simulation.scorecard.world import Flags, Floats, Ints, World, sums


class Conditions:
    """The conditions in one scenario, by appliance. `gbps` is what one can deliver, `claimed` what it reports."""

    def __init__(self, world: World, scenario: Scenario, seed: int) -> None:
        self.appliances = world.appliances
        self.clusters = len(world.clusters.ids)
        self.world, self.seed = world, seed
        self.take(scenario)
        self.alive: Flags = np.ones(len(world.appliances.ids), np.bool_)
        self.gbps: Floats = world.appliances.gbps
        self.claimed: Floats = world.appliances.gbps
        self.ipv6: Flags = world.appliances.ipv6
        self.in_maintenance: Ints = np.zeros(0, np.int64)

    def take(self, scenario: Scenario) -> None:
        """Use the faults of a scenario from now on."""
        self.faults = [
            (fault, CHOICES[fault.where](self.world, np.random.default_rng([self.seed, 2])))
            for fault in scenario.faults
        ]

    def advance(self, now: float) -> None:
        """Make the conditions of a time."""
        capacity = self.appliances.gbps
        self.alive, self.ipv6 = np.ones(len(capacity), np.bool_), self.appliances.ipv6.copy()
        self.gbps, self.claimed = capacity.copy(), capacity.copy()
        self.in_maintenance = np.zeros(0, np.int64)
        for fault, members in self.faults:
            strength = fault.strength(now)
            if not strength:
                continue
            left = 1 - strength * (1 - fault.factor)
            if fault.effect == "dead":
                self.alive[members] = False
            elif fault.effect == "delivers":
                self.gbps[members] *= left
            elif fault.effect == "claims":
                self.claimed[members] *= left
            elif fault.effect == "no_ipv6":
                self.ipv6[members] = False
            else:
                self.in_maintenance = members
        self.gbps[~self.alive] = 0.0

    def usable(self, appliances: Ints, families: Ints) -> Flags:
        """Return whether a client of a family can play from an appliance; False where that is none."""
        at = np.maximum(appliances, 0)
        up = np.where(families == 6, self.ipv6[at], self.appliances.ipv4[at])
        return (appliances >= 0) & self.alive[at] & up

    def capacity_of_clusters(self) -> Floats:
        """Return what each cluster can deliver."""
        return sums(self.appliances.cluster, self.gbps, self.clusters)

    def ipv6_of_clusters(self) -> Floats:
        """Return what each cluster can deliver over IPv6."""
        return sums(self.appliances.cluster, self.gbps * self.ipv6, self.clusters)
