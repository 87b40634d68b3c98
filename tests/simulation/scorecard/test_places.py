"""Each choice of appliances is the one that its name says."""

from __future__ import annotations

import numpy as np
import pytest

from steering.simulation.scorecard.places import CHOICES
from steering.simulation.scorecard.world import World

CHOSEN = [
    ("largest_sites", {"bom001", "lhr001"}),
    ("largest_isp", {"bom001", "del001"}),
    ("ten_isps", {"bom001", "del001"}),
    ("largest_exchange", {"bom002"}),
]


@pytest.mark.parametrize(("name", "sites"), CHOSEN)
def test_whole_sites_are_chosen(world: World, name: str, sites: set[str]) -> None:
    members = CHOICES[name](world, np.random.default_rng(1))
    assert {world.appliances.ids[index].partition("-")[2] for index in members} == sites
    assert len(members) == 2 * len(sites)


def test_drawn_appliances_are_decided_by_the_seed_and_two_draws_share_none(world: World) -> None:
    one, again = (CHOICES["twentieth"](world, np.random.default_rng(5)) for _ in range(2))
    other = CHOICES["other_twentieth"](world, np.random.default_rng(5))
    assert one.tolist() == again.tolist()
    assert len(one) == 1
    assert set(one).isdisjoint(other)
