"""The slow, obvious judges: one dict per prefix length, one sort per ranking, one sort per rank of a pick."""

from __future__ import annotations

import ipaddress
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from _fastpath import status_words as flags
from _fastpath.ranking import cost


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


def ranking(
    routes_by_prefix: Sequence[Sequence[dict[str, Any]]], policy: Sequence[str], steps: dict[int, int]
) -> list[tuple[int, int]]:
    """Return (cluster, rank) of a ranking: `routes_by_prefix` are the covering prefixes' routes, longest first."""
    best: dict[int, tuple[int, ...]] = {}
    excluded: set[int] = set()
    for depth, routes in enumerate(routes_by_prefix):
        excluded |= {route["cluster"] for route in routes if route.get("excludes")} - best.keys()
        for route in routes:
            if route.get("excludes") or route["cluster"] in excluded:
                continue
            values = {**route, "prefix": depth, "distance": steps[route["cluster"]]}
            key = tuple(values[name] for name in policy)
            best[route["cluster"]] = min(best.get(route["cluster"], key), key)
    ordered = sorted(best.items(), key=lambda item: (item[1], item[0]))
    ranks = {key: rank for rank, key in enumerate(sorted(set(best.values())))}
    return [(cluster, ranks[key]) for cluster, key in ordered]


ALL = 2**64 - 1


def mix(x: int) -> int:
    """Return the finalizer of splitmix64, in numbers without an end."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & ALL
    x = (x ^ x >> 27) * 0x94D049BB133111EB & ALL
    return x ^ x >> 31


def hash_text(text: str) -> int:
    """Return the hash of a text's bytes, eight at a time."""
    data = text.encode()
    state = len(data) * 0x9E3779B97F4A7C15 & ALL
    for start in range(0, len(data), 8):
        state = mix(state ^ int.from_bytes(data[start : start + 8], "little"))
    return state


def viewer_of(session: str, address: str) -> int:
    """Return the number of a viewer: the session's, or the /24's or /48's."""
    if session:
        return hash_text(session)
    parsed = ipaddress.ip_address(address)
    return mix(int(parsed) >> 8 | 4 << 48) if parsed.version == 4 else mix(int(parsed) >> 80 | 6 << 48)


def ttl_of(ttl_s: int, share: float, title: str, viewer: int) -> int:
    """Return a TTL, more or less by a share, as it is for a title and a viewer."""
    jitter_s = math.floor(ttl_s * share)
    return ttl_s - jitter_s + mix(hash_text(title) ^ mix(viewer)) % (2 * jitter_s + 1)


def keys_of(title: str, viewer: int, fan_out: int = 1) -> tuple[int, int]:
    """Return the key of the appliances with unknown holdings, and the key of those that hold the title."""
    key = hash_text(title)
    variant = mix(viewer) % fan_out
    return mix(key ^ variant * 0x9E3779B97F4A7C15 & ALL) if variant else key, mix(key ^ mix(viewer))


def reason_of(item: dict[str, Any], family_bit: int, forgives: bool = False) -> str:
    """Return the reason of a candidate, "-" for one that can serve; `held` is None where its holdings are unknown."""
    word = item["word"]
    soft = not forgives
    rules = (
        ("R", not item.get("allowed", True)),
        ("D", word & flags.DISABLED),
        ("X", item.get("failed", False)),
        ("U", word & flags.UNHEALTHY and soft),
        ("S", word & flags.STALE and soft),
        ("F", not word & family_bit),
        ("C", item.get("held") is False),
        ("H", (word & (flags.NO_HEADROOM | flags.OVER_LIMIT) or not word & 0xFFFF) and soft),
    )
    return next((letter for letter, holds in rules if holds), "-")


