"""What faults do to appliances."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from steering.simulation.scorecard.conditions import Conditions
from steering.simulation.scorecard.scenarios import BY_NAME, Fault
from steering.simulation.scorecard.world import World


def conditions(world: World, *faults: Fault, now: float = 0.0) -> Conditions:
    made = Conditions(world, dataclasses.replace(BY_NAME["friday"], faults=faults), 1)
    made.advance(now)
    return made


def test_without_a_fault_all_deliver_what_they_claim(world: World) -> None:
    made = conditions(world)
    assert made.alive.all()
    assert made.gbps.tolist() == made.claimed.tolist() == [100.0] * 8
    assert made.capacity_of_clusters().tolist() == made.ipv6_of_clusters().tolist() == [200.0] * 4


EFFECTS = [  # effect, factor; then of one that is concerned: alive, delivers, claims, over IPv6
    ("dead", 0.0, (False, 0.0, 100.0, True)),
    ("delivers", 0.5, (True, 50.0, 100.0, True)),
    ("claims", 0.5, (True, 100.0, 50.0, True)),
    ("no_ipv6", 0.0, (True, 100.0, 100.0, False)),
    ("maintenance", 0.0, (True, 100.0, 100.0, True)),
]


@pytest.mark.parametrize(("effect", "factor", "expected"), EFFECTS)
def test_a_fault_concerns_the_chosen_ones_alone(
    world: World, effect: str, factor: float, expected: tuple[bool, float, float, bool]
) -> None:
    made = conditions(world, Fault(effect, "largest_exchange", factor=factor))
    concerned = [index for index, name in enumerate(world.appliances.ids) if name.endswith("bom002")]
    for index in range(8):
        state = made.alive[index], made.gbps[index], made.claimed[index], made.ipv6[index]
        assert state == (expected if index in concerned else (True, 100.0, 100.0, True))
    assert made.in_maintenance.tolist() == (concerned if effect == "maintenance" else [])


def test_a_leak_grows(world: World) -> None:
    leak = Fault("delivers", "largest_exchange", 0, 100, factor=0.4, gradual=True)
    assert [conditions(world, leak, now=now).gbps.min() for now in (0, 50, 99)] == pytest.approx([100, 70, 40.6])


def test_a_client_can_use_what_is_alive_in_its_family(world: World) -> None:
    made = conditions(world, Fault("no_ipv6", "largest_exchange"), Fault("dead", "largest_isp"))
    exchange, isp = (
        next(index for index, name in enumerate(world.appliances.ids) if name.endswith(site))
        for site in ("bom002", "bom001")
    )
    asked = np.array([exchange, exchange, isp, -1, -2])
    assert made.usable(asked, np.array([4, 6, 4, 4, 6])).tolist() == [True, False, False, False, False]
