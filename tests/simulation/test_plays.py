"""The generator of daily plays has the published figures of concentration, launches and regional taste."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from steering.control.fill.launch_curves import FALLS, WEEK
from steering.simulation.concentration import TITLES
from steering.simulation.plays import PlayedArea, Plays, launch_curve

HALF_YEAR = 182


@pytest.fixture(scope="module")
def half_year() -> tuple[Plays, np.ndarray]:
    """Return a generator, and the plays of half a year by week, area and title."""
    plays = Plays([PlayedArea(f"c{index}", "*", 1e6) for index in range(6)], HALF_YEAR, 1)
    weeks = np.zeros((HALF_YEAR // WEEK, 6, TITLES))
    for day in plays:
        weeks[day.number // WEEK] += day.plays
    return plays, weeks


def test_the_plays_of_half_a_year_have_the_published_concentration(half_year: tuple[Plays, np.ndarray]) -> None:
    _, weeks = half_year
    listed = np.sort(weeks.sum(axis=(0, 1)))[::-1]
    listed = listed[listed > 0]
    shares = np.cumsum(listed) / listed.sum()
    assert [shares[round(share * len(listed)) - 1] for share in (0.01, 0.05, 0.1, 0.2)] == pytest.approx(
        [0.25, 0.54, 0.70, 0.84], abs=0.02
    )


def test_titles_launched_in_half_a_year_have_the_published_share_of_it(half_year: tuple[Plays, np.ndarray]) -> None:
    plays, weeks = half_year
    by_title = weeks.sum(axis=(0, 1))
    assert by_title[plays.launched >= 0].sum() / by_title.sum() == pytest.approx(0.285, abs=0.03)
    assert not weeks[0, :, plays.launched >= WEEK].any()


def test_two_countries_share_as_much_of_their_weekly_top_tens_as_published(half_year: tuple[Plays, np.ndarray]) -> None:
    _, weeks = half_year
    indexes = []
    for week in weeks:
        tops = [set(np.argsort(-plays, kind="stable")[:10]) for plays in week]
        indexes += [len(one & other) / len(one | other) for one, other in itertools.combinations(tops, 2)]
    assert np.mean(indexes) == pytest.approx(0.28, abs=0.05)


@pytest.mark.parametrize("kind", ["film", "series"])
def test_a_launch_falls_from_week_to_week_as_published(half_year: tuple[Plays, np.ndarray], kind: str) -> None:
    plays, weeks = half_year
    of_kind = plays.is_series == (kind == "series")
    ratios = []
    for age in range(len(FALLS[kind])):
        before = after = 0.0
        for week in range(15):
            launched = of_kind & (plays.launched == week * WEEK)  # so that weeks of age are weeks of the calendar
            before += weeks[week + age, :, launched].sum()
            after += weeks[week + age + 1, :, launched].sum()
        ratios.append(after / before)
    assert ratios == pytest.approx(list(FALLS[kind]), abs=0.1)
    assert launch_curve(kind, 2 * WEEK)[::WEEK] == pytest.approx([1, FALLS[kind][0]])


def test_an_area_has_its_volume_and_more_at_the_weekend_and_a_seed_decides() -> None:
    areas = [PlayedArea("eu"), PlayedArea("de", "eu", 3000.0), PlayedArea("isp", "eu", 300.0, 0.3)]
    days, again, other = (list(Plays(areas, 14, seed, 1000)) for seed in (1, 1, 2))
    assert [day.plays.shape for day in days] == [(2, 1000)] * 14
    assert [day.rates.sum(axis=1).tolist() for day in days[:7:4]] == [
        pytest.approx([3000, 300]),
        pytest.approx([3450, 345]),
    ]
    assert np.mean([day.plays.sum(axis=1) for day in days], axis=0) == pytest.approx([3193, 319], rel=0.05)
    assert all(np.array_equal(one.plays, same.plays) for one, same in zip(days, again, strict=True))
    assert not np.array_equal(days[0].plays, other[0].plays)


def test_an_area_is_like_the_one_above_it() -> None:
    areas = [PlayedArea("de", plays_a_day=1e6), PlayedArea("isp", "de", 1e6, 0.3), PlayedArea("fr", plays_a_day=1e6)]
    near, far = np.corrcoef(np.log(next(iter(Plays(areas, 1, 1, 4000))).rates + 1e-9))[0, 1:]
    assert near > far


def test_a_day_is_written_as_the_feed_of_plays() -> None:
    plays = Plays([PlayedArea("de", plays_a_day=20.0)], 1, 1, 50)
    day = next(iter(plays))
    rows = list(plays.rows(day))
    assert rows[0].startswith("2026-01-05,de,800000")
    assert sum(int(row.split(",")[3]) for row in rows) == day.plays.sum()
