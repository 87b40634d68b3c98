"""The nouns: what a fleet is made of, what a route says, and the ladder policies. All frozen.

Cluster numbers, partner numbers and appliance slots are given by the store, once, and never reused
(`control/store.py`); a fleet read from a document carries `UNNUMBERED` in their place.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Final

UNNUMBERED: Final = -1


class RouteClass(enum.IntEnum):
    """How a cluster hears a route, nearest to the client first. The number is the sorting key."""

    embedded = 0
    private = 1
    exchange = 2
    transit = 3


class Rpki(enum.IntEnum):
    """What route origin validation finds (RFC 6811)."""

    not_found = 0
    valid = 1
    invalid = 2


LADDER_KEYS: Final = ("prefix", "as_path", "origin", "med", "class", "distance")

LADDER_POLICIES: Final[dict[str, tuple[str, ...]]] = {
    "prefix_first": ("prefix", "as_path", "med", "class", "distance"),
    "local_first": ("prefix", "class", "as_path", "med", "distance"),
}

DISTANCE_STEP_KM: Final = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Partner:
    """An ISP: its id (`as55836`), name, home country (ISO 3166-1 alpha-2) and the ASNs it originates from.

    What its clusters hear is filtered (`control/network/filters.py`): with `allowed_asns`, its customers, only those
    origins and its own are believed; `accepts_v4` and `accepts_v6` are prefix lengths such as `8-24`, empty for the
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
    """One place (`bom001`): country, city, degrees north and east; the part of its country if known."""

    id: str
    country: str
    city: str
    latitude: float
    longitude: float
    region: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """Appliances of one site that hear the same routes.

    `partner` is the ISP whose network it stands in, None at an exchange. `countries` are the countries whose
    networks it hears at an exchange; empty for an embedded cluster. `accepts_off_net` opens it to clients
    that no route leads to: the fallback rungs. `peers` are the addresses of the routers whose routes it hears, as an
    MRT dump or a BGP session names them.
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
    """One cache server: host name in its URLs, capacity, and the families it answers on.

    It is *assumed*, believed at its capacity, until it reports or is wished to. `addresses` are its own; where
    `health_url` is given, a checker asks for it there, for an appliance that cannot report.
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
class Pathway:
    """One way to the content that a playlist declares, and what it stands for.

    Appliances of clusters of `classes`, appliances of `clusters`, or the one `host` of another network.
    """

    id: str
    classes: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    host: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """One kind of traffic.

    `url` and `fallback` are templates: `{host}` is the appliance's host, `{title}` the percent-encoded title;
    a fallback has no `{host}`. `regions` are the countries, or parts of them, whose sites may serve it; none means all.
    `holdings` says what appliances report that they hold, titles or files. A zone in which nobody is left is answered
    with the fallback alone, or with `fail_open` by appliances that are full, unhealthy or stale.

    `n` is how many targets an answer has that asks for no number. `client_regions`, countries or parts of them, are
    where clients may be; others are refused, or sent to `refused_url`. `token` is the form in which URLs are signed, at
    `{token}`: empty, `path`, `query` or `secure_link`, for `token_ttl_s`, with the first of `keys`, with `token_bind`
    for the client's network alone. A `path` token covers a `title`, or the whole `service`, as `token_covers` says.
    `pathways` are those that playlists declare, `clones` the players that are offered others. Answers live `ttl_s`,
    steering manifests `steer_ttl_s`, more or less by `ttl_jitter`. `origin` is where playlists are fetched.
    """

    id: str
    url: str
    fallback: str
    ttl_s: int = 300
    regions: tuple[str, ...] = ()
    holdings: str = "title"
    fail_open: bool = False
    n: int = 3
    client_regions: tuple[str, ...] = ()
    refused_url: str = ""
    token: str = ""
    token_ttl_s: int = 43_200
    token_bind: bool = False
    token_covers: str = "title"  # noqa: S105 (no password)
    keys: tuple[str, ...] = ()
    steer_ttl_s: int = 30
    ttl_jitter: float = 0.1
    pathways: tuple[Pathway, ...] = ()
    clones: tuple[str, ...] = ()
    origin: str = ""


def jitter_s(ttl_s: int, share: float) -> int:
    """Return by how many seconds a TTL is more or less, by a share below 1 of it: whole ones, and less than it has."""
    return int(ttl_s * share)


def service_of(row: dict[str, Any]) -> Service:
    """Return the service that `dataclasses.asdict` made a row of, also where it has been through JSON.

    Fields that the row has not are at their default; those that are no more are passed over.
    """
    known = {field.name for field in dataclasses.fields(Service)}
    found: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in row.items() if name in known
    }
    found["pathways"] = tuple(
        Pathway(item["id"], tuple(item["classes"]), tuple(item["clusters"]), item["host"])
        for item in row.get("pathways", ())
    )
    return Service(**found)


@dataclasses.dataclass(frozen=True, slots=True)
class Fleet:
    """The whole inventory, each tuple ordered by id."""

    partners: tuple[Partner, ...]
    sites: tuple[Site, ...]
    clusters: tuple[Cluster, ...]
    appliances: tuple[Appliance, ...]
    services: tuple[Service, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Announcement:
    """What one cluster heard about a set of prefixes: a route without its prefix and its origin AS.

    `via` is the AS path without the origin AS, which stands beside the prefix; `hops` is the length of the whole path.
    `origin` is 0 IGP, 1 EGP, 2 incomplete (RFC 4271, 4.3).
    """

    cluster: int
    route_class: RouteClass
    via: tuple[int, ...] = ()
    hops: int = 1
    origin: int = 0
    med: int = 0
    communities: tuple[str, ...] = ()
    feed: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Region:
    """A country or a part of one (`IN`, `IN-MH`), empty where unknown, and where known degrees north and east."""

    code: str
    place: tuple[float, float] | None = None


NOWHERE: Final = Region("")


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """A feed's row that was not taken: where it stands, what it said, and the rule it broke."""

    feed: str
    row: int
    value: str
    rule: str

    def __str__(self) -> str:
        return f"{self.feed} row {self.row}: {self.value}: {self.rule}"
