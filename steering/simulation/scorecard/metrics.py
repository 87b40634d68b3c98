"""What a run of one policy is measured by; `docs/steering-quality.md` defines each figure.

Shares are of what is demanded, in bytes of the measured time. Costs are of the moments that the oracle solves.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from _fastpath.audience import FALLBACK
from steering.simulation.scorecard.conditions import Conditions
from steering.simulation.scorecard.oracle import Optimum
from steering.simulation.scorecard.players import Players
from steering.simulation.scorecard.world import (
    COST_OF_NOTHING,
    COST_OF_ORIGIN,
    ORIGIN,
    SOURCES,
    Floats,
    Ints,
    World,
    sums,
)

SAMPLE_S: Final = 30
BUSY: Final = 0.3  # of capacity: unfairness is of clusters that deliver more
SETTLED: Final = 0.05  # loads have settled where the cost ratio is no further above its last value
LAST: Final = 5  # samples whose mean is the last value
DIGITS: Final = 6
GBPS_S_PER_TB: Final = 8000.0
KEYS: Final = ("scenario", "players", "seed")  # of a row
LISTS: Final = ("at", "cost_ratios")


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One moment of a policy: Gbit/s, and the cost."""

    at: int
    cost: float
    demanded: float
    delivered: float
    lost: float  # what full appliances did not deliver
    rank_0: float
    km: float  # the sum of Gbit/s times km, of what appliances deliver
    sources: tuple[float, ...]
    unfairness: float


def take_sample(now: int, world: World, players: Players, conditions: Conditions, option: Ints) -> Sample:
    """Measure a moment. `option` is each seat's option in the world, below 0 at the origin and in empty seats."""
    load = players.load()
    share = np.divide(np.minimum(load, conditions.gbps), load, out=np.zeros_like(load), where=load > 0)
    playing = option >= 0
    options, demand = world.options, players.demand
    chosen = option[playing]
    wanted = demand.gbps[playing]
    served = wanted * share[players.current[playing]]
    origin = float(demand.gbps[players.current == FALLBACK].sum())
    sources = sums(options.source[chosen], served, len(SOURCES))
    sources[ORIGIN] = origin
    lost = float(wanted.sum() - served.sum())
    cost = float((served * options.price[chosen]).sum()) + COST_OF_ORIGIN * origin + COST_OF_NOTHING * lost
    delivered = float(served.sum()) + origin
    return Sample(
        now,
        cost,
        float(demand.gbps[demand.taken].sum()),
        delivered,
        lost,
        float(served[options.rank[chosen] == 0].sum()),
        float((served * options.km[chosen]).sum()),
        tuple(sources.tolist()),
        unfairness(world, load, conditions),
    )


def unfairness(world: World, load: Floats, conditions: Conditions) -> float:
    """Return the load of the busiest appliance of a cluster, by capacity, over the cluster's mean.

    It is the mean over the busy clusters of several living appliances, weighted by their load.
    """
    clusters = len(world.clusters.ids)
    cluster = world.appliances.cluster
    capacity = conditions.capacity_of_clusters()
    total = sums(cluster, load, clusters)
    living = np.bincount(cluster, conditions.gbps > 0, minlength=clusters)
    busy = np.divide(load, conditions.gbps, out=np.zeros_like(load), where=conditions.gbps > 0)
    busiest = np.zeros(clusters)
    np.maximum.at(busiest, cluster, busy)
    mean = np.divide(total, capacity, out=np.zeros(clusters), where=capacity > 0)
    compared = (living > 1) & (mean > BUSY)
    if not compared.any():
        return 1.0
    return float(np.average(busiest[compared] / mean[compared], weights=total[compared]))


