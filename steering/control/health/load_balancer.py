"""The load balancer: bounded load inside a cluster, and the fan-out of hot titles. Pure rules first, then their state.

Rendezvous hashing gives every appliance its share of the *titles*, but demand is not even: one title can be a tenth of
it, and chance gives one appliance a tenth more of the others than its neighbour. So the load of each appliance is
compared with its share by weight of its cluster's load: by the answers that named it, and by its reported throughput.

    above its share by half of `excess`          its weight is lowered a little each tick (the load factor), and raised
                                                 again in the same way
    above its share by SHED_AT times `excess`    it is overloaded: shed (`H`) until it is within `excess` again
    a title is hot                               its viewers are divided over several orders (the fan-out), a power
                                                 of two

Lowering a weight moves just the titles that are too much, and it settles. Shedding moves all of them: at 1 + excess,
which is what Mirrokni, Thorup and Zadimoghaddam ("Consistent Hashing with Bounded Loads", SODA 2018) do request by
request, the neighbours of an appliance that is shed for some seconds would be the next ones. In a rehearsal with 200
appliances every client then moved every ten seconds; now it is once an hour. So shedding is for emergencies.

Rates are counts that fade by half in HALF_LIFE_S: long enough against noise, short enough to end in seconds. Load
factors follow slower counts, which fade in STEADY_S. Reported throughput is compared by capacity, because viewers stay
for an hour. Clusters of a large fleet are compared in turns, so that a tick stays short.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from steering.control.health.appliance_state import ApplianceState

HALF_LIFE_S: Final = 4.0
STEADY_S: Final = 15.0  # the half-life of the counts that load factors follow
SIGNIFICANT: Final = 4.0  # standard deviations of a Poisson count above the share, so that chance is no overload
ORDERS_PER_SHARE: Final = 8  # the fan-out of a title that is one appliance's whole share
MOST_ORDERS: Final = 1024
MOST_HOT: Final = 512  # as many as the table of hot titles holds
FEWEST_LOAD: Final = 20.0  # faded; an appliance with fewer is not busy, and its caches matter more
BUSY: Final = 0.3  # of its capacity: an appliance that delivers less is not overloaded, however idle the others are
SHED_AT: Final = 4
LOAD_RATE: Final = 0.03  # of a weight a second, times the deviation from its share; more would swing, with STEADY_S
LEAST_LOAD_FACTOR: Final = 0.5  # titles alone never make an appliance twice as busy as its share
LOAD_STEP: Final = 0.03  # a smaller step is not worth moving titles for
FEWEST_REQUESTS: Final = 50.0  # faded; a title requested less often is not hot, whatever its share
COMPARED_AT_ONCE: Final = 5000  # appliances whose loads are compared in one tick: about 15 ms


def faded(count: float, elapsed_s: float, half_life_s: float = HALF_LIFE_S) -> float:
    """Return what remains of a count after some seconds."""
    return count * math.exp2(-elapsed_s / half_life_s)


def find_overloaded(members: Sequence[ApplianceState], excess: float) -> set[int]:
    """Return the slots to shed: an overloaded appliance stays shed until its load is within the excess (hysteresis).

    The most loaded come first, and never more than half of the cluster's weight: the others must take their clients.
    """
    weights = [member.full_share for member in members]
    weight, requests = sum(weights), sum(member.requests for member in members)
    reported = [(member.busy, member.appliance.capacity_gbps) for member in members if member.busy]
    mean = sum(busy * capacity for busy, capacity in reported) / (sum(capacity for _, capacity in reported) or 1.0)
    if len(members) < 2 or not weight:
        return set()
    ratios: list[tuple[float, int, int]] = []
    for member, own in zip(members, weights, strict=True):
        bound = 1.0 + (1 if member.overloaded else SHED_AT) * excess
        share = requests * own / weight
        noise = 0.0 if member.overloaded else SIGNIFICANT * math.sqrt(share)
        ratio = 0.0
        if own and member.requests > max(bound * share, share + noise, FEWEST_LOAD):
            ratio = member.requests / share
        if own and member.busy > max(bound * mean, BUSY):
            ratio = max(ratio, member.busy / mean)
        if ratio:
            ratios.append((ratio, member.appliance.slot, own))
    overloaded: set[int] = set()
    shed = 0
    for _, slot, own in sorted(ratios, reverse=True):
        if 2 * (shed + own) <= weight:
            overloaded.add(slot)
            shed += own
    return overloaded


def load_factors(members: Sequence[ApplianceState], excess: float, elapsed_s: float) -> dict[int, float]:
    """Return the next load factors by slot: lower for an appliance above its share, higher for one below.

    The step grows with the deviation, so that chance evens out and nothing overshoots.
    """
    weights = [member.full_share for member in members]
    weight, requests = sum(weights), sum(member.steady_requests for member in members)
    factors = {}
    for member, own in zip(members, weights, strict=True):
        share = requests * own / weight if weight else 0.0
        if share >= FEWEST_LOAD:
            deviation = member.steady_requests / share - 1.0
            if deviation > 0.0:
                deviation -= min(deviation, excess / 2)
            factor = member.next_load_factor - min(deviation, 1.0) * LOAD_RATE * elapsed_s
            factors[member.appliance.slot] = min(max(factor, LEAST_LOAD_FACTOR), 1.0)
    return factors


def may_be_overloaded(requests: Iterable[float], busy: Iterable[float], excess: float) -> bool:
    """Return, at little cost, whether any appliance can be above its share; `busy` is 0 without a report."""
    if max(requests, default=0.0) > FEWEST_LOAD:
        return True
    reported = [share for share in busy if share]
    return bool(reported) and max(reported) > max(BUSY, (1.0 + excess) * min(reported))


def fan_outs(popularity: Mapping[int, float], total: float, largest: int, before: Mapping[int, int]) -> dict[int, int]:
    """Return the fan-out of each hot title by content key: a power of two, at least 2.

    `popularity` are faded request counts by content key, `total` that of all requests, `largest` the number of
    appliances in the largest cluster. A fan-out shrinks late, at a quarter of the demand that caused it, because a
    change costs caches.
    """
    result: dict[int, int] = {}
    for key, rate in sorted(popularity.items(), key=lambda item: -item[1])[:MOST_HOT]:
        wanted = ORDERS_PER_SHARE * largest * rate / total if total else 0.0
        orders = 1 << max(math.ceil(math.log2(wanted)), 0) if wanted > 1 and rate >= FEWEST_REQUESTS else 1
        previous = before.get(key, 1)
        orders = previous if orders < previous <= 4 * max(wanted, 0.25) else orders
        if orders > 1:
            result[key] = min(orders, MOST_ORDERS)
    return result


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
                if state.overloaded != is_overloaded or abs(state.next_load_factor - state.load_factor) >= LOAD_STEP:
                    state.overloaded, state.load_factor = is_overloaded, state.next_load_factor
                    changed.append(state)
        return changed

    def count(self, answers: Mapping[int, int], elapsed_s: float) -> None:
        """Add the answers since the last tick to the faded counts."""
        fade = faded(1.0, elapsed_s)
        slow_fade = faded(1.0, elapsed_s, STEADY_S)
        self.total = self.total * fade + sum(answers.values())
        for slot, state in self.by_slot.items():
            count = answers.get(slot, 0)
            state.requests = state.requests * fade + count
            state.steady_requests = state.steady_requests * slow_fade + count

    def compare_cluster(self, members: Sequence[ApplianceState], elapsed_s: float) -> set[int]:
        """Store the next load factors of a cluster's appliances; return the slots to shed."""
        requests, busy = [state.steady_requests for state in members], [state.busy for state in members]
        if len(members) < 2 or not may_be_overloaded(requests, busy, self.excess):
            return set()
        compared = [state for state in members if state.usable]
        for slot, factor in load_factors(compared, self.excess, elapsed_s).items():
            self.by_slot[slot].next_load_factor = factor
        return find_overloaded(compared, self.excess)

    def fan_out(self, asked: Mapping[int, int], elapsed_s: float) -> bool:
        """Count the requests by content key since the last tick; return whether a fan-out changed."""
        fade = faded(1.0, elapsed_s)
        self.popularity = {key: rate * fade for key, rate in self.popularity.items() if rate * fade >= 1.0}
        for key, count in asked.items():
            self.popularity[key] = self.popularity.get(key, 0.0) + count
        largest = max((len(members) for members in self.clusters.values()), default=1)
        before, total = self.fan_outs, max(self.total, sum(self.popularity.values()))
        self.fan_outs = fan_outs(self.popularity, total, largest, before)
        return self.fan_outs != before
