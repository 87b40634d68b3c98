"""The `zones` feed: coverage-zone JSON as Traffic Control reads it, and its deep variant.

    {"coverageZones": {"bom001-a": {"network": ["203.0.113.0/24"], "network6": ["2001:db8::/32"],
                                    "coordinates": {"latitude": 19.09, "longitude": 72.87}}}}

`deepCoverageZones` have `caches`, names of appliances, beside. A zone is heard by the clusters of its caches; else by
the cluster, or all clusters of the site, that has its name; else by the clusters open to off-net clients at the site
nearest to its coordinates. The same prefix in several zones is the first one's; the others' rows are refused.

Rows are counted over the whole file, in its order.
"""

from __future__ import annotations

import json
import math
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from _fastpath import prefix_rows
from steering.control.routes.feeds import Feed, Kinds, Reading, lines_of_rows, read_bytes
from steering.errors import FeedError
from steering.model.fleet import Cluster, Fleet, Site
from steering.model.route import Announcement

TOPS: Final = ("coverageZones", "deepCoverageZones")
PARTS: Final = {"network", "network6", "coordinates", "caches"}


def read(path: str, fleet: Fleet) -> Feed:
    """Return the routes of a coverage-zone file. Raises FeedError where it is none."""
    file = Path(path)
    data, digest = read_bytes(file)
    zones = zones_of(file.name, data)
    atlas = Atlas(fleet)
    kinds, names = Kinds(), list[str]()
    rows: list[tuple[str, int] | None] = []
    strange: list[tuple[int, str, str]] = []
    for name, zone in zones.items():
        try:
            clusters = atlas.clusters_of(name, zone)
            kind = kinds.add(tuple(Announcement(c.number, c.route_class, hops=1, feed=file.name) for c in clusters), 0)
        except ValueError as error:
            kind = kinds.refuse(str(error))
        names.append(name)
        networks = list(networks_of(zone))
        if not networks and kind in kinds.rules:
            rows.append(None)
            strange.append((len(rows), name, kinds.rules[kind]))
        for value in networks:
            good = isinstance(value, str) and value.isascii() and value.isprintable() and not {" ", ","} & set(value)
            rows.append((value, kind) if good else None)
            if not good:
                strange.append((len(rows), f"{name}: {value!r}", "a network is written address/length"))
    reading, tails = Reading.of_lines(file.name, lines_of_rows(rows))
    reading.relabel(tails)
    for refusal in strange:
        reading.refuse(*refusal)
    reading.refuse_kinds(len(kinds), kinds.rules, names.__getitem__)
    refuse_repeated(reading, names)
    return reading.feed(digest, kinds, names.__getitem__)


