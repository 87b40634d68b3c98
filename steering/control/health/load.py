"""Bounded load inside a cluster, and the fan-out of hot titles. Pure rules.

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
factors follow slower counts, which fade in STEADY_S.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

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


class Member(NamedTuple):
    """An appliance of a cluster that takes clients, or would if it were not overloaded.

    `weight` is without its load factor. `requests` is the faded count of answers that named it first, `steady_requests`
    the slower one. `busy` is its reported throughput as a share of its capacity, None without a report; it is compared
    by capacity, because viewers stay for an hour.
    """

    slot: int
    weight: int
    requests: float
    busy: float | None = None
    capacity: float = 1.0
    overloaded: bool = False
    steady_requests: float = 0.0
    load_factor: float = 1.0


def faded(count: float, elapsed_s: float, half_life_s: float = HALF_LIFE_S) -> float:
    """Return what remains of a count after some seconds."""
    return count * math.exp2(-elapsed_s / half_life_s)


def find_overloaded(members: Sequence[Member], excess: float) -> set[int]:
    """Return the slots to shed: an overloaded appliance stays shed until its load is within the excess (hysteresis).

    The most loaded come first, and never more than half of the cluster's weight: the others must take their clients.
    """
    weight = sum(member.weight for member in members)
    requests = sum(member.requests for member in members)
    reported = [(member.busy, member.capacity) for member in members if member.busy is not None]
    mean = 0.0
    if reported:
        mean = sum(busy * capacity for busy, capacity in reported) / sum(capacity for _, capacity in reported)
    if len(members) < 2 or not weight:
        return set()
    ratios: list[tuple[float, int, int]] = []
    # A cheap test first, because this runs for every appliance at every tick.
    least = (1.0 + min(excess, SHED_AT * excess)) * requests / weight
    for member in members:
        if not member.weight or (member.requests <= least * member.weight and member.busy is None):
            continue
        bound = 1.0 + (1 if member.overloaded else SHED_AT) * excess
        share = requests * member.weight / weight
        noise = 0.0 if member.overloaded else SIGNIFICANT * math.sqrt(share)
        ratio = 0.0
        if member.requests > max(bound * share, share + noise, FEWEST_LOAD):
            ratio = member.requests / share
        if member.busy is not None and member.busy > max(bound * mean, BUSY):
            ratio = max(ratio, member.busy / mean)
        if ratio:
            ratios.append((ratio, member.slot, member.weight))
    overloaded: set[int] = set()
    shed = 0
    for _, slot, own in sorted(ratios, reverse=True):
        if 2 * (shed + own) <= weight:
            overloaded.add(slot)
            shed += own
    return overloaded


def load_factors(members: Sequence[Member], excess: float, elapsed_s: float) -> dict[int, float]:
    """Return the next load factors by slot: lower for an appliance above its share, higher for one below.

    The step grows with the deviation, so that chance evens out and nothing overshoots.
    """
    weight = sum(member.weight for member in members)
    requests = sum(member.steady_requests for member in members)
    factors = {}
    for member in members:
        share = requests * member.weight / weight if weight else 0.0
        if share >= FEWEST_LOAD:
            deviation = member.steady_requests / share - 1.0
            if deviation > 0.0:
                deviation -= min(deviation, excess / 2)
            if deviation < 0.0 and member.load_factor == 1.0:
                factors[member.slot] = 1.0
            else:
                factor = member.load_factor - min(deviation, 1.0) * LOAD_RATE * elapsed_s
                factors[member.slot] = min(max(factor, LEAST_LOAD_FACTOR), 1.0)
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
