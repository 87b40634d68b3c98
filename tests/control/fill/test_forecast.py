"""The forecast: against the clairvoyant, beside plain counts, through launches, weekdays and restarts."""

from __future__ import annotations

import datetime
import subprocess
import sys
from array import array

import numpy as np
import pytest

from steering.control.fill.areas import Area, in_order
from steering.control.fill.catalogue import CatalogueTitle
from steering.control.fill.feed_rows import Refused
from steering.control.fill.forecast import KEEPS, LOST_DAYS, SHAPE, Forecast, weekday_of
from steering.control.fill.launch_curves import BOOST, FALLS
from steering.control.fill.launches import Launch
from steering.control.fill.plays import Plays
from steering.errors import FeedError
from steering.simulation.plays import PlayedArea
from tests.support.forecast_days import judge

MONDAY = datetime.date(2026, 1, 5).toordinal()
DAY_S = 86_400.0
AT = datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC).timestamp()


def feed(rows: list[tuple[int, str, str, float]]) -> Plays:
    """Return a feed of rows: days since Monday, area, title and plays."""
    days, areas, titles = (sorted({row[column] for row in rows}, key=str) for column in range(3))
    return Plays(
        "f", "", "video", [MONDAY + day for day in days], areas, titles,  # type: ignore[misc]
        array("H", [days.index(row[0]) for row in rows]), array("H", [areas.index(row[1]) for row in rows]),
        array("I", [titles.index(row[2]) for row in rows]), array("d", [row[3] for row in rows]), array("d"),
        Refused("f"),
    )  # fmt: skip


def rates_of(forecast: Forecast, area: str, day: int) -> dict[str, float]:
    rates = dict(forecast.rates(MONDAY + day))[area]
    return dict(zip(forecast.titles.ids, map(float, rates), strict=True))


def test_the_forecast_is_near_the_clairvoyant_and_never_behind_plain_counts() -> None:
    areas = [PlayedArea("eu"), PlayedArea("large", "eu", 60_000.0)]
    areas += [PlayedArea("de", "eu", 3000.0), PlayedArea("fr", "eu", 3000.0)]
    areas += [PlayedArea("lu", "eu", 300.0), PlayedArea("isp", "de", 300.0, 0.3)]
    _, judged = judge(areas, 60, 1, 4000)
    for area in ("large", "de", "fr"):
        assert judged[area].forecast >= 0.97, area
        assert judged[area].launch_week >= 0.90, area
    for area in ("lu", "isp"):
        assert judged[area].forecast >= 0.92, area
    for area, one in judged.items():
        assert one.forecast >= 0.99 * one.counts, area


def test_the_rate_is_the_mean_of_the_posterior() -> None:
    forecast = Forecast([Area("de")])
    forecast.take(feed([(0, "de", "a", 6.0), (0, "de", "b", 2.0), (1, "de", "a", 1.0), (1, "*", "b", 4.0)]))
    y = {"a": KEEPS * 6 + 1, "b": KEEPS * 2 + 4}
    n = KEEPS + 1
    mean = sum(y.values()) / n / 2
    world = {title: (y[title] + SHAPE) / (n + SHAPE / mean) for title in y}
    assert rates_of(forecast, "*", 2) == pytest.approx(world)
    own = {"a": KEEPS * 6 + 1, "b": KEEPS * 2}
    share = sum(own.values()) / sum(y.values())
    expected = {title: (own[title] + SHAPE) / (n + SHAPE / (world[title] * share)) for title in own}
    assert rates_of(forecast, "de", 2) == pytest.approx(expected)


def test_an_area_without_plays_of_a_title_has_what_the_area_above_has() -> None:
    forecast = Forecast([Area("eu"), Area("de", "eu"), Area("isp", "de")])
    for day in range(10):
        rows = [(day, "de", title, plays) for title, plays in (("a", 900.0), ("b", 90.0), ("c", 9.0), ("d", 1.0))]
        forecast.take(feed([*rows, (day, "isp", "d", 1.0)]))
    rates = rates_of(forecast, "isp", 10)
    assert rates["a"] > rates["b"] > rates["c"] > 0
    assert sum(rates_of(forecast, "*", 10).values()) == pytest.approx(1001, rel=0.02)


def test_days_are_counted_once_and_in_order_and_areas_without_rows_have_no_day() -> None:
    forecast = Forecast([Area("de"), Area("fr")])
    forecast.take(feed([(2, "de", "a", 5.0), (1, "de", "a", 3.0), (1, "fr", "a", 1.0)]))
    assert forecast.day == MONDAY + 2
    assert forecast.y[forecast.areas.rows["de"], 0] == pytest.approx(KEEPS * 3 + 5)
    assert forecast.n[forecast.areas.rows["fr"], 0] == 1
    forecast.take(feed([(2, "de", "a", 5.0), (0, "fr", "a", 1.0)]))
    assert forecast.y[forecast.areas.rows["de"], 0] == pytest.approx(KEEPS * 3 + 5)
    forecast.take(feed([(3, "nowhere", "a", 7.0)]))
    assert forecast.y[0, 0] == pytest.approx(((1 + 3) * KEEPS + 5) * KEEPS + 7)


EXPECTED = [
    ("plays", Launch("new", AT + 10 * DAY_S, plays_first_week=7000.0), 1000.0),
    ("like", Launch("new", AT + 10 * DAY_S, like="old"), 100.0),
    ("like nothing counted", Launch("new", AT + 10 * DAY_S, like="none"), 10.0 * BOOST),
    ("percentile", Launch("new", AT + 10 * DAY_S, percentile=1.0), 50.0 * BOOST),
]


