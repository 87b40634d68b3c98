"""Digests of sets of ids: how many ids, and the sum modulo 2^64 of a hash of each.

The hash of an id is the first eight bytes, big-endian, of its SHA-256. So a digest does not depend on order, and the
work to change it by a delta grows with the ids in the delta only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

MODULUS: Final = 1 << 64

Digest = tuple[int, int]  # how many ids, and the sum of their hashes
Member = tuple[int, int]  # cluster number and slot: an appliance that moves to another cluster is a new member


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
