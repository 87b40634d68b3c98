"""The synthetic fleet: exactly as large as asked for, over real networks, and the same every time."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import geo_data
from steering.control.records.documents import format_fleet, parse_fleet
from steering.control.services.synthetic_fleet import CLUSTER_SIZE, WITHOUT_VIEWERS, evenly, share_out, synthesize
from steering.model.fleet import Fleet
from steering.model.route import RouteClass


@pytest.fixture(scope="module")
def full() -> Fleet:
    return synthesize()


def test_the_full_fleet_is_19000_appliances_of_1500_partners_in_more_than_100_countries(full: Fleet) -> None:
    assert (len(full.appliances), len(full.partners)) == (19_000, 1_500)
    assert len({partner.country for partner in full.partners}) > 100
    assert [service.id for service in full.services] == ["video"]


def test_equal_arguments_give_an_equal_fleet_and_another_seed_another(full: Fleet) -> None:
    assert synthesize() == full
    assert synthesize(seed=2) != full
    assert synthesize(seed=2).partners == full.partners  # who is a partner follows from address space alone


def test_a_synthetic_fleet_passes_every_rule_of_a_fleet_document(full: Fleet) -> None:
    assert parse_fleet(format_fleet(full).encode()) == full


def test_partners_are_the_largest_networks_of_their_country_that_have_viewers(full: Fleet) -> None:
    networks = {network.asn: network for network in geo_data.read_networks()}
    chosen = {partner.asns[0] for partner in full.partners}
    assert not chosen & WITHOUT_VIEWERS
    smallest = dict.fromkeys((partner.country for partner in full.partners), 2**40)
    for asn in chosen:
        smallest[networks[asn].country] = min(smallest[networks[asn].country], networks[asn].addresses_v4)
    passed_over = [
        network.asn
        for network in networks.values()
        if network.asn not in chosen | WITHOUT_VIEWERS and network.addresses_v4 > smallest.get(network.country, 2**40)
    ]
    assert passed_over == []
    large = {7922, 3320, 3215, 55836, 4134, 28573, 17676, 1221, 37457, 8151}  # known to everybody, on six continents
    assert large <= chosen


def test_appliances_stand_at_real_places_of_their_country(full: Fleet) -> None:
    places = {(place.country, place.iata.lower()): place for place in geo_data.read_places()}
    for site in full.sites:
        place = places[site.country, site.id[:3]]
        assert (site.city, site.latitude, site.longitude) == (place.city, place.latitude, place.longitude)


def test_embedded_clusters_have_a_partner_and_exchanges_a_country_and_accept_off_net_clients(full: Fleet) -> None:
    countries = {site.id: site.country for site in full.sites}
    for cluster in full.clusters:
        if cluster.route_class is RouteClass.embedded:
            assert cluster.partner
            assert not cluster.accepts_off_net
            assert not cluster.countries
        else:
            assert cluster.route_class is RouteClass.exchange
            assert cluster.partner is None
            assert cluster.accepts_off_net
            assert cluster.countries == (countries[cluster.site],)


def test_every_partner_has_appliances_and_no_cluster_is_empty_or_too_large(full: Fleet) -> None:
    sizes = Counter(appliance.cluster for appliance in full.appliances)
    assert set(sizes) == {cluster.id for cluster in full.clusters}
    assert max(sizes.values()) <= CLUSTER_SIZE
    assert {cluster.partner for cluster in full.clusters} == {partner.id for partner in full.partners} | {None}


def test_the_fleet_is_as_mixed_as_real_ones(full: Fleet) -> None:
    assert all(appliance.ipv4 for appliance in full.appliances)
    assert 0.8 < sum(appliance.ipv6 for appliance in full.appliances) / 19_000 < 0.95
    assert {appliance.capacity_gbps for appliance in full.appliances} == {10, 40, 100, 200, 400}
    exchanges = {cluster.id for cluster in full.clusters if cluster.route_class is RouteClass.exchange}
    assert 0.17 < sum(appliance.cluster in exchanges for appliance in full.appliances) / 19_000 < 0.19


@pytest.mark.parametrize(("appliances", "partners"), [(1, 1), (2, 1500), (12, 1500), (12, 3), (100, 7), (19_000, 2)])
def test_other_fleets_are_exactly_as_large_as_asked_for(appliances: int, partners: int) -> None:
    fleet = synthesize(appliances, partners)
    assert len(fleet.appliances) == appliances
    assert len(fleet.partners) <= partners
    assert any(cluster.accepts_off_net for cluster in fleet.clusters)
    assert parse_fleet(format_fleet(fleet).encode()) == fleet


@pytest.mark.parametrize(("appliances", "partners"), [(0, 1), (1, 0), (-5, 3)])
def test_a_fleet_of_nothing_is_refused(appliances: int, partners: int) -> None:
    with pytest.raises(ValueError, match=f"at least one appliance and one partner, not {appliances} and {partners}"):
        synthesize(appliances, partners)


StatusWords = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0.1, 1000), min_size=1)


@settings(max_examples=200)
@given(st.integers(0, 300), StatusWords, st.data())
def test_shares_add_up_and_keep_their_limits(total: int, weights: dict[str, float], data: st.DataObject) -> None:
    limits = st.fixed_dictionaries(dict.fromkeys(weights, st.integers(0, 50)))
    most = data.draw(st.none() | limits)
    shares = share_out(total, weights, most)
    assert sum(shares.values()) == (total if most is None else min(total, sum(most.values())))
    assert all(share > 0 and (most is None or share <= most[key]) for key, share in shares.items())
    if most is None:
        more = share_out(total + 1, weights)
        assert all(more.get(key, 0) >= share for key, share in shares.items())  # no Alabama paradox


def test_shares_go_by_weight() -> None:
    assert share_out(100, {"a": 1, "b": 2, "c": 7}) == {"a": 10, "b": 20, "c": 70}
    assert share_out(3, {"a": 1, "b": 2, "c": 7}, least={"a": 1, "b": 1, "c": 1}) == {"a": 1, "b": 1, "c": 1}
    assert share_out(2, {"a": 1, "b": 2, "c": 7}, least={"a": 1, "b": 1, "c": 1}) == {"b": 1, "c": 1}


def test_parts_differ_by_one_at_most() -> None:
    assert evenly(10, 3) == [4, 3, 3]
    assert evenly(2, 3) == [1, 1, 0]
