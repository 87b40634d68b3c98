"""What plans cost, how good they are beside a solver and a bound, and what they keep off the links beside caches.

Part of `make bench`, never of `make test`. Seconds are of CPU. Needs numpy and scipy.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from steering.control.fill.areas import Area
from steering.control.fill.forecast import Forecast
from steering.control.fill.launches import Launch
from steering.control.fill.network import Disk, Network, Viewers
from steering.control.fill.placement import FILLED, Placement
from steering.simulation.plays import PlayedArea, Plays
from steering.simulation.popularity import level_of_day
from tests.bench import demand_caches
from tests.bench.measure import SEED, Report
from tests.control.fill.test_placement import instance, placed
from tests.support import fill_judge
from tests.support.forecast_days import BEGAN, DAY_S, GUESS, catalogue_of

CHILD = Path(__file__).with_name("fill_plan_child.py")
INSTANCES = 50

TITLES = 16_000
LEARNING = 46  # days; caches are warm after them
JUDGED = 14
COUNTRIES = 6
COUNTRY_PLAYS = 300_000.0  # a day
SITE_PLAYS = 10_000.0  # of one of them
PEAK = 21  # the busiest hour
TRUE = "true rates"
NIGHT = 5  # when the plan's titles are there


def test_fill_plan(report: Report, published: Path, tmp_path: Path) -> None:
    """Two plans at full size, cold and warm, with placement, layout and file, in a process of its own."""
    child = subprocess.run([sys.executable, CHILD, published], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-1000:]
    cold, warm = json.loads(child.stdout)
    report.add("fill_plan_s cold", cold["plan_s"], "s", "bar", 60)
    report.add("fill_plan_s cold, placement", cold["solve_s"], "s")
    report.add("fill_plan_s warm", warm["plan_s"], "s", "bar", 20)
    report.add("fill_plan_s warm, placement", warm["solve_s"], "s")
    report.add("fill_plan_rss", max(cold["rss"], warm["rss"]), "bytes", "bar", 1e9)
    report.add("fill_gap cold", cold["gap"], "share", "bar", 0.005)
    report.add("fill_gap warm", warm["gap"], "share", "bar", 0.005)
    assert max(cold["gap"], warm["gap"]) <= 0.005


def test_fill_vs_milp(report: Report) -> None:
    """The value of 50 small plans as a share of the one HiGHS proves to be within 0.5 % of the best."""
    shares = []
    for seed in range(INSTANCES):
        network, rates, sizes = instance(seed)
        _, _, value, _ = placed(network, rates, sizes)
        shares.append(value / fill_judge.best_value(network, rates, sizes, FILLED, whole=True))
    report.add("fill_vs_milp worst", min(shares), "share", "bar", 0.99)
    report.add("fill_vs_milp median", statistics.median(shares), "share", "bar", 0.99)
    assert min(shares) >= 0.99


class Site:
    """A site of one cluster and its requests; each night's plan is made of the forecast of its country.

    As for the caches, all its disks are one, and hold a title once.
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 19])
        areas = [PlayedArea(f"country-{number}", "*", COUNTRY_PLAYS) for number in range(COUNTRIES)]
        self.plays = Plays(areas, LEARNING + JUDGED, seed, TITLES)
        self.sizes = self.plays.bytes
        self.rates: list[dict[str, NDArray[np.float64]]] = []  # of each judged day: forecast, and true
        forecast = Forecast(Area(area.id, area.parent) for area in areas)
        forecast.use_catalogue(catalogue_of(self.plays))
        rows = np.array([forecast.areas.rows[area.id] for area in areas])
        hours = np.array([level_of_day(hour + 0.5) for hour in range(24)])
        requests, at = [], []
        for day in self.plays:
            self.announce(forecast, day.number, day.rates, rng)
            if day.number >= LEARNING:
                named = dict(forecast.rates(day.date.toordinal()))
                self.rates.append(
                    {name: named[name].astype(float) for name in ("country-0", "*")} | {TRUE: day.rates[0]}
                )
            here = rng.binomial(day.plays[0], SITE_PLAYS / COUNTRY_PLAYS)
            titles = rng.permutation(np.repeat(np.arange(TITLES), here))
            # A day of fills begins at NIGHT, when the titles of the plan are there.
            times = np.sort((rng.choice(24, len(titles), p=hours / hours.sum()) - NIGHT) % 24)
            requests.append(titles)
            at.append(day.number * 24 + times)
            taken_rows, taken = np.nonzero(day.plays)
            counted = day.plays[taken_rows, taken].astype(float)
            forecast.take_day(day.date.toordinal(), list(forecast.counts(rows[taken_rows], taken, counted)))
        self.requests, self.hour = np.concatenate(requests), np.concatenate(at)

    def announce(self, forecast: Forecast, day: int, rates: NDArray[np.float64], rng: np.random.Generator) -> None:
        """Announce the launches of a day, with a guess of their first week."""
        new = np.flatnonzero(self.plays.launched == day)
        expected = rates[:, new].sum(axis=0) * 7 * np.exp(GUESS * rng.standard_normal(len(new)))
        forecast.use_launches(
            Launch(self.plays.titles[title], BEGAN + DAY_S * day, plays_first_week=float(plays))
            for title, plays in zip(new, expected, strict=True)
        )

    def in_peak_hour(self, misses: NDArray[np.bool_]) -> float:
        """Return the bytes from outside in the busiest hour of the judged days."""
        peak = (self.hour >= LEARNING * 24) & (self.hour % 24 == (PEAK - NIGHT) % 24)
        return float((self.sizes[self.requests] * (misses & peak)).sum())

    def planned(self, disk: float, name: str) -> tuple[NDArray[np.bool_], float]:
        """Return the requests that miss the plans of each night, and the share of the disk that a night adds."""
        misses = np.ones(len(self.requests), np.bool_)
        network = Network([[Disk(0, int(disk), 1)]], [], [Viewers(name, 1.0, 0, (1.0,), ())], 0.4)
        held = np.zeros((1, TITLES), np.uint16)
        prices, added = None, []
        for number, rates in enumerate(self.rates):
            rows = np.array([rates[name]], np.float32)
            placement = Placement(network, [name], rows, self.sizes, held.__getitem__ if number else None)
            prices, _ = placement.solve(prices)
            added.append(float(self.sizes[(placement.sets[0] > 0) & (held[0] == 0)].sum()) / disk)
            held = placement.sets.copy()
            today = self.hour // 24 == LEARNING + number
            misses[today] = held[0][self.requests[today]] == 0
        return misses, statistics.mean(added[1:])


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
def test_fill_vs_lru(report: Report, site: Site, share: float) -> None:
    """Bytes from outside in the busiest hours of 14 days, beside caches on the same disks, warm after 46 days."""
    disk = share * float(site.sizes.sum())
    misses, added = site.planned(disk, "country-0")
    ours = site.in_peak_hour(misses)
    requests, sizes = site.requests.tolist(), site.sizes.tolist()
    name = f"fill_vs_lru, disk {share:.0%}"
    for peer in (demand_caches.lru, demand_caches.lfu, demand_caches.belady):
        report.add(name, ours, "bytes", peer.__name__, site.in_peak_hour(peer(requests, sizes, disk * FILLED)))
    report.add(name, ours, "bytes", "global list", site.in_peak_hour(site.planned(disk, "*")[0]))
    report.add(name, ours, "bytes", TRUE, site.in_peak_hour(site.planned(disk, TRUE)[0]))
    report.add(name, ours, "bytes", "no disk", site.in_peak_hour(np.ones(len(requests), np.bool_)))
    report.add(f"fill_nightly, disk {share:.0%}", added, "share", "bar", 0.033)


@pytest.fixture(scope="module")
def site() -> Site:
    return Site(SEED)
