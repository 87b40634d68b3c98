"""Services, kinds of traffic, and the pathways that their playlists declare. All frozen."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Final

from msgspec import Meta, convert

from steering.model.fields import (
    HOST,
    ClassName,
    FallbackTemplate,
    Flag,
    Id,
    PlainUrl,
    Region,
    TokenForm,
    UrlTemplate,
    text,
    whole,
)

SECONDS_OF_A_DAY: Final = whole(1, 86_400, "whole seconds, from 1 to 86400")
PATHWAY_RULE: Final = "an id of 1 to 64 letters, digits and ._- and one of classes, clusters (lists of them) and host"


@dataclasses.dataclass(frozen=True, slots=True)
class Pathway:
    """A way to the content that a playlist declares.

    It stands for appliances of clusters of `classes`, of the clusters `clusters`, or for the `host` of another network.
    """

    id: Annotated[str, text(r"[A-Za-z0-9._-]{1,64}", PATHWAY_RULE)]  # draft-pantos-content-steering
    classes: Annotated[tuple[ClassName, ...], Meta(max_length=1000)] = ()
    clusters: Annotated[tuple[Id, ...], Meta(max_length=1000)] = ()
    host: Annotated[str, text(f"({HOST})?", PATHWAY_RULE)] = ""


def is_pathway(row: dict[str, Any]) -> bool:
    """Return whether the object of a pathway has an id and one of classes, clusters and a host."""
    return len(row) == 2 and any(row.get(name) for name in ("classes", "clusters", "host"))


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

    id: Id
    url: UrlTemplate
    fallback: FallbackTemplate
    ttl_s: Annotated[int, SECONDS_OF_A_DAY] = 300
    regions: Annotated[tuple[Region, ...], Meta(max_length=1000)] = ()
    holdings: Annotated[str, text("title|file", "title or file")] = "title"
    fail_open: Flag = False
    n: Annotated[int, whole(1, 8)] = 3
    client_regions: Annotated[tuple[Region, ...], Meta(max_length=1000)] = ()
    refused_url: PlainUrl = ""
    token: TokenForm = ""
    token_ttl_s: Annotated[int, whole(60, 604_800, "whole seconds, from 60 to 604800")] = 43_200
    token_bind: Flag = False
    token_covers: Annotated[str, text("title|service", "title or service")] = "title"  # noqa: S105 (no password)
    keys: Annotated[tuple[Id, ...], Meta(max_length=8)] = ()
    steer_ttl_s: Annotated[int, SECONDS_OF_A_DAY] = 30
    ttl_jitter: Annotated[float, Meta(ge=0, le=0.5, description="a share from 0 to 0.5")] = 0.1
    pathways: Annotated[
        tuple[Annotated[Pathway, Meta(description=PATHWAY_RULE, extra={"check": is_pathway})], ...], Meta(max_length=16)
    ] = ()
    clones: Annotated[tuple[Id, ...], Meta(max_length=16)] = ()
    origin: PlainUrl = ""


def jitter_s(ttl_s: int, share: float) -> int:
    """Return the jitter of a TTL in whole seconds: floor(ttl * share), with a share below 1."""
    return int(ttl_s * share)


def service_of(row: dict[str, Any]) -> Service:
    """Return the service that `dataclasses.asdict` made a row of, also where the row has been through JSON."""
    return convert(row, Service)
