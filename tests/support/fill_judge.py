"""The judge of placements: the same problem for a solver, and the value of a given placement, counted plainly.

Written from the words of `steering/control/fill/network.py`: a viewer's byte gains what its best holder gains.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from steering.control.fill.network import Network, Viewers

Holders = NDArray[np.bool_]  # by cluster and title: those of the groups in order, then the exchanges


def clusters_of(network: Network) -> list[int]:
    """Return the bytes of each cluster's disks, those of the groups in order, then the exchanges."""
    return [disk.disk_bytes for group in network.groups for disk in group] + [
        disk.disk_bytes for disk in network.exchanges
    ]


def gains_of(network: Network, viewers: Viewers) -> Iterator[tuple[int, float]]:
    """Yield the clusters that viewers gain from, with the gain."""
    first = [sum(len(group) for group in network.groups[:index]) for index in range(len(network.groups) + 1)]
    for number, gain in enumerate(viewers.gains):
        yield first[viewers.group] + number, gain
    for exchange in viewers.exchanges:
        yield first[-1] + exchange, network.exchange_gain


def value_of(
    network: Network, rates: dict[str, NDArray[np.float64]], sizes: NDArray[np.float64], holders: Holders
) -> float:
    """Return the bytes a day that holders serve, each times its gain."""
    value = 0.0
    for viewers in network.viewers:
        best = np.zeros(len(sizes))
        for cluster, gain in gains_of(network, viewers):
            best = np.maximum(best, holders[cluster] * gain)
        value += float((viewers.volume * rates[viewers.area] * sizes * best).sum())
    return value


def best_value(
    network: Network,
    rates: dict[str, NDArray[np.float64]],
    sizes: NDArray[np.float64],
    filled: float,
    whole: bool,
    gap: float = 0.005,
) -> float:
    """Return the value of HiGHS's placement, to `gap` of the best; the relaxation's value if titles may be cut."""
    disks, titles = clusters_of(network), len(sizes)
    held = len(disks) * titles
    cost, rows, columns, entries, most = [np.zeros(held)], [], [], [], []
    row = 0
    for cluster, size in enumerate(disks):
        rows += [row] * titles
        columns += list(range(cluster * titles, (cluster + 1) * titles))
        entries += list(sizes)
        most.append(size * filled)
        row += 1
    width = held
    for viewers in network.viewers:
        gains = list(gains_of(network, viewers))
        plays = viewers.volume * rates[viewers.area] * sizes
        for index, (cluster, gain) in enumerate(gains):
            cost.append(-plays * gain)
            for title in range(titles):  # served by a cluster only as far as it holds the title
                rows += [row, row]
                columns += [width + index * titles + title, cluster * titles + title]
                entries += [1.0, -1.0]
                most.append(0.0)
                row += 1
        for title in range(titles):  # served once
            rows += [row] * len(gains)
            columns += [width + index * titles + title for index in range(len(gains))]
            entries += [1.0] * len(gains)
            most.append(1.0)
            row += 1
        width += len(gains) * titles
    matrix = csr_array((entries, (rows, columns)), shape=(row, width))
    integral = np.concatenate([np.full(held, 1 if whole else 0), np.zeros(width - held)])
    solved = milp(
        np.concatenate(cost) / sizes.sum(),
        constraints=LinearConstraint(matrix, ub=np.array(most)),
        integrality=integral,
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": gap, "time_limit": 60},
    )
    return -float(solved.fun) * float(sizes.sum())
