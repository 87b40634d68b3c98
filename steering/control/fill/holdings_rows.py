"""What an appliance reports of its holdings of a service: everything, changes since the last report, or nothing.

A **digest** of a set of ids is how many they are, and the sum modulo 2^64 of a hash of each: the first eight bytes,
big-endian, of its SHA-256. So it does not depend on order, and the work to change it by a delta grows with the ids in
the delta only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

MODULUS: Final = 1 << 64

Name = Annotated[str, Meta(min_length=1, max_length=63)]
DigestText = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,8})-[0-9a-f]{16}$")]
Digest = tuple[int, int]  # how many ids, and the sum of their hashes
Member = tuple[int, int]  # cluster number and slot: an appliance that moves to another cluster is a new member


class Full(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="full"):
    """Everything that an appliance holds of a service."""

    service: Name
    full: list[str]
    digest: DigestText


class Delta(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="delta"):
    """The changes of an appliance's holdings of a service: from the digest `base` to `digest`.

    An id in both lists is held. Without ids, the delta checks that both sides have the same digest.
    """

    service: Name
    base: DigestText
    digest: DigestText
    add: list[str] = []
    remove: list[str] = []


class Unknown(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="unknown"):
    """An appliance does not report its holdings of a service: it is filled on demand."""

    service: Name


HoldingsRow = Full | Delta | Unknown


def hash_of(name: str) -> int:
    """Return the part of a digest that an id adds."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def digest_text(digest: Digest) -> str:
    """Return a digest as reports have it."""
    return f"{digest[0]}-{digest[1]:016x}"


def digest_of(names: Iterable[str]) -> str:
    """Return the digest of a set of ids as text."""
    distinct = set(names)
    return digest_text((len(distinct), sum(map(hash_of, distinct)) % MODULUS))


def pack_digests(digests: Mapping[Member, Mapping[str, Digest]]) -> bytes:
    """Return digests by member and service as bytes."""
    return msgspec.msgpack.encode([(*member, by_service) for member, by_service in digests.items()])


def unpack_digests(packed: bytes | memoryview) -> dict[Member, dict[str, Digest]]:
    """Return the digests that `pack_digests` packed; none for empty bytes."""
    rows = msgspec.msgpack.decode(packed, type=list[tuple[int, int, dict[str, Digest]]]) if packed else []
    return {(cluster, slot): by_service for cluster, slot, by_service in rows}
