"""The baselines pick what their names say."""

from __future__ import annotations

import numpy as np
import pytest

from _fastpath.audience import NONE
from steering.decision.snapshot import Snapshot
from steering.simulation.scorecard.baselines import Baseline, Geographic, Greedy, Random
from steering.simulation.scorecard.conditions import Conditions
from steering.simulation.scorecard.demand import Demand, Titles
from steering.simulation.scorecard.players import ASKED, Picks, Players
from steering.simulation.scorecard.scenarios import BY_NAME
from steering.simulation.scorecard.world import World


def start(world: World, titles: Titles, snapshot: Snapshot, kind: type[Baseline], load: dict[str, float]) -> Picks:
    """Return the picks for all seats of the ISP's clients, 1 Gbit/s each, where appliances have this load."""
    demand = Demand(world, titles, BY_NAME["overload"], 8000, 1)
    demand.gbps[:] = 1.0
    conditions = Conditions(world, BY_NAME["overload"], 1)
    conditions.advance(0.0)
    conditions.alive[world.appliances.ids.index("c002-del001")] = False
    policy = kind(world, demand, conditions, 1)
    players = Players(demand, conditions, policy)
    if isinstance(policy, Greedy):
        policy.players = players
    loads = np.array([load.get(name, 0.0) for name in world.appliances.ids])
    players.load = lambda: loads  # type: ignore[method-assign]
    zone = snapshot.prefixes.lookup("203.0.113.5")
    return policy.start(np.flatnonzero(demand.groups.zone[demand.group] == zone), 0)


def names_of(world: World, picks: Picks) -> list[set[str]]:
    """Return the appliances that are named in each column."""
    return [{world.appliances.ids[index] for index in column if index != NONE} for column in picks.T[:ASKED].tolist()]


def test_greedy_takes_the_room_of_the_nearest_cluster(world: World, titles: Titles, snapshot: Snapshot) -> None:
    load = {"c001-bom001": 98.0, "c002-bom001": 97.5, "c001-bom002": 60.0}
    picks = start(world, titles, snapshot, Greedy, load)
    first = [world.appliances.ids[index] for index in picks[:, 0].tolist()]
    # Room for 2 and 2.5: four sessions of 1 Gbit/s fit, then the next rank has its turn.
    assert sorted(first[:4]) == ["c001-bom001", "c001-bom001", "c002-bom001", "c002-bom001"]
    assert first[0] == "c002-bom001"
    assert set(first[4:104]) == {"c001-del001"}  # the other one is dead
    assert first[104] == "c002-bom002"
    assert names_of(world, picks[:1])[1:] == [{"c001-del001"}, {"c002-bom002"}]


def test_greedy_names_nothing_where_nothing_has_room(world: World, titles: Titles, snapshot: Snapshot) -> None:
    picks = start(world, titles, snapshot, Greedy, dict.fromkeys(world.appliances.ids, 100.0))
    assert (picks == NONE).all()


def test_geography_takes_the_nearest_clusters_whatever_their_rank(
    world: World, titles: Titles, snapshot: Snapshot
) -> None:
    picks = start(world, titles, snapshot, Geographic, {})
    assert names_of(world, picks) == [
        {"c001-del001", "c002-del001"},
        {"c001-bom001", "c002-bom001"},
        {"c001-bom002", "c002-bom002"},
    ]


@pytest.mark.parametrize("column", [0, 1, 2])
def test_random_takes_any_appliance_of_the_ranking(
    world: World, titles: Titles, snapshot: Snapshot, column: int
) -> None:
    picks = start(world, titles, snapshot, Random, {})
    counts = np.bincount(picks[:, column], minlength=8)
    assert counts.min() > 0.05 * counts.sum()
