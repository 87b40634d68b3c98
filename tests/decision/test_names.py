"""The names behind the numbers of a fleet file, also of numbers that the fleet no longer has."""

from __future__ import annotations

from steering.decision.snapshot import Snapshot


def test_appliances_have_their_cluster_and_site(snapshot: Snapshot) -> None:
    names = snapshot.names
    assert names.appliance(0) == {"appliance": "c001-bom001", "cluster": "bom001-a", "site": "bom001"}
    slot = snapshot.fleet_file.slots[0]
    assert names.appliances_by_slot[slot] == ("c001-bom001", "bom001")
    assert names.clusters_by_slot[slot] == ("bom001-a", "bom001")
    assert len(names.appliances) == len(names.appliances_by_slot) == len(snapshot.fleet_file.slots)


def test_a_cluster_that_left_shows_its_number(snapshot: Snapshot) -> None:
    number = snapshot.names.appliances[0][1]
    result = snapshot.names.cluster(number)
    assert (result["cluster"], result["site"], result["country"]) == ("bom001-a", "bom001", "IN")
    assert snapshot.names.cluster(4_000_000) == {
        "cluster": "#4000000",
        "site": None,
        "class": None,
        "city": None,
        "country": None,
    }


def test_a_partner_has_its_id_and_none_has_none(snapshot: Snapshot) -> None:
    result = snapshot.names.partner(1)
    assert result is not None
    assert result["id"] == "as64500"
    assert snapshot.names.partner(0) is None
    assert snapshot.names.partner(9_999) is None


def test_a_cluster_that_left_the_fleet_has_no_members(snapshot: Snapshot) -> None:
    fleet = snapshot.fleet_file
    assert [fleet.members_of(number) for number in range(5)] == [
        *(members for *_, members in fleet.members()),
        range(0),
    ]
