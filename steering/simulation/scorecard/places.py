"""Where faults happen: each choice returns the indexes of the appliances that a scenario's fault concerns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import numpy as np

from steering.simulation.scorecard.world import Ints, World

TENTH: Final = 10
TWENTIETH: Final = 20
COUNTRIES: Final = 10
LARGE: Final = 30  # countries of which those are drawn
ISPS: Final = 10


def members_of(world: World, clusters: list[int]) -> Ints:
    """Return the appliances of some clusters."""
    return np.flatnonzero(np.isin(world.appliances.cluster, clusters))


def sizes_by(world: World, labels: tuple[str, ...]) -> list[str]:
    """Return the labels of clusters by the number of their appliances, the largest first; empty ones are left out."""
    sizes: Counter[str] = Counter()
    for label, count in zip(labels, world.clusters.count, strict=True):
        if label:
            sizes[label] += int(count)
    return sorted(sizes, key=lambda label: (-sizes[label], label))


def largest_sites(world: World, rng: np.random.Generator) -> Ints:
    """Return the appliances of the largest site of each of ten countries, drawn from those with most appliances."""
    country_of = dict(zip(world.clusters.site, world.clusters.country, strict=True))
    lost: dict[str, str] = {}
    for site in sizes_by(world, world.clusters.site):
        lost.setdefault(country_of[site], site)
    large = sizes_by(world, world.clusters.country)[:LARGE]
    sites = {lost[country] for country in rng.permutation(large)[:COUNTRIES].tolist()}
    return members_of(world, [number for number, site in enumerate(world.clusters.site) if site in sites])


def isps(world: World, count: int) -> Ints:
    chosen = set(sizes_by(world, world.clusters.partner)[:count])
    return members_of(world, [number for number, partner in enumerate(world.clusters.partner) if partner in chosen])


def largest_exchange(world: World, _: np.random.Generator) -> Ints:
    """Return the appliances of the exchange that has most."""
    at_exchanges = tuple(
        "" if partner else site for site, partner in zip(world.clusters.site, world.clusters.partner, strict=True)
    )
    site = sizes_by(world, at_exchanges)[0]
    return members_of(world, [number for number, name in enumerate(at_exchanges) if name == site])


def drawn(world: World, rng: np.random.Generator, divisor: int, turn: int = 0) -> Ints:
    """Return one in `divisor` of all appliances; another `turn` has none of them."""
    size = max(len(world.appliances.ids) // divisor, 1)
    return np.sort(rng.permutation(len(world.appliances.ids))[turn * size : (turn + 1) * size])


# Each choice gets a generator of the same seed, so `twentieth` and `other_twentieth` have no appliance in common.
CHOICES: Final[dict[str, Callable[[World, np.random.Generator], Ints]]] = {
    "largest_sites": largest_sites,
    "largest_isp": lambda world, _: isps(world, 1),
    "ten_isps": lambda world, _: isps(world, ISPS),
    "largest_exchange": largest_exchange,
    "tenth": lambda world, rng: drawn(world, rng, TENTH),
    "twentieth": lambda world, rng: drawn(world, rng, TWENTIETH),
    "other_twentieth": lambda world, rng: drawn(world, rng, TWENTIETH, 1),
}
