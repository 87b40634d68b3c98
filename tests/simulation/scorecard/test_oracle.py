"""The oracle in a world small enough to solve by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from steering.decision.snapshot import Snapshot
from steering.simulation.scorecard.conditions import Conditions
from steering.simulation.scorecard.oracle import Optimum, Oracle
from steering.simulation.scorecard.scenarios import BY_NAME, Fault
from steering.simulation.scorecard.world import ORIGIN, World

ISP, EXCHANGE = "203.0.113.5", "203.0.1.5"  # the ISP's clients, and clients that only exchanges reach
DEAD_ISP = Fault("dead", "largest_isp")
ISP_WITHOUT_IPV6 = Fault("no_ipv6", "largest_isp")


def solve(world: World, snapshot: Snapshot, demand: dict[tuple[str, int], float], *faults: Fault) -> Optimum:
    """Return the optimum for these Gbit/s by address and family."""
    wanted = np.zeros(len(world.groups.gbps))
    for (address, family), gbps in demand.items():
        zone = snapshot.prefixes.lookup(address)
        wanted[(world.groups.zone == zone) & (world.groups.family == family)] = gbps
    conditions = Conditions(world, dataclasses.replace(BY_NAME["friday"], faults=faults), 1)
    conditions.advance(0.0)
    return Oracle(world).solve(wanted, conditions)


def prices_of(world: World, snapshot: Snapshot, address: str) -> dict[str, float]:
    """Return the price of each site for a client."""
    zone = snapshot.prefixes.lookup(address)
    part = slice(world.options.first[zone], world.options.first[zone + 1])
    sites = [world.clusters.site[cluster] for cluster in world.options.cluster[part]]
    return dict(zip(sites, world.options.price[part].tolist(), strict=True)) | {"origin": 12.0}


ROWS = [  # demand over IPv4 of the ISP's clients, faults, and what each site serves; Delhi is nearer than Mumbai
    (150, (), {"del001": 150}),
    (250, (), {"del001": 200, "bom001": 50}),
    (500, (), {"del001": 200, "bom001": 200, "bom002": 100}),
    (1000, (), {"del001": 200, "bom001": 200, "bom002": 200, "lhr001": 200, "origin": 200}),
    (250, (DEAD_ISP,), {"bom002": 200, "lhr001": 50}),
    (250, (ISP_WITHOUT_IPV6,), {"del001": 200, "bom001": 50}),
    (100, (Fault("delivers", "largest_isp", factor=0.25),), {"del001": 50, "bom001": 50}),
    (100, (Fault("claims", "largest_isp", factor=0.25), Fault("maintenance", "largest_isp")), {"del001": 100}),
]


@pytest.mark.parametrize(("gbps", "faults", "served"), ROWS)
def test_the_least_cost_fills_the_cheapest_clusters_first(
    world: World, snapshot: Snapshot, gbps: float, faults: tuple[Fault, ...], served: dict[str, float]
) -> None:
    optimum = solve(world, snapshot, {(ISP, 4): gbps}, *faults)
    prices = prices_of(world, snapshot, ISP)
    assert optimum.gbps == pytest.approx(gbps)
    assert optimum.cost == pytest.approx(sum(amount * prices[site] for site, amount in served.items()))
    assert optimum.rank_0 == pytest.approx(served.get("bom001", 0))
    assert optimum.sources[ORIGIN] == pytest.approx(served.get("origin", 0))


def test_a_scarce_cluster_serves_those_who_save_most(world: World, snapshot: Snapshot) -> None:
    """The exchange serves its own clients; the ISP's clients have a site of their own farther away."""
    optimum = solve(world, snapshot, {(ISP, 4): 300.0, (EXCHANGE, 4): 200.0})
    isp, exchange = prices_of(world, snapshot, ISP), prices_of(world, snapshot, EXCHANGE)
    assert optimum.cost == pytest.approx(200 * isp["del001"] + 100 * isp["bom001"] + 200 * exchange["bom002"])


def test_clients_over_ipv6_are_not_served_where_it_is_down(world: World, snapshot: Snapshot) -> None:
    optimum = solve(world, snapshot, {("2001:db8::1", 6): 100.0, (ISP, 4): 50.0}, ISP_WITHOUT_IPV6)
    own = prices_of(world, snapshot, ISP)["del001"]
    prices = prices_of(world, snapshot, "2001:db8::1")
    others = min(price for site, price in prices.items() if site not in ("bom001", "del001"))
    assert optimum.cost == pytest.approx(50.0 * own + 100.0 * others)
