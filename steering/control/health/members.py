"""The appliances that the registry knows: by id, by slot, and by cluster, and how many stand at each place."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Container

from steering.control.health import rules as health
from steering.control.health.appliance_state import ApplianceState, Location
from steering.model.fleet import Appliance, Cluster


@dataclasses.dataclass(slots=True, eq=False)
class Members:
    """The registry's lock protects them. A change costs as much as there are appliances in a cluster."""

    states: dict[str, ApplianceState] = dataclasses.field(default_factory=dict)
    by_slot: dict[int, ApplianceState] = dataclasses.field(default_factory=dict)
    clusters: dict[str, list[ApplianceState]] = dataclasses.field(default_factory=dict)
    in_cluster: Counter[str] = dataclasses.field(default_factory=Counter)
    in_site: Counter[str] = dataclasses.field(default_factory=Counter)
    in_partner: Counter[str] = dataclasses.field(default_factory=Counter)  # at exchanges: of the empty id

    def place(self, appliance: Appliance, cluster: Cluster, now: float) -> ApplianceState:
        """Return the state of an appliance as the fleet has it now: a new one, or the one it had."""
        location = Location(cluster.id, cluster.site, cluster.partner or "")
        state = self.states.get(appliance.id)
        if state is None:
            state = ApplianceState(appliance, location, health.new_record(now), now)
            self.states[state.id] = self.by_slot[appliance.slot] = state
        elif state.location != location:
            self.leave(state)
        else:
            state.appliance = appliance
            return state
        state.appliance, state.location = appliance, location
        self.clusters.setdefault(location.cluster, []).append(state)
        self.in_cluster[location.cluster] += 1
        self.in_site[location.site] += 1
        self.in_partner[location.partner] += 1
        return state

    def remove(self, name: str) -> ApplianceState:
        """Remove an appliance, and return its state."""
        state = self.states.pop(name)
        del self.by_slot[state.appliance.slot]
        self.leave(state)
        return state

    def leave(self, state: ApplianceState) -> None:
        """Take an appliance out of its cluster."""
        location = state.location
        self.clusters[location.cluster].remove(state)
        for counts, place in (
            (self.in_cluster, location.cluster),
            (self.in_site, location.site),
            (self.in_partner, location.partner),
        ):
            counts[place] -= 1
            if not counts[place]:
                del counts[place]
        if location.cluster not in self.in_cluster:
            del self.clusters[location.cluster]

    def absent(self, names: Container[str]) -> list[str]:
        """Return the appliances whose ids are not among these."""
        return [name for name in self.states if name not in names]
