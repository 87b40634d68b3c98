"""Ejection limits: how many appliances inference (silence, the checker, monitors) may take out without an operator.

A monitor that comes back from isolation reports that everything is down, and so does a control process that was frozen
for a minute. So some of each cluster must stay, and no more than a share of the fleet may be ejected in an interval.
Ejections beyond that are *suppressed*: the last good status words stay, and an alarm is raised, until the suspicion
ends or an operator releases them. A whole site may go, as in a power cut, while the fleet's share allows it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping

from steering.control.health.appliance_state import ApplianceState, Location


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """The settings: shares from 0 to 1 of a cluster and of the fleet, and the interval in seconds."""

    ejection_limit_cluster: float = 0.5
    ejection_limit_fleet: float = 0.05
    ejection_limit_s: float = 600.0


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """The appliances that may be ejected now, and for each suppressed one its limit: `fleet`, or a cluster's id."""

    ejected: frozenset[str]
    suppressed: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """The number of appliances in the fleet, in each cluster and at each site."""

    fleet: int
    clusters: Mapping[str, int]
    sites: Mapping[str, int]


def sizes_of(locations: Mapping[str, Location]) -> Sizes:
    """Return the sizes of the fleet, its clusters and its sites."""
    return Sizes(
        len(locations),
        Counter(location.cluster for location in locations.values()),
        Counter(location.site for location in locations.values()),
    )


def allowance(share: float, members: int) -> int:
    """Return how many of so many members may go; at least one."""
    return max(1, int(share * members))


def decide(
    suspect: Iterable[str],
    out: frozenset[str],
    recent: frozenset[str],
    locations: Mapping[str, Location],
    sizes: Sizes,
    limits: Limits,
) -> Decision:
    """Return which suspect appliances may be ejected now, beside those that are out already.

    `suspect` are ids in the order of their ejection, `out` those that are ejected and still suspect, `recent` those
    ejected within the interval, whatever became of them. Operators want all of them to serve.
    """
    new = [name for name in suspect if name not in out]
    if not new:
        return Decision(frozenset(), {})
    gone = out | recent
    if len(recent.union(new)) > allowance(limits.ejection_limit_fleet, sizes.fleet):
        return Decision(frozenset(), dict.fromkeys(new, "fleet"))
    per_cluster = Counter(locations[name].cluster for name in gone if name in locations)
    per_site = Counter(locations[name].site for name in gone.union(new) if name in locations)
    ejected: set[str] = set()
    suppressed: dict[str, str] = {}
    for name in new:
        location = locations[name]
        whole_site = per_site[location.site] >= sizes.sites[location.site]
        if name in gone or whole_site:
            ejected.add(name)
        elif per_cluster[location.cluster] < allowance(limits.ejection_limit_cluster, sizes.clusters[location.cluster]):
            per_cluster[location.cluster] += 1
            ejected.add(name)
        else:
            suppressed[name] = location.cluster
    return Decision(frozenset(ejected), suppressed)


class EjectionLimiter:
    """Decides at each tick which suspect appliances are ejected. The registry's lock protects it."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.states: Mapping[str, ApplianceState] = {}
        self.sizes = Sizes(0, {}, {})
        self.suspect: dict[str, float] = {}  # since when, oldest first
        self.recent: dict[str, float] = {}  # ejected within the interval, and when
        self.released: set[str] = set()  # suspect, and to be ejected whatever the limits are

    def take_fleet(self, states: Mapping[str, ApplianceState]) -> None:
        """Use the appliances of a new fleet."""
        self.states = states
        self.sizes = sizes_of({name: state.location for name, state in states.items()})
        self.released.intersection_update(states)
        self.suspect = {name: since for name, since in self.suspect.items() if name in states}

    def note(self, state: ApplianceState, suspect: bool, now: float) -> None:
        """Note whether an appliance is suspect; one that no longer is serves again at once."""
        if suspect:
            self.suspect.setdefault(state.id, now)
        elif state.id in self.suspect:
            del self.suspect[state.id]
            self.released.discard(state.id)
            state.ejected, state.suppressed = False, ""

    def update(self, now: float) -> list[ApplianceState]:
        """Eject suspect appliances as far as the limits allow; return the states that changed."""
        self.recent = {name: at for name, at in self.recent.items() if now - at <= self.limits.ejection_limit_s}
        wanted = [name for name in self.suspect if self.states[name].wanted]
        out = frozenset(name for name in wanted if self.states[name].ejected)
        limited = [name for name in wanted if name not in self.released]
        locations = {name: self.states[name].location for name in {*wanted, *self.recent} if name in self.states}
        decision = decide(limited, out, frozenset(self.recent), locations, self.sizes, self.limits)
        changed = []
        for name in self.suspect:
            state = self.states[name]
            suppressed = decision.suppressed.get(name, "")
            ejected = state.ejected or name in decision.ejected or name in self.released or not state.wanted
            if (ejected, suppressed) != (state.ejected, state.suppressed):
                if not state.ejected and name in decision.ejected:
                    self.recent[name] = now
                state.ejected, state.suppressed = ejected, suppressed
                changed.append(state)
        return changed

    def release(self) -> list[str]:
        """Lift the limits for the suppressed ejections, which happen at the next tick; return their appliances."""
        names = [name for name, state in self.states.items() if state.suppressed]
        self.released.update(names)
        return names
