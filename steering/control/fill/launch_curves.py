"""How the plays of a launched title fall, by its kind and its age in days. Needs numpy.

A title's *factor* is its plays a day as a multiple of those of its later life: 20 in the first week, then falling from
week to week until it is 1. The falls are medians of published weekly lists, until a service has 20 launches of a kind
that were counted for seven weeks: then they are the medians of those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

WEEK: Final = 7
BOOST: Final = 20.0  # the factor of the first week: so new titles of half a year have 29 % of its plays, as published
FALLS: Final = {"film": (0.39, 0.54, 0.62, 0.73, 0.80), "series": (0.51, 0.61, 0.67, 0.67, 0.70)}
COUNTED_WEEKS: Final = 7
FEWEST_LAUNCHES: Final = 20  # of a kind, for its own falls
FEWEST_PLAYS: Final = 50  # in the first week of such a launch
HORIZON: Final = 20 * WEEK  # days after which a factor is 1


def factors_of(falls: Sequence[float]) -> Array:
    """Return the factors of the days 0 to HORIZON after a launch, from the falls of its first weeks."""
    ratios = np.concatenate(([1.0], falls, np.repeat(falls[-1], HORIZON // WEEK - len(falls))))
    factors: Array = np.maximum(1.0, BOOST * np.repeat(np.cumprod(ratios), WEEK)[: HORIZON + 1]).astype(np.float32)
    factors[-1] = 1.0
    return factors


def falls_of(by_week: Array) -> tuple[float, ...] | None:
    """Return the median falls of launches, a row each with its plays by week; None if they are too few."""
    counted = by_week[by_week[:, 0] >= FEWEST_PLAYS]
    if len(counted) < FEWEST_LAUNCHES:
        return None
    falls = np.median(counted[:, 1:] / np.maximum(counted[:, :-1], 1.0), axis=0)
    return tuple(float(fall) for fall in np.clip(falls, 0.05, 1.0))


def factors_at(ages: NDArray[np.int64], is_film: NDArray[np.bool_], film: Array, series: Array) -> Array:
    """Return the factor of titles by their ages in days: 0 before the launch."""
    days = np.clip(ages, 0, HORIZON)
    factors = np.where(is_film, film[days], series[days])
    factors[ages < 0] = 0.0
    return factors
