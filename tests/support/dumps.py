"""Table dumps made for tests, byte by byte as RFC 6396 and RFC 8050 say."""

from __future__ import annotations

import importlib
import ipaddress
import random
import signal
import struct
from collections.abc import Iterable, Sequence
from typing import Any

Entry = tuple[int, bytes] | tuple[int, bytes, int]  # peer, attributes, and with ADD-PATH a path id


def import_mrtparse() -> Any:
    """Return the judge, without what its import does to the process: a closed connection would end it."""
    before = signal.getsignal(signal.SIGPIPE)
    try:
        return importlib.import_module("mrtparse")
    finally:
        signal.signal(signal.SIGPIPE, before)


def record(subtype: int, body: bytes, kind: int = 13) -> bytes:
    """Return an MRT record."""
    return struct.pack(">IHHI", 1_780_000_000, kind, subtype, len(body)) + body


def peer_index(peers: Sequence[tuple[str, int]], view: str = "", collector: int = 1) -> bytes:
    """Return a PEER_INDEX_TABLE."""
    name = view.encode()
    body = struct.pack(">IH", collector, len(name)) + name + struct.pack(">H", len(peers))
    for address, asn in peers:
        packed = ipaddress.ip_address(address).packed
        wide = asn > 0xFFFF
        body += (
            struct.pack(">BI", (len(packed) == 16) | wide << 1, 7) + packed + struct.pack(">I" if wide else ">H", asn)
        )
    return record(1, body)


def rib(prefix: str, entries: Iterable[Entry], paths: bool = False) -> bytes:
    """Return the RIB record of a prefix."""
    network = ipaddress.ip_network(prefix)
    body = struct.pack(">IB", 0, network.prefixlen)
    body += network.network_address.packed[: (network.prefixlen + 7) // 8]
    listed = list(entries)
    body += struct.pack(">H", len(listed))
    for peer, attributes, *path_id in listed:
        body += struct.pack(">HI", peer, 1_779_000_000)
        body += struct.pack(">I", *(path_id or [0])) if paths else b""
        body += struct.pack(">H", len(attributes)) + attributes
    return record({4: 2, 6: 4}[network.version] + 6 * paths, body)


def attribute(code: int, value: bytes) -> bytes:
    """Return one path attribute; long ones with the extended length."""
    if len(value) > 255:
        return struct.pack(">BBH", 0x50, code, len(value)) + value
    return struct.pack(">BBB", 0x40, code, len(value)) + value


def attributes(
    path: Sequence[int] = (),
    origin: int = 0,
    med: int | None = None,
    communities: Sequence[str] = (),
    as_set: Sequence[int] = (),
    next_hop: str = "192.0.2.1",
) -> bytes:
    """Return path attributes."""
    segments = struct.pack(f">BB{len(path)}I", 2, len(path), *path) if path else b""
    segments += struct.pack(f">BB{len(as_set)}I", 1, len(as_set), *as_set) if as_set else b""
    packed = attribute(1, bytes([origin])) + attribute(2, segments)
    packed += attribute(3, ipaddress.ip_address(next_hop).packed)
    packed += attribute(4, struct.pack(">I", med)) if med is not None else b""
    if communities:
        packed += attribute(8, b"".join(struct.pack(">HH", *map(int, item.split(":"))) for item in communities))
    return packed


def full_view(prefixes: Iterable[tuple[str, int]], peers: int, seed: int = 1) -> bytes:
    """Return a dump of every (prefix, origin) announced by so many peers, with paths as long as the Internet's.

    Prefixes of one origin share the attributes of a few upstreams, as they do in a collector's dump.
    """
    rnd = random.Random(seed)
    index = peer_index([(f"192.0.2.{number + 1}", 65_001 + number) for number in range(peers)])
    known: dict[tuple[int, int, int], bytes] = {}
    parts = [index]
    for prefix, origin in prefixes:
        entries = []
        for peer in range(peers):
            upstream = rnd.choice((0, 0, 0, 1))
            key = (peer, origin, upstream)
            if key not in known:
                middle = [3000 + (origin * 7 + hop * 13 + upstream) % 9000 for hop in range(1 + origin % 4)]
                texts = [f"{65_001 + peer}:{origin % 50}", f"3356:{upstream}"]
                known[key] = attributes(
                    [65_001 + peer, *middle, origin], 0, upstream * 10, texts, next_hop=f"192.0.2.{peer + 1}"
                )
            entries.append((peer, known[key]))
        parts.append(rib(prefix, entries))
    return b"".join(parts)
