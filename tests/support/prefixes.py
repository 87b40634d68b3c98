"""Prefix rows for tests of the table's steps: strategies that draw them, and columns as texts."""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import strategies as st

from _fastpath import prefix_rows


def texts(columns: prefix_rows.Columns, family: int) -> list[tuple[str, int, int]]:
    """Return (prefix, value, row) of every row."""
    make: Any = ipaddress.IPv4Network if family == 4 else ipaddress.IPv6Network
    shift = 96 if family == 4 else 0
    return [
        (str(make(((high << 64 | low) >> shift, length))), value, row)
        for high, low, length, value, row in zip(
            columns.high, columns.low, columns.length, columns.value, columns.row, strict=True
        )
    ]


def prefixes(version: int) -> st.SearchStrategy[str]:
    bits = 32 if version == 4 else 128
    make: Any = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network
    return st.builds(
        lambda length, number: str(make((number >> (bits - length) << (bits - length) if length else 0, length))),
        st.integers(0, bits),
        st.integers(0, 2**bits - 1),
    )


# Of a few prefixes many rows, as where each is heard at many sites.
FEW = st.sampled_from(["10.0.0.0/8", "10.0.0.0/9", "11.0.0.0/8", "2001:db8::/32", "2001:db8::/64", "2001:db8::1:0/112"])
ROWS = st.lists(st.tuples(st.one_of(prefixes(4), prefixes(6)), st.integers(0, 5)), max_size=40) | st.lists(
    st.tuples(FEW, st.integers(0, 5)), max_size=200
)


def mapped_forms(network: ipaddress.IPv4Network) -> list[str]:
    """Return the ways to write an IPv4 prefix: as it is, IPv4-mapped, and inside NAT64 and 6to4 prefixes."""
    number, length = int(network.network_address), network.prefixlen
    forms = [str(network), f"::ffff:{network.network_address}/{96 + length}"]
    if length:
        forms.append(f"64:ff9b::{network.network_address}/{96 + length}")
        forms.append(f"2002:{number >> 16:x}:{number & 0xFFFF:x}::/{16 + length}")
    return forms
