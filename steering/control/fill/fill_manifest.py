"""Fill manifests: what one appliance should hold of each service, as a full list or as the changes that lead there.

    outline (plan, windows, digests of the targets) ─> ETag ─> 304, or
    outline + targets + what the appliance reported ─> `full` or `delta` for each service ─> JSON

The **ETag** names the outline, so the meaning of a manifest and not the way to it: a full list and a delta to the same
target have the same ETag. An outline is small, and stays the same until a window ends, a plan is published or a recipe
changes; until then a poll is one look-up (`PollCache`) and no title is looked at.

A **delta** needs the set that the appliance has. Control keeps no earlier targets: it has the holdings that the
appliance reported, and uses them if their digest is the one that the poll names. Any other digest gets the full list.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import compress
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from steering.control.fill.fill_windows import FillWindow
from steering.control.fill.holdings_rows import MODULUS, Digest, hash_of
from steering.errors import RequestError

FORMAT: Final = 1
MOST_HAVE: Final = 32  # services in one poll
HAVE: Final = re.compile(r"([a-z0-9][a-z0-9-]{0,62}):((?:0|[1-9][0-9]{0,8})-[0-9a-f]{16})")
HAVE_RULE: Final = "a service and the digest of what the appliance holds of it, such as video:2-1b82dc14c04bbc0a"
FEW: Final = 2000  # set bits up to which one look-up each is faster than a pass over all titles
DIGITS: Final = bytes.maketrans(b"01", b"\x00\x01")

Item = TypeVar("Item")


class TitleRow(Struct, frozen=True, omit_defaults=True, gc=False):
    """A title that the appliance should hold. Priority 1 is first; `before` is when it is wanted, in Unix time."""

    id: str
    bytes: int
    recipe: str
    priority: int
    before: int | None = None
    urgent: bool = False


class WindowRow(Struct, frozen=True, rename={"begins_at": "from", "ends_at": "until"}):
    """A fill window in Unix time."""

    begins_at: int
    ends_at: int
    gbps: float
    bytes: int


class CheckRow(Struct, frozen=True, order=True):
    """A copy that others got wrong bytes from: the appliance should hash it again."""

    service: str
    id: str


class FullList(Struct, frozen=True, tag_field="kind", tag="full"):
    """Every title of a service that the appliance should hold."""

    service: str
    digest: str
    titles: Sequence[TitleRow]


class Changes(Struct, frozen=True, tag_field="kind", tag="delta"):
    """The changes from the set with the digest `base` to the one with `digest`. An id in both lists is held."""

    service: str
    base: str
    digest: str
    add: Sequence[TitleRow]
    remove: Sequence[str]


class FillManifest(Struct, frozen=True):
    """The body of an answer."""

    appliance: str
    plan: int
    expires_at: int
    fill_s: int
    remove_after_s: int
    windows: Sequence[WindowRow]
    urgent_gbps: float
    services: Sequence[FullList | Changes]
    check: Sequence[CheckRow]
    format: int = FORMAT


class Outline(NamedTuple):
    """A fill manifest without its titles. `digests` has the target of each managed service.

    `revision` changes with what a digest of ids does not show: recipes, priorities and times in the catalogue.
    """

    appliance: str
    plan: int
    revision: str
    expires_at: int
    fill_s: int
    remove_after_s: int
    windows: tuple[FillWindow, ...]
    urgent_gbps: float
    digests: tuple[tuple[str, str], ...]
    check: tuple[tuple[str, str], ...] = ()


class Target(NamedTuple):
    """What the appliance should hold of a service: all rows, or those of some ids, as they are needed.

    `renewed` are the ids whose recipe changed lately. They are in every delta, since holdings are reported
    without recipes.
    """

    rows: Callable[[], Sequence[TitleRow]]
    rows_of: Callable[[Collection[str]], Sequence[TitleRow]]
    renewed: frozenset[str] = frozenset()


class Held(NamedTuple):
    """The digest of what the appliance reported of a service, and the ids to add and to remove from there."""

    digest: str
    changes: Callable[[], tuple[Collection[str], Collection[str]]]


def etag_of(outline: Outline) -> str:
    """Return the entity tag of a fill manifest."""
    digest = hashlib.sha256(msgspec.json.encode(outline)).hexdigest()
    return f'"{outline.plan}-{digest[:16]}"'


def matches(if_none_match: str, etag: str) -> bool:
    """Return whether an If-None-Match has an entity tag, so that the answer is 304 (RFC 9110, 13.1.2)."""
    if if_none_match == etag:
        return True
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in if_none_match.split(","))


def read_have(values: Sequence[str]) -> dict[str, str]:
    """Return the digests of a poll's `have` parameters by service. Raises RequestError."""
    if len(values) > MOST_HAVE:
        raise RequestError.of_parameter("have", f"{len(values)} times", f"at most {MOST_HAVE} times")
    have: dict[str, str] = {}
    for value in values:
        match = HAVE.fullmatch(value)
        if match is None:
            raise RequestError.of_parameter("have", value, HAVE_RULE)
        if match[1] in have:
            raise RequestError.of_parameter("have", value, "each service once")
        have[match[1]] = match[2]
    return have


