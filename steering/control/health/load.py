"""No appliance above its share: bounded load inside a cluster, and titles that became hits spread over more of it.

Rendezvous hashing gives every appliance its share of the *titles*. Demand is not even: one title can be a tenth of it,
and chance gives an appliance a tenth more of the others than its neighbour. So the load of each is compared with its
share by weight of what its cluster gets, by what the workers have just sent it and by what it says it delivers.

    above share by half of `excess`      its weight is trimmed, a little a tick; given back the same way
    by PASSED_OVER times `excess`        it is passed over, `H`, until it is within `excess` again
    a title is a hit                     its viewers are dealt into several orders, a power of two, each a fraction

Lowering a weight moves just the titles that are too much, and it settles. Passing an appliance over moves all of them:
at 1 + excess, which is what Mirrokni, Thorup and Zadimoghaddam ("Consistent Hashing with Bounded Loads", SODA 2018) do
request by request, the neighbours of one passed over for some seconds would be the next; in a rehearsal with 200
appliances every client was sent elsewhere every ten seconds for ever (now: once an hour). So that is for emergencies.

Rates are counts that fade by half in HALF_LIFE_S: long enough to be no noise, short enough to be over in seconds.
StatusWords follow slower ones, STEADY_S.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

HALF_LIFE_S: Final = 4.0
STEADY_S: Final = 15.0  # the half-life of the counts that weights are trimmed by
SIGNIFICANT: Final = 4.0  # standard deviations of a Poisson count above the share, so that chance is no overload
ORDERS_A_SHARE: Final = 8  # into how many orders the viewers of a title are dealt that is one appliance's whole share
MOST_ORDERS: Final = 1024
MOST_HOT: Final = 512  # as many as the hot table holds
FEWEST_LOAD: Final = 20.0  # faded; with fewer an appliance is not busy, and its caches count for more
BUSY: Final = 0.3  # of its capacity: who delivers less is not overloaded, however idle the others are
PASSED_OVER: Final = 4
TRIM_RATE: Final = 0.03  # of a weight a second, by how much of its share it is off; more would swing, with STEADY_S
LEAST_TRIM: Final = 0.5  # titles alone never make an appliance twice as busy as its share
TRIM_STEP: Final = 0.03  # smaller ones are not worth moving titles for
FEWEST_REQUESTS: Final = 50.0  # faded; a title asked less often is no hit, whatever its share


class Member(NamedTuple):
    """An appliance of a cluster that can take clients, or could were it not over its limit.

    `weight` is without its trim. `requests` is the faded count of answers that named it first, which follows its weight
    of now, `steady` the slower one. `busy` is what it
    says it delivers, as a share of its capacity: viewers stay for an hour, so that is compared by capacity.
    """

    slot: int
    weight: int
    requests: float
    busy: float | None = None
    capacity: float = 1.0
    over: bool = False
    steady: float = 0.0
    trim: float = 1.0


def faded(count: float, elapsed_s: float, half_life_s: float = HALF_LIFE_S) -> float:
    """Return what is left of a count after a while."""
    return count * math.exp2(-elapsed_s / half_life_s)


def over_limit(members: Sequence[Member], excess: float) -> set[int]:
    """Return the slots of those far above their share; who was stays until it is within the excess.

    The most loaded first, and never more than half of the cluster's weight: the others must take what is passed on.
    """
    weight = sum(member.weight for member in members)
    requests = sum(member.requests for member in members)
    said = [(member.busy, member.capacity) for member in members if member.busy is not None]
    mean = sum(busy * capacity for busy, capacity in said) / sum(capacity for _, capacity in said) if said else 0.0
    if len(members) < 2 or not weight:
        return set()
    ratios: list[tuple[float, int, int]] = []
    # Nobody else can be: this is asked of every appliance at every tick.
    least = (1.0 + min(excess, PASSED_OVER * excess)) * requests / weight
    for member in members:
        if not member.weight or (member.requests <= least * member.weight and member.busy is None):
            continue
        bound = 1.0 + (1 if member.over else PASSED_OVER) * excess
        share = requests * member.weight / weight
        noise = 0.0 if member.over else SIGNIFICANT * math.sqrt(share)
        ratio = 0.0
        if member.requests > max(bound * share, share + noise, FEWEST_LOAD):
            ratio = member.requests / share
        if member.busy is not None and member.busy > max(bound * mean, BUSY):
            ratio = max(ratio, member.busy / mean)
        if ratio:
            ratios.append((ratio, member.slot, member.weight))
    found: set[int] = set()
    passed_over = 0
    for _, slot, own in sorted(ratios, reverse=True):
        if 2 * (passed_over + own) <= weight:
            found.add(slot)
            passed_over += own
    return found


def trims(members: Sequence[Member], excess: float, elapsed_s: float) -> dict[int, float]:
    """Return by slot the share of its weight that each keeps: less where it is above its share, more where below.

    The step goes by how far it is off, so that chance evens out and nothing overshoots.
    """
    weight = sum(member.weight for member in members)
    requests = sum(member.steady for member in members)
    found = {}
    for member in members:
        share = requests * member.weight / weight if weight else 0.0
        if share >= FEWEST_LOAD:
            off = member.steady / share - 1.0
            if off > 0.0:
                off -= min(off, excess / 2)
            if off < 0.0 and member.trim == 1.0:
                found[member.slot] = 1.0
            else:
                found[member.slot] = min(max(member.trim - min(off, 1.0) * TRIM_RATE * elapsed_s, LEAST_TRIM), 1.0)
    return found


def may_be_over(requests: Iterable[float], busy: Iterable[float], excess: float) -> bool:
    """Tell, at little cost, whether any of a cluster can be above its share; `busy` of who does not say is 0."""
    if max(requests, default=0.0) > FEWEST_LOAD:
        return True
    said = [share for share in busy if share]
    return bool(said) and max(said) > max(BUSY, (1.0 + excess) * min(said))


def fan_outs(rates: Mapping[int, float], total: float, largest: int, before: Mapping[int, int]) -> dict[int, int]:
    """Return into how many orders the viewers of each hit are dealt: powers of two, from 2 on, by content key.

    `rates` are faded counts by key, `total` is that of all requests, `largest` how many appliances the largest cluster
    has. An order is given up late, at a quarter of what asked for it: it costs caches.
    """
    found: dict[int, int] = {}
    for key, rate in sorted(rates.items(), key=lambda item: -item[1])[:MOST_HOT]:
        wanted = ORDERS_A_SHARE * largest * rate / total if total else 0.0
        orders = 1 << max(math.ceil(math.log2(wanted)), 0) if wanted > 1 and rate >= FEWEST_REQUESTS else 1
        kept = before.get(key, 1)
        orders = kept if orders < kept <= 4 * max(wanted, 0.25) else orders
        if orders > 1:
            found[key] = min(orders, MOST_ORDERS)
    return found
