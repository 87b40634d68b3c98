"""The slow, obvious judges: one dict per prefix length, one sort per ladder, one sort per rank of a pick."""

from __future__ import annotations

import ipaddress
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from _fastpath import pick


class Table:
    """Longest-prefix match by asking a dict for each length, longest first."""

    def __init__(self, prefixes: Iterable[tuple[str, Any]] = ()) -> None:
        self.by_length: dict[int, list[dict[int, Any]]] = {4: [{} for _ in range(33)], 6: [{} for _ in range(129)]}
        for prefix, value in prefixes:
            network = ipaddress.ip_network(prefix)
            self.by_length[network.version][network.prefixlen][int(network.network_address)] = value

    def covering(self, address: str) -> list[Any]:
        """Return the values of every covering prefix, longest first."""
        parsed = ipaddress.ip_address(address)
        return list(self.covering_number(parsed.version, int(parsed)))

    def covering_number(self, version: int, number: int) -> Iterator[Any]:
        """Yield the values of every prefix that covers an address given as a number, longest first."""
        tables = self.by_length[version]
        for length in range(len(tables) - 1, -1, -1):
            if tables[length]:
                shift = len(tables) - 1 - length
                network = number >> shift << shift
                if network in tables[length]:
                    yield tables[length][network]

    def lookup(self, address: str) -> Any:
        """Return the longest covering prefix's value, or None."""
        return next(iter(self.covering(address)), None)


def ladder(
    routes_by_prefix: Sequence[Sequence[dict[str, Any]]], policy: Sequence[str], steps: dict[int, int]
) -> list[tuple[int, int]]:
    """Return (cluster, rank) of a ladder: `routes_by_prefix` are the covering prefixes' routes, longest first."""
    best: dict[int, tuple[int, ...]] = {}
    for depth, routes in enumerate(routes_by_prefix):
        for route in routes:
            values = {**route, "prefix": depth, "distance": steps[route["cluster"]]}
            key = tuple(values[name] for name in policy)
            best[route["cluster"]] = min(best.get(route["cluster"], key), key)
    ordered = sorted(best.items(), key=lambda item: (item[1], item[0]))
    ranks = {key: rank for rank, key in enumerate(sorted(set(best.values())))}
    return [(cluster, ranks[key]) for cluster, key in ordered]


def choose(
    rungs: Sequence[tuple[int, int]],
    clusters: dict[int, list[dict[str, Any]]],
    key: int,
    n: int,
    family_bit: int,
) -> list[tuple[int, int]]:
    """Return (slot, rank) picks: rank by rank, by cost / weight, at most two a site in each round (one where n is 2)."""
    bad = pick.DISABLED | pick.UNHEALTHY | pick.STALE | pick.NO_HEADROOM | pick.OVER_LIMIT
    able: list[tuple[int, list[dict[str, Any]]]] = []
    for rank, group in itertools.groupby(rungs, key=lambda rung: rung[1]):
        candidates = [
            appliance
            for cluster, _ in group
            for appliance in clusters.get(cluster, [])
            if not appliance["word"] & bad and appliance["word"] & family_bit and appliance["word"] & 0xFFFF
        ]
        candidates.sort(key=lambda item: (pick.cost(key, item["slot"]) / (item["word"] & 0xFFFF), item["slot"]))
        able.append((rank, candidates))
    picks: list[tuple[int, int]] = []
    taken: set[int] = set()
    while len(picks) < n:
        used: dict[str, int] = {}
        before = len(picks)
        for rank, candidates in able:
            for item in candidates:
                if len(picks) < n and item["slot"] not in taken and used.get(item["site"], 0) < (1 if n == 2 else 2):
                    used[item["site"]] = used.get(item["site"], 0) + 1
                    taken.add(item["slot"])
                    picks.append((item["slot"], rank))
        if len(picks) == before:
            break
    return picks


def minus_log2(u: float) -> float:
    """Return -log2(u), the judge of the integer one."""
    return -math.log2(u)
