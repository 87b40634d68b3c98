"""The judge of a plan's proof: the upper bound that given prices of disk prove, by trying all sets for every title.

For any prices, no plan is worth more than what titles gain at these prices and what the disks would cost. Written
from that sentence alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from steering.control.fill.network import Network
from tests.support.fill_judge import clusters_of, gains_of

Floats = NDArray[np.float64]


def bound_of(
    network: Network, rates: dict[str, Floats], sizes: Floats, filled: float, prices: Sequence[float]
) -> float:
    """Return the bound of a network whose clusters have one appliance; `prices` as `clusters_of` has the clusters."""
    disks = np.array(clusters_of(network)) * filled
    best = np.full(len(sizes), -np.inf)
    gains = [(viewers, list(gains_of(network, viewers))) for viewers in network.viewers]
    for members in range(1 << len(disks)):
        value = np.zeros(len(sizes))
        for viewers, own in gains:
            served = max([gain for cluster, gain in own if members >> cluster & 1], default=0.0)
            value += viewers.volume * rates[viewers.area] * served
        paid = sum(price for cluster, price in enumerate(prices) if members >> cluster & 1)
        best = np.maximum(best, (value - paid) * sizes)
    return float(best.sum() + np.dot(prices, disks))


def bound_of_group(
    viewers: Sequence[tuple[float, Sequence[float]]],
    disks: Floats,
    prices: Floats,
    further: Sequence[Sequence[float]],
    plays: Floats,
    sizes: Floats,
    elsewhere: Floats,
) -> float:
    """Return the bound of a group. `elsewhere` is the weight that exchanges serve of each title.

    `further` are the weights of each cluster's further copies.
    """
    best = plays * elsewhere
    for members in range(1, 1 << len(disks)):
        inside = [number for number in range(len(disks)) if members >> number & 1]
        weight = sum(volume * max(gains[number] for number in inside) for volume, gains in viewers)
        best = np.maximum(best, plays * weight - prices[inside].sum())
    for number, weights in enumerate(further):
        for weight in weights:
            best = best + np.maximum(plays * weight - prices[number], 0.0)
    return float((best * sizes).sum() + prices @ disks)
