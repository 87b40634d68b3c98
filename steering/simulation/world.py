"""The simulated fleet: which appliances live, what each delivers, and what it reports.

An appliance delivers what the answers sent to it, fading as viewers leave; so steering's decisions return to it in the
next reports. Appliances with too few requests for that deliver their planned load. A client plays from the first target
that lives, as players do.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Set as AbstractSet
from typing import Final

from steering.control.health.rules import Health, Report, is_full
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.simulation.demand import Demand, Request

NAMED: Final = re.compile(rb'"appliance":"([^"]+)"')
BEGAN: Final = 1_700_000_000.0  # by the appliances' clocks
FOLLOWED: Final = 30.0  # expected answers in `memory_s`; with fewer, chance decides what an appliance delivers


class World:
    """Appliances by number, in the order of the fleet. `now` is the clock of the play."""

    def __init__(
        self,
        fleet: Fleet,
        demand: Demand,
        stage: AbstractSet[int],
        busy: float,
        memory_s: float,
        settings: Settings,
        rnd: random.Random,
    ) -> None:
        self.fleet = fleet
        self.demand = demand
        self.stage = stage  # clusters
        self.busy = busy
        self.settings = settings
        self.memory_s = memory_s
        self.rnd = rnd
        self.appliances = fleet.appliances
        self.numbers = {appliance.id.encode(): number for number, appliance in enumerate(fleet.appliances)}
        clusters = {cluster.id: cluster for cluster in fleet.clusters}
        self.cluster = [clusters[appliance.cluster] for appliance in fleet.appliances]
        self.members: dict[int, list[int]] = {cluster.number: [] for cluster in fleet.clusters}
        for number, cluster in enumerate(self.cluster):
            self.members[cluster.number].append(number)
        self.followed = self.find_followed()
        self.followed_clusters = [
            members for members in self.members.values() if len(members) > 1 and self.followed.issuperset(members)
        ]
        self.load = [busy * appliance.capacity_gbps for appliance in fleet.appliances]
        self.load_at = [0.0] * len(self.load)
        self.now = 0.0
        self.turns = list(range(len(self.load)))
        rnd.shuffle(self.turns)
        self.turn = 0
        self.silent: set[int] = set()  # send no reports
        self.dead: set[int] = set()  # refuse every client
        self.failed: set[int] = set()  # report that they failed
        self.refusing: dict[int, float] = {}  # since when they report failed or full
        self.skew_s = 0.0  # the error of all appliances' clocks
        self.seq = [0] * len(self.load)
        self.observed: list[
            tuple[int, bool]
        ] = []  # observations of a monitor to be sent: number and whether it is well

    def find_followed(self) -> set[int]:
        """Return the appliances with enough answers to derive their load from them."""
        expected = [0.0] * len(self.appliances)
        for group, rate in zip(self.demand.groups, self.demand.rates, strict=True):
            near = [number for cluster in group.clusters for number in self.members[cluster]]
            for number in near:
                expected[number] += rate * self.memory_s / len(near)
        return {number for number, count in enumerate(expected) if count >= FOLLOWED}

    # ---- time

    def advance(self, now: float) -> tuple[list[int], list[Request]]:
        """Advance to a time; return the numbers of the appliances that report until then, and the requests."""
        elapsed_s = now - self.now
        self.now = now
        before, self.turn = self.turn, int(now / self.settings.report_s * len(self.turns))
        turns = (self.turns[turn % len(self.turns)] for turn in range(before, self.turn))
        return [number for number in turns if number not in self.silent], self.demand.take(elapsed_s)

    # ---- reports

    def next_report(self, number: int) -> Report:
        """Return the next report of an appliance."""
        self.seq[number] += 1
        capacity = self.appliances[number].capacity_gbps
        load = self.delivers(number)
        health = Health(
            "failed" if number in self.failed else "ok",
            "disk failed" if number in self.failed else "",
            throughput_gbps=round(load, 3),
            headroom_gbps=round(max(capacity - load, 0.0), 3),
            connections=int(load * 200),
            error_rate=0.0,
            disk_used=0.8,
        )
        if health.state == "failed" or is_full(health, capacity, number in self.refusing, self.settings):
            self.refusing.setdefault(number, self.now)
        else:
            self.refusing.pop(number, None)
        return Report("drill", self.seq[number], BEGAN + self.now + self.skew_s, health)

    def observed_health(self, ok: bool) -> Health:
        """Return the health in a monitor's report of an appliance."""
        return Health() if ok else Health("failed", "no answer")

    def delivers(self, number: int) -> float:
        """Return the Gbps that an appliance delivers now."""
        if number in self.dead:
            return 0.0
        if number not in self.followed:
            return self.load[number]
        return self.load[number] * math.exp((self.load_at[number] - self.now) / self.memory_s)

    # ---- answers

    def play(self, asked: Request, body: bytes) -> list[int]:
        """Let a client play from the first target that lives; return the appliances of its answer, best first."""
        named = [self.numbers[name] for name in NAMED.findall(body)]
        for number in named:
            if number not in self.dead:
                if number in self.followed:
                    self.load[number] = self.delivers(number) + asked.gbps
                    self.load_at[number] = self.now
                break
        return named
