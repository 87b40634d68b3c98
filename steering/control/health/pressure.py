"""The pressure of clusters: room that runs out is a price, which every pick adds to the cluster's own.

    room of the cluster, as a share of what its usable appliances can deliver

    above `return_room`         who plays elsewhere comes back, a share at a time
    below                       nobody comes back
    below `pressure_headroom`   the pressure rises with the square of what is missing, so that first those go elsewhere
                                who have another cluster that is nearly as cheap
    at `low_headroom`           as much as the fallback costs: nobody comes while there is a fallback

A full appliance turns everybody away at once, and whoever is next gets all of them. A pressure rises as the room goes,
and settles where as many come as leave; only new viewers follow it. Congestion pricing needs no forecast of demand and
no plan that can be late or wrong: the room of the last report is all it reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from _fastpath.status_words import DISABLED, MOST_PRESSURE
from steering.control.health import rules as health
from steering.control.health.appliance_state import OUT, ApplianceState
from steering.settings import Settings

RETURN_ROOM: Final = 1.5  # times `pressure_headroom`: viewers who come back must not bring the pressure back
LEAST_CHANGE: Final = 4  # of MOST_PRESSURE: smaller ones would rewrite the words of a cluster at each report


def pressure_of(room: float, settings: Settings) -> int:
    """Return the pressure, 0 to MOST_PRESSURE, of a cluster with this share of its capacity free."""
    missing = (settings.pressure_headroom - room) / (settings.pressure_headroom - settings.low_headroom)
    return round(MOST_PRESSURE * min(max(missing, 0.0), 1.0) ** 2)


def room_of(members: Iterable[ApplianceState], settings: Settings) -> float:
    """Return the share of a cluster's capacity that is free by the last reports; 1 where none reports its headroom."""
    room = capacity = 0.0
    for state in members:
        if state.status & (DISABLED | OUT) or not health.is_reported(state.record, state.override, settings):
            continue
        known, most = health.known(state.record.health, state.record.delivery, state.appliance.capacity_gbps)
        if known and known.headroom_gbps is not None:
            room += min(known.headroom_gbps, most)
            capacity += most
    return room / capacity if capacity else 1.0


class Pressures:
    """Which clusters are to be looked at, because a report or a state of theirs is new. The registry's lock is ours."""

    def __init__(self, settings: Settings, clusters: Mapping[str, Sequence[ApplianceState]]) -> None:
        self.settings = settings
        self.clusters = clusters
        self.changed: set[str] = set()

    def update(self) -> list[ApplianceState]:
        """Set the pressure of the clusters that changed; return the states whose status words change with it."""
        changed, self.changed = self.changed, set()
        result = []
        for name in changed & self.clusters.keys():
            members = self.clusters[name]
            room = room_of(members, self.settings)
            pressure = pressure_of(room, self.settings)
            is_short = room < RETURN_ROOM * self.settings.pressure_headroom
            for state in members:
                state.is_short = is_short
                if is_short and state.record.returned > 0.0:
                    state.record = health.with_slow_return(state.record)
                elif abs(pressure - state.pressure) < LEAST_CHANGE and bool(pressure) == bool(state.pressure):
                    continue
                state.pressure = pressure
                result.append(state)
        return result