@pytest.mark.parametrize(("launch", "rate"), [row[1:] for row in EXPECTED], ids=[row[0] for row in EXPECTED])
def test_a_launch_has_what_is_expected_of_it_until_it_is_counted(launch: Launch, rate: float) -> None:
    forecast = Forecast()
    forecast.use_catalogue([CatalogueTitle("old", 1, "", "film", AT)])
    for day in range(10):
        rows = [(day, "*", f"t{index}", 10.0 if index < 8 else 50.0) for index in range(9)]
        forecast.take(feed([*rows, (day, "*", "old", 100.0)]))
    forecast.use_launches([launch])
    assert rates_of(forecast, "*", 9)["new"] == 0
    assert rates_of(forecast, "*", 10)["new"] == pytest.approx(rate, rel=0.2)
    forecast.take(feed([(10, "*", "new", 300.0), (10, "*", "t1", 10.0)]))
    assert rates_of(forecast, "*", 11)["new"] == pytest.approx(300, rel=0.1)
    assert rates_of(forecast, "*", 17)["new"] == pytest.approx(300 * FALLS["series"][0], rel=0.1)


def test_a_launch_of_some_areas_is_expected_there() -> None:
    forecast = Forecast([Area("eu"), Area("de", "eu"), Area("isp", "de"), Area("fr", "eu"), Area("in")])
    for day in range(3):
        forecast.take(feed([(day, area, "a", 100.0) for area in ("de", "isp", "fr", "in")]))
    forecast.use_launches([Launch("new", AT + 3 * DAY_S, ("de", "fr"), plays_first_week=2100.0)])
    new = {area: rates_of(forecast, area, 3)["new"] for area in ("*", "de", "fr", "isp", "in")}
    assert new["*"] == pytest.approx(300, rel=0.05)
    assert (new["de"], new["fr"], new["isp"]) == pytest.approx((200, 100, 100), rel=0.05)
    assert new["in"] < 0.2 * new["fr"]


def test_weekdays_are_learned() -> None:
    forecast = Forecast()
    for day in range(70):
        forecast.take(feed([(day, "*", "a", 130.0 if day % 7 >= 4 else 100.0), (day, "*", "b", 50.0)]))
    monday, friday = (sum(rates_of(forecast, "*", day).values()) for day in (70, 74))
    assert friday / monday == pytest.approx(180 / 150, rel=0.03)
    assert weekday_of(MONDAY) == 0


def test_an_area_where_plain_counts_won_seven_days_uses_them_until_the_forecast_wins() -> None:
    forecast = Forecast([Area("de"), Area("isp", "de")])
    forecast.use_catalogue([CatalogueTitle(f"t{index}", 100) for index in range(10)])  # the disk has room for one
    forecast.take(feed([(0, "de", "t0", 1e9), (0, "isp", "t1", 1e-4)]))
    row = forecast.areas.rows["isp"]
    assert rates_of(forecast, "isp", 1)["t0"] > rates_of(forecast, "isp", 1)["t1"]
    for day in range(1, 1 + LOST_DAYS):
        assert not forecast.plain[row]
        (score,) = [
            one for one in forecast.take(feed([(day, "de", "t0", 1e9), (day, "isp", "t1", 1e-4)])) if one.area == "isp"
        ]
        assert (score.forecast, score.counts, score.best) == (0.0, 1.0, 1.0)
    assert forecast.plain[row]
    assert not forecast.plain[0]
    assert rates_of(forecast, "isp", 10)["t0"] < rates_of(forecast, "isp", 10)["t1"]
    forecast.take(feed([(10, "de", "t0", 1e6), (10, "isp", "t0", 1.0)]))
    assert not forecast.plain[row]


def test_an_expectation_of_nothing_is_overcome_by_counts() -> None:
    forecast = Forecast()
    forecast.take(feed([(0, "*", "a", 100.0)]))
    forecast.use_launches([Launch("new", AT + DAY_S, plays_first_week=0.0)])
    for day in range(1, 4):
        forecast.take(feed([(day, "*", "new", 100.0), (day, "*", "a", 100.0)]))
    assert rates_of(forecast, "*", 4)["new"] == pytest.approx(100, rel=0.2)


TREES = [
    ("unknown", [Area("isp", "de")], "there is no area 'de' above it"),
    ("circle", [Area("a", "b"), Area("b", "a")], "lies below itself"),
    ("itself", [Area("a", "a")], "lies below itself"),
]


@pytest.mark.parametrize(("areas", "message"), [row[1:] for row in TREES], ids=[row[0] for row in TREES])
def test_a_tree_of_areas_has_no_gap_and_no_circle(areas: list[Area], message: str) -> None:
    with pytest.raises(FeedError, match=message):
        in_order(areas)


def test_areas_come_after_the_ones_above_them_and_keep_their_counts() -> None:
    assert [area.id for area in in_order([Area("isp", "de"), Area("de", "eu"), Area("eu")])] == ["*", "eu", "de", "isp"]
    forecast = Forecast([Area("de"), Area("fr")])
    forecast.take(feed([(0, "de", "a", 5.0), (0, "fr", "b", 3.0)]))
    forecast.use_areas([Area("eu"), Area("fr", "eu"), Area("it", "eu")])
    assert forecast.y[forecast.areas.rows["fr"]].tolist() == [0.0, 3.0]
    assert forecast.y[forecast.areas.rows["it"]].tolist() == [0.0, 0.0]
    assert np.isfinite(dict(forecast.rates(MONDAY + 1))["it"]).all()


def test_control_starts_without_numpy() -> None:
    code = "import sys; sys.modules['numpy'] = None; import steering.control.app, steering.cli, steering.control.fill.plays"
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-500:]
