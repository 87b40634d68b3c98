"""What a disk would have delivered: the share of the bytes of all plays that are of titles on it. Needs numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def titles_on_disk(popularity: NDArray[Any], sizes: NDArray[Any], disk: float) -> NDArray[np.bool_]:
    """Return which titles a disk of so many bytes holds: the most popular first, in order, up to the first too large.

    That order is by value for each byte of disk, as a play of a title delivers its bytes.
    """
    order = np.argsort(-popularity, kind="stable")
    count = int(np.searchsorted(np.cumsum(sizes[order], dtype=np.float64), disk, side="right"))
    held = np.zeros(len(order), np.bool_)
    held[order[:count]] = True
    return held


def offload(held: NDArray[np.bool_], plays: NDArray[Any], sizes: NDArray[Any]) -> float:
    """Return the share of the bytes of all plays that are of held titles, 0 without plays."""
    delivered = plays * sizes
    total = float(delivered.sum(dtype=np.float64))
    return float(delivered[held].sum(dtype=np.float64)) / total if total else 0.0
