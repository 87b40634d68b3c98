"""What appliances should hold by the plan in force, by the index that titles have in the next plan. Needs numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from steering.state.plan import PlanFile

Bits = NDArray[np.uint8]


class PlanBefore:
    """`plan` is in force; `keys` are the titles (service, id) of the next one, `slots` those of each cluster."""

    def __init__(self, plan: PlanFile, keys: Sequence[tuple[str, str]], slots: Mapping[int, Sequence[int]]) -> None:
        self.holdings, self.slots, self.titles = plan.holdings, slots, len(keys)
        index = {key: number for number, key in enumerate(keys)}
        to_index = [index.get(self.holdings.title(old), -1) for old in range(self.holdings.titles)]
        self.same = to_index == list(range(self.titles))
        moved = np.array(to_index, np.int64)
        self.old = np.flatnonzero(moved >= 0)
        self.new = moved[self.old]
        self.unions: dict[int, bytes] = {}  # of the bits of a cluster's appliances; 46 MB for 3,700 clusters

    def of_appliances(self, cluster: int) -> list[bytes | None]:
        """Return a bit for each title, of each appliance of a cluster; None for one that the plan leaves out."""
        rows = self.holdings.bitmaps(cluster)
        return [None if row is None else self.moved(row) for row in map(rows.get, self.slots.get(cluster, ()))]

    def of_cluster(self, cluster: int) -> NDArray[np.bool_]:
        """Return which titles any appliance of a cluster should hold."""
        if cluster not in self.unions:
            rows = self.holdings.bitmaps(cluster)
            union = np.zeros(-(-self.holdings.titles // 8), np.uint8)
            for row in map(rows.get, self.slots.get(cluster, ())):
                if row is not None:
                    union |= np.frombuffer(row, np.uint8)
            self.unions[cluster] = self.moved(union.tobytes())
        return unpacked(self.unions[cluster], self.titles).view(np.bool_)

    def moved(self, bitmap: bytes) -> bytes:
        """Return the bits by the index in the next plan."""
        if self.same:
            return bitmap
        bits = np.zeros(self.titles, np.uint8)
        bits[self.new] = unpacked(bitmap, self.holdings.titles)[self.old]
        return np.packbits(bits, bitorder="little").tobytes()


def unpacked(bitmap: bytes | bytearray, titles: int) -> Bits:
    """Return the bits of so many titles, a byte each."""
    return np.unpackbits(np.frombuffer(bitmap, np.uint8), count=titles, bitorder="little")


def titles_and_bytes(bitmaps: Bits, sizes: NDArray[np.float64]) -> tuple[int, int]:
    """Return how many bits some bitmaps have, a row each, and the bytes of their titles."""
    copies = np.unpackbits(bitmaps, axis=1, count=len(sizes), bitorder="little").sum(axis=0, dtype=np.uint16)
    # Not `copies @ sizes`: the threads of BLAS use a hundred times as much CPU.
    return int(copies.sum()), int((copies * sizes).sum())
