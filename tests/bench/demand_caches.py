"""Caches that are filled by what is asked for, event by event: LRU, LFU and Belady's. All disks of a site are one cache.

That favours them: appliances behind a hash would each run out of room on their own.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Misses = NDArray[np.bool_]


def lru(requests: Sequence[int], sizes: Sequence[float], disk: float) -> Misses:
    """Return which requests miss a cache that evicts what was asked for longest ago."""
    held: OrderedDict[int, None] = OrderedDict()
    misses, room = np.zeros(len(requests), np.bool_), disk
    for index, title in enumerate(requests):
        if title in held:
            held.move_to_end(title)
            continue
        misses[index] = True
        if sizes[title] > disk:
            continue
        while room < sizes[title]:
            room += sizes[held.popitem(last=False)[0]]
        held[title] = None
        room -= sizes[title]
    return misses


def by_rank(requests: Sequence[int], ranks: Sequence[float], sizes: Sequence[float], disk: float) -> Misses:
    """Return which requests miss a cache that keeps the titles of the highest rank; a title's rank is its last one.

    A title that ranks below all that it would evict is not kept.
    """
    rank: dict[int, float] = {}
    held: set[int] = set()
    heap: list[tuple[float, int]] = []
    misses, room = np.zeros(len(requests), np.bool_), disk
    for index, title in enumerate(requests):
        rank[title] = ranks[index]
        misses[index] = title not in held
        if misses[index]:
            evicted: list[tuple[float, int]] = []
            free = room
            while free < sizes[title] and heap:
                lowest = heapq.heappop(heap)
                if lowest[1] in held and rank[lowest[1]] == lowest[0]:  # else an old row of the title
                    evicted.append(lowest)
                    free += sizes[lowest[1]]
                    if lowest[0] >= ranks[index]:
                        break
            if free < sizes[title] or (evicted and evicted[-1][0] >= ranks[index]):
                for row in evicted:
                    heapq.heappush(heap, row)
                continue
            held.difference_update(row[1] for row in evicted)
            held.add(title)
            room = free - sizes[title]
        heapq.heappush(heap, (ranks[index], title))
    return misses


def lfu(requests: Sequence[int], sizes: Sequence[float], disk: float) -> Misses:
    """Return which requests miss a cache that keeps the titles most asked for so far, whether held or not."""
    counts: dict[int, int] = defaultdict(int)
    ranks = []
    for title in requests:
        counts[title] += 1
        ranks.append(float(counts[title]))
    return by_rank(requests, ranks, sizes, disk)


def belady(requests: Sequence[int], sizes: Sequence[float], disk: float) -> Misses:
    """Return which requests miss a cache that keeps the titles asked for again soonest."""
    following: dict[int, int] = {}
    ranks = [0.0] * len(requests)
    for index in range(len(requests) - 1, -1, -1):
        ranks[index] = -float(following.get(requests[index], 1 << 60))
        following[requests[index]] = index
    return by_rank(requests, ranks, sizes, disk)
