"""The demand generator has the figures that it was fitted to."""

from __future__ import annotations

import numpy as np
import pytest

from steering.simulation.concentration import TITLES
from steering.simulation.popularity import (
    LAUNCH_BOOST,
    LAUNCHED,
    LAUNCHES_A_DAY,
    launch_boosts,
    level_of_day,
    regional_shares,
    title_weights,
)

CONCENTRATION = [  # the share of the most popular titles, and their hours, published
    (1 / TITLES, 0.007),
    (10 / TITLES, 0.043),
    (100 / TITLES, 0.193),
    (0.01, 0.25),
    (0.05, 0.54),
    (0.1, 0.70),
    (0.2, 0.84),
    (0.5, 0.97),
]


@pytest.mark.parametrize(("titles", "hours"), CONCENTRATION)
def test_the_most_popular_titles_have_the_published_share_of_hours(titles: float, hours: float) -> None:
    weights = title_weights()
    assert weights.sum() == pytest.approx(1.0)
    assert weights[: round(titles * TITLES)].sum() == pytest.approx(hours, abs=0.01)


HOURS = [(21.5, False, 1.0), (5.0, False, 1 / 8), (29.0, False, 1 / 8), (21.5, True, 1.15)]


@pytest.mark.parametrize(("hour", "weekend", "level"), HOURS)
def test_the_day_has_its_peak_and_its_trough(hour: float, weekend: bool, level: float) -> None:
    assert level_of_day(hour, weekend) == pytest.approx(level)


def test_the_peak_is_nearly_twice_the_mean_of_a_day() -> None:
    levels = [level_of_day(minute / 60) for minute in range(24 * 60)]
    assert max(levels) / (sum(levels) / len(levels)) == pytest.approx(1.9, abs=0.01)


def test_a_launch_is_boosted_and_fades() -> None:
    boosts = launch_boosts(TITLES, np.random.default_rng(1))
    launched = np.sort(boosts[boosts != 1])[::-1]
    assert len(launched) == LAUNCHES_A_DAY * LAUNCHED
    assert launched[0] == LAUNCH_BOOST
    assert launched[7 * LAUNCHES_A_DAY] == pytest.approx(LAUNCH_BOOST / 2)


def test_regions_differ_in_taste_and_a_seed_decides() -> None:
    shares, again, other = (regional_shares(3, np.random.default_rng(seed), 1000) for seed in (1, 1, 2))
    assert shares.shape == (3, 1000)
    assert np.all(np.diff(shares, axis=1) >= 0)
    assert shares[:, -1] == pytest.approx(1.0)
    assert np.array_equal(shares, again)
    assert not np.array_equal(shares, other)
    tops = [set(np.argsort(-np.diff(row, prepend=0))[:20]) for row in shares]
    assert 0 < len(tops[0] & tops[1]) < 20
