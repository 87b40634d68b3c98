"""MMDBs: every address has the record that a lookup finds; damaged databases are refused with network and rule."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import maxminddb
import pytest

from steering.control.routes.feeds import FeedSource, read_feed
from steering.control.routes.feeds.mmdb import read_networks
from steering.control.routes.feeds.regions import read_regions
from steering.errors import FeedError
from steering.model.fleet import Fleet

WriteMmdb = Callable[..., Path]
ASN: dict[str, Any] = {"autonomous_system_number": [4, 64500]}


def networks(path: Path) -> dict[str, Any]:
    return dict(read_networks(path, lambda record: record))


SHORT = [
    # prefixes of a database, and as what it is read
    (["::/64"], ["::/64", "0.0.0.0/0"]),
    (["::/1"], ["::/1", "0.0.0.0/0"]),
    (["::/96"], ["0.0.0.0/0"]),
    (["::/97"], ["0.0.0.0/1"]),
    (["::1.2.3.4/128"], ["1.2.3.4/32"]),
    (["8000::/1"], ["8000::/1"]),
    (["::1:0:0:0/80", "::/95"], ["::/95", "0.0.0.0/0", "0:0:0:0:1::/80"]),
]


@pytest.mark.parametrize(("prefixes", "read"), SHORT)
def test_a_network_around_ipv4_is_one_of_both_families(
    write_mmdb: WriteMmdb, prefixes: list[str], read: list[str]
) -> None:
    found = networks(write_mmdb(dict.fromkeys(prefixes, ASN)))
    assert [ipaddress.ip_network(text) for text in found] == [ipaddress.ip_network(text) for text in read]
    assert set(map(str, found.values())) == {"{'autonomous_system_number': 64500}"}


def test_a_short_network_is_a_route_and_a_country(write_mmdb: WriteMmdb, fleet: Fleet) -> None:
    feed = read_feed(FeedSource("mmdb", str(write_mmdb({"::/64": ASN}, "asn.mmdb"))), fleet)
    assert (feed.accepted, list(feed.columns[4].length), list(feed.columns[6].length)) == (2, [0], [64])
    regions = read_regions(write_mmdb({"::/64": {"country_code": "IN"}}))
    assert [regions.regions[i].code for i in regions.intervals[4].value] == ["IN"]


@pytest.mark.parametrize("version", [4, 6])
def test_every_network_has_the_record_that_a_lookup_finds(write_mmdb: WriteMmdb, version: int) -> None:
    draw = random.Random(7)
    width = 32 if version == 4 else 128
    prefixes = {
        str(ipaddress.ip_network((draw.getrandbits(width), 8 + draw.randrange(width - 8)), strict=False)): ASN
        for _ in range(40)
    }
    separate = [
        text
        for text in prefixes
        if not any(
            ipaddress.ip_network(text).overlaps(ipaddress.ip_network(other)) for other in prefixes if other != text
        )
    ]
    path = write_mmdb({text: {"name": text} for text in separate}, version=version)
    found = networks(path)
    assert found.keys() == set(separate)
    with maxminddb.open_database(path) as reader:
        for text, record in found.items():
            assert reader.get(ipaddress.ip_network(text)[0]) == record == {"name": text}


def aliased(path: Path) -> Path:
    """Let 2002::/16 lead to the node of ::/96, as databases of both families do."""
    data = bytearray(path.read_bytes())
    node, start = 0, 0
    for _ in range(96):
        start = int.from_bytes(data[start * 6 : start * 6 + 3], "big")
    for bit in format(0x2002, "016b")[:-1]:
        node = int.from_bytes(data[node * 6 + 3 * int(bit) :][:3], "big")
    data[node * 6 : node * 6 + 3] = start.to_bytes(3, "big")
    path.write_bytes(data)
    return path


def test_other_ways_to_ipv4_are_left_out(write_mmdb: WriteMmdb) -> None:
    path = aliased(write_mmdb({"1.2.3.0/24": ASN, "2003::/16": ASN}))
    with maxminddb.open_database(path) as reader:
        assert reader.get("2002:102:304::") is not None
    assert list(networks(path)) == ["1.2.3.0/24", "2003::/16"]


def with_nodes(path: Path, nodes: dict[int, tuple[int, int]]) -> None:
    data = bytearray(path.read_bytes())
    for node, (left, right) in nodes.items():
        data[node * 6 : node * 6 + 6] = left.to_bytes(3, "big") + right.to_bytes(3, "big")
    path.write_bytes(data)


def replace(old: bytes, new: bytes) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        assert path.read_bytes().count(old) == 1
        path.write_bytes(path.read_bytes().replace(old, new))

    return edit


DAMAGED = [
    # name, damage, rule
    ("a name that is not UTF-8", replace(b"country_codeBIN", b"country_\xff\xfeeBIN"), r"network 10\.0\.0\.0/8: its record cannot be read"),
    ("a text that is not UTF-8", replace(b"BIN", b"B\xff\xfe"), r"network 10\.0\.0\.0/8: its record cannot be read"),
    ("a record behind the end", lambda path: with_nodes(path, {0: (0xFFFFFF, 0xFFFFFF)}), "its record cannot be read"),
    ("a loop", lambda path: with_nodes(path, {0: (0, 0)}), "node 0 is reached twice"),
    ("a loop of two", lambda path: with_nodes(path, {0: (1, 1), 1: (0, 0)}), "node [01] is reached twice"),
    ("one node in two places", lambda path: with_nodes(path, {0: (1, 1)}), "node 1 is reached twice"),
    ("no metadata", replace(b"MaxMind.com", b"MinMaxd.com"), "is no MMDB"),
    ("odd nodes", replace(b"record_size\xa2\x00\x18", b"record_size\xa2\x00\x19"), "is no MMDB|nodes of 25 bits"),
    ("too many nodes", replace(b"node_count\xc4\x00\x00", b"node_count\xc4\x7f\xff"), "is no MMDB|at most 16000000 nodes"),
    ("no file", lambda path: path.write_bytes(b""), "is no MMDB|empty"),
    ("a pipe", lambda path: (path.unlink(), os.mkfifo(path)), "is no file"),
    ("missing", lambda path: path.unlink(), "is no file"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage", "rule"), DAMAGED, ids=[row[0] for row in DAMAGED])
def test_a_damaged_database_is_refused_with_its_rule(
    write_mmdb: WriteMmdb, name: str, damage: Callable[[Path], object], rule: str
) -> None:
    path = write_mmdb({"10.0.0.0/8": {"country_code": "IN"}, "11.0.0.0/8": {"country_code": "GB"}}, version=4)
    damage(path)
    with pytest.raises(FeedError, match=rf"countries\.mmdb: .*({rule})"):
        read_regions(path)


def test_any_damaged_byte_is_read_or_refused(write_mmdb: WriteMmdb, fleet: Fleet) -> None:
    path = write_mmdb({"10.0.0.0/8": ASN, "2001:db8::/32": ASN}, "asn.mmdb")
    data = path.read_bytes()
    draw = random.Random(11)
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(draw.randrange(1, 4)):
            damaged[draw.randrange(len(data) - 300, len(data))] = draw.randrange(256)
        damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged[: draw.choice([len(data), draw.randrange(len(data))])])
        with contextlib.suppress(FeedError):
            read_feed(FeedSource("mmdb", str(path)), fleet)


def test_other_record_sizes_are_read(write_mmdb: WriteMmdb) -> None:
    path = write_mmdb({"10.0.0.0/8": ASN, "11.0.0.0/8": ASN, "192.0.2.0/24": ASN}, version=4)
    data = path.read_bytes()
    with maxminddb.open_database(path) as reader:
        count = reader.metadata().node_count
    records = [int.from_bytes(data[i * 3 : i * 3 + 3], "big") for i in range(2 * count)]
    rest = data[count * 6 :]
    for size in (28, 32):
        tree = b""
        for left, right in zip(records[::2], records[1::2], strict=True):
            if size == 32:
                tree += struct.pack(">II", left, right)
            else:
                upper = (left >> 24 & 15) << 4 | right >> 24 & 15
                tree += (left & 0xFFFFFF).to_bytes(3, "big") + bytes([upper]) + (right & 0xFFFFFF).to_bytes(3, "big")
        path.write_bytes(tree + rest.replace(b"record_size\xa2\x00\x18", b"record_size\xa2\x00" + bytes([size])))
        assert list(networks(path)) == ["10.0.0.0/8", "11.0.0.0/8", "192.0.2.0/24"]
