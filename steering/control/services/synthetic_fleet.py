"""A made-up fleet over real networks and real places, to run the service at full size before a real fleet exists.

The partners of a country are the networks that originate most of its address space. A country gets partners and
appliances by the square root of its address space, so that small countries get some. The same arguments always give the
same fleet.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import Final, TypeVar

import geo_data
from geo_data import Network, Place
from steering.model.fleet import Appliance, Cluster, Fleet, Partner, Site
from steering.model.route import RouteClass
from steering.model.service import Service

Key = TypeVar("Key", str, int)

SMALLEST_NETWORK: Final = 2048  # IPv4 addresses; smaller networks get no appliance
EXCHANGE_SHARE: Final = 0.18
APPLIANCES_AT_EXCHANGE: Final = 14
MOST_SITES: Final = 8
DISK_BYTES: Final = 40 * 10**12
EXCHANGE_DISK_BYTES: Final = 200 * 10**12
CLUSTER_SIZE: Final = 24  # a larger site is split into clusters, at most one for each letter
IPV6_SHARE: Final = 0.88
HALF_IPV6_SHARE: Final = 0.03  # clusters where only every other appliance has IPv6

# Networks that originate much address space and have no viewers.
WITHOUT_VIEWERS: Final = frozenset(
    {
        *(749, 721, 5972, 306, 27064, 203665, 668, 1503, 385, 367),  # defence
        *(16509, 14618, 8075, 8068, 396982, 15169, 714, 6185, 45102, 37963, 45090, 132203, 136907, 55990),  # clouds
        *(13335, 20940, 16625, 54113, 2906, 40027, 32934, 60068, 30081, 22822, 15133),  # content delivery
        *(24940, 16276, 14061, 63949, 20473, 8560, 51167, 12876, 60781, 36352, 53667, 203020, 26496, 46606),  # hosts
        *(3356, 174, 1299, 2914, 6939, 6453, 3257, 3491, 6762, 5511, 12956, 6461, 4637, 1239),  # transit
        *(31399, 55, 71, 2686, 1906, 3598, 2907, 680, 553, 786, 1103, 2200, 137, 766, 4538),  # others
    }
)


def synthesize(appliances: int = 19_000, partners: int = 1_500, seed: int = 1) -> Fleet:
    """Return an unnumbered fleet of exactly so many appliances. A small fleet has fewer partners and one exchange."""
    if appliances < 1 or partners < 1:
        raise ValueError(f"a fleet has at least one appliance and one partner, not {appliances} and {partners}")
    by_country = networks_by_country(geo_data.read_networks())
    places: dict[str, list[Place]] = defaultdict(list)
    for place in geo_data.read_places():
        places[place.country].append(place)
    space = {
        country: sum(network.addresses_v4 for network in networks) ** 0.5
        for country, networks in by_country.items()
        if country in places
    }
    plan = Plan(random.Random(seed))  # noqa: S311 (a seeded fleet, no secret)

    at_exchanges = max(1, round(appliances * EXCHANGE_SHARE))
    sites = share_out(max(1, at_exchanges // APPLIANCES_AT_EXCHANGE), space, {c: len(places[c]) for c in space})
    for country, count in share_out(at_exchanges, {c: space[c] for c, n in sites.items() if n}, least=sites).items():
        plan.add_exchanges(country, places[country][: sites[country]], count)

    in_partners = appliances - at_exchanges
    most = {country: len(by_country[country]) for country in space}
    quotas = share_out(min(partners, max(1, in_partners // 3), in_partners), space, most)
    chosen = [network for country in sorted(quotas) for network in by_country[country][: quotas[country]]]
    weights = {network.asn: network.addresses_v4**0.6 for network in chosen}
    counts = share_out(in_partners, weights, least=dict.fromkeys(weights, 1)) if chosen else {}
    for network in chosen:
        plan.add_partner(network, places[network.country], counts[network.asn])
    return plan.fleet()


def networks_by_country(networks: Sequence[Network]) -> dict[str, list[Network]]:
    """Return the networks that may be partners, by home country, the largest first."""
    found: dict[str, list[Network]] = defaultdict(list)
    for network in networks:
        if network.country and network.addresses_v4 >= SMALLEST_NETWORK and network.asn not in WITHOUT_VIEWERS:
            found[network.country].append(network)
    for country in found:
        found[country].sort(key=lambda network: (-network.addresses_v4, network.asn))
    return dict(sorted(found.items()))


def share_out(
    total: int,
    weights: Mapping[Key, float],
    most: Mapping[Key, int] | None = None,
    least: Mapping[Key, int] | None = None,
) -> dict[Key, int]:
    """Return `total` split in proportion to the weights, by highest averages (Webster).

    A share is at least `least` and at most `most`, where given. A total too small for every `least` goes to the keys of
    the greatest weights first; a total above the sum of `most` is not given out whole.
    """
    heaviest = sorted(weights, key=lambda key: (-weights[key], key))
    shares = dict.fromkeys(weights, 0)
    left = total
    for key in heaviest if least else ():
        shares[key] = min(least[key] if least else 0, left)
        left -= shares[key]
    queue = [
        (-weights[key] / (2 * shares[key] + 1), key) for key in heaviest if most is None or most[key] > shares[key]
    ]
    heapq.heapify(queue)
    while left and queue:
        _, key = queue[0]
        shares[key] += 1
        left -= 1
        if most is None or shares[key] < most[key]:
            heapq.heapreplace(queue, (-weights[key] / (2 * shares[key] + 1), key))
        else:
            heapq.heappop(queue)
    return {key: share for key, share in shares.items() if share}


class Plan:
    """A fleet that is being made, site by site."""

    def __init__(self, rnd: random.Random) -> None:
        self.rnd = rnd
        self.partners: list[Partner] = []
        self.sites: list[Site] = []
        self.clusters: list[Cluster] = []
        self.appliances: list[Appliance] = []
        self.numbers: dict[str, int] = defaultdict(int)

    def add_exchanges(self, country: str, places: Sequence[Place], appliances: int) -> None:
        """Add the exchanges of a country, each at a place of its own."""
        for place, count in zip(places, evenly(appliances, len(places)), strict=True):
            self.add_site(place, country, count, RouteClass.exchange, None, (100.0, 200.0, 400.0))

    def add_partner(self, network: Network, places: Sequence[Place], appliances: int) -> None:
        """Add a partner with its appliances at one to eight sites, most often at the largest places."""
        partner = Partner(f"as{network.asn}", network.name or f"AS{network.asn}", network.country, (network.asn,))
        self.partners.append(partner)
        count = min(max(round(0.8 * appliances**0.5), 1), MOST_SITES, appliances)
        order = sorted(places, key=lambda place: self.rnd.random() * (2 + places.index(place)))
        sizes = (10.0, 40.0) if appliances < 4 else (40.0, 100.0) if appliances < 30 else (100.0, 200.0)
        for at, size in enumerate(evenly(appliances, count)):
            self.add_site(order[at % len(order)], network.country, size, RouteClass.embedded, partner.id, sizes)

    def add_site(
        self,
        place: Place,
        country: str,
        appliances: int,
        route_class: RouteClass,
        partner: str | None,
        capacities: Sequence[float],
    ) -> None:
        """Add a site with its clusters and appliances, all of one capacity."""
        code = place.iata.lower()
        self.numbers[code] += 1
        site = Site(f"{code}{self.numbers[code]:03}", country, place.city, place.latitude, place.longitude)
        self.sites.append(site)
        capacity = self.rnd.choice(capacities)
        count = min(-(-appliances // CLUSTER_SIZE), len(ascii_lowercase))
        names = iter(f"c{number:03}-{site.id}" for number in range(1, appliances + 1))
        for letter, size in zip(ascii_lowercase, evenly(appliances, count), strict=False):
            is_exchange = route_class is RouteClass.exchange
            cluster = Cluster(
                id=f"{site.id}-{letter}",
                site=site.id,
                route_class=route_class,
                partner=partner,
                countries=(country,) if is_exchange else (),
                accepts_off_net=is_exchange,
            )
            self.clusters.append(cluster)
            draw = self.rnd.random()
            for place_in_cluster in range(size):
                ipv6 = draw < IPV6_SHARE or (draw < IPV6_SHARE + HALF_IPV6_SHARE and place_in_cluster % 2 == 0)
                name = next(names)
                disk = EXCHANGE_DISK_BYTES if is_exchange else DISK_BYTES
                host = f"{name}.cdn.example"
                self.appliances.append(
                    Appliance(name, cluster.id, host, capacity, ipv4=True, ipv6=ipv6, disk_bytes=disk)
                )

    def fleet(self) -> Fleet:
        """Return the fleet, ordered by id, with its one service."""
        service = Service("video", "https://{host}/v/{title}", "https://origin.example/v/{title}")
        return Fleet(
            partners=tuple(sorted(self.partners, key=lambda partner: partner.id)),
            sites=tuple(sorted(self.sites, key=lambda site: site.id)),
            clusters=tuple(sorted(self.clusters, key=lambda cluster: cluster.id)),
            appliances=tuple(sorted(self.appliances, key=lambda appliance: appliance.id)),
            services=(service,),
        )


def evenly(total: int, parts: int) -> list[int]:
    """Return the total in parts that differ by at most one, the largest first."""
    return [total // parts + (place < total % parts) for place in range(parts)]
