"""The oracle in a world small enough to solve by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from steering.decision.snapshot import Snapshot
from steering.simulation.scorecard.conditions import Conditions
from steering.simulation.scorecard.oracle import Oracle
from steering.simulation.scorecard.scenarios import BY_NAME, Fault
from steering.simulation.scorecard.world import ORIGIN, World

ISP, EXCHANGE = "203.0.113.5", "203.0.1.5"  # the ISP's clients, and clients that only exchanges reach
DEAD_ISP = Fault("dead", "largest_isp")
ISP_WITHOUT_IPV6 = Fault("no_ipv6", "largest_isp")


def solve(world: World, snapshot: Snapshot, demand: dict[tuple[str, int], float], *faults: Fault):
    """Return the optimum, and the prices of the ISP's clients in the order of their ranking."""
    wanted = np.zeros(len(world.groups.gbps))
    for (address, family), gbps in demand.items():
        zone = snapshot.prefixes.lookup(address)
        wanted[(world.groups.zone == zone) & (world.groups.family == family)] = gbps
    conditions = Conditions(world, dataclasses.replace(BY_NAME["friday"], faults=faults), 1)
    conditions.advance(0.0)
    zone = snapshot.prefixes.lookup(ISP)
    prices = world.options.price[world.options.first[zone] : world.options.first[zone + 1]]
    return Oracle(world).solve(wanted, conditions), prices


ROWS = [  # demand over IPv4, faults, and what the ISP's clients get from each cluster of their ranking and the origin
    (150, (), (150, 0, 0, 0, 0)),
    (250, (), (200, 50, 0, 0, 0)),
    (500, (), (200, 200, 100, 0, 0)),
    (1000, (), (200, 200, 200, 200, 200)),
    (250, (DEAD_ISP,), (0, 0, 200, 50, 0)),
    (250, (ISP_WITHOUT_IPV6,), (200, 50, 0, 0, 0)),
    (100, (Fault("delivers", "largest_isp", factor=0.25),), (50, 50, 0, 0, 0)),
    (100, (Fault("claims", "largest_isp", factor=0.25), Fault("maintenance", "largest_isp")), (100, 0, 0, 0, 0)),
]


@pytest.mark.parametrize(("gbps", "faults", "served"), ROWS)
def test_the_least_cost_fills_the_nearest_clusters_first(
    world: World, snapshot: Snapshot, gbps: float, faults: tuple[Fault, ...], served: tuple[float, ...]
) -> None:
    optimum, prices = solve(world, snapshot, {(ISP, 4): gbps}, *faults)
    assert optimum.gbps == pytest.approx(gbps)
    assert optimum.cost == pytest.approx(float(np.dot(served, [*prices, 12.0])))
    assert optimum.rank_0 == pytest.approx(served[0])
    assert optimum.sources[ORIGIN] == pytest.approx(served[-1])


def test_a_scarce_cluster_serves_those_who_save_most(world: World, snapshot: Snapshot) -> None:
    """The exchange serves its own clients; the ISP's clients have a site of their own farther away."""
    optimum, (first, second, *_) = solve(world, snapshot, {(ISP, 4): 300.0, (EXCHANGE, 4): 200.0})
    zone = snapshot.prefixes.lookup(EXCHANGE)
    exchange = world.options.price[world.options.first[zone]]
    assert optimum.cost == pytest.approx(200 * first + 100 * second + 200 * exchange)


def test_clients_over_ipv6_are_not_served_where_it_is_down(world: World, snapshot: Snapshot) -> None:
    zone6 = "2001:db8::1"
    optimum, _ = solve(world, snapshot, {(zone6, 6): 100.0}, ISP_WITHOUT_IPV6)
    zone = snapshot.prefixes.lookup(zone6)
    begin, end = world.options.first[zone], world.options.first[zone + 1]
    other = [
        world.options.price[option]
        for option in range(begin, end)
        if world.clusters.partner[world.options.cluster[option]] == ""
    ]
    assert optimum.cost == pytest.approx(100.0 * min(other))
