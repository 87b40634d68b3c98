"""PrefixTable against a dict per length, the standard library and pytricia."""

from __future__ import annotations

import ipaddress
import os
import random
import subprocess
import sys
from array import array

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from _fastpath import lpm, prefix_rows, rib
from _fastpath.intervals import Chains, Intervals, sweep
from steering.model.prefix import parse_address
from tests.support import reference

KEPT_BYTES = 8


def build(prefixes: list[tuple[str, int]]) -> tuple[lpm.PrefixTable, list[int]]:
    """Return a table whose zones are chains, and each chain's own value (None for no route)."""
    text = "".join(f"{prefix} {value}\n" for prefix, value in prefixes).encode()
    columns, tails, refusals, _ = prefix_rows.read(text)
    assert not refusals
    chains = Chains()
    intervals = {}
    for family in (4, 6):
        grouped, combinations, _ = rib.group_by_prefix(prefix_rows.sort(columns[family]), len(tails))
        assert not combinations
        intervals[family] = sweep(grouped, chains)
    values = [None, *(int(tails[chains.value[chain]]) for chain in range(1, len(chains)))]
    return lpm.PrefixTable.build(intervals[4], intervals[6], len(chains)), values


def edges(prefix: str) -> list[str]:
    """Return both edges of a prefix and the address outside each."""
    network = ipaddress.ip_network(prefix)
    first, last = int(network.network_address), int(network.broadcast_address)
    make = ipaddress.IPv4Address if network.version == 4 else ipaddress.IPv6Address
    outside = [first - 1] * (first > 0) + [last + 1] * (last < 2**network.max_prefixlen - 1)
    return [str(make(number)) for number in (first, last, *outside)]


ROWS = [
    ("nothing at all", []),
    ("one default route", [("0.0.0.0/0", 1), ("::/0", 2)]),
    ("a host route", [("192.0.2.1/32", 1), ("2001:db8::1/128", 2)]),
    ("the first and the last address", [("0.0.0.0/32", 1), ("255.255.255.255/32", 2), ("::/128", 3)]),
    ("the very last IPv6 address", [("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", 1)]),
    ("the last upper half", [("ffff:ffff:ffff:ffff::/64", 1), ("ffff:ffff:ffff:fffe::/64", 2)]),
    ("the last /24 and inside it", [("255.255.255.0/24", 1), ("255.255.255.128/25", 2)]),
    ("nested", [("10.0.0.0/8", 1), ("10.1.0.0/16", 2), ("10.1.2.0/24", 3), ("10.1.2.128/25", 4), ("10.1.2.129/32", 5)]),
    ("a sibling closes and the parent returns", [("10.0.0.0/8", 1), ("10.0.0.0/9", 2), ("10.64.0.0/10", 3)]),
    ("adjacent with one value", [("10.0.0.0/9", 1), ("10.128.0.0/9", 1)]),
    (
        "IPv6 above, at and below /64",
        [
            ("2001:db8::/32", 1),
            ("2001:db8:0:1::/64", 2),
            ("2001:db8:0:1:8000::/65", 3),
            ("2001:db8:0:1::5/128", 4),
            ("2001:db8:0:2::/127", 5),
        ],
    ),
    ("a more-specific that ends where its parent ends", [("2001:db8::/48", 1), ("2001:db8:0:ffff:ffff::/80", 2)]),
    ("every address of a /24 another", [(f"10.1.2.{i}/32", i) for i in range(256)]),
    ("every second address, in neighbouring /24s", [(f"10.1.{i >> 7}.{2 * (i & 127)}/32", i % 3) for i in range(512)]),
    ("the first and the last address of a /24", [("10.1.2.0/32", 1), ("10.1.2.255/32", 2), ("10.1.2.64/26", 3)]),
    ("more than 65,535 zones", [(f"{10 + (i >> 16)}.{i >> 8 & 255}.{i & 255}.0/24", i) for i in range(70_000)]),
]