class Meter:
    """The counts of every second of a run, besides the samples."""

    def __init__(self) -> None:
        self.seconds = 0
        self.demanded = self.excess = self.overloaded = 0.0  # Gbit/s times s, and appliance-seconds
        self.moved = self.failed = 0.0  # of players, by their Gbit/s
        self.begun = self.begun_badly = 0
        self.samples: list[Sample] = []

    def count(self, players: Players, conditions: Conditions, load: Floats, load_before: Floats) -> None:
        """Count a second. A session begins badly whose first target is dead, or was full a second before."""
        gbps = players.demand.gbps
        self.seconds += 1
        self.demanded += float(gbps[players.demand.taken].sum())
        over = load - conditions.gbps
        full = over > 1e-9
        self.excess += float(over[full].sum())
        self.overloaded += int(full.sum())
        self.moved += float(gbps[players.moved].sum())
        self.failed += float(gbps[players.failed].sum())
        first = players.first
        has = first >= 0
        families = players.family[players.begun]
        dead = has & ~conditions.usable(first, families)
        at = np.maximum(first, 0)
        was_full = has & (load_before[at] > conditions.gbps[at])
        self.begun += int(has.sum())
        self.begun_badly += int((dead | was_full).sum())


def figures_of(meter: Meter, optima: Sequence[Optimum], event_s: float | None) -> dict[str, Any]:
    """Return the figures of a run beside the oracle's."""
    samples = meter.samples
    demanded = sum(sample.demanded for sample in samples)
    delivered = sum(sample.delivered for sample in samples)
    best = sum(optimum.cost for optimum in optima)
    best_gbps = sum(optimum.gbps for optimum in optima)
    sources = np.sum([sample.sources for sample in samples], axis=0) / demanded
    best_sources = np.sum([optimum.sources for optimum in optima], axis=0) / best_gbps
    from_appliances = delivered - sum(sample.sources[ORIGIN] for sample in samples)
    hours = meter.demanded / 3600
    ratios = [sample.cost / optimum.cost for sample, optimum in zip(samples, optima, strict=True)]
    figures = {
        "cost_ratio": sum(sample.cost for sample in samples) / best,
        "rank_0": sum(sample.rank_0 for sample in samples) / demanded,
        "rank_0_of_oracle": sum(optimum.rank_0 for optimum in optima) / best_gbps,
        "fallback": float(sources[ORIGIN]),
        "fallback_of_oracle": float(best_sources[ORIGIN]),
        "not_delivered": max(1 - delivered / demanded, 0.0),
        "overload_appliance_s": meter.overloaded,
        "overload_tb": meter.excess / GBPS_S_PER_TB,
        "distance_km": sum(sample.km for sample in samples) / from_appliances if from_appliances else 0.0,
        "moves_per_session_hour": meter.moved / hours,
        "failures_per_session_hour": meter.failed / hours,
        "unfairness": float(np.mean([sample.unfairness for sample in samples])),
        "settled_s": settled_s([sample.at for sample in samples], ratios, event_s),
        "bad_first_targets": meter.begun_badly / max(meter.begun, 1),
        **{f"from_{name}": float(share) for name, share in zip(SOURCES, sources, strict=True)},
        **{f"from_{name}_of_oracle": float(share) for name, share in zip(SOURCES, best_sources, strict=True)},
    }
    return {
        name: round(value, DIGITS) + 0.0 if isinstance(value, float) else value for name, value in figures.items()
    } | {
        "at": [sample.at for sample in samples],
        "cost_ratios": [round(ratio, DIGITS) for ratio in ratios],
    }


def settled_s(times: Sequence[int], ratios: Sequence[float], event_s: float | None) -> float | None:
    """Return the time from the event until the cost ratio stays near its last value; None without an event."""
    if event_s is None:
        return None
    limit = sum(ratios[-LAST:]) / len(ratios[-LAST:]) + SETTLED
    late = [at for at, ratio in zip(times, ratios, strict=True) if at >= event_s and ratio > limit]
    return max(late[-1] + SAMPLE_S - event_s, 0.0) if late else 0.0


def medians_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each scenario and kind of player, with the median of each figure over the seeds."""
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault((row["scenario"], row["players"]), []).append(row)
    return [
        {"scenario": scenario, "players": players}
        | {name: median_of([row[name] for row in several]) for name in several[0] if name not in (*KEYS, *LISTS)}
        for (scenario, players), several in grouped.items()
    ]


def median_of(values: Sequence[float | None]) -> float | None:
    """Return the median; None where a scenario has no such figure."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
