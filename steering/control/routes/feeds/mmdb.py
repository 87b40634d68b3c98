"""MaxMind databases (MMDB): their networks and records; and the `mmdb` feed, an ASN database read like an `asn` feed.

The search tree is walked here and only records are read by `maxminddb`: its own iteration fails at networks shorter
than /96 around IPv4, and does not end where nodes form a loop. An IPv6 database has IPv4 below ::/96; other places lead
to the same nodes (2002::/16 and its like) and are left out.
"""

from __future__ import annotations

import ipaddress
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import maxminddb

from steering.control.feed_files import sha256_of
from steering.control.routes.feeds import Feed
from steering.control.routes.feeds.asn import parse_asn, read_lines
from steering.errors import FeedError
from steering.model.fleet import Fleet
from steering.model.prefix import UNWRAPPED

MAX_BYTES: Final = 1 << 30
MAX_NODES: Final = 16_000_000  # the largest city databases have some 10 M
# What `maxminddb` raises for damaged databases, names that are not UTF-8 among them.
ERRORS: Final = (maxminddb.InvalidDatabaseError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError)

T = TypeVar("T")


def read(path: str, fleet: Fleet) -> Feed:
    """Return the routes of an ASN database. Networks without an ASN are left out."""
    file = Path(path)
    lines = bytearray()
    for network, asn in read_networks(file, asn_of):
        if asn is not None:
            lines += f"{network} {asn}\n".encode()
    if not lines:
        raise FeedError(
            f"{file.name}: names no ASN", hint="a database of countries or cities is the setting country_mmdb"
        )
    return read_lines(file.name, bytes(lines), sha256_of(file), fleet)


def asn_of(record: object) -> int | None:
    """Return the ASN of a record of the usual shapes: `autonomous_system_number`, or `asn` as a number or `AS64500`."""
    fields = record if isinstance(record, dict) else {}
    return parse_asn(fields.get("autonomous_system_number", fields.get("asn")))


def read_networks(path: Path, value_of: Callable[[Any], T]) -> Iterator[tuple[str, T]]:
    """Yield every network of a database as text, with the value of its record. FeedError names network and rule."""
    try:
        if not path.is_file():
            raise FeedError(f"{path}: is no file")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise FeedError(f"{path.name}: {size} bytes; at most {MAX_BYTES}")
        with (
            maxminddb.open_database(path) as reader,
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as tree,
        ):
            values: dict[int, T] = {}
            for pointer, number, depth in walk(path.name, tree, reader.metadata()):
                address, network = network_at(number, depth, reader.metadata().ip_version)
                if ":" in network and any(ipaddress.IPv6Network(network).subnet_of(around) for around in UNWRAPPED):
                    continue  # its clients are answered as IPv4, which the database has below ::/96
                if pointer not in values:
                    try:
                        values[pointer] = value_of(reader.get(address))
                    except ERRORS as error:
                        raise FeedError(f"{path.name}: network {network}: its record cannot be read: {error}") from None
                yield network, values[pointer]
                if depth < 96 and number == 0 and reader.metadata().ip_version == 6:
                    yield "0.0.0.0/0", values[pointer]  # it covers ::/96
    except OSError as error:
        raise FeedError(f"{path}: {error.strerror}") from error
    except ERRORS as error:
        raise FeedError(f"{path.name}: is no MMDB: {error}") from None


def walk(name: str, tree: mmap.mmap, about: Any) -> Iterator[tuple[int, int, int]]:
    """Yield record pointer, bits and depth of each leaf, in the order of addresses. FeedError: it is no tree."""
    nodes, size, version = about.node_count, about.record_size, about.ip_version
    if size not in (24, 28, 32) or version not in (4, 6) or not 0 < nodes <= MAX_NODES or nodes * size // 4 > len(tree):
        raise FeedError(
            f"{name}: {nodes} nodes of {size} bits for IPv{version}: a database has at most {MAX_NODES} nodes, of 24, "
            "28 or 32 bits, all inside the file"
        )
    width, bits = size // 4, 128 if version == 6 else 32
    seen, ipv4_start = bytearray(nodes), -1
    stack = [(0, 0, 0)]
    while stack:
        node, number, depth = stack.pop()
        if node > nodes:
            yield node, number, depth
        if node >= nodes or (seen[node] and node == ipv4_start):
            continue
        if seen[node] or depth == bits:
            raise FeedError(f"{name}: node {node} is reached twice, or deeper than /{bits}: the search tree is a tree")
        seen[node] = 1
        if depth == 96 and number == 0:
            ipv4_start = node
        both = int.from_bytes(tree[node * width : (node + 1) * width], "big")
        if size == 28:  # the middle byte has the upper halves of both
            left, right = both >> 32 | (both >> 4 & 0xF000000), both & 0xFFFFFFF
        else:
            left, right = both >> size, both & (1 << size) - 1
        stack += ((right, number << 1 | 1, depth + 1), (left, number << 1, depth + 1))


def network_at(number: int, depth: int, version: int) -> tuple[str, str]:
    """Return the first address of a network, and the network as text; below ::/96 as IPv4."""
    if version == 4:
        address = str(ipaddress.IPv4Address(number << 32 - depth))
        return address, f"{address}/{depth}"
    number <<= 128 - depth
    if depth >= 96 and number < 1 << 32:
        address = str(ipaddress.IPv4Address(number))
        return address, f"{address}/{depth - 96}"
    address = str(ipaddress.IPv6Address(number))
    return address, f"{address}/{depth}"
