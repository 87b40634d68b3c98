"""Ejection limits: how many appliances inference (silence, the checker, monitors) may take out without an operator.

A monitor that comes back from isolation reports that everything is down, so does a control process that was frozen for
a minute, and of an ISP a broken path between it and control is enough. An ejection counts against three limits:

    cluster   some of it must stay. A whole site may go nevertheless, as in a power cut
    partner   some of its appliances must stay, a dark site's too: from here a partner with one site that is dark looks
              like one whose path is broken. Of one to three appliances one may go (with the default share)
    fleet     no more than a share of it may go in an interval. Where more would, none goes

Ejections beyond a limit are *suppressed*: the last good status words stay, and an alarm is raised, until the suspicion
ends, players confirm it, or an operator releases them. What players confirm (`player_witness.py`) goes at once and
counts against no limit. After a restart of control, confirmed ejections count: players have left those appliances.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from steering.control.health.appliance_state import ApplianceState, Location
from steering.control.health.members import Members
from steering.control.health.player_witness import PlayerWitness
from steering.settings import Settings

BEYOND_AT_ONCE: Final = 500  # ejections in one tick beyond the limits, asked for or confirmed: some 10 ms


class Sizes(NamedTuple):
    """The number of appliances by cluster, by site and by partner; those at exchanges have the empty partner."""

    clusters: Counter[str]
    sites: Counter[str]
    partners: Counter[str]


def allowance(share: float, members: int) -> int:
    """Return how many of so many members may go; at least one."""
    return max(1, int(share * members))


def decide(
    suspect: Iterable[str],
    out: frozenset[str],
    recent: frozenset[str],
    confirmed: frozenset[str],
    locations: Mapping[str, Location],
    sizes: Sizes,
    settings: Settings,
) -> dict[str, str]:
    """Return each suspect appliance that is not out yet, with the limit that suppresses its ejection; empty for none.

    `suspect` are ids in the order of their ejection, `out` those that are ejected and still suspect, `recent` those
    ejected within the interval, whatever became of them, and `confirmed` those whose suspicion players confirm.
    Operators want all of them to serve. A limit is `fleet`, `partner <id>` or `cluster <id>`.
    """
    limits = {name: "" for name in suspect if name not in out}
    doubtful = [name for name in limits if name not in confirmed]
    counted = [locations[name] for name in (out | recent) - confirmed if name in locations]
    per_cluster, per_partner = Counter(at.cluster for at in counted), Counter(at.partner for at in counted)
    dark = Counter(locations[name].site for name in (out | recent).union(limits) if name in locations)
    room = allowance(settings.ejection_limit_fleet, sizes.clusters.total()) - len(recent - confirmed)
    for name in doubtful:
        if name not in recent:  # an appliance that flaps counts once
            at = locations[name]
            of_cluster = allowance(settings.ejection_limit_cluster, sizes.clusters[at.cluster])
            of_partner = allowance(settings.ejection_limit_partner, sizes.partners[at.partner])
            if at.partner and per_partner[at.partner] >= of_partner:
                limits[name] = f"partner {at.partner}"
                continue
            if per_cluster[at.cluster] >= of_cluster and dark[at.site] < sizes.sites[at.site]:
                limits[name] = f"cluster {at.cluster}"
                continue
            per_cluster[at.cluster] += 1
            per_partner[at.partner] += 1
            room -= 1
        if room < 0:
            return limits | dict.fromkeys(doubtful, "fleet")
    return limits


class EjectionLimiter:
    """Decides at each tick which suspect appliances are ejected. The registry's lock protects it."""

    def __init__(self, settings: Settings, members: Members) -> None:
        self.settings = settings
        self.members = members
        self.suspect: dict[str, float] = {}  # since when, oldest first
        self.witnesses: dict[str, PlayerWitness] = {}  # of the suspect ones
        self.recent: dict[str, float] = {}  # ejected within the interval, and when
        self.released: set[str] = set()  # suspect, and to be ejected whatever the limits are

    def forget(self, name: str) -> None:
        """Forget an appliance that left the fleet; an ejection within the interval still counts."""
        self.suspect.pop(name, None)
        self.witnesses.pop(name, None)
        self.released.discard(name)

    def note(self, state: ApplianceState, suspect: bool, now: float) -> None:
        """Note whether an appliance is suspect; one that no longer is serves again at once."""
        if suspect and state.id not in self.suspect:
            self.suspect[state.id] = now
            self.witnesses[state.id] = PlayerWitness(state.viewers, now)
        elif state.id in self.suspect and not suspect:
            del self.suspect[state.id], self.witnesses[state.id]
            self.released.discard(state.id)
            state.ejected, state.suppressed, state.confirmed = False, "", False

    def note_sign(self, state: ApplianceState, now: float) -> None:
        """Note a report or an observation; while no observation was bad, it is a sign of life."""
        if min(state.record.streaks) >= 0:
            state.viewers.note_sign(now)
            if state.id in self.witnesses:
                self.witnesses[state.id] = PlayerWitness(state.viewers, now)

    def count_players(self, attested: Mapping[int, int], failing: Mapping[int, int]) -> None:
        """Count the attested and failing viewers of a tick, by slot."""
        by_slot = self.members.by_slot
        for slot, count in attested.items():
            if state := by_slot.get(slot):
                state.viewers.attested += count
        for slot, count in failing.items():
            if state := by_slot.get(slot):
                state.viewers.failing += count

    def update(self, now: float) -> list[ApplianceState]:
        """Eject suspect appliances as far as the limits allow; return the states that changed."""
        states, settings = self.members.states, self.settings
        self.recent = {name: at for name, at in self.recent.items() if now - at <= settings.ejection_limit_s}
        wanted = [name for name in self.suspect if states[name].wanted]
        out = frozenset(name for name in wanted if states[name].ejected)
        confirmed = frozenset(name for name in wanted if states[name].confirmed or self.witnesses[name].confirms(now))
        limited = [name for name in wanted if name not in self.released]
        locations = {name: states[name].location for name in {*wanted, *self.recent} if name in states}
        sizes = Sizes(self.members.in_cluster, self.members.in_site, self.members.in_partner)
        limits = decide(limited, out, frozenset(self.recent), confirmed, locations, sizes, settings)
        changed = []
        beyond = 0
        for name in self.suspect:
            state = states[name]
            suppressed, is_confirmed = limits.get(name, ""), state.confirmed or name in confirmed
            may_go = limits.get(name) == ""
            ejected = state.ejected or may_go or name in self.released or not state.wanted
            if (ejected, suppressed, is_confirmed) != (state.ejected, state.suppressed, state.confirmed):
                if ejected and not state.ejected:
                    if may_go and not is_confirmed:
                        self.recent[name] = now
                    elif (beyond := beyond + 1) > BEYOND_AT_ONCE:
                        continue
                if is_confirmed:
                    self.recent.pop(name, None)
                state.ejected, state.suppressed, state.confirmed = ejected, suppressed, is_confirmed
                changed.append(state)
        return changed

    def release(self) -> list[str]:
        """Lift the limits for the suppressed ejections, which happen at the next ticks; return their appliances."""
        names = [name for name, state in self.members.states.items() if state.suppressed]
        self.released.update(names)
        return names
