"""Learned capacity: what an appliance delivers when more is asked of it. Pure: time is an argument.

An appliance that claims more than it can deliver is never full by its own reports, and attracts ever more viewers. But
its viewers show it: while all have what they ask for, a connection takes about as much as it took before; from the
limit on, more connections share what there is. So the Gbit/s of a connection are watched:

    SHORT below the best of the last hour or so,   it delivers all it can: that is its capacity now
    SHORT_REPORTS reports in a row
    not short any more                             the learned capacity grows, up to the claimed one: that tries whether
                                                   it can do more again
    still short, with as many connections          it delivers what it can, if less than before
    still short, with fewer, at clearly less       with less for each: it can do even less
                                                   with as much for each: its viewers take less for another reason, so
                                                   nothing is learned, and their rate is the best from now on
"""

from __future__ import annotations

from typing import Final

import msgspec

BEST_HALF_LIFE_S: Final = 3600.0
SHORT: Final = 0.1
SHORT_REPORTS: Final = 3
FEWEST_CONNECTIONS: Final = 50  # fewer say too little about their rate
LESS: Final = 0.9  # of the learned capacity; an appliance at its limit delivers more
AS_MUCH: Final = 0.97  # of what a connection had when it was learned
GROWTH_S: Final = 1800.0  # in which a learned capacity would double


class Delivery(msgspec.Struct, frozen=True):
    """What an appliance was seen to deliver; `learned_gbps` is None where nothing speaks against its capacity.

    `best` is in Gbit/s for a connection, `short` counts reports in a row. With so many `connections` it was learned.
    """

    best: float = 0.0
    short: int = 0
    learned_gbps: float | None = None
    connections: int = 0


NOTHING_LEARNED: Final = Delivery()


def learn(
    before: Delivery, throughput_gbps: float, connections: int, capacity_gbps: float, elapsed_s: float
) -> Delivery:
    """Return the delivery as a report changes it. `elapsed_s` is the time since the report before."""
    learned = before.learned_gbps
    if connections < FEWEST_CONNECTIONS or throughput_gbps <= 0.0:
        return msgspec.structs.replace(before, short=0, learned_gbps=grown(learned, capacity_gbps, elapsed_s))
    rate = throughput_gbps / connections
    best = max(before.best * 0.5 ** (elapsed_s / BEST_HALF_LIFE_S), rate)
    if rate >= (1.0 - SHORT) * best:
        return Delivery(best, 0, grown(learned, capacity_gbps, elapsed_s), before.connections)
    if learned is not None:
        is_asked_less = connections < before.connections
        if is_asked_less and throughput_gbps >= LESS * learned:
            return msgspec.structs.replace(before, best=best)
        if is_asked_less and rate * before.connections >= AS_MUCH * learned:
            return Delivery(rate)
        return Delivery(best, SHORT_REPORTS, min(throughput_gbps, learned), connections)
    short = min(before.short + 1, SHORT_REPORTS)
    if short < SHORT_REPORTS or throughput_gbps >= capacity_gbps:
        return Delivery(best, short)
    return Delivery(best, short, throughput_gbps, connections)


def grown(learned_gbps: float | None, capacity_gbps: float, elapsed_s: float) -> float | None:
    """Return a learned capacity after some seconds without a sign of a limit; None from the claimed one on."""
    if learned_gbps is None:
        return None
    grown_gbps = learned_gbps * 2.0 ** (elapsed_s / GROWTH_S)
    return grown_gbps if grown_gbps < capacity_gbps else None
