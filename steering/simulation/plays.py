"""Daily plays as a service would count them: titles x areas x days, from one seed. Needs numpy.

The rate of a title in an area on a day is the product of

    popularity  by its rank, drawn once: a stretched exponential, flatter than the published figures of half a year,
                which have launches, taste and drift in them. The plays of half a year have the published shares
    launch      20 times as much in the first week; then it falls by the week, faster for films than for series, until
                the title has the popularity of its rank. So titles of the last half-year have 29 % of its plays
    taste       a log-normal factor of the area, on top of the one of the area above it
    drift       popularity that wanders: 0.12 a day, half of it everywhere alike; it returns to 1 in some weeks
    weekday     15 % more on Friday, Saturday and Sunday

and the plays are Poisson. Areas form a tree; the areas without others below have plays, as they are in a feed.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from steering.control.fill.launch_curves import BOOST, FALLS, WEEK
from steering.simulation.concentration import TITLES
from steering.simulation.popularity import WEEKEND, title_weights

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

STRETCH: Final = 1.4
EXPONENT: Final = 2.7
LAUNCHES: Final = 15 / 16_000  # new titles a day, as a share of all
SERIES: Final = 0.5  # the share of titles that are series
TASTE: Final = 0.6  # sigma of an area: chosen for a Jaccard index of 0.28 of the weekly top tens of two countries
DRIFT: Final = 0.12  # sigma of a day's step
STAYS: Final = 0.96  # of a deviation by drift, from day to day
MEDIAN_BYTES: Final = 3.5e9
BYTES_SIGMA: Final = 0.7
FIRST_DAY: Final = datetime.date(2026, 1, 5)  # a Monday
FIRST_TITLE: Final = 80_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class PlayedArea:
    """An area, the area above it (empty for the world `*`), and its plays a day, 0 where areas below it have them."""

    id: str
    parent: str = "*"
    plays_a_day: float = 0.0
    taste: float = TASTE


@dataclasses.dataclass(frozen=True, slots=True)
class Day:
    """A day's plays: a row for each area that has plays, a column for each title. `rates` are what was expected."""

    number: int
    date: datetime.date
    rates: Floats
    plays: Counts


def launch_curve(kind: str, days: int) -> Floats:
    """Return the plays of a launched title by its age in days, 1 being its first week's mean."""
    falls = FALLS[kind]
    weeks = -(-days // WEEK)
    ratios = np.array([*falls, *([falls[-1]] * max(0, weeks - 1 - len(falls)))][: max(weeks - 1, 0)])
    by_week = np.concatenate(([1.0], np.cumprod(ratios)))
    return np.repeat(by_week, WEEK)[:days]


class Plays:
    """The plays of so many days. `launched` is the day of each title's launch, negative before the first day."""

    def __init__(self, areas: Sequence[PlayedArea], days: int, seed: int, titles: int = TITLES) -> None:
        self.rng = np.random.default_rng([seed, 11])
        self.days = days
        self.titles = [str(FIRST_TITLE + index) for index in range(titles)]
        self.parents = {area.id: area.parent for area in areas}
        self.areas = [area for area in areas if area.plays_a_day]
        self.weights = title_weights(titles, STRETCH, EXPONENT)[self.rng.permutation(titles)]
        self.is_series = self.rng.random(titles) < SERIES
        self.bytes = MEDIAN_BYTES * np.exp(BYTES_SIGMA * self.rng.standard_normal(titles))
        self.launched = self.launch_days(titles, days)
        self.tastes = self.taste(areas, titles)

    def kind_of(self, title: int) -> str:
        return "series" if self.is_series[title] else "film"

    def launch_days(self, titles: int, days: int) -> Counts:
        """Return the day of each launch: as many titles a day before the first day as after it."""
        a_day = LAUNCHES * titles
        launched = np.full(titles, -100_000)
        new = self.rng.permutation(titles)[: round(a_day * (days + 100))]
        launched[new] = np.floor(np.arange(len(new)) / a_day) - 100
        return launched

    def taste(self, areas: Sequence[PlayedArea], titles: int) -> Floats:
        """Return the logarithm of the taste of each area with plays; an area is after the one above it."""
        tastes: dict[str, Floats] = {"*": np.zeros(titles)}
        for area in areas:
            tastes[area.id] = tastes[area.parent] + area.taste * self.rng.standard_normal(titles)
        return np.array([tastes[area.id] for area in self.areas])

    def boosts(self, day: int) -> Floats:
        """Return the factor of each title by its age; 0 before its launch."""
        ages = day - self.launched
        boosts = np.where(ages < 0, 0.0, 1.0)
        horizon = 100
        for kind, chosen in (("film", ~self.is_series), ("series", self.is_series)):
            young = chosen & (ages >= 0) & (ages < horizon)
            boosts[young] = np.maximum(1.0, BOOST * launch_curve(kind, horizon)[ages[young]])
        return boosts

    def __iter__(self) -> Iterator[Day]:
        """Yield the days. The random numbers go on: a second iteration has other drift and other plays."""
        shape = self.tastes.shape
        step = DRIFT / np.sqrt(2)
        still = step / np.sqrt(1 - STAYS**2)
        world, local = self.rng.normal(0, still, shape[1]), self.rng.normal(0, still, shape)
        volumes = np.array([area.plays_a_day for area in self.areas])
        for number in range(self.days):
            world = STAYS * world + self.rng.normal(0, step, shape[1])
            local = STAYS * local + self.rng.normal(0, step, shape)
            rates = self.weights * self.boosts(number) * np.exp(self.tastes + world + local)
            date = FIRST_DAY + datetime.timedelta(number)
            level = WEEKEND if date.weekday() >= 4 else 1.0
            rates *= level * (volumes / rates.sum(axis=1))[:, None]
            yield Day(number, date, rates, self.rng.poisson(rates))

    def rows(self, day: Day) -> Iterator[str]:
        """Yield the lines of a day as the feed `day,area,title,plays` has them, without those of no plays."""
        for area, plays in zip(self.areas, day.plays, strict=True):
            for title in np.flatnonzero(plays):
                yield f"{day.date},{area.id},{self.titles[title]},{plays[title]}\n"