@pytest.mark.parametrize(("name", "prefixes"), ROWS, ids=[row[0] for row in ROWS])
def test_both_edges_of_every_prefix_and_the_addresses_outside_match_the_reference(
    name: str, prefixes: list[tuple[str, int]]
) -> None:
    table, values = build(prefixes)
    judge = reference.Table(prefixes)
    for prefix, _ in prefixes[:: max(len(prefixes) // 2000, 1)]:
        for address in edges(prefix):
            assert values[table.lookup(address)] == judge.lookup(address), address
            assert table.lookup(address) == table.lookup(ipaddress.ip_address(address).packed)
    for address in ("0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "192.0.2.7"):
        assert values[table.lookup(address)] == judge.lookup(address)


def test_scattered_host_routes_take_a_cache_line_each() -> None:
    rows = [(f"{10 + (i >> 12)}.{i >> 4 & 255}.{16 * (i & 15)}.{i % 251}/32", i % 7) for i in range(20_000)]
    table, _ = build(rows)
    empty, _ = build([])
    assert table.nbytes - empty.nbytes < 110 * len(rows)  # 200,000 are 22 MB; flat blocks would be 1 KiB each


def networks(version: int) -> st.SearchStrategy[str]:
    """Prefixes that nest and touch: few leading bits vary, so that they meet often."""
    bits = 32 if version == 4 else 128
    make = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network

    def network(length: int, noise: int, tail: int) -> str:
        number = (noise << (bits - 8) | tail) >> (bits - length) << (bits - length) if length else 0
        return str(make((number, length)))

    return st.builds(network, st.integers(0, bits), st.integers(0, 3), st.integers(0, 2 ** (bits - 8) - 1))


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.one_of(networks(4), networks(6)), st.integers(0, 50), max_size=60), st.randoms())
@example({"ffff:ffff:ffff:ffff::/64": 1, "::/0": 2}, random.Random(0))
def test_any_prefixes_in_any_order_match_the_reference(prefixes: dict[str, int], order: random.Random) -> None:
    rows = list(prefixes.items())
    order.shuffle(rows)
    table, values = build(rows)
    judge = reference.Table(rows)
    for address in {address for prefix in prefixes for address in edges(prefix)}:
        assert values[table.lookup(address)] == judge.lookup(address), address
    # Chains are numbered in address order, so the order of the rows does not change a byte.
    assert build(sorted(rows))[0].block() == table.block()


@settings(max_examples=500, deadline=None)
@given(st.ip_addresses())
def test_text_of_any_address_reads_as_the_standard_library_reads_it(address: ipaddress.IPv4Address) -> None:
    assume(parse_address(str(address)) == address.packed)  # a translated one is looked up by the IPv4 address inside
    table, _ = build([(f"{address}/{address.max_prefixlen}", 1)])
    for text in {str(address), address.exploded, address.compressed.upper()}:
        assert table.lookup(text) == 1, text
    if address.version == 6:
        tail = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        dotted = ":".join(address.exploded.split(":")[:6]) + f":{tail}"
        assert table.lookup(dotted) == 1, dotted


BAD_TEXT = [
    "", "1", "1.2.3", "1.2.3.", "1.2.3.4.", "1.2.3.4.5", ".1.2.3", "1..2.3", "01.2.3.4", "1.2.3.04", "1.2.3.256", "1.2.3.1000",
    "1.2.3.4 ", " 1.2.3.4", "1.2.3.4/32", "1.2.3.-4", "1.2.3.+4", "1.2.3.4\n", "1.2.3.4x", "0x1.2.3.4", "1.2.3.٤", "١.2.3.4",
    ":", ":::", "::1%eth0", "fe80::1%1", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8",
    "1::2::3", "12345::", "::12345", "g::", "1:2:3:4:5:6:7:", ":1:2:3:4:5:6:7", "::1 ", "[::1]", "::1.2.3", "::1.2.3.4.5",
    "::01.2.3.4", "1.2.3.4::", "1:2:3:4:5:6:7:1.2.3.4", "::1.2.3.4:5", "1:2:3:4:5:6:7:8\0", "::ffff:1.2.3.256", "1" * 50, ":" * 39,
    "0000:0000:0000:0000:0000:0000:0000:00001", "::é", "2001:db8::1/128",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_TEXT)
def test_wrong_text_is_a_value_error_that_names_it(text: str) -> None:
    table, _ = build([("0.0.0.0/0", 1), ("::/0", 1)])
    with pytest.raises(ValueError, match="no IPv4 or IPv6 address") as caught:
        table.lookup(text)
    assert repr(text)[1:20] in str(caught.value)


@settings(max_examples=1000, deadline=None)
@given(st.text(alphabet="0123456789abcdefABCDEF:.%/ g", max_size=46))
@example("1:2:3:4:5:6:7::")
@example("::2:3:4:5:6:7:8")
@example("1::3:4:5:6:7:8")
def test_any_text_is_an_address_exactly_where_the_standard_library_agrees(text: str) -> None:
    table, _ = build([("0.0.0.0/0", 1), ("::/0", 1)])
    try:
        ipaddress.ip_address(text)
        valid = "%" not in text  # a zone id means something on one host only
    except ValueError:
        valid = False
    if valid:
        assert table.lookup(text) == 1
    else:
        with pytest.raises(ValueError, match="no IPv4 or IPv6 address"):
            table.lookup(text)


def test_packed_addresses_of_other_lengths_and_other_types_are_refused() -> None:
    table, _ = build([])
    for packed in (b"", b"\1\2\3", b"\0" * 5, b"\0" * 15, b"\0" * 17):
        with pytest.raises(ValueError, match=f"this one has {len(packed)}"):
            table.lookup(packed)
    with pytest.raises(TypeError, match="not int"):
        table.lookup(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 1000])
