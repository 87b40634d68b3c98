"""Builds a table from checked feeds: routes merged, swept into intervals, ranked by the policy, numbered as zones.

    feeds (read_feed, filter_feed, validated) -> one row a prefix (MergedRoutes) -> chains of covering prefixes (sweep)
    -> overlaid with the regions -> a ranking for each (chain, region) (make_rankings) -> zones (make_zones)

`state.table` writes the result as a lookup structure.
"""

from __future__ import annotations

import itertools
import math
import operator
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import geo_data
from _fastpath import prefix_rows, rib, zone_rankings
from _fastpath.intervals import Chains, Pairs, overlay, relabel_intervals, sweep
from _fastpath.status_words import MOST_PRESSURE
from steering.control.routes.feeds import Feed
from steering.control.routes.feeds.regions import Read, RegionMap, read_regions, read_strictly
from steering.errors import FeedError
from steering.model.fleet import Fleet, Site
from steering.model.policy import DISTANCE_STEP_KM, RANKING_KEYS
from steering.model.route import Announcement, Region, RouteClass
from steering.settings import Settings
from steering.state.routes import Locations, RouteRows, prefix_at
from steering.state.table import BuiltTable, Zone

Progress = Callable[[str], None]
Vector = tuple[float, float, float]

MAX_CONFLICTS = 1000


def quiet(step: str) -> None:
    """Accept the name of each step of a build, and ignore it."""


def build_table(
    feeds: Sequence[Feed],
    fleet: Fleet,
    settings: Settings,
    progress: Progress = quiet,
    rpki: dict[str, Any] | None = None,
    read: Read = read_strictly,
) -> BuiltTable:
    """Return the table of all the feeds' routes; `rpki` describes what validated them, `read` reads map and geofeeds.

    Its bytes do not depend on the order of feeds or rows. Raises FeedError if the fleet has no cluster.
    """
    if not fleet.clusters:
        raise FeedError("the fleet has no cluster to steer to", hint="steering fleet import, or steering fleet synth")
    progress("read the country map")
    regions = read_regions(settings.country_mmdb, settings.geofeeds, read)
    progress("merge routes")
    routes, chains, wanted = MergedRoutes(feeds), Chains(), Pairs()
    progress("sweep prefixes")
    wanted.intern(0, 0)  # zone 0: no route and no region
    overlaid = {
        family: overlay(sweep(routes.prefixes[family], chains), regions.intervals[family], wanted) for family in (4, 6)
    }
    progress("make rankings")
    vectors = region_vectors(regions.regions, fleet)
    rankings = make_rankings(wanted, chains, routes, fleet, vectors, settings)
    zones, zone_of = make_zones(wanted, rankings, regions.regions)
    zoned = {family: relabel_intervals(cut, zone_of) for family, cut in overlaid.items()}
    return BuiltTable(
        intervals=zoned,
        zones=zones,
        ranking_entries=rankings.ranking_entries,
        rows=routes.rows,
        announcements=routes.announcements,
        set_first=routes.set_first,
        set_members=routes.set_members,
        meta={
            "policy": list(settings.ranking_policy),
            "fallback_sites": settings.fallback_sites,
            "fallback_max_km": settings.fallback_max_km,
            "regions": regions.name,
            "rpki": rpki["feed"] if rpki else None,
            "geofeeds": [feed.name for feed in regions.geofeeds],
            "feeds": [feed.describe() for feed in feeds],
        },
        counts={
            **{f"routes_v{family}": len(rows.high) for family, rows in routes.rows.items()},
            **{f"prefixes_v{family}": len(prefixes) for family, prefixes in routes.prefixes.items()},
            **{f"intervals_v{family}": len(cut) for family, cut in zoned.items()},
            "zones": len(zones),
            "rankings": len(rankings.first) - 1,
            "refused": sum(feed.refused for feed in feeds),
        },
        duplicates=routes.duplicates,
        conflicts=tuple(routes.conflicts(fleet)),
        refusals=[refusal for feed in feeds for refusal in feed.refusals],
        other_sources=sources_beside(regions, rpki),
        locations=locations_of(regions, vectors),
    )


