"""The figures, in moments small enough to compute by hand."""

from __future__ import annotations

import numpy as np
import pytest

from _fastpath.audience import FALLBACK
from steering.decision.snapshot import Snapshot
from steering.simulation.scorecard.baselines import Random
from steering.simulation.scorecard.conditions import Conditions
from steering.simulation.scorecard.demand import Demand, Titles
from steering.simulation.scorecard.metrics import Meter, Sample, figures_of, medians_of, settled_s, take_sample
from steering.simulation.scorecard.oracle import Optimum
from steering.simulation.scorecard.players import Players
from steering.simulation.scorecard.scenarios import BY_NAME
from steering.simulation.scorecard.world import ORIGIN, SOURCES, World


@pytest.fixture
def players(world: World, titles: Titles) -> Players:
    """Return players of which no seat is taken yet, each seat of 1 Gbit/s."""
    scenario = BY_NAME["overload"]
    demand = Demand(world, titles, scenario, 8000, 1)
    demand.gbps[:] = 1.0
    conditions = Conditions(world, scenario, 1)
    conditions.advance(0.0)
    return Players(demand, conditions, Random(world, demand, conditions, 1))


def seat(players: Players, world: World, snapshot: Snapshot, counts: dict[str, int]) -> np.ndarray:
    """Let so many of the ISP's clients play at each appliance or at the origin; return each seat's option."""
    zone = snapshot.prefixes.lookup("203.0.113.5")
    free = np.flatnonzero(players.demand.groups.zone[players.demand.group] == zone).tolist()
    option = np.full(len(players.current), -1)
    for name, count in counts.items():
        seats, free = free[:count], free[count:]
        assert len(seats) == count
        players.demand.taken[seats] = True
        players.current[seats] = FALLBACK if name == "origin" else world.appliances.ids.index(name)
        if name != "origin":
            cluster = world.appliances.cluster[players.current[seats]]
            option[seats] = world.options_of(np.full(count, zone), cluster)
    return option


def test_a_moment_costs_what_its_parts_cost(players: Players, world: World, snapshot: Snapshot) -> None:
    """150 Gbit/s at one appliance of 100 in Mumbai, 30 at its neighbour, 40 in Delhi, 10 from the origin."""
    counts = {"c001-bom001": 150, "c002-bom001": 30, "c001-del001": 40, "origin": 10}
    option = seat(players, world, snapshot, counts)
    sample = take_sample(0, world, players, players.conditions, option)
    begin = world.options.first[snapshot.prefixes.lookup("203.0.113.5")]
    mumbai, delhi = world.options.price[begin], world.options.price[begin + 1]
    assert sample.demanded == 230
    assert (sample.delivered, sample.lost, sample.rank_0) == pytest.approx((180, 50, 130))
    assert sample.cost == pytest.approx(130 * mumbai + 40 * delhi + 10 * 12 + 50 * 24)
    assert sample.sources == pytest.approx((170, 0, 0, 0, 10))
    assert sample.km == pytest.approx(130 * world.options.km[begin] + 40 * world.options.km[begin + 1])
    # The busiest of Mumbai has 1.5, its mean is 0.9; Delhi's mean of 0.2 is not busy.
    assert sample.unfairness == pytest.approx(1.5 / 0.9)


def test_a_second_counts_overload_moves_and_bad_first_targets(
    players: Players, world: World, snapshot: Snapshot
) -> None:
    seat(players, world, snapshot, {"c001-bom001": 150, "c001-del001": 40})
    taken = np.flatnonzero(players.demand.taken)
    players.begun = taken[:4]
    players.first = np.array([0, 1, -1, 1])
    players.moved, players.failed = taken[:5], taken[:3]
    meter = Meter()
    load = players.load()
    meter.count(players, players.conditions, load, load)
    assert (meter.seconds, meter.demanded, meter.excess, meter.overloaded) == (1, 190, 50, 1)
    assert (meter.moved, meter.failed) == (5, 3)
    assert (meter.begun, meter.begun_badly) == (3, 1)
    players.conditions.alive[1] = False
    meter.count(players, players.conditions, load, load * 0)
    assert (meter.begun, meter.begun_badly) == (6, 3)


def sample_of(at: int, cost: float) -> Sample:
    return Sample(at, cost, 100.0, 98.0, 2.0, 60.0, 9000.0, (60.0, 0.0, 28.0, 0.0, 10.0), 1.1)


def test_figures_are_shares_of_what_is_demanded(world: World) -> None:
    meter = Meter()
    meter.samples = [sample_of(0, 300.0), sample_of(30, 330.0)]
    meter.demanded, meter.moved, meter.failed, meter.excess = 7200.0, 4.0, 1.0, 16_000.0
    meter.begun, meter.begun_badly = 200, 3
    optimum = Optimum(200.0, 100.0, 80.0, np.array([80.0, 0, 20.0, 0, 0]))
    figures = figures_of(meter, [optimum, optimum], 0)
    expected = {
        "cost_ratio": 1.575,
        "rank_0": 0.6,
        "rank_0_of_oracle": 0.8,
        "fallback": 0.1,
        "fallback_of_oracle": 0.0,
        "not_delivered": 0.02,
        "distance_km": 102.272727,
        "moves_per_session_hour": 2.0,
        "failures_per_session_hour": 0.5,
        "overload_tb": 2.0,
        "bad_first_targets": 0.015,
        "from_embedded": 0.6,
        "from_exchange_of_oracle": 0.2,
        "unfairness": 1.1,
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert figures["cost_ratios"] == [1.5, 1.65]
    assert SOURCES[ORIGIN] == "origin"


SETTLED = [
    ([1.0, 1.0, 2.0, 1.5, 1.0, 1.0, 1.0, 1.0, 1.0], 45, 75),
    ([1.0] * 9, 45, 0),
    ([1.0] * 9, None, None),
    ([2.0] * 9, 30, 0),
]


@pytest.mark.parametrize(("ratios", "event_s", "seconds"), SETTLED)
def test_loads_have_settled_when_the_cost_stays_near_its_last_value(
    ratios: list[float], event_s: float | None, seconds: float | None
) -> None:
    assert settled_s([30 * index for index in range(9)], ratios, event_s) == seconds


def test_medians_are_of_the_seeds_of_a_scenario_and_a_kind() -> None:
    rows = [
        {"scenario": name, "players": "sticky", "seed": seed, "cost_ratio": ratio, "settled_s": None, "at": []}
        for name, seed, ratio in [("a", 1, 1.0), ("a", 2, 3.0), ("a", 3, 1.5), ("b", 1, 9.0)]
    ]
    assert medians_of(rows) == [
        {"scenario": "a", "players": "sticky", "cost_ratio": 1.5, "settled_s": None},
        {"scenario": "b", "players": "sticky", "cost_ratio": 9.0, "settled_s": None},
    ]
