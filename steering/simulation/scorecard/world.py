"""The network of a scorecard: appliances, clients in groups, and what a byte costs from where.

A *group* is the clients of one zone and one address family. A group's *options* are the clusters of its zone's ranking,
each with the price of 1 Gbit/s from there. All is read from a published table and fleet, as columns of numbers.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from _fastpath.ranking import CLUSTER
from _fastpath.zone_rankings import EARTH_RADIUS_KM
from steering.control.routes.build import site_vector, unit_vector
from steering.decision.snapshot import Snapshot
from steering.model.fleet import Fleet
from steering.model.route import RouteClass
from steering.state.table import read_zones

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

# The cost of 1 Gbit/s.
COST_OF_CLASS: Final = {RouteClass.embedded: 1.0, RouteClass.private: 2.0, RouteClass.exchange: 3.0}
COST_OF_TRANSIT: Final = 6.0  # from a cluster that no route leads to
COST_OF_ORIGIN: Final = 12.0
COST_OF_NOTHING: Final = 24.0  # for what is not delivered
COST_OF_1000_KM: Final = 0.4
COST_OF_RANK: Final = 0.05
MOST_RANKS: Final = 10
# The classes of bytes in the figures.
SOURCES: Final = ("embedded", "private", "exchange", "transit", "origin")
TRANSIT: Final = 3
ORIGIN: Final = 4
IPV6_SHARE: Final = 0.35  # of the demand of a zone with both families
UNEVEN: Final = 0.45  # sigma of the log-normal error of the planning, by partner or country


def sums(indexes: NDArray[np.integer], weights: Floats, count: int) -> Floats:
    """Return the sum of the weights of each index below `count`."""
    return np.bincount(indexes, weights, minlength=count).astype(np.float64)  # of no weights it is one of integers


@dataclasses.dataclass(frozen=True, slots=True)
class Appliances:
    """The appliances in the order of the fleet file. `cluster` is the number of the cluster."""

    ids: tuple[str, ...]
    slot: Ints
    cluster: Ints
    site: Ints
    gbps: Floats  # the capacity in the fleet
    ipv4: Flags
    ipv6: Flags


@dataclasses.dataclass(frozen=True, slots=True)
class Clusters:
    """The clusters by number, without a hole: an empty one has no appliances."""

    ids: tuple[str, ...]
    first: Ints  # its appliances are [first : first + count]
    count: Ints
    site: tuple[str, ...]
    partner: tuple[str, ...]  # empty at an exchange
    country: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What each zone's ranking offers, zone by zone: `first[zone]` to `first[zone + 1]`, in the order of the ranking.

    `source` indexes SOURCES; `price` is the cost of 1 Gbit/s. `key`, sorted, is zone and cluster; `row` its option.
    """

    first: Ints
    cluster: Ints
    rank: Ints
    source: Ints
    km: Floats
    price: Floats
    key: Ints
    row: Ints


@dataclasses.dataclass(frozen=True, slots=True)
class Groups:
    """Clients of one zone and family. `gbps` is their demand when demand equals the fleet's capacity.

    `appliance_gbps` is the mean capacity of their nearest appliances.
    """

    zone: Ints
    family: NDArray[np.uint8]
    region: Ints  # index into `regions`
    regions: tuple[str, ...]
    gbps: Floats
    appliance_gbps: Floats


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """What does not change in a scenario."""

    appliances: Appliances
    clusters: Clusters
    options: Options
    groups: Groups

    def partners(self) -> Ints:
        """Return a number for the partner of each appliance, 0 for none."""
        _, numbers = np.unique(("", *self.clusters.partner), return_inverse=True)  # the empty one sorts first
        return numbers[1:][self.appliances.cluster].astype(np.int64)

    def options_of(self, zone: Ints, cluster: Ints) -> Ints:
        """Return the option of each pair of a zone and a cluster of its ranking."""
        key = zone * len(self.clusters.ids) + cluster
        at = np.searchsorted(self.options.key, key)
        assert bool(np.all(self.options.key[at] == key)), "a pick is always from the zone's ranking"
        return self.options.row[at]


