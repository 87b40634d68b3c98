"""The pressure of clusters: room that runs out is a price, which every pick adds to the cluster's own.

    room of the cluster, as a share of what its usable appliances can deliver

    1.5 times `pressure_headroom` or more
                                who plays elsewhere comes back, a share at a time
    below                       nobody comes back
    below `pressure_headroom`   the pressure rises with the square of what is missing, so that first those go elsewhere
                                who have another cluster that is nearly as cheap
    at `low_headroom`           as much as the fallback costs: nobody comes while there is a fallback

A full appliance turns everybody away at once, and whoever is next gets all of them. A pressure rises as the room goes,
and settles where as many come as leave; only new viewers follow it. Congestion pricing needs no forecast of demand and
no plan that can be late or wrong: the room of the last report is all it reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from _fastpath.status_words import DISABLED, MOST_PRESSURE
from steering.control.health import rules as health
from steering.control.health.appliance_state import OUT, ApplianceState
from steering.settings import Settings

RETURN_ROOM: Final = 1.5  # times `pressure_headroom`: viewers who come back must not bring the pressure back
CHANGED_AT_ONCE: Final = 500  # status words in one update: some 5 ms
LEAST_CHANGE: Final = 4  # of MOST_PRESSURE: smaller ones would rewrite the words of a cluster at each report


def pressure_of(room: float, settings: Settings) -> int:
    """Return the pressure, 0 to MOST_PRESSURE, of a cluster with this share of its capacity free."""
    missing = (settings.pressure_headroom - room) / (settings.pressure_headroom - settings.low_headroom)
    return round(MOST_PRESSURE * min(max(missing, 0.0), 1.0) ** 2)


def room_of(members: Iterable[ApplianceState]) -> float:
    """Return the share of a cluster's capacity that is free by the last reports; 1 where none reports its headroom."""
    room = capacity = 0.0
    for state in members:
        if state.able_gbps and not state.status & (DISABLED | OUT):
            room += state.room_gbps
            capacity += state.able_gbps
    return room / capacity if capacity else 1.0


class Pressures:
    """The pressure of each cluster, anew when a report or a state of it is new. The registry's lock protects it."""

    def __init__(self, settings: Settings, clusters: Mapping[str, Sequence[ApplianceState]]) -> None:
        self.settings = settings
        self.clusters = clusters
        self.changed: dict[str, None] = {}  # clusters to look at, in the order of their changes

    def note(self, state: ApplianceState) -> None:
        """Note the room of an appliance by its last report, and what it can deliver; 0 for both without a headroom."""
        record, capacity_gbps = state.record, state.appliance.capacity_gbps
        last, most = health.known(record.health, record.delivery, capacity_gbps)
        state.room_gbps = state.able_gbps = 0.0
        if last and last.headroom_gbps is not None and health.is_reported(record, state.override, self.settings):
            state.room_gbps, state.able_gbps = min(last.headroom_gbps, most), most
        self.look_at(state)

    def look_at(self, state: ApplianceState) -> None:
        """Look at an appliance's cluster at the next update."""
        self.changed[state.location.cluster] = None

    def update(self) -> list[ApplianceState]:
        """Set the pressure of clusters that changed; return the states whose status words change with it.

        Where very many do, some clusters are left for the next call.
        """
        result: list[ApplianceState] = []
        while self.changed and len(result) < CHANGED_AT_ONCE:
            name = next(iter(self.changed))
            del self.changed[name]
            result += self.update_cluster(self.clusters.get(name, ()))
        return result

    def update_cluster(self, members: Sequence[ApplianceState]) -> Iterator[ApplianceState]:
        """Set the pressure of a cluster; yield the states whose status words change with it."""
        room = room_of(members)
        pressure = pressure_of(room, self.settings)
        is_short = room < RETURN_ROOM * self.settings.pressure_headroom
        for state in members:
            state.is_short = is_short
            if is_short and state.record.returned > 0.0:
                state.record = health.with_slow_return(state.record)
            elif abs(pressure - state.pressure) < LEAST_CHANGE and bool(pressure) == bool(state.pressure):
                continue
            state.pressure = pressure
            yield state
