"""The world of a published table: options with their prices, and groups with their demand."""

from __future__ import annotations

import numpy as np
import pytest

from steering.decision.snapshot import Snapshot
from steering.model.route import RouteClass
from steering.simulation.scorecard.world import IPV6_SHARE, ORIGIN, SOURCES, TRANSIT, World, price_of, split_families

PRICES = [
    (RouteClass.embedded, False, 0.0, 0, 1.0),
    (RouteClass.private, False, 0.0, 0, 2.0),
    (RouteClass.exchange, False, 0.0, 0, 3.0),
    (RouteClass.exchange, True, 0.0, 0, 6.0),
    (RouteClass.transit, False, 0.0, 0, 6.0),
    (RouteClass.embedded, False, 2500.0, 0, 2.0),
    (RouteClass.embedded, False, 0.0, 4, 1.2),
    (RouteClass.embedded, False, 0.0, 40, 1.5),
    (RouteClass.exchange, True, 5000.0, 3, 8.15),
]


@pytest.mark.parametrize(("route_class", "fallback", "km", "rank", "price"), PRICES)
def test_the_price_is_of_class_distance_and_rank(
    route_class: RouteClass, fallback: bool, km: float, rank: int, price: float
) -> None:
    assert price_of(route_class, fallback, km, rank) == pytest.approx(price)


def test_the_options_of_a_zone_are_its_ranking(world: World, snapshot: Snapshot) -> None:
    zone = snapshot.prefixes.lookup("203.0.113.5")
    begin, end = world.options.first[zone], world.options.first[zone + 1]
    clusters = [world.clusters.ids[number] for number in world.options.cluster[begin:end]]
    assert clusters == ["bom001-a", "del001-a", "bom002-a", "lhr001-a"]
    assert world.options.rank[begin:end].tolist() == [0, 1, 2, 3]
    assert world.options.source[begin:end].tolist() == [0, 0, 2, TRANSIT]
    # A documentation prefix lies in no country: its clients are assumed at the mean of all sites.
    assert world.options.km[begin : end - 1].tolist() == pytest.approx([1817, 1454, 1817], abs=3)
    assert world.options.km[end - 1] == pytest.approx(5422, abs=3)
    assert SOURCES[ORIGIN] == "origin"


def test_an_option_is_known_by_zone_and_cluster(world: World, snapshot: Snapshot) -> None:
    zone = snapshot.prefixes.lookup("203.0.113.5")
    begin, end = int(world.options.first[zone]), int(world.options.first[zone + 1])
    zones = np.full(end - begin, zone)
    assert world.options_of(zones, world.options.cluster[begin:end]).tolist() == list(range(begin, end))
    with pytest.raises(AssertionError, match="ranking"):
        world.options_of(np.array([0]), np.array([0]))


def test_demand_equals_capacity(world: World, snapshot: Snapshot) -> None:
    groups = world.groups
    assert groups.gbps.sum() == pytest.approx(800.0)
    families = dict(zip(groups.zone.tolist(), groups.family.tolist(), strict=True))
    assert families[snapshot.prefixes.lookup("203.0.113.5")] == 4
    assert families[snapshot.prefixes.lookup("2001:db8::1")] == 6
    assert groups.appliance_gbps.tolist() == pytest.approx([100.0] * len(groups.zone))


def test_the_demand_of_a_zone_is_split_by_family() -> None:
    spaces = {4: np.array([9.0, 9.0, 0.0, 9.0]), 6: np.array([0.0, 9.0, 9.0, 9.0])}
    groups = split_families(np.array([10.0, 20.0, 30.0, 0.0]), np.full(4, 40.0), spaces, ["IN", "GB", "IN", "IN"])
    rows = list(zip(groups.zone.tolist(), groups.family.tolist(), groups.gbps.tolist(), strict=True))
    assert rows == [(0, 4, 10.0), (1, 4, 20 * (1 - IPV6_SHARE)), (1, 6, 20 * IPV6_SHARE), (2, 6, 30.0)]
    assert [groups.regions[region] for region in groups.region] == ["IN", "GB", "GB", "IN"]