def price_of(route_class: RouteClass, is_fallback: bool, km: float, rank: int) -> float:
    """Return the cost of 1 Gbit/s from a cluster."""
    base = COST_OF_TRANSIT if is_fallback or route_class is RouteClass.transit else COST_OF_CLASS[route_class]
    return base + COST_OF_1000_KM * km / 1000 + COST_OF_RANK * min(rank, MOST_RANKS)


def read_world(snapshot: Snapshot, fleet: Fleet, seed: int) -> World:
    """Return the world of a published table and fleet; the seed decides how demand differs from what was planned."""
    clusters = read_clusters(snapshot, fleet)
    appliances = read_appliances(snapshot, fleet)
    options = read_options(snapshot, fleet, clusters)
    return World(appliances, clusters, options, read_groups(snapshot, appliances, clusters, options, seed))


def read_clusters(snapshot: Snapshot, fleet: Fleet) -> Clusters:
    """Return the clusters as the fleet file has them."""
    records = list(CLUSTER.iter_unpack(snapshot.fleet_file["clusters"]))
    by_number = {cluster.number: cluster for cluster in fleet.clusters}
    countries = {site.id: site.country for site in fleet.sites}
    known = [by_number.get(number) for number in range(len(records))]
    return Clusters(
        tuple(cluster.id if cluster else "" for cluster in known),
        np.array([first for first, *_ in records], np.int64),
        np.array([count for _, count, *_ in records], np.int64),
        tuple(cluster.site if cluster else "" for cluster in known),
        tuple((cluster.partner or "") if cluster else "" for cluster in known),
        tuple(countries[cluster.site] if cluster else "" for cluster in known),
    )


def read_appliances(snapshot: Snapshot, fleet: Fleet) -> Appliances:
    """Return the appliances as the fleet file has them."""
    by_slot = {appliance.slot: appliance for appliance in fleet.appliances}
    ordered = [by_slot[slot] for slot in snapshot.fleet_file.slots]
    cluster, site = np.zeros(len(ordered), np.int64), np.zeros(len(ordered), np.int64)
    for number, site_number, members in snapshot.fleet_file.members():
        cluster[members.start : members.stop], site[members.start : members.stop] = number, site_number
    return Appliances(
        tuple(appliance.id for appliance in ordered),
        np.array(snapshot.fleet_file.slots, np.int64),
        cluster,
        site,
        np.array([appliance.capacity_gbps for appliance in ordered]),
        np.array([appliance.ipv4 for appliance in ordered]),
        np.array([appliance.ipv6 for appliance in ordered]),
    )


def read_options(snapshot: Snapshot, fleet: Fleet, clusters: Clusters) -> Options:
    """Return the options of every zone, with the distance from where the zone's clients are assumed to be."""
    places = {code: unit_vector(*place) for code, place in snapshot.routes.locations.countries.items()}
    sites = {site.id: site_vector(site) for site in fleet.sites}
    classes = {cluster.number: cluster.route_class for cluster in fleet.clusters}
    rows: list[tuple[int, int, int, float, float]] = []
    first, keys = [0], []
    for number, zone in enumerate(read_zones(snapshot.table_file)):
        place = places.get(zone.region[:2])
        for cluster, rank, is_fallback in snapshot.table_file.ranking(zone):
            site = sites.get(clusters.site[cluster])
            cosine = sum(a * b for a, b in zip(place, site, strict=True)) if place and site else 1.0
            km = EARTH_RADIUS_KM * math.acos(max(-1.0, min(1.0, cosine)))
            route_class = classes.get(cluster, RouteClass.transit)
            source = TRANSIT if is_fallback else int(route_class)
            rows.append((cluster, rank, source, km, price_of(route_class, is_fallback, km, rank)))
            keys.append(number * len(clusters.ids) + cluster)
        first.append(len(rows))
    cluster_column, rank_column, source_column, km_column, price_column = zip(*rows, strict=True)
    key = np.array(keys, np.int64)
    order = np.argsort(key, kind="stable")
    return Options(
        np.array(first, np.int64),
        np.array(cluster_column, np.int64),
        np.array(rank_column, np.int64),
        np.array(source_column, np.int64),
        np.array(km_column),
        np.array(price_column),
        key[order],
        order,
    )