def choose(
    ranking_entries: Sequence[tuple[int, int, int]],
    clusters: dict[int, list[dict[str, Any]]],
    keys: tuple[int, int],
    n: int,
    family_bit: int,
    fail_open: bool = False,
    failed: frozenset[int] = frozenset(),
) -> list[tuple[int, int]]:
    """Return (slot, rank) picks: rank by rank, by cost / weight, at most two a site in each round (one where n is 2).

    `failed` are slots that the player could not play from. A site with two of them is lost, and a partner with some at
    two sites; then all ranks are one. What is lost is passed over if anything else can serve.

    Entries are (cluster, rank, price). Where one of the appliances that were looked at is under pressure, the order is
    that of price and pressure. With `fail_open`, where no candidate can serve: the same without the reasons that are
    forgiven.
    """
    reached = [item for cluster, _, _ in ranking_entries for item in clusters.get(cluster, [])]
    places = [(item["site"], item.get("partner", 0)) for item in reached if item["slot"] in failed]
    sites = {site for site, _ in places if [place[0] for place in places].count(site) > 1}
    partners = {
        partner for _, partner in places if partner and len({place for place in places if place[1] == partner}) > 1
    }
    for is_lost in (True, False):
        for item in reached:
            lost = is_lost and (item["site"] in sites or item.get("partner", 0) in partners)
            item["failed"] = lost or item["slot"] in failed
        any_order = is_lost and bool(partners)
        picks, seen = choose_in_order(ranking_entries, clusters, keys, n, family_bit, False, any_order)
        if picks:
            break
    if any(pressure_of(item) for item in seen):
        priced = [
            (cluster, rank, price + pressure_of(clusters[cluster][0]))
            for cluster, rank, price in ranking_entries
            if clusters.get(cluster)
        ]
        priced.sort(key=lambda entry: entry[2])
        if priced[0][2] >= flags.MOST_PRESSURE and not fail_open:
            return []
        if picks:
            picks, _ = choose_in_order(priced, clusters, keys, n, family_bit, False, any_order)
    if not picks and fail_open:
        picks, _ = choose_in_order(ranking_entries, clusters, keys, n, family_bit, True)
    return picks


def pressure_of(item: dict[str, Any]) -> int:
    """Return the pressure in the word of a candidate."""
    return max((item["word"] >> 23 & 255) - 63, 0)


def choose_in_order(
    ranking_entries: Sequence[tuple[int, int, int]],
    clusters: dict[int, list[dict[str, Any]]],
    keys: tuple[int, int],
    n: int,
    family_bit: int,
    forgives: bool,
    any_order: bool = False,
) -> tuple[list[tuple[int, int]], list[dict[str, Any]]]:
    """Return the picks, and the candidates that were looked at, in this order of entries, or all as one rank."""
    able: list[list[tuple[int, dict[str, Any]]]] = []
    looked_at: list[list[dict[str, Any]]] = []
    groups = itertools.groupby(ranking_entries, key=lambda entry: None if any_order else entry[1:])
    for _, group in groups:
        members = [(rank, item) for cluster, rank, _ in group for item in clusters.get(cluster, [])]
        candidates = [
            (cost(keys[bool(item.get("held"))], item["slot"]) / max(item["word"] & 0xFFFF, 1), item["slot"], rank, item)
            for rank, item in members
            if reason_of(item, family_bit, forgives) == "-"
        ]
        able.append([(rank, item) for _, _, rank, item in sorted(candidates, key=lambda row: row[:2])])
        looked_at.append([item for _, item in members])
    picks: list[tuple[int, int]] = []
    seen: list[dict[str, Any]] = []
    taken: set[int] = set()
    while len(picks) < n:
        used: dict[str, int] = {}
        before = len(picks)
        for candidates, members in zip(able, looked_at, strict=True):
            seen += members if len(picks) < n else []
            for rank, item in candidates:
                if len(picks) < n and item["slot"] not in taken and used.get(item["site"], 0) < (1 if n == 2 else 2):
                    used[item["site"]] = used.get(item["site"], 0) + 1
                    taken.add(item["slot"])
                    picks.append((item["slot"], rank))
        if len(picks) == before:
            break
    return picks, seen


def minus_log2(u: float) -> float:
    """Return -log2(u), the judge of the integer one."""
    return -math.log2(u)
