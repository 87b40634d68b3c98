"""A service, one kind of traffic, and the pathways that its playlists declare. All frozen."""

from __future__ import annotations

import dataclasses
from typing import Any


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
