"""Ejection limits: how many appliances inference (silence, the checker, monitors) may take out without an operator.

A monitor that comes back from isolation reports that everything is down, and so does a control process that was frozen
for a minute. So some of each cluster must stay, and no more than a share of the fleet may be ejected in an interval.
Ejections beyond that are *suppressed*: the last good status words stay, and an alarm is raised, until the suspicion
ends or an operator releases them. A whole site may go, as in a power cut, while the fleet's share allows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from steering.control.health.appliance_state import ApplianceState, Location
from steering.control.health.members import Members
from steering.settings import Settings

BEYOND_AT_ONCE: Final = 500  # ejections in one tick that operators asked for, beyond the limits: some 10 ms


def allowance(share: float, members: int) -> int:
    """Return how many of so many members may go; at least one."""
    return max(1, int(share * members))


def decide(
    suspect: Iterable[str],
    out: frozenset[str],
    recent: frozenset[str],
    locations: Mapping[str, Location],
    clusters: Counter[str],
    sites: Counter[str],
    settings: Settings,
) -> dict[str, str]:
    """Return each suspect appliance that is not out yet, with the limit that suppresses its ejection; empty for none.

    `suspect` are ids in the order of their ejection, `out` those that are ejected and still suspect, `recent` those
    ejected within the interval, whatever became of them. Operators want all of them to serve. `clusters` and `sites`
    count all appliances. A limit is `fleet` or the id of a cluster.
    """
    new = [name for name in suspect if name not in out]
    gone = out | recent
    if len(recent.union(new)) > allowance(settings.ejection_limit_fleet, clusters.total()):
        return dict.fromkeys(new, "fleet")
    per_cluster = Counter(locations[name].cluster for name in gone if name in locations)
    per_site = Counter(locations[name].site for name in gone.union(new) if name in locations)
    limits = {}
    for name in new:
        cluster, site = locations[name].cluster, locations[name].site
        limits[name] = ""
        if name not in gone and per_site[site] < sites[site]:
            if per_cluster[cluster] < allowance(settings.ejection_limit_cluster, clusters[cluster]):
                per_cluster[cluster] += 1
            else:
                limits[name] = cluster
    return limits


class EjectionLimiter:
    """Decides at each tick which suspect appliances are ejected. The registry's lock protects it."""

    def __init__(self, settings: Settings, members: Members) -> None:
        self.settings = settings
        self.members = members
        self.suspect: dict[str, float] = {}  # since when, oldest first
        self.recent: dict[str, float] = {}  # ejected within the interval, and when
        self.released: set[str] = set()  # suspect, and to be ejected whatever the limits are

    def forget(self, name: str) -> None:
        """Forget an appliance that left the fleet; an ejection within the interval still counts."""
        self.suspect.pop(name, None)
        self.released.discard(name)

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
        states, settings = self.members.states, self.settings
        self.recent = {name: at for name, at in self.recent.items() if now - at <= settings.ejection_limit_s}
        wanted = [name for name in self.suspect if states[name].wanted]
        out = frozenset(name for name in wanted if states[name].ejected)
        limited = [name for name in wanted if name not in self.released]
        locations = {name: states[name].location for name in {*wanted, *self.recent} if name in states}
        sizes = self.members.in_cluster, self.members.in_site
        limits = decide(limited, out, frozenset(self.recent), locations, *sizes, settings)
        changed = []
        beyond = 0
        for name in self.suspect:
            state = states[name]
            suppressed = limits.get(name, "")
            may_go = limits.get(name) == ""
            ejected = state.ejected or may_go or name in self.released or not state.wanted
            if (ejected, suppressed) != (state.ejected, state.suppressed):
                if may_go and not state.ejected:
                    self.recent[name] = now
                elif ejected and (beyond := beyond + 1) > BEYOND_AT_ONCE:
                    continue
                state.ejected, state.suppressed = ejected, suppressed
                changed.append(state)
        return changed

    def release(self) -> list[str]:
        """Lift the limits for the suppressed ejections, which happen at the next ticks; return their appliances."""
        names = [name for name, state in self.members.states.items() if state.suppressed]
        self.released.update(names)
        return names
