"""How near a forecast is to one that knows the true rates, and what reading and forecasting a night cost.

Sixty generated days with launches; beside each offload stands that of plain counts with the same half-life. Generator
and forecast have the same launch curves, so the figures of launches are those of a service whose launches are usual.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np

from steering.control.fill.areas import Area
from steering.control.fill.forecast import Forecast
from steering.control.fill.plays import read_plays
from steering.simulation.plays import PlayedArea
from tests.bench.measure import Report
from tests.support.forecast_days import judge

SEEDS = (1, 2, 3)
TITLES = 16_000
DAYS = 60
BARS = {"3000": 0.97, "300": 0.92}


def test_forecast_offload(report: Report) -> None:
    """Share of the clairvoyant's offload on a disk of a tenth of the catalogue, means over areas, days and seeds."""
    areas = [PlayedArea("eu"), PlayedArea("large", "eu", 300_000.0)]
    areas += [PlayedArea(f"3000-{index}", "eu", 3000.0) for index in range(4)]
    areas += [PlayedArea(f"300-{index}", "eu", 300.0) for index in range(4)]
    judged = [judge(areas, DAYS, seed, TITLES)[1] for seed in SEEDS]
    for volume, bar in BARS.items():
        rows = [one for by_area in judged for area, one in by_area.items() if area.startswith(f"{volume}-")]
        ours = statistics.mean(one.forecast for one in rows)
        report.add(f"fill_forecast_offload_{volume}", ours, "share")
        report.add(f"fill_counts_offload_{volume}", statistics.mean(one.counts for one in rows), "share")
        assert ours >= bar
    launch_week = statistics.mean(one.launch_week for by_area in judged for one in by_area.values())
    report.add("fill_forecast_offload_launch_week", launch_week, "share")
    assert launch_week >= 0.90
    assert all(one.forecast >= 0.99 * one.counts for by_area in judged for one in by_area.values())


def test_a_night(report: Report, tmp_path: Path) -> None:
    """A feed of two million rows read; and a day of 100,000 titles in 200 areas scored, counted and forecast."""
    rng = np.random.default_rng(1)
    titles, areas = 100_000, 200
    path = tmp_path / "plays.csv"
    rows = 2_000_000
    shares = np.sort(rng.integers(0, titles, rows))
    with path.open("w") as file:
        file.write("day,area,title,plays\n")
        numbers = zip(
            rng.integers(0, areas, rows).tolist(), shares.tolist(), rng.integers(1, 50, rows).tolist(), strict=True
        )
        file.writelines(f"2026-01-05,a{area},{80_000_000 + title},{plays}\n" for area, title, plays in numbers)
    start = time.perf_counter()
    plays = read_plays(path, "video")
    report.add("fill_plays_read", len(plays) / (time.perf_counter() - start), "rows/s")

    forecast = Forecast(Area(f"a{area}") for area in range(areas))
    forecast.take(plays)
    later = read_plays(path, "video")
    later.days[0] += 1
    start = time.perf_counter()
    forecast.take(later)
    total = sum(float(rates.sum()) for _, rates in forecast.rates(later.days[0] + 1))
    report.add("fill_forecast_night", time.perf_counter() - start, "s")
    assert total > 0
