"""The network as the planner sees it: groups of clusters, exchanges, and the viewers of each zone of the table.

A *group* is the clusters of one partner in one country. They back each other up: a byte from the nearest of them costs
least, from another one more, from an exchange more again, and from anywhere else it costs 1 (settings `fill_cost_…`).
What a byte costs less than 1 is its *gain*. Viewers of zones with the same gains, exchanges and area are one row.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set

from _fastpath.intervals import Intervals, measure
from _fastpath.placement import MOST_CLUSTERS
from steering.control.fill.areas import WORLD
from steering.model.fleet import Fleet, Partner
from steering.model.route import RouteClass
from steering.state.routes import Routes
from steering.state.table import TableFile, Zone, read_zones


@dataclasses.dataclass(frozen=True, slots=True)
class Costs:
    """What a byte costs from the nearest cluster of the viewer's partner, another one of them, and an exchange.

    From anywhere else it costs 1.
    """

    nearest: float = 0.0
    sibling: float = 0.3
    exchange: float = 0.6


@dataclasses.dataclass(frozen=True, slots=True)
class Disk:
    """A cluster's disks in bytes, and its appliances; those without a `disk_bytes` are not planned for."""

    cluster: int
    disk_bytes: int
    appliances: int


@dataclasses.dataclass(frozen=True, slots=True)
class Viewers:
    """Viewers who are alike: `volume` is their share of the plays of their area.

    `gains` are by the clusters of their group, none where `group` is -1. `exchanges` are indexes; the first is nearest.
    """

    area: str
    volume: float
    group: int
    gains: tuple[float, ...]
    exchanges: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Network:
    """`groups` are the disks of each group's clusters, `exchanges` those of the exchanges."""

    groups: Sequence[Sequence[Disk]]
    exchanges: Sequence[Disk]
    viewers: Sequence[Viewers]
    exchange_gain: float


def read_network(table: TableFile, routes: Routes, fleet: Fleet, areas: Set[str], costs: Costs) -> Network:
    """Return the network of a table and a fleet. `areas` have a list of plays each; `*` is one of them."""
    disks = disks_of(fleet)
    places = {site.id: site for site in fleet.sites}
    members: dict[tuple[str, str, int], list[int]] = defaultdict(list)
    exchanges: list[int] = []
    for cluster in sorted(fleet.clusters, key=lambda cluster: cluster.number):
        if cluster.partner:
            key = (cluster.partner, places[cluster.site].country)
            split = len([number for name in members if name[:2] == key for number in members[name]]) // MOST_CLUSTERS
            members[(*key, split)].append(cluster.number)
        elif cluster.route_class != RouteClass.transit:
            exchanges.append(cluster.number)
    groups = list(members.values())
    return Network(
        [[disks[number] for number in group] for group in groups],
        [disks[number] for number in exchanges],
        find_viewers(table, routes, fleet, groups, exchanges, areas, costs),
        1 - costs.exchange,
    )


def disks_of(fleet: Fleet) -> dict[int, Disk]:
    """Return the disks of each cluster by its number."""
    sizes: dict[str, list[int]] = {cluster.id: [] for cluster in fleet.clusters}
    for appliance in fleet.appliances:
        if appliance.disk_bytes:
            sizes[appliance.cluster].append(appliance.disk_bytes)
    return {
        cluster.number: Disk(cluster.number, sum(sizes[cluster.id]), len(sizes[cluster.id]))
        for cluster in fleet.clusters
    }


def find_viewers(
    table: TableFile,
    routes: Routes,
    fleet: Fleet,
    groups: Sequence[Sequence[int]],
    exchanges: Sequence[int],
    areas: Set[str],
    costs: Costs,
) -> list[Viewers]:
    """Return the viewers of all zones, those who are alike together."""
    partners = {partner.number: partner for partner in fleet.partners}
    group_of = {number: index for index, group in enumerate(groups) for number in group}
    index_of = {number: index for index, number in enumerate(exchanges)}
    zones = read_zones(table)
    together: dict[tuple[str, int, tuple[float, ...], tuple[int, ...]], float] = defaultdict(float)
    totals: dict[str, float] = defaultdict(float)
    for zone, volume in zip(zones, volumes_of(routes, len(zones)), strict=True):
        if not volume:
            continue
        ranking = [(cluster, rank) for cluster, rank, is_fallback in table.ranking(zone) if not is_fallback]
        area = area_of(zone, partners.get(zone.partner), areas)
        group, gains = gains_of(ranking, group_of, groups, costs)
        reached = tuple(index_of[cluster] for cluster, _ in ranking if cluster in index_of)
        together[area, group, gains, reached] += volume
        totals[area] += volume
    return [
        Viewers(area, volume / totals[area], group, gains, reached)
        for (area, group, gains, reached), volume in together.items()
    ]


def volumes_of(routes: Routes, zones: int) -> list[float]:
    """Return each zone's share of the address space: the mean of IPv4's and IPv6's."""
    volumes = [0.0] * zones
    for family in (4, 6):
        cuts, numbers = routes.zones[family], routes.zone_of[family]
        low = array("Q", cuts[1] or bytes(8 * len(numbers)))
        extents = measure(Intervals(array("Q", cuts[0]), low, array("I", numbers)), family, zones)
        extents[0] = 0  # addresses that no zone of the table covers
        total = sum(extents) or 1.0
        volumes = [volume + extent / total / 2 for volume, extent in zip(volumes, extents, strict=True)]
    return volumes


def area_of(zone: Zone, partner: Partner | None, areas: Set[str]) -> str:
    """Return the smallest area with a list: the partner, the part of the country, the country, or all.

    Viewers whose region is unknown are in the country of their partner.
    """
    names = (partner.id if partner else "", zone.region, zone.region[:2], partner.country if partner else "")
    return next((name for name in names if name and name in areas), WORLD)


def gains_of(
    ranking: Sequence[tuple[int, int]], group_of: Mapping[int, int], groups: Sequence[Sequence[int]], costs: Costs
) -> tuple[int, tuple[float, ...]]:
    """Return the group of a ranking's first cluster that stands at a partner, and the gain of each of its clusters."""
    ranked = [(cluster, rank) for cluster, rank in ranking if cluster in group_of]
    if not ranked:
        return -1, ()
    group = group_of[ranked[0][0]]
    gains = {
        cluster: 1 - (costs.nearest if rank == ranked[0][1] else costs.sibling)
        for cluster, rank in ranked
        if group_of[cluster] == group
    }
    return group, tuple(gains.get(number, 0.0) for number in groups[group])
