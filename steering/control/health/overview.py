"""The whole fleet at a glance: totals, and the clusters that are worst off, from what `vitals` knows."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from steering.control.health.load import HALF_LIFE_S
from steering.control.health.registry import Vitals
from steering.model.fleet import Fleet

# How much of an appliance is lost in each state that nobody wished for; over its share is what a busy one often is.
LOST: Final = {"unhealthy": 1.0, "stale": 1.0, "unknown": 1.0, "full": 0.5, "held": 0.5, "partial": 0.5}
SERVING: Final = {"serving", "climbing", "held", "over", "partial"}


def overview(vitals: Vitals, fleet: Fleet, worst: int) -> dict[str, Any]:
    """Return the totals of the fleet and so many of its worst clusters, the worst first.

    One pass over the clusters: 15 ms for 19,000 appliances. Safe from any thread.
    """
    sites = {site.id: site for site in fleet.sites}
    states: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    found: list[tuple[float, float, str, dict[str, Any]]] = []
    for cluster in fleet.clusters:
        state = vitals.describe_cluster(cluster.id)
        states.update(state["states"])
        totals.update({name: state[name] for name in ("appliances", "weight", "capacity_gbps", "throughput_gbps")})
        if lost := lost_of(state["states"]):
            site = sites[cluster.site]
            about = {"cluster": cluster.id, "city": site.city, "country": site.country, "partner": cluster.partner}
            found.append((lost / state["appliances"], lost, cluster.id, {**about, **state}))
    return {
        "clusters": len(fleet.clusters),
        **totals,
        "states": dict(states),
        "answers_per_s": round(vitals.total * math.log(2) / HALF_LIFE_S, 1),
        "clusters_hurt": len(found),
        "clusters_down": sum(not SERVING & state["states"].keys() for *_, state in found),
        "worst": [state for *_, state in heapq.nlargest(worst, found, key=lambda item: item[:3])],
    }


def lost_of(states: Mapping[str, int]) -> float:
    """Return how many appliances are lost, by no override of anybody, of those in these states."""
    return sum(LOST.get(state, 0.0) * count for state, count in states.items())
