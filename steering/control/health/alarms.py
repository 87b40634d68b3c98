"""Alarms: what a person should look at, found anew at each tick, and reported when it begins and when it ends."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from steering.control.health.appliance_state import ApplianceState


@dataclasses.dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm, raised or resolved. `kind` is suppressed, cluster_down or players."""

    at: float
    kind: str
    subject: str
    text: str
    resolved: bool = False


def changed_alarms(
    raised: Mapping[tuple[str, str], Alarm], current: Mapping[tuple[str, str], Alarm], now: float
) -> list[Alarm]:
    """Return the current alarms that are not raised yet, and the raised ones that ended."""
    return [alarm for key, alarm in current.items() if key not in raised] + [
        dataclasses.replace(alarm, at=now, resolved=True) for key, alarm in raised.items() if key not in current
    ]


def find_alarms(
    states: Mapping[str, ApplianceState],
    clusters: Mapping[str, Sequence[ApplianceState]],
    suspect: Iterable[str],
    now: float,
) -> dict[tuple[str, str], Alarm]:
    found = [
        *suppressed_alarms([states[name] for name in suspect], now),
        *cluster_alarms(states.values(), clusters, now),
        *player_alarms(states.values(), now),
    ]
    return {(alarm.kind, alarm.subject): alarm for alarm in found}


def suppressed_alarms(suspect: Iterable[ApplianceState], now: float) -> Iterator[Alarm]:
    """Yield an alarm for each limit that suppresses ejections."""
    suppressed: dict[str, list[str]] = defaultdict(list)
    for state in suspect:
        if state.suppressed:
            suppressed[state.suppressed].append(state.id)
    for limit, names in suppressed.items():
        text = (
            f"{len(names)} appliances seem to be down, more than may be ejected at once ({limit}): they keep serving; "
            f"check them, then `steering ejections --release`: {', '.join(sorted(names)[:3])}"
        )
        yield Alarm(now, "suppressed", limit, text)


def cluster_alarms(
    states: Iterable[ApplianceState], clusters: Mapping[str, Sequence[ApplianceState]], now: float
) -> Iterator[Alarm]:
    """Yield an alarm for each cluster of which no appliance that operators want can serve."""
    for cluster in {state.location.cluster for state in states if state.out}:
        wanted = [state for state in clusters[cluster] if state.wanted]
        if wanted and all(state.out for state in wanted):
            text = f"cluster {cluster}: none of its {len(wanted)} appliances can serve: {wanted[0].why}"
            yield Alarm(now, "cluster_down", cluster, text)


def player_alarms(states: Iterable[ApplianceState], now: float) -> Iterator[Alarm]:
    """Yield an alarm for each appliance that lost weight because of player reports."""
    for state in states:
        if state.player_factor < 1.0:
            text = f"players fail on {state.id}: of {state.attested:.0f}, {state.failing:.0f} had a stall or an error"
            yield Alarm(now, "players", state.location.cluster, text)
