"""The titles of a forecast as columns: sizes, launches, and how launches went. Needs numpy."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from steering.control.fill.catalogue import CatalogueTitle
from steering.control.fill.launch_curves import COUNTED_WEEKS, FALLS, WEEK, factors_at, factors_of, falls_of

Array = NDArray[np.float32]

NO_LAUNCH: Final = 0  # the day of titles whose launch is unknown or long ago


class ForecastTitles:
    """The titles in the order in which they came; an index is never given twice."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.index: dict[str, int] = {}
        self.is_film = np.zeros(0, np.bool_)
        self.launched = np.zeros(0, np.int64)  # ordinals of days
        self.sizes = np.zeros(0, np.float64)
        self.expected = np.zeros(0, np.float32)  # plays in the first week of a launch; NaN without a launch row
        self.by_week = np.zeros((0, COUNTED_WEEKS), np.float32)  # plays of the world since the launch
        self.areas_of: dict[int, tuple[str, ...]] = {}  # of launches that are not everywhere
        self.learn_curves(0, 0)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, ids: Iterable[str]) -> int:
        """Add the titles that are not here; return how many they were."""
        before = len(self.ids)
        for title in ids:
            if title not in self.index:
                self.index[title] = len(self.ids)
                self.ids.append(title)
        count = len(self.ids) - before
        self.is_film = np.append(self.is_film, np.zeros(count, np.bool_))
        self.launched = np.append(self.launched, np.full(count, NO_LAUNCH))
        self.sizes = np.append(self.sizes, np.zeros(count))
        self.expected = np.append(self.expected, np.full(count, np.nan, np.float32))
        self.by_week = np.vstack((self.by_week, np.zeros((count, COUNTED_WEEKS), np.float32)))
        return count

    @property
    def bytes(self) -> NDArray[np.float64]:
        """The bytes of each title; those of unknown size have the mean of the others."""
        known = self.sizes > 0
        return np.where(known, self.sizes, self.sizes[known].mean() if known.any() else 1.0)

    def use_catalogue(self, catalogue: Sequence[CatalogueTitle]) -> None:
        """Use the sizes, kinds and launches of titles that are here."""
        for title in catalogue:
            index = self.index[title.title]
            self.sizes[index] = title.bytes
            self.is_film[index] = title.kind == "film"
            if title.available_from is not None:
                self.launched[index] = day_at(title.available_from)

    def launches_of_areas(self) -> dict[tuple[str, ...], list[int]]:
        """Return the titles that are launched in some areas alone, by those areas."""
        groups: dict[tuple[str, ...], list[int]] = {}
        for index, names in self.areas_of.items():
            groups.setdefault(names, []).append(index)
        return groups

    def factors(self, day: int) -> Array:
        """Return the launch factors of all titles on a day."""
        return factors_at(day - self.launched, self.is_film, self.film, self.series)

    def count_weeks(self, day: int, plays: Array) -> None:
        """Count the world's plays of a day for the weeks of launches."""
        ages = day - self.launched
        young = np.flatnonzero((ages >= 0) & (ages < COUNTED_WEEKS * WEEK))
        self.by_week[young, ages[young] // WEEK] += plays[young]

    def counted_launches(self, began: int, day: int, days: int) -> NDArray[np.bool_]:
        """Return which titles had all of their first days counted, where counting began and ends on these days."""
        counted: NDArray[np.bool_] = (self.launched >= max(began, NO_LAUNCH + 1)) & (self.launched + days <= day + 1)
        return counted

    def learn_curves(self, began: int, day: int) -> None:
        """Use the falls of the launches that were counted, where they are enough."""
        over = self.counted_launches(began, day, COUNTED_WEEKS * WEEK)
        self.film = factors_of(falls_of(self.by_week[over & self.is_film]) or FALLS["film"])
        self.series = factors_of(falls_of(self.by_week[over & ~self.is_film]) or FALLS["series"])


def day_at(time: float) -> int:
    """Return the day of a Unix time in UTC as its ordinal."""
    return datetime.datetime.fromtimestamp(time, datetime.UTC).toordinal()
