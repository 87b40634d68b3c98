"""The forecast of one service: plays a day of each title in each area. Needs numpy.

    feeds of plays ─> a day at a time ─> scored against what was forecast ─> y, n ─> rates ─> the plan

**Rates.** Each area and title has `y`, its plays, and `n`, its days, both discounted by half a week after week:

    y <- g y + plays / weekday      n <- g n + factor      g = 0.5 ** (1/7)
    level = (y + k) / (n + k / m)   rate = level * factor * weekday

That is a gamma prior of shape k with the mean m, and Poisson plays. m is the level in the area above, scaled to the
area's volume: where an area has few plays of a title, it gets what the area above has. `factor` is 1, or that of a
launch (`launch_curves.py`), so that the first days of a launch say what its later ones will be.

**Areas** form a tree below `*`. What a feed has for an area are the plays that it has for no area below; those of the
areas below add up. A day without a row for an area and all below is no day of that area.

**Launches.** Before anything is counted, m of the world is what was expected of the launch, else the median of the
launches that were counted.

**Score.** Each day's forecast is compared with what came: the offload of its list on a disk of a tenth of all bytes,
beside those of the plain smoothed counts y and of the day itself. An area where the plain counts won seven days running
uses them, until the forecast wins.

Memory: 8 bytes for each area and title: 160 MB for 200 areas and 100,000 titles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from steering.control.fill.areas import WORLD, WORLD_ROW, Area, AreaTree
from steering.control.fill.catalogue import CatalogueTitle
from steering.control.fill.forecast_titles import ForecastTitles, day_at
from steering.control.fill.launch_curves import BOOST, FEWEST_LAUNCHES, HORIZON, WEEK
from steering.control.fill.launches import Launch
from steering.control.fill.offload import offload, titles_on_disk
from steering.control.fill.plays import Plays

Array = NDArray[np.float32]

KEEPS: Final = 0.5 ** (1 / 7)  # of y and n, from day to day
SHAPE: Final = 0.7
DISK: Final = 0.1  # of the catalogue's bytes, for scores
LOST_DAYS: Final = 7
WEEKDAY_SHARE: Final = 0.2  # of a new day in the factor of its weekday
ELSEWHERE: Final = 0.05  # of the plays that an area outside the areas of a launch would have
LEAST: Final = 1e-9
LEAST_PRIOR: Final = 0.01  # of the mean title: so counts can overcome an expectation of nothing
FEWEST_DAYS: Final = 5.0  # discounted, a week: until then weekdays are alike
WEEKDAY_BOUNDS: Final = (0.2, 5.0)
TIE: Final = 1e-4  # of the forecast's rates, between titles with equal counts


@dataclasses.dataclass(frozen=True, slots=True)
class AreaScore:
    """The offload of a day's lists: of the forecast, of plain counts, and of the best one. `plain`: plain is in use."""

    area: str
    day: int
    forecast: float
    counts: float
    best: float
    plain: bool


