"""The `zones` feed: coverage-zone JSON, as request routers of other networks read it, and its deep variant.

    {"coverageZones": {"bom001-a": {"network": ["203.0.113.0/24"], "network6": ["2001:db8::/32"],
                                    "coordinates": {"latitude": 19.09, "longitude": "72.87"}}}}

A zone of `deepCoverageZones` also has `caches`, names of appliances. Its prefixes are routed to the clusters of its
caches, or else to the cluster, or to all clusters of the site, with its name. The clusters that accept off-net clients
follow. The MED has this order: 0 and the steps of distance from the zone's coordinates for caches, 201 for names, and
202 and the steps for others, so a deep zone is before a plain one of the same prefix. Without coordinates there are no
steps. A prefix in several zones belongs to the first; the other rows are refused.

Networks are read as their owners read them: host bits are dropped, and an address is a network of one. A part that is
null is absent, and so are empty coordinates. An unknown cache is refused, and its zone keeps the others.
Rows are numbered over the whole file, in its order.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from _fastpath import prefix_rows
from _fastpath.zone_rankings import EARTH_RADIUS_KM
from steering.control.feed_files import read_json
from steering.control.routes.feeds import AttributeTable, Feed, FeedBuilder, RowCollector
from steering.errors import FeedError, syntax_fault
from steering.model.fleet import Cluster, Fleet, Site
from steering.model.policy import DISTANCE_STEP_KM
from steering.model.route import Announcement

TOPS: Final = ("coverageZones", "deepCoverageZones")
PARTS: Final = {"network", "network6", "coordinates", "caches"}
NAMED_MED: Final = 201  # behind all caches: half the Earth's circumference is 200 steps
FAR_MED: Final = 202  # and the steps of distance
MOST_SITES: Final = 64  # of which a zone has the open clusters
NUMBER: Final = re.compile(r"[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,2})?", re.ASCII)
MAX_ITEMS: Final = 2_000_000  # commas: networks, above all
CACHE_RULE: Final = "a cache is an appliance of the fleet"

Location = tuple[float, float]  # degrees north and east


def read(path: str, fleet: Fleet) -> Feed:
    """Return the routes of a coverage-zone file. Raises FeedError if it is none."""
    file = Path(path)
    data, digest = read_json(file, MAX_ITEMS)
    zones = zones_of(file.name, data)
    finder = ClusterFinder(fleet, file.name)
    attributes, names = AttributeTable(), list[str]()
    rows = RowCollector()
    for name, zone in zones.items():
        unknown: list[str] = []
        try:
            number = attributes.add(finder.announcements_of(name, zone, unknown), 0)
        except ValueError as error:
            number = attributes.refuse(str(error))
        names.append(name)
        networks = list(networks_of(zone))
        if not networks and number in attributes.rules:
            rows.refuse(name, attributes.rules[number])
        for value in networks:
            try:
                rows.add(network_text(value), number)
            except ValueError as error:
                rows.refuse(f"{name}: {value!r}", str(error))
        if number not in attributes.rules:
            for cache in unknown:
                rows.refuse_also(name, f"{CACHE_RULE}; there is no {cache[:63]!r}")
    builder = rows.builder(file.name)
    builder.refuse_values(len(attributes), attributes.rules, names.__getitem__)
    refuse_repeated(builder, names)
    return builder.feed(digest, attributes, names.__getitem__)


def zones_of(name: str, data: bytes) -> dict[str, Any]:
    """Return the zones by name, in the file's order."""
    try:
        document = json.loads(data, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise FeedError(f"{name}: not JSON: {syntax_fault(error)}") from error
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
        listed = zone.get(part) if isinstance(zone, dict) else None
        yield from listed if isinstance(listed, list) else [] if listed is None else [listed]


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

    def __init__(self, fleet: Fleet, feed: str) -> None:
        self.feed = feed
        self.clusters = {cluster.id: cluster for cluster in fleet.clusters}
        self.cluster_of = {appliance.id: appliance.cluster for appliance in fleet.appliances}
        self.cluster_of |= {appliance.host: appliance.cluster for appliance in fleet.appliances}
        self.at_site: dict[str, list[Cluster]] = defaultdict(list)
        self.open_at_site: dict[str, list[Cluster]] = defaultdict(list)
        for cluster in fleet.clusters:
            self.at_site[cluster.site].append(cluster)
            if cluster.accepts_off_net:
                self.open_at_site[cluster.site].append(cluster)
        self.sites = {site.id: site for site in fleet.sites}
        self.made: dict[tuple[str, int], Announcement] = {}  # many zones share them

    def announcements_of(self, name: str, zone: Any, unknown: list[str]) -> tuple[Announcement, ...]:
        """Return the announcements of a zone, and add its unknown caches to `unknown`. ValueError names the rule."""
        if not isinstance(zone, dict):
            raise ValueError("a zone is an object")
        if other := sorted(zone.keys() - PARTS):
            raise ValueError(f"a zone has {', '.join(sorted(PARTS))}; not {other[0][:40]!r}")
        meds: dict[str, int] = {}
        location = location_of(zone.get("coordinates"))
        if caches := zone.get("caches"):
            meds = {name: self.steps_to(self.clusters[name], location) for name in self.clusters_with(caches, unknown)}
        elif named := [self.clusters[name]] if name in self.clusters else self.at_site.get(name):
            meds = {cluster.id: NAMED_MED for cluster in named}
        if location:
            meds = self.by_distance(location) | meds
        if not meds:
            if location:
                raise ValueError("a zone that no cluster is named after needs a cluster that accepts off-net clients")
            raise ValueError(
                f"{CACHE_RULE}; there is no {unknown[0][:63]!r}"
                if unknown
                else "a zone is named as a cluster or site is, or has coordinates"
            )
        return tuple(self.announcement(cluster, med) for cluster, med in sorted(meds.items()))

    def announcement(self, cluster: str, med: int) -> Announcement:
        if (cluster, med) not in self.made:
            number, route_class = self.clusters[cluster].number, self.clusters[cluster].route_class
            self.made[cluster, med] = Announcement(number, route_class, hops=1, med=med, feed=self.feed)
        return self.made[cluster, med]

    def clusters_with(self, caches: Any, unknown: list[str]) -> set[str]:
        """Return the ids of the clusters of some appliances, named by id or host; add the other names to `unknown`."""
        if not isinstance(caches, list) or not all(isinstance(cache, str) for cache in caches):
            raise ValueError("caches are a list of names")
        unknown += [cache for cache in caches if cache not in self.cluster_of]
        return {self.cluster_of[cache] for cache in caches if cache in self.cluster_of}

    def by_distance(self, location: Location) -> dict[str, int]:
        """Return the MEDs of the open clusters at the sites nearest to a location."""
        steps = {site: steps_between(self.sites[site], location) for site in self.open_at_site}
        nearest = sorted(steps, key=lambda site: (steps[site], site))[:MOST_SITES]
        return {cluster.id: FAR_MED + steps[site] for site in nearest for cluster in self.open_at_site[site]}

    def steps_to(self, cluster: Cluster, location: Location | None) -> int:
        """Return the steps of distance of a cluster from a location, 0 without one."""
        return steps_between(self.sites[cluster.site], location) if location else 0


def network_text(value: Any) -> Any:
    """Return a network without host bits; a value that is none as it is."""
    try:
        return str(ipaddress.ip_network(value.strip(" "), strict=False)) if isinstance(value, str) else value
    except ValueError:
        return value


def location_of(coordinates: Any) -> Location | None:
    """Return the location that a zone's coordinates give, None without any. ValueError names the rule."""
    if coordinates in (None, {}):
        return None
    given = coordinates if isinstance(coordinates, dict) else {}
    latitude, longitude = degrees(given.get("latitude"), 90), degrees(given.get("longitude"), 180)
    if latitude is None or longitude is None:
        raise ValueError("coordinates have a latitude from -90 to 90 and a longitude from -180 to 180")
    return latitude, longitude


def degrees(value: Any, most: int) -> float | None:
    """Return a number, or a text of one, of at most `most` either way."""
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        value = float(value)
    return float(value) if type(value) in (int, float) and -most <= value <= most else None


def steps_between(site: Site, location: Location) -> int:
    """Return the distance of a site from a location (haversine), in whole steps."""
    north, other = math.radians(site.latitude), math.radians(location[0])
    east = math.radians(location[1] - site.longitude)
    half = math.sin((other - north) / 2) ** 2 + math.cos(north) * math.cos(other) * math.sin(east / 2) ** 2
    return int(2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, half))) / DISTANCE_STEP_KM)
