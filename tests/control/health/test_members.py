"""Members change one by one, and are then what a registry made from the whole fleet has."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from steering.control.health.appliance_state import Location
from steering.control.health.members import Members
from steering.model.fleet import Appliance, Cluster
from steering.model.route import RouteClass

CLUSTERS = [
    Cluster(name, site, RouteClass.exchange, partner)
    for name, site, partner in (("a", "x", None), ("b", "x", "p"), ("c", "y", "p"))
]
# Which cluster each of a few appliances stands in, None where it is not of the fleet.
FLEETS = st.lists(st.lists(st.sampled_from([None, *CLUSTERS]), min_size=6, max_size=6), min_size=1, max_size=6)


def counts(members: Members) -> tuple[object, ...]:
    by_cluster = {name: sorted(state.id for state in states) for name, states in members.clusters.items()}
    slots = {slot: state.id for slot, state in members.by_slot.items()}
    locations = {name: state.location for name, state in members.states.items()}
    return by_cluster, slots, locations, dict(members.in_cluster), dict(members.in_site), dict(members.in_partner)


@given(FLEETS)
def test_members_are_those_of_the_last_fleet(fleets: list[list[Cluster | None]]) -> None:
    changed = Members()
    for fleet in fleets:
        made = Members()
        for number, cluster in enumerate(fleet):
            if cluster:
                appliance = Appliance(f"c{number}", cluster.id, f"c{number}.example", 100.0, slot=number)
                changed.place(appliance, cluster, 1.0)
                made.place(appliance, cluster, 1.0)
        for name in changed.absent(made.states):
            changed.remove(name)
        assert counts(changed) == counts(made)


def test_an_appliance_that_moves_keeps_its_state() -> None:
    members = Members()
    appliance = Appliance("c0", "a", "c0.example", 100.0, slot=0)
    state = members.place(appliance, CLUSTERS[0], 1.0)
    assert members.place(appliance, CLUSTERS[2], 2.0) is state
    assert (state.location, state.changed_at) == (Location("c", "y", "p"), 1.0)