def address_space(snapshot: Snapshot, family: int) -> Floats:
    """Return how many addresses (of IPv6, /64 networks) fall in each zone."""
    high = np.array(snapshot.routes.zones[family][0], np.uint64)
    zones = np.array(snapshot.routes.zone_of[family], np.int64)
    if family == 4:
        high >>= np.uint64(32)
    end = float(1 << 32 if family == 4 else 1 << 64)
    sizes = np.diff(high.astype(np.float64), append=end)
    return sums(zones, sizes, len(read_zones(snapshot.table_file)))


def read_groups(snapshot: Snapshot, appliances: Appliances, clusters: Clusters, options: Options, seed: int) -> Groups:
    """Return the groups of clients, with a demand that equals the fleet's capacity in sum.

    As in a planned network, the capacity of a cluster is for the zones that are nearest to it, by their address space.
    Plans are wrong by a log-normal factor, of each partner, and of each country's clients elsewhere.
    """
    zones = read_zones(snapshot.table_file)
    spaces = {family: address_space(snapshot, family) for family in (4, 6)}
    capacity = sums(appliances.cluster, appliances.gbps, len(clusters.ids))
    population = spaces[4] ** 0.6 + (spaces[4] == 0) * (spaces[6] / 2**20) ** 0.6
    nearest: dict[int, list[int]] = defaultdict(list)
    for number, zone in enumerate(zones):
        if zone.count and population[number] > 0:
            begin, end = options.first[number], options.first[number + 1]
            for option in range(begin, end):
                if options.rank[option] == options.rank[begin] and options.source[option] != TRANSIT:
                    nearest[int(options.cluster[option])].append(number)
    planned, appliance_count = np.zeros(len(zones)), np.zeros(len(zones))
    for cluster in sorted(nearest):
        members = nearest[cluster]
        share = population[members] / population[members].sum()
        planned[members] += capacity[cluster] * share
        appliance_count[members] += clusters.count[cluster] * share
    appliance_gbps = np.divide(planned, appliance_count, out=np.ones(len(zones)), where=appliance_count > 0)
    rng = np.random.default_rng([seed, 1])
    names = sorted({(zone.partner, zone.region) for zone in zones})
    errors = dict(zip(names, np.exp(UNEVEN * rng.standard_normal(len(names))), strict=True))
    planned *= np.array([errors[zone.partner, zone.region] for zone in zones])
    planned *= capacity.sum() / planned.sum()
    return split_families(planned, appliance_gbps, spaces, [zone.region for zone in zones])


def split_families(planned: Floats, appliance_gbps: Floats, spaces: dict[int, Floats], codes: list[str]) -> Groups:
    """Return the groups of zones with this demand."""
    regions = tuple(sorted(set(codes)))
    rows = []
    for zone in np.flatnonzero(planned):
        has4, has6 = spaces[4][zone] > 0, spaces[6][zone] > 0
        share = IPV6_SHARE if has4 and has6 else float(has6)
        for family, part in ((4, 1 - share), (6, share)):
            if part:
                gbps = float(planned[zone]) * part
                rows.append((int(zone), family, regions.index(codes[zone]), gbps, float(appliance_gbps[zone])))
    zone_column, family_column, region_column, gbps_column, appliance_column = zip(*rows, strict=True)
    return Groups(
        np.array(zone_column, np.int64),
        np.array(family_column, np.uint8),
        np.array(region_column, np.int64),
        regions,
        np.array(gbps_column),
        np.array(appliance_column),
    )
