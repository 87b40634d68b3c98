"""The fill manifest: what this appliance should hold, and when it may fetch it.

All its times are Unix times of control. The appliance's own clock decides nothing: the answer's `Date` is tied to the
monotonic clock once, and counted on from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from steering.appliance.holdings import digest_of
from steering.appliance.recipe import RecipeName, Size
from steering.errors import FeedError

MAX_DOCUMENT: Final = 256 << 20
GIGABIT: Final = 125_000_000  # bytes

Time = Annotated[float, Meta(ge=0, le=1e12)]
Gbps = Annotated[float, Meta(ge=0, le=1e6)]
ServiceName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}\Z")]
TitleId = Annotated[str, Meta(min_length=1, max_length=256)]
DigestText = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,8})-[0-9a-f]{16}\Z")]


class Title(Struct, frozen=True):
    """A title that should be held. Priority 1 is fetched first; `before` is the time by which it is wanted."""

    id: TitleId
    bytes: Size
    recipe: RecipeName
    priority: Annotated[int, Meta(ge=0, lt=1 << 53)] = 1 << 30
    before: Time | None = None
    urgent: bool = False


class Window(Struct, frozen=True, rename={"begin": "from"}):
    """A time in which the appliance may fetch: its rate, and the bytes for all of it."""

    begin: Time
    until: Time
    gbps: Gbps
    bytes: Size = (1 << 53) - 1


class Full(Struct, frozen=True, tag_field="kind", tag="full"):
    """Everything that should be held of a service."""

    service: ServiceName
    digest: DigestText
    titles: tuple[Title, ...] = ()


class Delta(Struct, frozen=True, tag_field="kind", tag="delta"):
    """The way from what is held, the digest `base`, to what should be held."""

    service: ServiceName
    base: DigestText
    digest: DigestText
    add: tuple[Title, ...] = ()
    remove: tuple[TitleId, ...] = ()


class Copy(Struct, frozen=True):
    """A copy that others call damaged."""

    service: ServiceName
    id: TitleId


class Document(Struct, frozen=True):
    """A fill manifest as control sends it."""

    format: int
    appliance: str
    plan: Annotated[int, Meta(ge=0)]
    expires_at: Time
    fill_s: Annotated[float, Meta(ge=1, le=86_400)]
    remove_after_s: Annotated[float, Meta(ge=0, le=30 * 86_400)]
    services: tuple[Full | Delta, ...]
    windows: Annotated[tuple[Window, ...], Meta(max_length=10_000)] = ()
    urgent_gbps: Gbps = 0.0
    check: Annotated[tuple[Copy, ...], Meta(max_length=100_000)] = ()


class ManifestError(FeedError):
    """The document breaks a rule; the manifest before it stays in force."""


class Manifest(NamedTuple):
    """A fill manifest in force: by service, every title that should be held."""

    document: Document
    etag: str
    targets: Mapping[str, Mapping[str, Title]]


Base = Mapping[str, Mapping[str, Title]]  # by service, what was held when the manifest was asked for

DECODER: Final = msgspec.json.Decoder(Document)


def read_manifest(body: bytes, etag: str, appliance: str, base: Base) -> Manifest:
    """Return the manifest in an answer. Raises ManifestError naming the field or the service, and the rule."""
    try:
        document = DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"fill manifest: {error}") from None
    if document.format != 1:
        raise ManifestError(f"fill manifest: format {document.format}; this agent reads format 1")
    if document.appliance != appliance:
        raise ManifestError(f"fill manifest: it is for {document.appliance[:80]!r}, this appliance is {appliance!r}")
    targets: dict[str, dict[str, Title]] = {}
    for entry in document.services:
        if entry.service in targets:
            raise ManifestError(f"fill manifest: service {entry.service} occurs twice")
        targets[entry.service] = titles = titles_of(entry, base)
        if (digest := digest_of(titles)) != entry.digest:
            raise ManifestError(f"fill manifest: service {entry.service} has digest {digest}, not {entry.digest}")
    return Manifest(document, etag, targets)


def titles_of(entry: Full | Delta, base: Base) -> dict[str, Title]:
    """Return the titles that should be held of a service."""
    if isinstance(entry, Full):
        return by_id(entry.service, entry.titles)
    held = base.get(entry.service)
    if held is None or digest_of(held) != entry.base:
        raise ManifestError(f"fill manifest: service {entry.service}: the delta's base {entry.base} is not held")
    removed = set(entry.remove)
    kept = {title: row for title, row in held.items() if title not in removed}
    return kept | by_id(entry.service, entry.add)


def by_id(service: str, titles: Sequence[Title]) -> dict[str, Title]:
    result = {title.id: title for title in titles}
    if len(result) != len(titles):
        raise ManifestError(f"fill manifest: service {service} names a title twice")
    return result


class ServerClock:
    """Control's clock, counted on by the monotonic clock since its last answer."""

    def __init__(self) -> None:
        self.date = 0.0
        self.read_at: float | None = None

    def set(self, date: str, now: float) -> None:
        """Take over the `Date` of an answer; a missing or unreadable one changes nothing."""
        try:
            self.date = parsedate_to_datetime(date).timestamp()
        except (TypeError, ValueError):
            return
        self.read_at = now

    def time(self, now: float) -> float | None:
        """Return control's time; None before its first answer."""
        return None if self.read_at is None else self.date + now - self.read_at


def window_at(windows: Sequence[Window], time: float) -> Window | None:
    """Return the window that is open at a time."""
    return next((window for window in windows if window.begin <= time < window.until), None)


def order(title: Title) -> tuple[Any, ...]:
    """Return the key by which titles are fetched: urgent ones, then by priority, then by the time they are wanted."""
    return (not title.urgent, title.priority, title.before if title.before is not None else 1e13, title.id)
