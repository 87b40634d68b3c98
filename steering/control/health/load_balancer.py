"""The load balancer: compares the load of appliances with their shares at each tick, and fans hot titles out.

The rules are in `load.py`. Clusters of a large fleet are compared in turns, so that a tick stays short.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Final

from steering.control.health import load
from steering.control.health.appliance_state import WEIGHT, ApplianceState

COMPARED_AT_ONCE: Final = 5000  # appliances whose loads are compared in one tick: about 15 ms


class LoadBalancer:
    """Faded counts of requests by appliance and by title. The registry's lock protects it."""

    def __init__(self, excess: float) -> None:
        self.excess = excess
        self.by_slot: Mapping[int, ApplianceState] = {}
        self.clusters: Mapping[str, Sequence[ApplianceState]] = {}
        self.total = 0.0  # all answers, faded
        self.waited_s = [0.0]  # by turn: since its clusters were compared
        self.turn = 0
        self.popularity: dict[int, float] = {}
        self.fan_outs: dict[int, int] = {}

    def take_fleet(
        self, by_slot: Mapping[int, ApplianceState], clusters: Mapping[str, Sequence[ApplianceState]]
    ) -> None:
        """Use the appliances of a new fleet."""
        self.by_slot, self.clusters = by_slot, clusters
        self.waited_s = [0.0] * (1 + len(by_slot) // COMPARED_AT_ONCE)

    def compare(self, answers: Mapping[int, int], elapsed_s: float) -> list[ApplianceState]:
        """Compare loads with shares in the clusters of this turn; return the states that changed."""
        self.count(answers, elapsed_s)
        self.waited_s = [waited_s + elapsed_s for waited_s in self.waited_s]
        self.turn = (self.turn + 1) % len(self.waited_s)
        waited_s, self.waited_s[self.turn] = self.waited_s[self.turn], 0.0
        changed = []
        for members in itertools.islice(self.clusters.values(), self.turn, None, len(self.waited_s)):
            overloaded = self.compare_cluster(members, waited_s)
            for state in members:
                is_overloaded = state.appliance.slot in overloaded
                if (
                    state.overloaded != is_overloaded
                    or abs(state.next_load_factor - state.load_factor) >= load.LOAD_STEP
                ):
                    state.overloaded, state.load_factor = is_overloaded, state.next_load_factor
                    changed.append(state)
        return changed

    def count(self, answers: Mapping[int, int], elapsed_s: float) -> None:
        """Add the answers since the last tick to the faded counts."""
        fade = load.faded(1.0, elapsed_s)
        slow_fade = load.faded(1.0, elapsed_s, load.STEADY_S)
        self.total = self.total * fade + sum(answers.values())
        for slot, state in self.by_slot.items():
            count = answers.get(slot, 0)
            state.requests = state.requests * fade + count
            state.steady_requests = state.steady_requests * slow_fade + count

    def compare_cluster(self, members: Sequence[ApplianceState], elapsed_s: float) -> set[int]:
        """Store the next load factors of a cluster's appliances; return the slots to shed."""
        requests, busy = [state.steady_requests for state in members], [state.busy for state in members]
        if len(members) < 2 or not load.may_be_overloaded(requests, busy, self.excess):
            return set()
        compared = [member_of(state) for state in members if state.usable]
        for slot, factor in load.load_factors(compared, self.excess, elapsed_s).items():
            self.by_slot[slot].next_load_factor = factor
        return load.find_overloaded(compared, self.excess)

    def fan_out(self, asked: Mapping[int, int], elapsed_s: float) -> bool:
        """Count the requests by content key since the last tick; return whether a fan-out changed."""
        fade = load.faded(1.0, elapsed_s)
        self.popularity = {key: rate * fade for key, rate in self.popularity.items() if rate * fade >= 1.0}
        for key, count in asked.items():
            self.popularity[key] = self.popularity.get(key, 0.0) + count
        largest = max((len(members) for members in self.clusters.values()), default=1)
        before, total = self.fan_outs, max(self.total, sum(self.popularity.values()))
        self.fan_outs = load.fan_outs(self.popularity, total, largest, before)
        return self.fan_outs != before


def member_of(state: ApplianceState) -> load.Member:
    """Return an appliance as the rules of load see it."""
    return load.Member(
        slot=state.appliance.slot,
        weight=round((state.status & WEIGHT) / state.load_factor),
        requests=state.requests,
        busy=state.busy or None,
        capacity=state.appliance.capacity_gbps,
        overloaded=state.overloaded,
        steady_requests=state.steady_requests,
        load_factor=state.next_load_factor,
    )
