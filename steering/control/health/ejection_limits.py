"""How far what is only inferred may reach: silence, checkers and monitors never take out much without a person's word.

A monitor that comes back from isolation says that everything is down, and so does a control process that was frozen
for a minute. So of each cluster some must stay, and of the fleet no more than a share goes in an interval. Beyond that
nobody goes: the last good weights stand, the suspect are *held*, and an alarm is raised, until the suspicions end or an
operator releases them. Whole sites may go, as they do when power or a link fails, while the fleet's share allows it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """The settings: shares from 0 to 1 of a cluster and of the fleet, and in how many seconds."""

    ejection_limit_cluster: float = 0.5
    ejection_limit_fleet: float = 0.05
    ejection_limit_s: float = 600.0


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where an appliance stands: the ids of its cluster and of its site."""

    cluster: str
    site: str


@dataclasses.dataclass(frozen=True, slots=True)
class EjectionAlarm:
    """What may act, and who is held back by which limit: `fleet`, or a cluster's id."""

    go: frozenset[str]
    held: Mapping[str, str]


def allowance(share: float, members: int) -> int:
    """Return how many of so many may go: one at least."""
    return max(1, int(share * members))


def limit(
    suspect: Iterable[str],
    out: frozenset[str],
    recent: frozenset[str],
    places: Mapping[str, Place],
    sizes: Sizes,
    limits: Limits,
) -> EjectionAlarm:
    """Return which of the suspect appliances may be taken out now, beside those that are.

    `suspect` are ids in the order they are to go, `out` those taken out already and still suspect, `recent` those taken
    out within the interval, whatever became of them. All are appliances that people want to serve.
    """
    new = [name for name in suspect if name not in out]
    if not new:
        return EjectionAlarm(frozenset(), {})
    gone = out | recent
    if len(recent.union(new)) > allowance(limits.ejection_limit_fleet, sizes.fleet):
        return EjectionAlarm(frozenset(), dict.fromkeys(new, "fleet"))
    per_cluster = Counter(places[name].cluster for name in gone if name in places)
    per_site = Counter(places[name].site for name in gone.union(new) if name in places)
    go: set[str] = set()
    held: dict[str, str] = {}
    for name in new:
        place = places[name]
        whole_site = per_site[place.site] >= sizes.sites[place.site]
        if name in gone or whole_site:
            go.add(name)
        elif per_cluster[place.cluster] < allowance(limits.ejection_limit_cluster, sizes.clusters[place.cluster]):
            per_cluster[place.cluster] += 1
            go.add(name)
        else:
            held[name] = place.cluster
    return EjectionAlarm(frozenset(go), held)


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """How many appliances there are: in the fleet, in each cluster, at each site."""

    fleet: int
    clusters: Mapping[str, int]
    sites: Mapping[str, int]


def sizes_of(places: Mapping[str, Place]) -> Sizes:
    """Return the sizes of everything that appliances stand in."""
    return Sizes(
        len(places),
        Counter(place.cluster for place in places.values()),
        Counter(place.site for place in places.values()),
    )
