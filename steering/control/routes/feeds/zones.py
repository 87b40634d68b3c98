"""The `zones` feed: coverage-zone JSON as Traffic Control reads it, and its deep variant.

    {"coverageZones": {"bom001-a": {"network": ["203.0.113.0/24"], "network6": ["2001:db8::/32"],
                                    "coordinates": {"latitude": 19.09, "longitude": 72.87}}}}

A zone of `deepCoverageZones` also has `caches`, names of appliances. A zone's prefixes are routed to the clusters of
its caches; else to the cluster, or to all clusters of the site, with its name; else to the clusters that accept off-net
clients at the site nearest to its coordinates. A prefix in several zones belongs to the first; the other rows are
refused.

Rows are numbered over the whole file, in its order.
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
from steering.control.routes.feeds import AttributeTable, Feed, FeedBuilder, RowCollector, read_bytes
from steering.errors import FeedError
from steering.model.fleet import Cluster, Fleet, Site
from steering.model.route import Announcement

TOPS: Final = ("coverageZones", "deepCoverageZones")
PARTS: Final = {"network", "network6", "coordinates", "caches"}


def read(path: str, fleet: Fleet) -> Feed:
    """Return the routes of a coverage-zone file. Raises FeedError if it is none."""
    file = Path(path)
    data, digest = read_bytes(file)
    zones = zones_of(file.name, data)
    finder = ClusterFinder(fleet)
    attributes, names = AttributeTable(), list[str]()
    rows = RowCollector()
    for name, zone in zones.items():
        try:
            clusters = finder.clusters_of(name, zone)
            members = tuple(Announcement(c.number, c.route_class, hops=1, feed=file.name) for c in clusters)
            number = attributes.add(members, 0)
        except ValueError as error:
            number = attributes.refuse(str(error))
        names.append(name)
        networks = list(networks_of(zone))
        if not networks and number in attributes.rules:
            rows.refuse(name, attributes.rules[number])
        for value in networks:
            try:
                rows.add(value, number)
            except ValueError as error:
                rows.refuse(f"{name}: {value!r}", str(error))
    builder = rows.builder(file.name)
    builder.refuse_values(len(attributes), attributes.rules, names.__getitem__)
    refuse_repeated(builder, names)
    return builder.feed(digest, attributes, names.__getitem__)


def zones_of(name: str, data: bytes) -> dict[str, Any]:
    """Return the zones by name, in the file's order."""
    try:
        document = json.loads(data, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise FeedError(f"{name}: not JSON: {error}") from error
    tops = [top for top in TOPS if isinstance(document, dict) and isinstance(document.get(top), dict)]
    if len(tops) != 1:
        raise FeedError(f"{name}: is no coverage-zone file", hint=f"its top has one object of {' and '.join(TOPS)}")
    zones: dict[str, Any] = document[tops[0]]
    return zones


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object. Raises ValueError for a key that it has twice."""
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name is given twice in one object")
    return document


def networks_of(zone: Any) -> Iterator[Any]:
    """Yield a zone's networks, unchecked, IPv4 first."""
    for part in ("network", "network6"):
        listed = zone.get(part, []) if isinstance(zone, dict) else []
        yield from listed if isinstance(listed, list) else [listed]


def refuse_repeated(builder: FeedBuilder, names: Sequence[str]) -> None:
    """Refuse rows whose prefix an earlier zone has; a prefix twice in one zone is a duplicate, not refused."""
    for family in (4, 6):
        columns = prefix_rows.sort(builder.columns[family])  # of one prefix, the first zone's rows come first
        chosen = array("B", [1]) * len(columns)
        before, winner = (-1, -1, -1), 0
        for i, prefix in enumerate(zip(columns.high, columns.low, columns.length, strict=True)):
            if prefix != before:
                before, winner = prefix, columns.value[i]
            elif columns.value[i] != winner:
                chosen[i] = 0
                rule = f"a prefix lies in one zone, the first that names it; {names[winner]} does"
                builder.refuse(columns.row[i], names[columns.value[i]], rule)
        builder.columns[family] = prefix_rows.keep_rows(columns, chosen)


class ClusterFinder:
    """Finds the clusters that serve a zone, by names of the fleet and locations of its sites."""

    def __init__(self, fleet: Fleet) -> None:
        self.clusters = {cluster.id: cluster for cluster in fleet.clusters}
        self.cluster_of = {appliance.id: appliance.cluster for appliance in fleet.appliances}
        self.cluster_of |= {appliance.host: appliance.cluster for appliance in fleet.appliances}
        self.at_site: dict[str, list[Cluster]] = defaultdict(list)
        for cluster in fleet.clusters:
            self.at_site[cluster.site].append(cluster)
        self.sites = [site for site in fleet.sites if any(c.accepts_off_net for c in self.at_site[site.id])]

    def clusters_of(self, name: str, zone: Any) -> list[Cluster]:
        """Return the clusters that serve a zone. ValueError names the rule that it breaks."""
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
        """Return the clusters of some appliances, named by id or host."""
        if not isinstance(caches, list) or not all(isinstance(cache, str) for cache in caches):
            raise ValueError("caches are a list of names")
        for cache in caches:
            if cache not in self.cluster_of:
                raise ValueError(f"a cache is an appliance of the fleet; there is no {cache[:63]!r}")
        return [self.clusters[name] for name in sorted({self.cluster_of[cache] for cache in caches})]

    def nearest(self, coordinates: Any) -> list[Cluster]:
        """Return the open clusters of the site nearest to some coordinates."""
        location = coordinates if isinstance(coordinates, dict) else {}
        latitude: Any = location.get("latitude")
        longitude: Any = location.get("longitude")
        if not (is_degrees(latitude, 90) and is_degrees(longitude, 180)):
            raise ValueError("coordinates have a latitude from -90 to 90 and a longitude from -180 to 180")
        if not self.sites:
            raise ValueError("a zone that no cluster is named after needs a cluster that accepts off-net clients")
        site = min(self.sites, key=lambda site: (distance(site, latitude, longitude), site.id))
        return [cluster for cluster in self.at_site[site.id] if cluster.accepts_off_net]


def is_degrees(value: Any, most: int) -> bool:
    return type(value) in (int, float) and -most <= value <= most


def distance(site: Site, latitude: float, longitude: float) -> float:
    """Return the angle between a site and a location, in radians (haversine)."""
    north, other = math.radians(site.latitude), math.radians(latitude)
    east = math.radians(longitude - site.longitude)
    half = math.sin((other - north) / 2) ** 2 + math.cos(north) * math.cos(other) * math.sin(east / 2) ** 2
    return math.asin(math.sqrt(min(1.0, half)))
