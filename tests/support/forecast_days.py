"""Generated days, forecast and judged: the offload of each list beside that of a list by the true rates."""

from __future__ import annotations

import dataclasses
import datetime
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from steering.control.fill.areas import Area
from steering.control.fill.catalogue import CatalogueTitle
from steering.control.fill.forecast import DISK, Forecast
from steering.control.fill.launches import Launch
from steering.control.fill.offload import offload, titles_on_disk
from steering.simulation.plays import FIRST_DAY, PlayedArea, Plays

BEGAN = datetime.datetime.combine(FIRST_DAY, datetime.time(), datetime.UTC).timestamp()
DAY_S = 86_400
LEARNING = 14  # days that are not judged
GUESS = 0.5  # sigma of the error of what was expected of a launch


@dataclasses.dataclass(frozen=True)
class Judged:
    """Shares of the clairvoyant's offload, means over days; `launch_week` is of titles in their first seven days."""

    forecast: float
    counts: float
    launch_week: float


def catalogue_of(plays: Plays) -> list[CatalogueTitle]:
    """Return the catalogue of generated titles; those of before the first hundred days have no launch."""
    return [
        CatalogueTitle(
            title,
            int(plays.bytes[index]),
            kind=plays.kind_of(index),
            available_from=BEGAN + DAY_S * int(plays.launched[index]) if plays.launched[index] > -1000 else None,
        )
        for index, title in enumerate(plays.titles)
    ]


def judge(areas: Sequence[PlayedArea], days: int, seed: int, titles: int) -> tuple[Forecast, dict[str, Judged]]:
    """Forecast day after day, each launch announced the day before with a guess, and judge the lists."""
    plays = Plays(areas, days, seed, titles)
    forecast = Forecast(Area(area.id, area.parent) for area in areas)
    forecast.use_catalogue(catalogue_of(plays))
    guesses = np.random.default_rng([seed, 12])
    rows = np.array([forecast.areas.rows[area.id] for area in plays.areas])
    disk = DISK * plays.bytes.sum()
    shares: dict[str, list[tuple[float, float]]] = defaultdict(list)
    young_bytes: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(2))
    for day in plays:
        new = np.flatnonzero(plays.launched == day.number)
        expected = day.rates[:, new].sum(axis=0) * 7 * np.exp(GUESS * guesses.standard_normal(len(new)))
        at = BEGAN + DAY_S * day.number
        forecast.use_launches(
            [Launch(plays.titles[i], at, plays_first_week=float(e)) for i, e in zip(new, expected, strict=True)]
        )
        number = day.date.toordinal()
        if day.number >= LEARNING:
            young = (plays.launched <= day.number) & (day.number - plays.launched < 7)
            for row, rates in forecast.forecast_rates(number):
                for index in np.flatnonzero(rows == row):
                    true = day.rates[index]
                    lists = (rates, forecast.plain_rates(row, number, rates), true)
                    held = [titles_on_disk(one, plays.bytes, disk) for one in lists]
                    ours, counts, best = (offload(one, true, plays.bytes) for one in held)
                    name = plays.areas[index].id
                    shares[name].append((ours / best, counts / best))
                    young_bytes[name] += [(true * plays.bytes)[one & young].sum() for one in (held[0], held[2])]
        taken_rows, taken = np.nonzero(day.plays)
        counted = day.plays[taken_rows, taken].astype(float)
        forecast.take_day(number, list(forecast.counts(rows[taken_rows], taken, counted)))
    return forecast, {
        name: Judged(*np.mean(shares[name], axis=0), young_bytes[name][0] / young_bytes[name][1]) for name in shares
    }