class Forecast:
    """The forecast of one service. `began` and `day` are the first and the last counted day, 0 before."""

    def __init__(self, areas: Iterable[Area] = (), shape: float = SHAPE) -> None:
        self.shape = shape
        self.titles = ForecastTitles()
        self.areas = AreaTree(areas)
        count = len(self.areas)
        self.day = self.began = 0
        self.y = np.zeros((count, 0), np.float32)
        self.n = np.zeros((count, 0), np.float32)
        self.days = np.zeros(count, np.float32)  # discounted as y is
        self.weekdays = np.ones((count, 7), np.float32)
        self.lost = np.zeros(count, np.uint8)  # days running
        self.plain = np.zeros(count, np.bool_)
        self.scores: list[AreaScore] = []

    # ---- titles, areas and launches

    def use_areas(self, areas: Iterable[Area]) -> None:
        """Use another tree of areas; those that stay keep what was counted."""
        before, tree = self.areas.rows, AreaTree(areas)
        kept = [(row, before[name]) for name, row in tree.rows.items() if name in before]
        new, old = [pair[0] for pair in kept], [pair[1] for pair in kept]
        for name, filled in (("y", 0), ("n", 0), ("days", 0), ("weekdays", 1), ("lost", 0), ("plain", 0)):
            array = getattr(self, name)
            changed = np.full((len(tree), *array.shape[1:]), filled, array.dtype)
            changed[new] = array[old]
            setattr(self, name, changed)
        self.areas = tree

    def add_titles(self, ids: Iterable[str]) -> None:
        """Give new titles an index."""
        if count := self.titles.add(ids):
            self.y, self.n = (np.pad(array, ((0, 0), (0, count))) for array in (self.y, self.n))

    def use_catalogue(self, catalogue: Sequence[CatalogueTitle]) -> None:
        """Use the sizes, kinds and launches of titles."""
        self.add_titles(title.title for title in catalogue)
        self.titles.use_catalogue(catalogue)

    def use_launches(self, launches: Sequence[Launch]) -> None:
        """Use what is expected of launches."""
        titles = self.titles
        self.add_titles(launch.title for launch in launches)
        for launch in launches:
            index = titles.index[launch.title]
            titles.launched[index] = day_at(launch.at)
            titles.expected[index] = self.first_week_of(launch)
            if launch.areas != (WORLD,):
                titles.areas_of[index] = launch.areas

    def first_week_of(self, launch: Launch) -> float:
        """Return the plays that are expected in the first week of a launch."""
        if launch.plays_first_week is not None:
            return launch.plays_first_week
        if launch.like is not None:
            index = self.titles.index.get(launch.like)
            counted = float(self.titles.by_week[index, 0]) if index is not None else 0.0
            return counted or self.usual_first_week(0.5)
        return self.usual_first_week(launch.percentile if launch.percentile is not None else 0.5)

    def usual_first_week(self, share: float) -> float:
        """Return a quantile of the first weeks that were counted; before there are 20, of what all titles suggest."""
        titles = self.titles
        counted = titles.by_week[self.titles.counted_launches(self.began, self.day, WEEK), 0]
        if len(counted) >= FEWEST_LAUNCHES:
            return float(np.quantile(counted, share))
        levels = self.y[0] / np.maximum(self.n[0], 1.0)
        return float(np.quantile(levels, share)) * WEEK * BOOST if len(levels) else 0.0

    # ---- counting

    def take(self, plays: Plays) -> list[AreaScore]:
        """Count the days of a feed that come after the last one, in order; return their scores."""
        self.add_titles(plays.titles)
        to_index = np.array([self.titles.index[title] for title in plays.titles], np.int64)
        to_row = np.array([self.areas.rows.get(area, WORLD_ROW) for area in plays.areas], np.int64)
        day, area = np.asarray(plays.day), np.asarray(plays.area)
        title, count = np.asarray(plays.title), np.asarray(plays.plays)
        scores: list[AreaScore] = []
        for number in sorted(set(np.unique(day).tolist()), key=plays.days.__getitem__):
            if plays.days[number] > self.day:
                chosen = np.flatnonzero(day == number)
                rows, indexes = to_row[area[chosen]], to_index[title[chosen]]
                scores += self.take_day(plays.days[number], self.counts(rows, indexes, count[chosen]))
        return scores

    def counts(
        self, rows: NDArray[np.int64], indexes: NDArray[np.int64], plays: NDArray[np.float64]
    ) -> Iterator[tuple[int, Array]]:
        """Yield area rows and their plays by title, each area after those below it."""
        order = np.argsort(rows, kind="stable")
        rows, indexes, plays = rows[order], indexes[order], plays[order]
        starts = np.searchsorted(rows, np.arange(len(self.areas) + 1))
        below: dict[int, Array] = {}
        for row in range(len(self.areas) - 1, -1, -1):
            own = slice(starts[row], starts[row + 1])
            counted = below.pop(row, None)
            if own.start < own.stop:
                added = np.bincount(indexes[own], plays[own], len(self.titles)).astype(np.float32)
                counted = added if counted is None else counted + added
            if counted is not None:
                yield row, counted
                if row:
                    above = self.areas.parents[row]
                    below[above] = below[above] + counted if above in below else counted

    def take_day(self, day: int, counts: Iterable[tuple[int, Array]]) -> list[AreaScore]:
        """Count a day: the plays by title of the area rows that reported, with those of the areas below them."""
        counted = dict(counts)
        scores = self.score(day, counted) if self.day else []
        factors, weekday = self.titles.factors(day), weekday_of(day)
        for row, plays in counted.items():
            self.learn_weekday(row, weekday, float(plays.sum(dtype=np.float64)))
            self.y[row] = KEEPS * self.y[row] + plays / self.weekdays[row, weekday]
            self.n[row] = KEEPS * self.n[row] + factors
            self.days[row] = KEEPS * self.days[row] + 1
        if WORLD_ROW in counted:
            self.titles.count_weeks(day, counted[WORLD_ROW])
        self.began, self.day, self.scores = self.began or day, day, scores
        self.titles.learn_curves(self.began, self.day)
        return scores

    def learn_weekday(self, row: int, weekday: int, total: float) -> None:
        """Use the plays of a day for the factor of its weekday; the mean of the factors is 1."""
        volume = self.volume(row)
        if self.days[row] >= FEWEST_DAYS and volume > LEAST:
            factors = self.weekdays[row]
            factors[weekday] += WEEKDAY_SHARE * (total / volume - factors[weekday])
            np.clip(factors, *WEEKDAY_BOUNDS, out=factors)
            factors /= factors.mean()

    def score(self, day: int, counted: Mapping[int, Array]) -> list[AreaScore]:
        """Compare the lists for a day with its plays, and choose what each area uses from now on."""
        scores: list[AreaScore] = []
        sizes = self.titles.bytes
        disk = DISK * float(sizes.sum())
        for row, rates in self.forecast_rates(day):
            if row in counted:
                plays = counted[row]
                lists = (rates, self.plain_rates(row, day, rates), plays)
                ours, counts, best = (offload(titles_on_disk(one, sizes, disk), plays, sizes) for one in lists)
                scores.append(AreaScore(self.areas.areas[row].id, day, ours, counts, best, bool(self.plain[row])))
                self.lost[row] = min(self.lost[row] + 1, LOST_DAYS) if ours < counts else 0
                self.plain[row] = self.lost[row] >= LOST_DAYS
        return scores

    # ---- rates

    def rates(self, day: int) -> Iterator[tuple[str, Array]]:
        """Yield each area, after the one above it, and the plays of each title that are expected on a day."""
        for row, rates in self.forecast_rates(day):
            yield self.areas.areas[row].id, self.plain_rates(row, day, rates) if self.plain[row] else rates

    def forecast_rates(self, day: int) -> Iterator[tuple[int, Array]]:
        """Yield each area's row and its rates by the gamma prior, also where plain counts are in use."""
        factors, weekday = self.titles.factors(day), weekday_of(day)
        levels: dict[int, Array] = {}
        groups = self.titles.launches_of_areas()
        for row, parent in enumerate(self.areas.parents):
            prior = self.prior(row, levels[parent], groups) if row else self.world_prior(day)
            level = self.level(row, prior)
            if row in self.areas.rows_above:
                levels[row] = level
            yield row, level * factors * self.weekdays[row, weekday]

    def plain_rates(self, row: int, day: int, rates: Array) -> Array:
        """Return the smoothed counts of an area as rates; titles with equal counts are in the order of other rates."""
        smoothed: Array = self.y[row] / np.maximum(self.days[row], 1.0) * self.weekdays[row, weekday_of(day)]
        return smoothed + np.float32(TIE) * rates

    def level(self, row: int, prior: Array) -> Array:
        """Return the level of each title in an area, by its prior mean."""
        least = np.float32(max(LEAST_PRIOR * self.volume(row) / max(len(self.titles), 1), LEAST))
        level: Array = (self.y[row] + self.shape) / (self.n[row] + self.shape / np.maximum(prior, least))
        return level

    def volume(self, row: int) -> float:
        """Return the plays of an area on a mean day."""
        return float(self.y[row].sum(dtype=np.float64)) / max(float(self.days[row]), 1.0)

    def world_prior(self, day: int) -> Array:
        """Return the prior means of the world: of launches what was expected of them, of others the mean title."""
        titles = self.titles
        prior = np.full(len(titles), self.volume(WORLD_ROW) / max(len(titles), 1), np.float32)
        ages = day - titles.launched
        young = np.flatnonzero((ages >= 0) & (ages < HORIZON))
        expected = titles.expected[young]
        unknown = np.isnan(expected)
        if unknown.any():
            expected[unknown] = self.usual_first_week(0.5)
        prior[young] = expected / (WEEK * BOOST)
        return prior

    def prior(self, row: int, above: Array, groups: Mapping[tuple[str, ...], list[int]]) -> Array:
        """Return the prior means of an area by the levels in the one above it."""
        parent = self.areas.parents[row]
        share = self.volume(row) / max(self.volume(parent), LEAST)
        prior = above * np.float32(max(share, LEAST))
        for names, indexes in groups.items():
            chosen = self.areas.topmost(names)
            if not any(self.areas.lies_in(parent, other) for other in chosen):
                within, of_parent = (self.volume_of(chosen, area) for area in (row, parent))
                prior[indexes] *= ELSEWHERE
                if within:
                    prior[indexes] = above[indexes] * (within / max(of_parent, LEAST))
        return prior

    def volume_of(self, rows: Sequence[int], above: int) -> float:
        """Return the plays on a mean day of the areas that lie in another one."""
        return sum(self.volume(row) for row in rows if self.areas.lies_in(row, above))


def weekday_of(day: int) -> int:
    """Return the weekday of an ordinal: 0 is Monday."""
    return (day + 6) % 7
