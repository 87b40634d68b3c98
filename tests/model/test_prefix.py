"""Addresses and prefixes mean one thing, however they are written."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _fastpath import prefix_rows
from steering.errors import RequestError
from steering.model.prefix import parse_address, parse_prefix
from tests.support.prefixes import mapped_forms, texts

PREFIXES = [
    ("203.0.113.0/24", "203.0.113.0/24"),
    ("203.0.113.9", "203.0.113.9/32"),
    ("2001:db8::/32", "2001:db8::/32"),
    ("::ffff:198.51.100.0/120", "198.51.100.0/24"),
    ("::FFFF:198.51.100.9", "198.51.100.9/32"),
    ("::ffff:0:0/96", "0.0.0.0/0"),
    ("64:ff9b::cb00:7100/120", "203.0.113.0/24"),
    ("64:ff9b::203.0.113.0/120", "203.0.113.0/24"),
    ("2002:cb00:7100::/40", "203.0.113.0/24"),
    ("2002:cb00:7109::/48", "203.0.113.9/32"),
    # Around the ranges, or beside them: IPv6.
    ("::/0", "::/0"),
    ("::fffe:0:0/95", "::fffe:0:0/95"),
    ("2002::/15", "2002::/15"),
    ("64:ff9b::/95", "64:ff9b::/95"),
    ("64:ff9b:1::/48", "64:ff9b:1::/48"),
    ("2003:cb00::/32", "2003:cb00::/32"),
]


@pytest.mark.parametrize(("text", "wanted"), PREFIXES)
def test_a_prefix_is_unwrapped(text: str, wanted: str) -> None:
    assert str(parse_prefix(text)) == wanted


REFUSED = [
    ("2002:cb00:7109:1::/64", "a 6to4 prefix has a length up to 48"),
    ("2002:cb00:7109::1", "a 6to4 prefix has a length up to 48"),
    ("2002::/16", "a prefix is no whole range of translated addresses"),
    ("64:ff9b::/96", "a prefix is no whole range of translated addresses"),
    ("::ffff:198.51.100.1/120", "has host bits set"),
    ("fe80::1%eth0/64", "no zone id"),
    ("nonsense/8", "nonsense"),
]


@pytest.mark.parametrize(("text", "rule"), REFUSED)
def test_a_prefix_that_can_match_no_client_is_refused_with_its_rule(text: str, rule: str) -> None:
    with pytest.raises(RequestError, match=rule) as caught:
        parse_prefix(text)
    assert text in str(caught.value)


ADDRESSES = [
    ("203.0.113.9", "203.0.113.9"),
    ("::ffff:203.0.113.9", "203.0.113.9"),
    ("::ffff:cb00:7109", "203.0.113.9"),
    ("64:ff9b::203.0.113.9", "203.0.113.9"),
    ("2002:cb00:7109:1::5", "203.0.113.9"),
    ("2001:db8::1", "2001:db8::1"),
    ("64:ff9b:1::1", "64:ff9b:1::1"),
    ("::cb00:7109", "::cb00:7109"),  # IPv4-compatible addresses were withdrawn
]


@pytest.mark.parametrize(("text", "wanted"), ADDRESSES)
def test_an_address_is_unwrapped(text: str, wanted: str) -> None:
    assert parse_address(text) == ipaddress.ip_address(wanted).packed


@pytest.mark.parametrize("text", ["", "203.0.113", "fe80::1%eth0", "203.0.113.09", "x", "203.0.113.0/24"])
def test_a_wrong_address_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="no IPv4 or IPv6 address"):
        parse_address(text)


@given(st.integers(0, 32), st.integers(0, 2**32 - 1))
def test_every_form_of_an_ipv4_prefix_is_the_same_prefix(length: int, number: int) -> None:
    network = ipaddress.IPv4Network((number, length), strict=False)
    for text in mapped_forms(network):
        assert parse_prefix(text) == network
        columns, _, refusals, _ = prefix_rows.read(f"{text} a\n".encode())
        assert (refusals, texts(columns[4], 4), len(columns[6])) == ([], [(str(network), 0, 1)], 0)


@given(
    st.integers(0, 128), st.integers(0, 2**128 - 1), st.sampled_from([0, 0xFFFF << 32, 0x64FF9B << 96, 0x2002 << 112])
)
def test_the_compiled_reader_takes_and_refuses_the_same_prefixes(length: int, number: int, around: int) -> None:
    low_bits = 112 if around >> 112 == 0x2002 else 32
    number = (number & ((1 << low_bits) - 1)) | around if around else number
    text = str(ipaddress.IPv6Network((number, length), strict=False))
    columns, _, refusals, _ = prefix_rows.read(f"{text} a\n".encode())
    try:
        wanted = [str(parse_prefix(text))]
    except RequestError:
        wanted = []
    assert [row[0] for family in (4, 6) for row in texts(columns[family], family)] == wanted
    assert len(refusals) == 1 - len(wanted)