def test_a_batch_answers_as_single_lookups_do(count: int) -> None:
    rnd = random.Random(count)
    table, _ = build([("10.0.0.0/8", 1), ("10.1.2.128/25", 2), ("2001:db8::/32", 3), ("2001:db8::/127", 4)])
    for family, size in ((4, 4), (6, 16)):
        start = b"\x0a\x01" if family == 4 else b"\x20\x01\x0d\xb8"
        packed = [
            (start + rnd.randbytes(size))[:size] if rnd.random() < 0.8 else rnd.choice((b"\xff", b"\0")) * size
            for _ in range(count)
        ]
        zones = array("I", bytes(4 * count))
        table.lookup_many(b"".join(packed), zones, family)
        assert list(zones) == [table.lookup(address) for address in packed]


def test_a_batch_with_buffers_that_do_not_fit_is_refused() -> None:
    table, _ = build([])
    rows = [
        (b"\0" * 5, array("I", [0]), 4, "no multiple"),
        (b"\0" * 8, array("I", [0]), 4, "need 8 bytes"),
        (b"\0" * 16, array("I", [0]), 5, "family is 4 or 6"),
        (b"\0" * 4, memoryview(bytearray(8))[1:5], 4, "not aligned"),
    ]
    for addresses, zones, family, rule in rows:
        with pytest.raises(ValueError, match=rule):
            table.lookup_many(addresses, zones, family)
    with pytest.raises(BufferError):
        table.lookup_many(b"\0" * 4, bytes(4), 4)


