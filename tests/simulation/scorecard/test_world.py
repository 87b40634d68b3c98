"""The world of a published table: options with their prices, and groups with their demand."""

from __future__ import annotations

import numpy as np
import pytest

from steering.decision.snapshot import Snapshot
from steering.model.route import RouteClass
from steering.simulation.scorecard.world import IPV6_SHARE, ORIGIN, SOURCES, TRANSIT, World, price_of

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
    mumbai, delhi, _, london = world.options.km[begin:end].tolist()
    assert (mumbai, delhi, london) == pytest.approx((1817, 1454, 5422), abs=1)
    assert delhi == pytest.approx(760, abs=15)
    assert london == pytest.approx(7000, abs=150)
    assert SOURCES[ORIGIN] == "origin"


def test_an_option_is_known_by_zone_and_cluster(world: World, snapshot: Snapshot) -> None:
    zone = snapshot.prefixes.lookup("203.0.113.5")
    begin, end = int(world.options.first[zone]), int(world.options.first[zone + 1])
    zones = np.full(end - begin, zone)
    assert world.options_of(zones, world.options.cluster[begin:end]).tolist() == list(range(begin, end))
    with pytest.raises(AssertionError, match="ranking"):
        world.options_of(np.array([0]), np.array([0]))


def test_demand_equals_capacity_and_splits_by_family(world: World, snapshot: Snapshot) -> None:
    groups = world.groups
    assert groups.gbps.sum() == pytest.approx(800.0)
    assert set(groups.family.tolist()) == {4, 6}
    zone = snapshot.prefixes.lookup("203.0.113.5")
    assert zone == snapshot.prefixes.lookup("2001:db8::1")  # the same ranking and region
    over = {
        int(family): float(gbps)
        for each, family, gbps in zip(groups.zone, groups.family, groups.gbps, strict=True)
        if each == zone
    }
    assert over[6] / (over[4] + over[6]) == pytest.approx(IPV6_SHARE)
    assert "GB" in groups.regions
