"""The load balancer: bounded load inside a cluster, and the fan-out of hot titles. Pure rules first, then their state.

Rendezvous hashing gives every appliance its share of the *titles*, but demand is not even: one title can be a tenth of
it, and chance gives one appliance a tenth more of the others than its neighbour. So the load of each appliance is
compared with its share by weight of its cluster's load: by the answers that named it, and by its reported throughput.

    above its share by half of `excess` and      its weight is lowered (the load factor) by what chance does not
    by more than chance                          explain, and raised again in the same way
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
UNEVEN: Final = 2.0  # standard deviations from its share, beyond half of `excess`: then weights are corrected
LEAST_LOAD_FACTOR: Final = 0.5  # titles alone never make an appliance twice as busy as its share
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


def load_factors(members: Sequence[ApplianceState], excess: float) -> dict[int, float]:
    """Return the next load factors by slot; empty where no load is beyond chance away from its share.

    A correction is as large as what chance does not explain, so that what has been counted decides how fast loads even
    out, and nothing overshoots. A lowered weight is given back sooner than one is lowered; otherwise all would sink.
    Only the proportions of factors move titles: the largest is 1.
    """
    weights = [member.full_share for member in members]
    weight, requests = sum(weights), sum(member.steady_requests for member in members)
    factors, is_uneven = {}, False
    for member, own in zip(members, weights, strict=True):
        factor = member.load_factor
        share = requests * own / weight if weight else 0.0
        if share >= FEWEST_LOAD:
            chance = 1.0 / math.sqrt(share)
            deviation = member.steady_requests / share - 1.0
            if deviation - excess / 2 > UNEVEN * chance:
                is_uneven, factor = True, factor * (1.0 + excess / 4) / (1.0 + deviation - chance)
            elif factor < 1.0 and -deviation > chance:
                is_uneven, factor = True, min(factor / (1.0 + deviation + chance), 1.0)
        factors[member.appliance.slot] = factor
    if not is_uneven:
        return {}
    largest = max(factors.values())
    return {slot: max(factor / largest, LEAST_LOAD_FACTOR) for slot, factor in factors.items()}


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

    def __init__(
        self,
        excess: float,
        by_slot: Mapping[int, ApplianceState],
        clusters: Mapping[str, Sequence[ApplianceState]],
    ) -> None:
        self.excess = excess
        self.by_slot = by_slot
        self.clusters = clusters
        self.total = 0.0  # all answers, faded
        self.turn, self.at_once = 0, COMPARED_AT_ONCE
        self.popularity: dict[int, float] = {}
        self.fan_outs: dict[int, int] = {}

    def compare(self, answers: Mapping[int, int], elapsed_s: float) -> list[ApplianceState]:
        """Compare loads with shares in the clusters of this turn; return the states that changed."""
        self.count(answers, elapsed_s)
        turns = 1 + len(self.by_slot) // self.at_once
        self.turn = (self.turn + 1) % turns
        changed = []
        for members in itertools.islice(self.clusters.values(), self.turn, None, turns):
            changed += self.compare_cluster(members)
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

    def compare_cluster(self, members: Sequence[ApplianceState]) -> list[ApplianceState]:
        """Set the load factors of a cluster's appliances, and shed; return the states that changed.

        A correction scales what was counted as it will scale the load, so that it is not made twice.
        """
        requests, busy = [state.steady_requests for state in members], [state.busy for state in members]
        factors, overloaded = {}, set()
        if len(members) > 1 and may_be_overloaded(requests, busy, self.excess):
            compared = [state for state in members if state.usable]
            overloaded = find_overloaded(compared, self.excess)
            factors = load_factors(compared, self.excess)
        if not factors and not overloaded and not any(state.overloaded for state in members):
            return []
        changed = []
        for state in members:
            slot = state.appliance.slot
            before, factor = (state.overloaded, state.load_factor), factors.get(slot, state.load_factor)
            state.steady_requests *= factor / state.load_factor
            state.overloaded, state.load_factor = slot in overloaded, factor
            if before != (state.overloaded, factor):
                changed.append(state)
        return changed

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