def test_a_block_reads_back_from_any_place() -> None:
    table, values = build([("10.0.0.0/8", 1), ("2001:db8::/32", 2), ("2001:db8::1/128", 3)])
    moved = bytearray(64) + table.block()
    again = lpm.PrefixTable(memoryview(moved)[64:])
    assert [values[again.lookup(text)] for text in ("10.9.9.9", "11.0.0.0", "2001:db8::1", "2001:db8::2")] == [
        1,
        None,
        3,
        2,
    ]
    assert again.nbytes == table.nbytes


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 303), st.integers(1, 255), st.integers(0, 2**32 - 1))
def test_a_damaged_block_is_refused_or_still_answers(place: int, change: int, address: int) -> None:
    table, _ = build([("10.0.0.0/8", 1), ("10.0.0.0/25", 2), ("2001:db8::/32", 3), ("2001:db8::1/128", 4)])
    block = bytearray(table.block())
    block[place] ^= change
    try:
        damaged = lpm.PrefixTable(block)
    except ValueError:
        return
    assert 0 <= damaged.lookup(address.to_bytes(4, "big")) < damaged.zones
    assert 0 <= damaged.lookup((0x20010DB8 << 96 | address).to_bytes(16, "big")) < damaged.zones


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_block_damaged_in_its_parts_is_refused_or_still_answers(data: st.DataObject) -> None:
    table, _ = build(
        [(f"10.0.{i}.0/{24 + i % 3}", i) for i in range(40)] + [(f"2001:db8:{i}::/64", i) for i in range(40)]
    )
    block = bytearray(table.block())
    for _ in range(data.draw(st.integers(1, 4))):
        block[data.draw(st.integers(304, len(block) - 1))] = data.draw(st.integers(0, 255))
    try:
        damaged = lpm.PrefixTable(block)
    except ValueError:
        return
    for i in range(64):
        assert 0 <= damaged.lookup(bytes((10, 0, i, 77))) < damaged.zones
        assert 0 <= damaged.lookup((0x20010DB80000 + i << 80 | i).to_bytes(16, "big")) < damaged.zones


@pytest.mark.parametrize("place", [7, 9, 14, 17, 28, 29, 32])
@pytest.mark.parametrize("count", [1 << 61, (1 << 61) + 1, (1 << 56) + 1, 2**64 - 1])
def test_counts_whose_products_overflow_are_refused(place: int, count: int) -> None:
    table, _ = build([("10.0.0.0/8", 1), ("2001:db8::/32", 2), ("2001:db8::1/128", 3)])
    block = bytearray(table.block())
    block[8 * place : 8 * place + 8] = count.to_bytes(8, "little")
    with pytest.raises(ValueError, match=f"prefix table: a count of {count} is larger than the block"):
        lpm.PrefixTable(block)


def test_a_cut_off_block_is_refused() -> None:
    block = build([("10.0.0.0/8", 1)])[0].block()
    for length in (0, 100, 511, 512, len(block) - KEPT_BYTES):
        with pytest.raises(ValueError, match="prefix table"):
            lpm.PrefixTable(bytearray(block[:length]))


def test_intervals_out_of_order_or_out_of_range_are_refused() -> None:
    empty = Intervals(array("Q", [0]), array("Q", [0]), array("I", [0]))
    rows = [
        (([5], [0], [0]), "begin at address 0"),
        (([0, 0], [0, 0], [0, 0]), "does not begin after"),
        (([0, 1 << 40, 1 << 33], [0, 0, 0], [0, 0, 0]), "does not begin after"),
        (([0], [0], [9]), "has zone 9"),
        (([], [], []), "begin at address 0"),
    ]
    for (high, low, value), rule in rows:
        wrong = Intervals(array("Q", high), array("Q", low), array("I", value))
        with pytest.raises(ValueError, match=rule):
            lpm.PrefixTable.build(wrong, empty, 2)
        with pytest.raises(ValueError, match=rule):
            lpm.PrefixTable.build(empty, wrong, 2)


def test_the_portable_twin_gives_the_same_answers() -> None:
    program = (
        "import random, sys\n"
        "from tests.fastpath.test_lpm import build, lpm\n"
        "rnd = random.Random(5)\n"
        "rows = [(f'{rnd.randrange(256)}.{rnd.randrange(256)}.0.0/16', i) for i in range(500)]\n"
        "rows += [(f'{0x2000 + rnd.randrange(64):x}:{rnd.randrange(65536):x}::/32', i) for i in range(500)]\n"
        "table, values = build(sorted(dict(rows).items()))\n"
        "asked = [rnd.randbytes(4) for _ in range(3000)] + [b'\\x20' + rnd.randbytes(15) for _ in range(3000)]\n"
        "print(lpm.KERNEL, hash(tuple(table.lookup(one) for one in asked)))\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "STEERING_PORTABLE": portable, "PYTHONPATH": os.pathsep.join([".", *sys.path])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for portable in ("1", "0")
    ]
    assert outputs[0][0] == "portable"
    assert outputs[0][1] == outputs[1][1]
