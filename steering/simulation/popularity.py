"""Demand as people make it: which titles they play, where, when, and how a new one rises and falls.

The parameters were fitted to published figures of what people watch; no such table is shipped. Needs numpy.

    titles    weight(rank) = ln(1.6 N / rank) ** 3, a stretched exponential: 1 % of the titles have a quarter of the
              hours, 10 % have 70 %
    places    each region multiplies each weight by a log-normal taste of its own
    launches  a new title is played twelve times as often as its rank says, and half as often each week after
    day       the busiest time is 21:30 local, at 1.9 times the mean; the quietest is 05:00, at an eighth of the peak
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from steering.simulation.concentration import EXPONENT, STRETCH, TITLES

TASTE: Final = 1.0  # sigma of a region's log-normal taste
LAUNCHES_A_DAY: Final = 15
LAUNCHED: Final = 6 * 7  # days after which a launch has faded
LAUNCH_BOOST: Final = 12.0
LAUNCH_HALF_LIFE: Final = 7.0  # days
BUSIEST_HOUR: Final = 21.5
QUIETEST_HOUR: Final = 5.0
QUIETEST: Final = 1 / 8  # of the peak
DAY_EXPONENT: Final = 1.245  # makes the peak 1.9 times the mean
WEEKEND: Final = 1.15  # Friday to Sunday


def title_weights(count: int = TITLES, stretch: float = STRETCH, exponent: float = EXPONENT) -> NDArray[np.float64]:
    """Return the weights of titles by rank, the most popular first; their sum is 1."""
    weights: NDArray[np.float64] = np.log(stretch * count / np.arange(1, count + 1)) ** exponent
    weights /= weights.sum()
    return weights


def launch_boosts(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the factor of each title by its age; a random few were launched in the last weeks."""
    boosts = np.ones(count)
    launched = rng.choice(count, size=min(LAUNCHES_A_DAY * LAUNCHED, count), replace=False)
    ages = np.arange(len(launched)) / LAUNCHES_A_DAY
    boosts[launched] = LAUNCH_BOOST * 2.0 ** (-ages / LAUNCH_HALF_LIFE)
    return boosts


def regional_shares(regions: int, rng: np.random.Generator, count: int = TITLES) -> NDArray[np.float64]:
    """Return the cumulated shares of the titles, a row for each region; the last of each row is 1."""
    common = title_weights(count) * launch_boosts(count, rng)
    shares = common * np.exp(TASTE * rng.standard_normal((regions, count)))
    shares = np.cumsum(shares, axis=1)
    shares /= shares[:, -1:]
    return shares


def level_of_day(hour: float, weekend: bool = False) -> float:
    """Return the demand at a local hour as a share of the peak of a working day."""
    since = (hour - QUIETEST_HOUR) % 24
    rising = BUSIEST_HOUR - QUIETEST_HOUR
    distance = 1 - since / rising if since <= rising else (since - rising) / (24 - rising)
    level: float = QUIETEST + (1 - QUIETEST) * ((1 + math.cos(math.pi * distance)) / 2) ** DAY_EXPONENT
    return level * (WEEKEND if weekend else 1.0)
