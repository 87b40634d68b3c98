"""Leases: leave to fetch a title for a while, from sources in order; and which sources are off for a title."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Final, Literal
from urllib.parse import quote

import msgspec
from msgspec import Meta, Struct

from steering.appliance.manifest import Gbps, Title
from steering.appliance.rate import Bucket
from steering.errors import FeedError

OFF_S: Final = 3600.0  # for a source that had wrong bytes, or not what it was named for
WRONG_LIMIT: Final = 2  # wrong bytes of one source and title

Host = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:\[\]-]{0,260}\Z")]
Template = Annotated[str, Meta(pattern=r"^(https?://[^\s#@]{1,2000})?\Z")]
Why = Literal["not_found", "wrong_bytes", "range_ignored", "timeout", "refused", "too_long", "disk"]


class Source(Struct, frozen=True):
    """Where a title may be fetched from: an appliance of the cluster, one further away, or the origin."""

    tier: Literal["peer", "tier", "origin"]
    host: Host = ""
    appliance: Annotated[str, Meta(max_length=63)] = ""

    @property
    def name(self) -> str:
        return self.appliance or self.host or self.tier


class LeaseRow(Struct, frozen=True):
    """A lease as control sends it; times are left to `ttl`, which needs no clock."""

    lease: str
    sources: Annotated[tuple[Source, ...], Meta(max_length=256)]
    gbps: Gbps
    token: Annotated[str, Meta(pattern=r"^[!-~]{0,400}\Z")] = ""


class Later(Struct, frozen=True):
    """A title that must wait."""

    retry_s: Annotated[float, Meta(ge=0, le=7 * 86_400)]
    why: str = ""


class SourcesAnswer(Struct, frozen=True):
    """Control's answer to a request for sources."""

    ttl: Annotated[float, Meta(ge=1, le=86_400)]
    url: Template = ""
    origin_url: Template = ""
    leases: dict[str, LeaseRow] = {}
    later: dict[str, Later] = {}
    refused: dict[str, str] = {}


DECODER: Final = msgspec.json.Decoder(SourcesAnswer)


def read_sources(body: bytes) -> SourcesAnswer:
    """Return the leases in an answer. Raises FeedError naming the field and the rule."""
    try:
        return DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FeedError(f"control's answer about sources: {error}") from None


class Lease:
    """A lease in use. It is asked for again after `ttl` seconds, because its token ends soon after."""

    def __init__(self, row: LeaseRow, answer: SourcesAnswer, now: float) -> None:
        self.row = row
        self.url = answer.url
        self.origin_url = answer.origin_url
        self.ends_at = now + answer.ttl
        self.bucket = Bucket(row.gbps)

    def url_of(self, source: Source, service: str, title: Title, path: str) -> str:
        """Return the address of a file at a source. Names are percent-encoded, so none changes the address's form."""
        template = self.origin_url if source.tier == "origin" else self.url
        values = {
            "host": source.host,
            "service": quote(service, safe=""),
            "title": quote(title.id, safe=""),
            "recipe": title.recipe,
            "path": quote(path),
            "token": self.row.token,
        }
        return re.sub(r"\{(host|service|title|recipe|path|token)\}", lambda match: values[match[1]], template)


class SourceRecord:
    """Which source is off for which title, and how often it had wrong bytes."""

    def __init__(self, retry_s: float) -> None:
        self.retry_s = retry_s
        self.off_until: dict[tuple[str, str, str], float] = {}
        self.wrong: dict[tuple[str, str, str], int] = {}

    def usable(self, service: str, title: str, sources: Sequence[Source], now: float) -> list[Source]:
        return [source for source in sources if self.off_until.get((service, title, source.name), 0.0) <= now]

    def failed(self, service: str, title: str, source: Source, why: Why, now: float) -> bool:
        """Count a failure; return whether the source is off for this title now."""
        key = (service, title, source.name)
        if why == "wrong_bytes":
            self.wrong[key] = self.wrong.get(key, 0) + 1
            if self.wrong[key] < WRONG_LIMIT:
                return False
        self.off_until[key] = now + (self.retry_s if why in ("timeout", "refused") else OFF_S)
        return True

    def forget(self, service: str, title: str) -> None:
        """Drop what was counted for a title: it was fetched."""
        for table in (self.off_until, self.wrong):
            for key in [key for key in table if key[:2] == (service, title)]:
                del table[key]