def build(
    outline: Outline, targets: Mapping[str, Target], have: Mapping[str, str], held: Mapping[str, Held]
) -> FillManifest:
    """Return the fill manifest of an outline, with a delta for each service whose reported set the appliance names."""
    return FillManifest(
        appliance=outline.appliance,
        plan=outline.plan,
        expires_at=outline.expires_at,
        fill_s=outline.fill_s,
        remove_after_s=outline.remove_after_s,
        windows=[WindowRow(*window) for window in outline.windows],
        urgent_gbps=outline.urgent_gbps,
        services=[
            service_part(service, digest, targets[service], have.get(service), held.get(service))
            for service, digest in outline.digests
        ],
        check=[CheckRow(*row) for row in outline.check],
    )


def render(manifest: FillManifest) -> bytes:
    """Return a fill manifest as JSON."""
    return msgspec.json.encode(manifest)


def service_part(service: str, digest: str, target: Target, base: str | None, held: Held | None) -> FullList | Changes:
    """Return the list of a service; the changes where `base` is the digest of what is held and they are shorter."""
    if base is None or held is None or held.digest != base:
        return FullList(service, digest, target.rows())
    if base == digest and not target.renewed:
        return Changes(service, base, digest, [], [])
    add, remove = held.changes()
    add = {*add, *target.renewed}
    if len(add) + len(remove) > int(digest.partition("-")[0]):
        return FullList(service, digest, target.rows())
    return Changes(service, base, digest, target.rows_of(sorted(add)), sorted(remove))


def changes_between(held: Iterable[str], wanted: Iterable[str]) -> tuple[set[str], set[str]]:
    """Return the ids to add and to remove, from one set of ids to another; for bits, see `Numbered.changes`."""
    before, after = set(held), set(wanted)
    return after - before, before - after


class PollCache:
    """The ETag of each appliance's fill manifest, while it cannot have changed: a 304 is one look-up."""

    def __init__(self) -> None:
        self.etags: dict[int, tuple[str, float]] = {}

    def is_unchanged(self, slot: int, if_none_match: str, now: float) -> bool:
        """Return whether the appliance has the fill manifest that it would get."""
        etag, until = self.etags.get(slot, ("", 0.0))
        return now < until and matches(if_none_match, etag)

    def keep(self, slot: int, etag: str, until: float) -> None:
        """Keep an ETag until a time."""
        self.etags[slot] = etag, until

    def drop(self, slot: int) -> None:
        """Forget the ETag of one appliance, whose pins, checks or windows changed."""
        self.etags.pop(slot, None)

    def clear(self) -> None:
        """Forget all ETags: a plan or a catalogue was published, or rules changed."""
        self.etags.clear()


# ---- targets as bits by a title's index in a plan


class Numbered(Generic[Item]):
    """The titles of a service by index in a plan, with what goes into a digest; sets of them are bits."""

    def __init__(self, ids: Sequence[str], items: Sequence[Item]) -> None:
        self.items = items
        self.hashes = list(map(hash_of, ids))

    def select(self, bits: int) -> list[Item]:
        """Return the items of a set, by index."""
        return list(compress(self.items, mask_of(bits, len(self.items))))

    def digest(self, bits: int) -> Digest:
        """Return the digest of a set."""
        return bits.bit_count(), sum(compress(self.hashes, mask_of(bits, len(self.hashes)))) % MODULUS

    def changes(self, held: int, wanted: int) -> tuple[list[Item], list[Item]]:
        """Return the items to add and to remove, from one set to another; cheap where they are few."""
        return self.select_few(wanted & ~held), self.select_few(held & ~wanted)

    def select_few(self, bits: int) -> list[Item]:
        """Return the items of a set; faster than `select` for up to some hundred."""
        return [self.items[index] for index in indexes_of(bits)] if bits.bit_count() < FEW else self.select(bits)

    def digest_after(self, before: Digest, held: int, wanted: int) -> Digest:
        """Return the digest of a set by that of another one; cheap where their difference is small."""
        added, removed = wanted & ~held, held & ~wanted
        if added.bit_count() + removed.bit_count() >= FEW:
            return self.digest(wanted)
        change = sum(self.hashes[index] for index in indexes_of(added))
        change -= sum(self.hashes[index] for index in indexes_of(removed))
        return before[0] + added.bit_count() - removed.bit_count(), (before[1] + change) % MODULUS


def indexes_of(bits: int) -> Iterator[int]:
    """Yield the bits that are set, by 64 at a time: a set has few."""
    packed = memoryview(bits.to_bytes(-(-bits.bit_length() // 64) * 8, "little")).cast("Q")
    for position in compress(range(len(packed)), packed):
        word = packed[position]
        while word:
            lowest = word & -word
            yield position * 64 + lowest.bit_length() - 1
            word ^= lowest


def mask_of(bits: int, size: int) -> bytes:
    """Return a byte of 0 or 1 for each bit, the lowest first."""
    return f"{bits:0{size}b}"[::-1].encode().translate(DIGITS) if size else b""