def sources_beside(regions: RegionMap, rpki: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the map, the geofeeds and the RPKI data of a table, as reports describe a feed."""
    return [
        {"kind": "regions", "feed": regions.name, "sha256": regions.sha256},
        *({"kind": "geofeed", **feed.describe()} for feed in regions.geofeeds),
        *([{"kind": "rpki", **rpki}] if rpki else []),
    ]


class MergedRoutes:
    """All feeds' rows as one sorted list, and one row a prefix with the set of all its announcements."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        numbers: dict[Announcement, int] = {}
        self.sets: list[tuple[int, ...]] = []
        set_of, origin_of, state_of = array("I"), array("I"), array("B")
        merged = {4: prefix_rows.Columns(), 6: prefix_rows.Columns()}
        for feed in feeds:
            offset = len(self.sets)
            self.sets += [tuple(numbers.setdefault(item, len(numbers)) for item in items) for items in feed.sets]
            shifted = array("I", range(len(set_of), len(set_of) + len(feed.set_of)))
            set_of.extend(value + offset for value in feed.set_of) if offset else set_of.extend(feed.set_of)
            origin_of.extend(feed.origin_of)
            state_of.extend(feed.state_of or bytes(len(feed.set_of)))
            for family in (4, 6):
                columns = feed.columns[family]
                if shifted and shifted[0]:
                    columns.value = prefix_rows.relabel(columns.value, shifted)
                if len(feeds) == 1:  # no copy: there may be gigabytes
                    merged[family] = columns.alias()
                else:
                    merged[family].extend(columns)
        self.announcements = list(numbers)
        self.rows: dict[int, RouteRows] = {}
        self.prefixes: dict[int, prefix_rows.Columns] = {}
        self.duplicates = 0
        combinations: list[tuple[int, ...]] = []
        for family in (4, 6):
            columns = prefix_rows.sort(merged[family])
            origins = prefix_rows.relabel(columns.value, origin_of)
            states = prefix_rows.relabel(columns.value, state_of)
            columns.value = prefix_rows.relabel(columns.value, set_of)
            self.rows[family] = RouteRows(columns.high, columns.low, columns.length, columns.value, origins, states)
            grouped, several, (_, repeated) = rib.group_by_prefix(
                prefix_rows.sort(columns), len(self.sets) + len(combinations)
            )
            self.prefixes[family] = grouped
            self.duplicates += repeated
            combinations += several
        self.own_sets = len(self.sets)
        for combination in combinations:
            self.sets.append(tuple(sorted({member for part in combination for member in self.sets[part]})))
        self.set_first = array("I", [0, *itertools.accumulate(len(items) for items in self.sets)])
        self.set_members = array("I", itertools.chain.from_iterable(self.sets))

    def conflicts(self, fleet: Fleet) -> Iterable[str]:
        """Yield a line for each prefix that one cluster has several routes for; the ranking policy uses the best."""
        contested: dict[int, str] = {}
        names = {cluster.number: cluster.id for cluster in fleet.clusters}
        for number in range(self.own_sets, len(self.sets)):
            by_cluster: dict[int, list[Announcement]] = defaultdict(list)
            for member in self.sets[number]:
                by_cluster[self.announcements[member].cluster].append(self.announcements[member])
            twice = [names.get(cluster, f"#{cluster}") for cluster, items in by_cluster.items() if len(items) > 1]
            if twice:
                excluded = any(self.announcements[member].excludes for member in self.sets[number])
                rule = "an exclusion is used" if excluded else "the best is used"
                contested[number] = f"{', '.join(sorted(twice))}; {rule}"
        for family in (4, 6) if contested else ():
            columns = self.prefixes[family]
            for i in prefix_rows.rows_with_values(columns, contested, MAX_CONFLICTS):
                prefix = prefix_at(family, columns, i)
                yield f"{prefix}: different routes at {contested[columns.value[i]]}"


def make_rankings(
    wanted: Pairs, chains: Chains, routes: MergedRoutes, fleet: Fleet, vectors: list[Vector], settings: Settings
) -> zone_rankings.Rankings:
    """Return the ranking of every (chain, region), by the policy, ending with the nearest open sites."""
    size = max(cluster.number for cluster in fleet.clusters) + 1
    sites = {site.id: site_vector(site) for site in fleet.sites}
    partner_numbers = {partner.id: partner.number for partner in fleet.partners}
    cluster_vectors, cluster_partners = array("d", bytes(24 * size)), array("I", bytes(4 * size))
    for cluster in fleet.clusters:
        cluster_vectors[3 * cluster.number : 3 * cluster.number + 3] = array("d", sites[cluster.site])
        cluster_partners[cluster.number] = partner_numbers[cluster.partner] if cluster.partner else 0
    fallback_first, fallback_clusters = array("I", [0]), array("I")
    open_clusters: dict[str, list[int]] = defaultdict(list)
    for cluster in fleet.clusters:
        if cluster.accepts_off_net:
            open_clusters[cluster.site].append(cluster.number)
    most_km = settings.fallback_max_km
    least = math.cos(min(most_km / zone_rankings.EARTH_RADIUS_KM, math.pi)) if most_km else -math.inf
    for vector in vectors:
        nearest = sorted(open_clusters, key=lambda site: (-cosine(sites[site], vector), site))
        for site in nearest[: settings.fallback_sites]:
            if cosine(sites[site], vector) >= least:
                fallback_clusters.extend(sorted(open_clusters[site]))
        fallback_first.append(len(fallback_clusters))
    return zone_rankings.make_rankings(
        wanted,
        chains,
        routes.set_first,
        routes.set_members,
        {
            name: array("I", map(operator.attrgetter(attribute), routes.announcements))
            for name, attribute in {"cluster": "cluster", "excludes": "excludes", **RANKING_KEYS}.items()
            if attribute
        },
        cluster_vectors,
        cluster_partners,
        array("d", itertools.chain.from_iterable(vectors)),
        fallback_first,
        fallback_clusters,
        prices_of(fleet, size, settings),
        settings.ranking_policy,
        DISTANCE_STEP_KM,
    )


def prices_of(fleet: Fleet, clusters: int, settings: Settings) -> array[float]:
    """Return the prices for the rankings, where the fallback's is MOST_PRESSURE: by cluster number, then two more.

    Those are the price of a cluster without a route, and that of 1000 km.
    """
    unit = MOST_PRESSURE / settings.price_fallback
    of_class = {
        RouteClass.embedded: settings.price_embedded,
        RouteClass.private: settings.price_private,
        RouteClass.exchange: settings.price_exchange,
        RouteClass.transit: settings.price_transit,
    }
    prices = array("d", [settings.price_transit * unit]) * (clusters + 1)
    for cluster in fleet.clusters:
        prices[cluster.number] = of_class[cluster.route_class] * unit
    prices.append(settings.price_1000_km * unit)
    return prices


def make_zones(wanted: Pairs, rankings: zone_rankings.Rankings, regions: list[Region]) -> tuple[list[Zone], array[int]]:
    """Return the zones, and the zone of each (chain, region): equal ranking, region and partner share a zone."""
    numbers: dict[tuple[int, str, int], int] = {}
    zone_of = array("I")
    for pair in range(len(wanted)):
        key = (rankings.ranking[pair], regions[wanted.right[pair]].code, rankings.partner[pair])
        zone_of.append(numbers.setdefault(key, len(numbers)))
    zones = [
        Zone(rankings.first[ranking], rankings.first[ranking + 1] - rankings.first[ranking], partner, code)
        for ranking, code, partner in numbers
    ]
    return zones, zone_of


def region_vectors(regions: list[Region], fleet: Fleet) -> list[Vector]:
    """Return the assumed location of each region's clients: the region's own, or the mean of the sites in its country.

    Without a site there, the mean of the country's shipped places; if there are none either, of all sites.
    """
    by_country: dict[str, list[Vector]] = defaultdict(list)
    for site in fleet.sites:
        by_country[site.country].append(site_vector(site))
    shipped: dict[str, list[Vector]] = defaultdict(list)
    for place in geo_data.read_places():
        shipped[place.country].append(unit_vector(place.latitude, place.longitude))
    everywhere = mean(list(itertools.chain.from_iterable(by_country.values())))
    return [
        unit_vector(*region.place)
        if region.place
        else mean(by_country.get(region.code[:2]) or shipped.get(region.code[:2]) or [everywhere])
        for region in regions
    ]


def locations_of(regions: RegionMap, vectors: list[Vector]) -> Locations:
    """Return the assumed locations of clients: the rows of geofeeds, and one location of each country."""
    names = [feed.name for feed in regions.geofeeds for _ in feed.regions]
    first = len(regions.regions) - len(names)
    labels = array("I", [*bytes(first), *range(len(names))])
    rows = {}
    for family, columns in regions.geofeed_rows.items():
        rows[family] = columns.alias()
        rows[family].value = prefix_rows.relabel(columns.value, labels)
    return Locations(
        {
            region.code[:2]: (round(math.degrees(math.asin(z)), 2), round(math.degrees(math.atan2(y, x)), 2))
            for region, (x, y, z) in zip(regions.regions, vectors, strict=True)
            if not region.place
        },
        [(name, region.code, region.place) for name, region in zip(names, regions.regions[first:], strict=True)],
        rows,
    )


def site_vector(site: Site) -> Vector:
    return unit_vector(site.latitude, site.longitude)


def unit_vector(latitude: float, longitude: float) -> Vector:
    north, east = math.radians(latitude), math.radians(longitude)
    return math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)


def mean(vectors: list[Vector]) -> Vector:
    """Return the mean location of several; the first of them if they cancel out."""
    x, y, z = (math.fsum(axis) for axis in zip(*vectors, strict=True))
    length = math.sqrt(x * x + y * y + z * z)
    return (x / length, y / length, z / length) if length > 1e-9 else vectors[0]


def cosine(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
