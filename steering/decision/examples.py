"""Example requests for a first try: addresses of partners far from each other, from the table that is served."""

from __future__ import annotations

import dataclasses
import ipaddress
import math
from collections import Counter
from typing import Any, Final

from steering.decision.snapshot import Snapshot, reading

LARGEST: Final = 40  # partners to choose from: those with most appliances, whose names people know


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """An IPv4 address of a partner's network."""

    partner: str
    country: str
    address: str


def suggest_requests(snapshot: Snapshot, count: int = 3) -> list[Example]:
    """Return an address of each of `count` large partners, on different sides of the world; fewer of a small fleet.

    Raises SnapshotError.
    """
    with reading(snapshot):
        return choose_requests(snapshot, count)


def choose_requests(snapshot: Snapshot, count: int) -> list[Example]:
    """Return the examples. ValueError and the like: the files do not belong together."""
    names = snapshot.names
    partners = {partner["id"]: partner for partner in names.partners.values()}
    sizes: Counter[str] = Counter()
    sites: dict[str, dict[str, Any]] = {}
    for _, number in names.appliances:
        cluster = names.clusters[number]
        if cluster["partner"]:
            sizes[cluster["partner"]] += 1
            sites.setdefault(cluster["partner"], names.sites[cluster["site"]])
    addresses = find_addresses(snapshot, [name for name, _ in sizes.most_common(LARGEST)])
    left = [name for name, _ in sizes.most_common() if name in addresses]
    chosen: list[str] = []
    while left and len(chosen) < count:
        # The largest first, then the one that is farthest from all chosen so far.
        best = max(left, key=lambda name: min((distance(sites[name], sites[other]) for other in chosen), default=0))
        left.remove(best)
        chosen.append(best)
    return [Example(partners[name]["name"], partners[name]["country"], addresses[name]) for name in chosen]


def find_addresses(snapshot: Snapshot, partners: list[str]) -> dict[str, str]:
    """Return an address inside the largest prefix that each partner announces, if it resolves to that partner."""
    routes = snapshot.routes
    wanted = {
        number: cluster["partner"]
        for number, cluster in snapshot.names.clusters.items()
        if cluster["partner"] in partners
    }
    owners: dict[int, str] = {}
    for number in range(len(routes.set_first) - 1):
        for member in routes.set_members[routes.set_first[number] : routes.set_first[number + 1]]:
            if owner := wanted.get(routes.announcements[member].cluster):
                owners[number] = owner
    high, _, lengths, sets, _ = routes.columns[4]
    largest: dict[str, int] = {}
    for row, number in enumerate(sets):
        owner = owners.get(number)
        if owner and (owner not in largest or lengths[row] < lengths[largest[owner]]):
            largest[owner] = row
    addresses = {owner: ipaddress.IPv4Address((high[row] >> 32) + 10) for owner, row in largest.items()}
    resolved = {
        owner: snapshot.names.partner(snapshot.zone_of(each.packed).partner) for owner, each in addresses.items()
    }
    return {owner: str(addresses[owner]) for owner, partner in resolved.items() if partner and partner["id"] == owner}


def distance(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Return the angle between two sites, in radians."""
    north_a, north_b = math.radians(a["latitude"]), math.radians(b["latitude"])
    east = math.radians(a["longitude"] - b["longitude"])
    return math.acos(
        min(1.0, math.sin(north_a) * math.sin(north_b) + math.cos(north_a) * math.cos(north_b) * math.cos(east))
    )
