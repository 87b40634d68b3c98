"""Services, kinds of traffic, and the pathways that their playlists declare. All frozen."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Pathway:
    """A way to the content that a playlist declares.

    It stands for appliances of clusters of `classes`, of the clusters `clusters`, or for the `host` of another network.
    """

    id: str
    classes: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    host: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """One kind of traffic.

    `url` and `fallback` are templates: `{host}` is the appliance's host, `{title}` the percent-encoded title; a
    fallback has no `{host}`. `regions` are the countries, or parts of them, whose sites may serve it; none means all.
    `holdings` is `title` or `file`: what appliances report. Where no appliance is left, the answer is the fallback
    alone, or with `fail_open` appliances that are full, unhealthy or stale.

    `n` is the number of targets for requests without a number. `client_regions` are the countries, or parts of them,
    whose clients are served; others are refused, or sent to `refused_url`. `token` is the form of the signature at
    `{token}` in URLs: empty, `path`, `query` or `secure_link`. It is valid for `token_ttl_s`, made with the first of
    `keys`, and with `token_bind` for the client's network alone. A `path` token covers a `title` or the whole
    `service`, by `token_covers`. Playlists declare `pathways`; players in `clones` are offered clones of them.
    Answers live `ttl_s`, steering manifests `steer_ttl_s`, with the jitter of the share `ttl_jitter`. `origin` has
    the playlists.
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
    """Return the jitter of a TTL in whole seconds: floor(ttl * share), with a share below 1."""
    return int(ttl_s * share)


def service_of(row: dict[str, Any]) -> Service:
    """Return the service that `dataclasses.asdict` made a row of, also where the row has been through JSON."""
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    fields["pathways"] = tuple(
        Pathway(item["id"], tuple(item["classes"]), tuple(item["clusters"]), item["host"]) for item in row["pathways"]
    )
    return Service(**fields)
