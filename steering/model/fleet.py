"""The fleet: partners, sites, clusters and appliances. All frozen.

The database gives cluster numbers, partner numbers and appliance slots, once, and never reuses them; a fleet read from
a document has `UNNUMBERED` in their place. The types of the fields have the rules of a document.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Annotated, Final

from msgspec import Meta

from steering.model.fields import Address, Asn, Country, Flag, Host, Id, Label, PlainUrl, Subdivision, lengths, whole
from steering.model.route import RouteClass
from steering.model.service import Service

UNNUMBERED: Final = -1


@dataclasses.dataclass(frozen=True, slots=True)
class Partner:
    """An ISP: its id (`as55836`), name, home country (ISO 3166-1 alpha-2) and the ASNs it originates from.

    Its routes are filtered (`control/routes/filters.py`). With `allowed_asns`, its customers, only routes of those
    origins and of its own are accepted; `accepts_v4` and `accepts_v6` are prefix lengths such as `8-24`, empty for the
    settings'; `max_prefixes` 0 is the setting's.
    """

    id: Id
    name: Label
    country: Country
    asns: Annotated[tuple[Asn, ...], Meta(max_length=10_000)]
    number: int = UNNUMBERED
    allowed_asns: Annotated[tuple[Asn, ...], Meta(max_length=100_000)] = ()
    accepts_v4: Annotated[str, lengths(32)] = ""
    accepts_v6: Annotated[str, lengths(128)] = ""
    max_prefixes: Annotated[int, whole(0, 16_000_000, "a number up to 16000000; 0 is the setting's")] = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """A place (`bom001`): country, city, degrees north and east, and the part of its country, empty where unknown."""

    id: Id
    country: Country
    city: Label
    latitude: Annotated[float, Meta(ge=-90, le=90, description="degrees north, from -90 to 90")]
    longitude: Annotated[float, Meta(ge=-180, le=180, description="degrees east, from -180 to 180")]
    region: Subdivision = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """Appliances of one site that hear the same routes.

    `partner` is the ISP whose network it stands in, None at an exchange. `countries` are the countries whose networks
    it reaches at an exchange; empty for an embedded cluster. With `accepts_off_net` it serves clients without a
    route, by the fallback entries of their rankings. `peers` are the addresses of the routers whose routes it hears,
    as an MRT dump or a BGP session names them.
    """

    id: Id
    site: Id
    route_class: RouteClass
    partner: Id | None = None
    countries: Annotated[tuple[Country, ...], Meta(max_length=300)] = ()
    accepts_off_net: Flag = False
    number: int = UNNUMBERED
    peers: Annotated[tuple[Address, ...], Meta(max_length=1000)] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Appliance:
    """A cache server: host name in its URLs, capacity, and the families it answers on.

    Its health source is `assumed`, at its capacity, until it reports or an override says otherwise. `addresses` are its
    own. A checker requests `health_url`, where one is given, for an appliance that cannot report. `disk_bytes` is its
    room for titles; with 0 the fill planner leaves it out.
    """

    id: Id
    cluster: Id
    host: Host
    # A weight has 16 bits, in units of 100 Mbit/s.
    capacity_gbps: Annotated[float, Meta(gt=0, le=6553.5, description="a number over 0 and at most 6553.5")]
    ipv4: Flag = True
    ipv6: Flag = True
    slot: int = UNNUMBERED
    addresses: Annotated[tuple[Address, ...], Meta(max_length=16)] = ()
    health_url: PlainUrl = ""
    disk_bytes: Annotated[int, whole(0, 1 << 50, "a number up to 2^50")] = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Fleet:
    """The whole fleet, each tuple ordered by id."""

    partners: tuple[Partner, ...]
    sites: tuple[Site, ...]
    clusters: tuple[Cluster, ...]
    appliances: tuple[Appliance, ...]
    services: tuple[Service, ...]


def lies_in(region: str, regions: Collection[str]) -> bool:
    """Return whether a region (`IN`, `IN-MH`) is among others, or its country is.

    An unknown region (empty) lies nowhere, and a country does not lie in its parts. `Service.serves_region` in
    `_fastpath/service.pyx` is the same rule for clients.
    """
    return region in regions or region[:2] in regions


def regions_of_sites(sites: Sequence[Site], services: Sequence[Service]) -> dict[str, str]:
    """Return the region of each site by its id: its part of the country where a service names that, else the country.

    So regions are few, however finely sites are placed.
    """
    named = {region for service in services for region in service.regions}
    return {site.id: site.region if site.region in named else site.country for site in sites}
