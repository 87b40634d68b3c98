"""Demand follows its curve exactly, and sessions follow one another in a seat."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from steering.simulation.scorecard.demand import MEAN_SESSION_S, Demand, Titles, schedule
from steering.simulation.scorecard.scenarios import BY_NAME, LENGTH_S, WARM_UP_S
from steering.simulation.scorecard.world import World


def play(demand: Demand, last: int) -> list[tuple[int, int]]:
    """Advance to a second; return how many sessions ended for good and how many began, by second."""
    return [(len(left), len(begun)) for left, begun in map(demand.advance, range(-WARM_UP_S, last + 1))]


@pytest.mark.parametrize("now", [-200, 0, 240, LENGTH_S])
def test_demand_follows_the_curve(world: World, titles: Titles, now: int) -> None:
    demand = Demand(world, titles, BY_NAME["maintenance"], 4000, 1)
    play(demand, now)
    level = BY_NAME["maintenance"].level(now)
    assert demand.by_group().sum() == pytest.approx(800 * level, rel=0.005)
    assert demand.by_group() == pytest.approx(world.groups.gbps * level, rel=0.02, abs=0.3)


def test_countries_differ_on_friday(world: World, titles: Titles) -> None:
    demand = Demand(world, titles, BY_NAME["friday"], 4000, 1)
    play(demand, 0)
    levels = demand.levels(0.0)
    assert np.all((levels >= 0.7) & (levels <= 0.9))
    assert len(set(levels.tolist())) == len(set(world.groups.region.tolist()))


def test_a_live_event_triples_one_country(world: World, titles: Titles) -> None:
    demand = Demand(world, titles, BY_NAME["live_event"], 4000, 1)
    play(demand, 0)
    before = demand.by_group()
    play_on = [demand.advance(now) for now in range(1, 400)]
    assert play_on
    factors = demand.by_group() / before
    surging = demand.surging
    assert 0 < surging.sum() < len(surging)
    assert factors[surging] == pytest.approx(3.0, rel=0.05)
    assert factors[~surging] == pytest.approx(1.0)


def test_sessions_end_and_others_begin_in_their_seats(world: World, titles: Titles) -> None:
    demand = Demand(world, titles, BY_NAME["isp_lost"], 4000, 1)
    changes = play(demand, LENGTH_S)
    assert sum(left for left, _ in changes) == 0
    begun = sum(count for _, count in changes[WARM_UP_S:])
    assert begun == pytest.approx(3000 * LENGTH_S / MEAN_SESSION_S, rel=0.1)


def test_a_flash_title_takes_a_third_of_the_starts(world: World, titles: Titles) -> None:
    demand = Demand(world, titles, BY_NAME["flash_title"], 4000, 1)
    play(demand, 0)
    assert not np.any(demand.title[demand.taken] == titles.count)
    assert np.mean(demand.requests(3000, 400.0).title == titles.count) == pytest.approx(1 / 3, abs=0.03)


def test_titles_are_drawn_by_their_popularity_in_a_region(titles: Titles) -> None:
    rng = np.random.default_rng(1)
    shares = np.diff(titles.cumulated[: titles.count], prepend=0)
    drawn = np.bincount(titles.draw(np.zeros(200_000, np.int64), 0.0, rng), minlength=titles.count) / 200_000
    top = np.argsort(-shares)[:20]
    assert drawn[top] == pytest.approx(shares[top], rel=0.15)
    assert titles.draw(np.full(50, len(titles.cumulated) // titles.count - 1), 0.0, rng).max() < titles.count


def test_the_seed_decides_everything(world: World, titles: Titles) -> None:
    one, again, other = (Demand(world, titles, BY_NAME["friday"], 1000, seed) for seed in (1, 1, 2))
    for demand in (one, again, other):
        play(demand, 10)
    assert np.array_equal(one.title, again.title)
    assert np.array_equal(one.viewer, again.viewer)
    assert np.array_equal(one.requests(9, 1.0).title, again.requests(9, 1.0).title)
    assert not np.array_equal(one.viewer, other.viewer)


def test_seats_are_due_at_their_times_up_to_the_last() -> None:
    due: dict[int, list[np.ndarray]] = defaultdict(list)
    schedule(due, np.array([5, 3, 5, 9]), np.array([10, 11, 12, 13]), last=8)
    assert {time: np.concatenate(parts).tolist() for time, parts in due.items()} == {3: [11], 5: [10, 12]}
