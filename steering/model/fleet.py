"""The fleet: partners, sites, clusters and appliances. All frozen.

The database gives cluster numbers, partner numbers and appliance slots, once, and never reuses them; a fleet read from
a document has `UNNUMBERED` in their place.
"""

from __future__ import annotations

import dataclasses
from typing import Final

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

    id: str
    name: str
    country: str
    asns: tuple[int, ...]
    number: int = UNNUMBERED
    allowed_asns: tuple[int, ...] = ()
    accepts_v4: str = ""
    accepts_v6: str = ""
    max_prefixes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """A place (`bom001`): country, city, degrees north and east, and the part of its country, empty where unknown."""

    id: str
    country: str
    city: str
    latitude: float
    longitude: float
    region: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """Appliances of one site that hear the same routes.

    `partner` is the ISP whose network it stands in, None at an exchange. `countries` are the countries whose networks
    it reaches at an exchange; empty for an embedded cluster. With `accepts_off_net` it serves clients without a
    route, by the fallback entries of their rankings. `peers` are the addresses of the routers whose routes it hears,
    as an MRT dump or a BGP session names them.
    """

    id: str
    site: str
    route_class: RouteClass
    partner: str | None = None
    countries: tuple[str, ...] = ()
    accepts_off_net: bool = False
    number: int = UNNUMBERED
    peers: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Appliance:
    """A cache server: host name in its URLs, capacity, and the families it answers on.

    Its health source is `assumed`, at its capacity, until it reports or an override says otherwise. `addresses` are its
    own. A checker requests `health_url`, where one is given, for an appliance that cannot report.
    """

    id: str
    cluster: str
    host: str
    capacity_gbps: float
    ipv4: bool = True
    ipv6: bool = True
    slot: int = UNNUMBERED
    addresses: tuple[str, ...] = ()
    health_url: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Fleet:
    """The whole fleet, each tuple ordered by id."""

    partners: tuple[Partner, ...]
    sites: tuple[Site, ...]
    clusters: tuple[Cluster, ...]
    appliances: tuple[Appliance, ...]
    services: tuple[Service, ...]
