"""The routes of a table on disk: the scope of an answer, against a slow judge."""

from __future__ import annotations

import ipaddress
import os
import tempfile
from array import array
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from _fastpath import prefix_rows, rib
from _fastpath.intervals import Chains, sweep
from steering.model.prefix import parse_address
from steering.model.route import Announcement, RouteClass
from steering.state.routes import RouteRows, Routes, routes_sections
from steering.state.sections import write_sections
from tests.support import reference

RANGES = ("::ffff:0:0/96", "64:ff9b::/96", "2002::/16")  # whose clients are answered by the IPv4 address inside


def routes_of(prefixes: list[str]) -> Routes:
    """Return mapped routes with a zone for each chain of prefixes."""
    text = "".join(f"{prefix} {row}\n" for row, prefix in enumerate(prefixes))
    columns, tails, refusals, _ = prefix_rows.read(text.encode())
    assert not refusals
    chains, rows, zones = Chains(), {}, {}
    for family in (4, 6):
        ordered = prefix_rows.sort(columns[family])
        zones[family] = sweep(rib.group_by_prefix(ordered, len(tails))[0], chains)
        count = len(ordered)
        zeros = array("I", bytes(4 * count))
        rows[family] = RouteRows(ordered.high, ordered.low, ordered.length, zeros, zeros, array("B", bytes(count)))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)  # hundreds of files that nobody keeps
        path = Path(folder) / "routes.1"
        announcements = [Announcement(0, RouteClass.embedded)]
        sections = routes_sections({}, rows, zones, announcements, array("I", [0, 1]), array("I", [0]))
        write_sections(path, "routes", sections)
        return Routes(path)


class Judge:
    """Answers slowly: a client's family, and the prefixes that cover it."""

    def __init__(self, prefixes: list[str]) -> None:
        self.table = reference.Table([(prefix, row) for row, prefix in enumerate(prefixes)])
        self.networks = [ipaddress.ip_network(prefix) for prefix in (*prefixes, *RANGES)]

    def answer(self, address: str) -> tuple[int, list[int]]:
        packed = parse_address(address)
        return len(packed), self.table.covering(str(ipaddress.ip_address(packed)))

    def is_sound(self, scope: str, address: str) -> bool:
        """Return whether all clients of a scope are answered as an address is: answers change at edges only."""
        network = ipaddress.ip_network(scope)
        edges = {int(network[0]), int(network[-1])}
        for other in self.networks:
            if other.version == network.version:
                first, last = int(other[0]), int(other[-1])
                edges |= {first - 1, first, last, last + 1}
        wanted = self.answer(address)
        make = type(network[0])
        return all(
            self.answer(str(make(number))) == wanted
            for number in edges
            if int(network[0]) <= number <= int(network[-1])
        )


def check(prefixes: list[str], address: str) -> str:
    """Return the scope of an address, which is sound and the widest such prefix around it."""
    scope = routes_of(prefixes).scope(parse_address(address))
    judge = Judge(prefixes)
    network = ipaddress.ip_network(scope)
    plain = str(ipaddress.ip_address(parse_address(address)))
    assert ipaddress.ip_address(plain) in network
    assert judge.is_sound(scope, plain), scope
    assert not network.prefixlen or not judge.is_sound(str(network.supernet()), plain), scope
    return scope


SCOPES = [
    ("beyond 6to4", ["10.0.0.0/8", "1234::/16"], "2600:3c00::1", "2400::/6"),
    ("nothing is routed", [], "2600::1", "2400::/6"),
    ("beside 6to4, above it", [], "2003::1", "2003::/16"),
    ("beside 6to4, below it", [], "2001:db8::1", "2000::/15"),
    ("beside NAT64", [], "64:ff9b::1:0:0", "64:ff9b::1:0:0/96"),
    ("below NAT64", [], "64:ff9a::1", "64:ff9a::/32"),
    ("beside mapped addresses", [], "::fffe:0:1", "::fffe:0:0/96"),
    ("the lowest", [], "::1", "::/81"),
    ("the highest", [], "ff02::1", "8000::/1"),
    ("a route ends the scope first", ["2600::/12"], "2600::1", "2600::/12"),
    ("IPv4", ["10.0.0.0/8"], "203.0.113.9", "128.0.0.0/1"),
    ("an IPv4 client with a 6to4 address", ["10.0.0.0/8"], "2002:cb00:7109::1", "128.0.0.0/1"),
]


@pytest.mark.parametrize(("prefixes", "address", "scope"), [row[1:] for row in SCOPES], ids=[row[0] for row in SCOPES])
def test_a_scope_spans_no_client_that_is_answered_otherwise(prefixes: list[str], address: str, scope: str) -> None:
    assert check(prefixes, address) == scope


NEAR = (0, 0x64FF9B << 96, 0x2002 << 112, 0xFFFF << 32, 0x2001 << 112, 0x2003 << 112, 0x2600 << 112)


def numbers() -> st.SearchStrategy[int]:
    """IPv6 addresses near the ranges and their neighbours."""
    return st.builds(lambda near, bits, number: near | number & ((1 << bits) - 1), st.sampled_from(NEAR),
                     st.sampled_from((8, 31, 33, 96, 111, 112, 125)), st.integers(0, 2**128 - 1))  # fmt: skip


def six_prefixes() -> st.SearchStrategy[str]:
    return st.builds(
        lambda number, length: str(ipaddress.IPv6Network((number, length), strict=False)),
        numbers(),
        st.integers(0, 128),
    ).filter(lambda text: not any(ipaddress.IPv6Network(text).subnet_of(ipaddress.IPv6Network(r)) for r in RANGES))


@settings(max_examples=300, deadline=None)
@given(st.lists(six_prefixes(), max_size=8, unique=True), numbers())
@example(["1234::/16"], 0x2600 << 112)
def test_ipv6_scopes_are_sound_and_widest(prefixes: list[str], number: int) -> None:
    check(prefixes, str(ipaddress.IPv6Address(number)))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.builds(lambda number, length: str(ipaddress.IPv4Network((number, length), strict=False)),
                       st.integers(0, 2**32 - 1), st.integers(0, 32)), max_size=8, unique=True),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_ipv4_scopes_are_sound_and_widest(prefixes: list[str], number: int) -> None:
    check(prefixes, str(ipaddress.IPv4Address(number)))
