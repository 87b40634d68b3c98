"""Routes with their attributes, and refused rows of feeds. All frozen."""

from __future__ import annotations

import dataclasses
import enum
from typing import Final


class RouteClass(enum.IntEnum):
    """How a cluster reaches a route's network, nearest to the client first. The number is the sorting key."""

    embedded = 0
    private = 1
    exchange = 2
    transit = 3


class Rpki(enum.IntEnum):
    """The result of route origin validation (RFC 6811)."""

    not_found = 0
    valid = 1
    invalid = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Announcement:
    """A route without its prefix and its origin AS, as one cluster hears it for many prefixes.

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
    excludes: bool = False  # the cluster is kept away from the prefix, whatever shorter prefix or fallback leads to it


@dataclasses.dataclass(frozen=True, slots=True)
class RoutesHeard:
    """The routes of a family that an appliance reports: the count of prefixes, and a digest of them."""

    count: int
    digest: str


@dataclasses.dataclass(frozen=True, slots=True)
class Region:
    """A country or a part of one (`IN`, `IN-MH`), empty where unknown, and where known degrees north and east."""

    code: str
    place: tuple[float, float] | None = None


NOWHERE: Final = Region("")


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """A feed's row that was not taken: its position, its value, and the rule that it breaks."""

    feed: str
    row: int
    value: str
    rule: str

    def __str__(self) -> str:
        return f"{self.feed} row {self.row}: {self.value}: {self.rule}"