def zones_of(name: str, data: bytes) -> dict[str, Any]:
    """Return the zones by name, in the file's order."""
    try:
        found = json.loads(data, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise FeedError(f"{name}: not JSON: {error}") from error
    tops = [top for top in TOPS if isinstance(found, dict) and isinstance(found.get(top), dict)]
    if len(tops) != 1:
        raise FeedError(f"{name}: is no coverage-zone file", hint=f"its top has one object of {' and '.join(TOPS)}")
    zones: dict[str, Any] = found[tops[0]]
    return zones


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, whose keys are given once: of a zone given twice, which would count?"""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for place, (key, _) in enumerate(pairs) if key in dict(pairs[:place]))
        raise ValueError(f"{twice!r} is given twice in one object")
    return found


def networks_of(zone: Any) -> Iterator[Any]:
    """Yield what stands where a zone's networks are, IPv4 first."""
    for part in ("network", "network6"):
        listed = zone.get(part, []) if isinstance(zone, dict) else []
        yield from listed if isinstance(listed, list) else [listed]


def refuse_repeated(reading: Reading, names: Sequence[str]) -> None:
    """Refuse the rows whose prefix stands in a zone before theirs; a prefix given twice in one zone is a duplicate."""
    for family in (4, 6):
        columns = prefix_rows.sort(reading.columns[family])  # of one prefix, the first zone's rows come first
        chosen = array("B", [1]) * len(columns)
        before, winner = (-1, -1, -1), 0
        for place, prefix in enumerate(zip(columns.high, columns.low, columns.length, strict=True)):
            if prefix != before:
                before, winner = prefix, columns.value[place]
            elif columns.value[place] != winner:
                chosen[place] = 0
                rule = f"a prefix lies in one zone, the first that names it; {names[winner]} does"
                reading.refuse(columns.row[place], names[columns.value[place]], rule)
        reading.columns[family] = prefix_rows.keep_rows(columns, chosen)


class Atlas:
    """Where a zone's clients are served, by the fleet's names and places."""

    def __init__(self, fleet: Fleet) -> None:
        self.clusters = {cluster.id: cluster for cluster in fleet.clusters}
        self.cluster_of = {appliance.id: appliance.cluster for appliance in fleet.appliances}
        self.cluster_of |= {appliance.host: appliance.cluster for appliance in fleet.appliances}
        self.at_site: dict[str, list[Cluster]] = defaultdict(list)
        for cluster in fleet.clusters:
            self.at_site[cluster.site].append(cluster)
        self.sites = [site for site in fleet.sites if any(c.accepts_off_net for c in self.at_site[site.id])]

    def clusters_of(self, name: str, zone: Any) -> list[Cluster]:
        """Return the clusters that hear a zone. ValueError names the rule that it breaks."""
        if not isinstance(zone, dict):
            raise ValueError("a zone is an object")
        if unknown := sorted(zone.keys() - PARTS):
            raise ValueError(f"a zone has {', '.join(sorted(PARTS))}; not {unknown[0][:40]!r}")
        if caches := zone.get("caches"):
            return self.clusters_with(caches)
        if name in self.clusters:
            return [self.clusters[name]]
        if name in self.at_site:
            return self.at_site[name]
        if "coordinates" not in zone:
            raise ValueError("a zone is named as a cluster or site is, or has coordinates")
        return self.nearest(zone["coordinates"])

    def clusters_with(self, caches: Any) -> list[Cluster]:
        """Return the clusters that these appliances, named by id or host, stand in."""
        if not isinstance(caches, list) or not all(isinstance(cache, str) for cache in caches):
            raise ValueError("caches are a list of names")
        for cache in caches:
            if cache not in self.cluster_of:
                raise ValueError(f"a cache is an appliance of the fleet; there is no {cache[:63]!r}")
        return [self.clusters[name] for name in sorted({self.cluster_of[cache] for cache in caches})]

    def nearest(self, coordinates: Any) -> list[Cluster]:
        """Return the open clusters of the site nearest to some coordinates."""
        place = coordinates if isinstance(coordinates, dict) else {}
        latitude: Any = place.get("latitude")
        longitude: Any = place.get("longitude")
        if not (is_degrees(latitude, 90) and is_degrees(longitude, 180)):
            raise ValueError("coordinates have a latitude from -90 to 90 and a longitude from -180 to 180")
        if not self.sites:
            raise ValueError("a zone that no cluster is named after needs a cluster that accepts off-net clients")
        site = min(self.sites, key=lambda site: (distance(site, latitude, longitude), site.id))
        return [cluster for cluster in self.at_site[site.id] if cluster.accepts_off_net]


def is_degrees(value: Any, most: int) -> bool:
    """Tell whether it is a number of degrees."""
    return type(value) in (int, float) and -most <= value <= most


def distance(site: Site, latitude: float, longitude: float) -> float:
    """Return how far a site is, as the angle between it and a place (haversine)."""
    north, other = math.radians(site.latitude), math.radians(latitude)
    east = math.radians(longitude - site.longitude)
    half = math.sin((other - north) / 2) ** 2 + math.cos(north) * math.cos(other) * math.sin(east / 2) ** 2
    return math.asin(math.sqrt(min(1.0, half)))
