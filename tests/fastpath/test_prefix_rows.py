"""Route text to columns, sorted and selected, each step against something slower and plainer."""

from __future__ import annotations

import ipaddress
from array import array
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from _fastpath import prefix_rows, rib
from _fastpath.intervals import Chains, sweep
from tests.support.prefixes import ROWS, texts


def test_lines_become_columns_and_equal_tails_share_a_value() -> None:
    text = b"# a comment\n10.0.0.0/8 64500\n\n  2001:db8::/32\t64501 \r\n10.1.0.0/16,64500\n0.0.0.0/0 64501\n::/0\n"
    columns, tails, refusals, refused_by = prefix_rows.read(text)
    assert tails == [b"64500", b"64501", b""]
    assert texts(columns[4], 4) == [("10.0.0.0/8", 0, 2), ("10.1.0.0/16", 0, 5), ("0.0.0.0/0", 1, 6)]
    assert texts(columns[6], 6) == [("2001:db8::/32", 1, 4), ("::/0", 2, 7)]
    assert (refusals, refused_by) == ([], {})


BAD_LINES = [
    ("10.0.0.1/8 1", "10.0.0.1/8", "host bits are set; write 10.0.0.0/8"),
    ("2001:db8::1/64 1", "2001:db8::1/64", "host bits are set; write 2001:db8::/64"),
    ("0.0.0.1/0 1", "0.0.0.1/0", "host bits are set; write 0.0.0.0/0"),
    ("10.0.0.0 1", "10.0.0.0", "a prefix is written address/length"),
    ("hello", "hello", "a prefix is written address/length"),
    ("10.0.0.0/33 1", "10.0.0.0/33", "an IPv4 length is at most 32"),
    ("::/129 1", "::/129", "an IPv6 length is at most 128"),
    ("10.0.0.0/08 1", "10.0.0.0/08", "the length is a decimal number without leading zeros"),
    ("10.0.0.0/ 1", "10.0.0.0/", "the length is a decimal number without leading zeros"),
    ("10.0.0.0/-1 1", "10.0.0.0/-1", "the length is a decimal number without leading zeros"),
    ("10.0.0.0/8/8 1", "10.0.0.0/8/8", "the length is a decimal number without leading zeros"),
    ("10.0.0.0/9999999 1", "10.0.0.0/9999999", "the length is a decimal number without leading zeros"),
    ("010.0.0.0/8 1", "010.0.0.0/8", "no IPv4 or IPv6 address"),
    ("10.0.0/24 1", "10.0.0/24", "no IPv4 or IPv6 address"),
    ("fe80::%1/64 1", "fe80::%1/64", "no IPv4 or IPv6 address"),
    ("/8 1", "/8", "no IPv4 or IPv6 address"),
    ("x" * 5000 + "/8 1", "x" * 80, "no IPv4 or IPv6 address"),
]


@pytest.mark.parametrize(("line", "value", "rule"), BAD_LINES, ids=[row[0][:20] for row in BAD_LINES])
def test_a_bad_line_is_refused_with_its_row_value_and_rule(line: str, value: str, rule: str) -> None:
    columns, _, refusals, refused_by = prefix_rows.read(f"192.0.2.0/24 7\n{line}\n2001:db8::/32 7\n".encode())
    assert refusals == [(2, value, rule)]
    assert refused_by == {rule.partition(";")[0]: 1}
    assert len(columns[4]) == len(columns[6]) == 1


def test_reading_may_begin_further_on() -> None:
    columns, tails, _, _ = prefix_rows.read(b"head\n10.0.0.0/8 a\n", 2, 5)
    assert (list(columns[4].row), tails) == ([2], [b"a"])
    for start in (-1, 19):
        with pytest.raises(ValueError, match=f"byte {start} lies outside of 18 bytes"):
            prefix_rows.read(b"head\n10.0.0.0/8 a\n", 2, start)


def test_refusals_beyond_a_thousand_are_counted() -> None:
    _, _, refusals, refused_by = prefix_rows.read(b"nonsense\n" * 2500 + b"10.0.0.1/8\n10.1.1.1/16\n")
    assert len(refusals) == 1000
    assert refused_by == {"a prefix is written address/length": 2500, "host bits are set": 2}


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_fail(data: bytes) -> None:
    columns, tails, _, refused_by = prefix_rows.read(data)
    rows = len(columns[4]) + len(columns[6])
    assert rows + sum(refused_by.values()) <= data.count(b"\n") + 1
    assert all(value < len(tails) for family in (4, 6) for value in columns[family].value)


@settings(max_examples=300, deadline=None)
@given(ROWS)
@example([("10.0.0.0/8", row * 7 % 5) for row in range(100)] + [("10.0.0.0/9", 1), ("10.0.0.0/8", 9)])
@example([("10.0.0.0/8", row * 7 % 5) for row in range(100)] + [("10.0.0.0/9", 1), ("11.0.0.0/8", 9)])
def test_sorting_orders_as_the_standard_library_does(rows: list[tuple[str, int]]) -> None:
    columns, tails, _, _ = prefix_rows.read("".join(f"{prefix} {value}\n" for prefix, value in rows).encode())
    for family in (4, 6):
        found = [
            (ipaddress.ip_network(prefix), value, row)
            for prefix, value, row in texts(prefix_rows.sort(columns[family]), family)
        ]
        values = {int(tail): place for place, tail in enumerate(tails)}
        wanted = sorted(
            ((ipaddress.ip_network(prefix), values[value], row) for row, (prefix, value) in enumerate(rows, 1)
             if (":" in prefix) == (family == 6)),
            key=lambda item: (int(item[0].network_address), item[0].prefixlen, item[1], item[2]),
        )  # fmt: skip
        assert found == wanted
        ordered = prefix_rows.sort(columns[family])
        assert prefix_rows.sort(ordered) is ordered


LINES = ["10.0.0.0/8 a", "10.0.0.0/8 b", "10.0.0.0/8,a", "10.0.0.0/9 a", "10.0.0.1/8 a", "2001:db8::/32 a", "2001:db8::/32",
         "10.0.0.0/33 a", "# 10.0.0.0/8 a", "", "10.0.0.0 a"]  # fmt: skip


@given(st.lists(st.sampled_from(LINES), max_size=12))
def test_a_line_is_read_as_it_is_read_alone(lines: list[str]) -> None:
    columns, tails, refusals, _ = prefix_rows.read("".join(f"{line}\n" for line in lines).encode())
    refused: list[Any] = []
    taken: dict[int, list[Any]] = {4: [], 6: []}
    for row, line in enumerate(lines, 1):
        alone, its_tail, its_refusal, _ = prefix_rows.read(f"{line}\n".encode(), row)
        refused += its_refusal
        for family, found in taken.items():
            found += [(prefix, its_tail[value], place) for prefix, value, place in texts(alone[family], family)]
    assert refusals == refused
    for family, found in taken.items():
        assert [(prefix, tails[value], row) for prefix, value, row in texts(columns[family], family)] == found
        assert list(columns[family].low) == [0] * len(found)  # of these prefixes


def test_sorted_columns_are_handed_back_as_they_are() -> None:
    columns = prefix_rows.read(b"10.0.0.0/8 1\n10.0.0.0/9 1\n11.0.0.0/8 1\n")[0][4]
    assert prefix_rows.sort(columns) is columns


def test_labels_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="value 2, there are 2 labels"):
        prefix_rows.relabel(array("I", [0, 2]), array("I", [5, 6]))


def test_columns_of_unequal_length_are_refused_by_every_step() -> None:
    def torn() -> prefix_rows.Columns:
        columns = prefix_rows.read(b"10.0.0.0/8 a\n10.1.0.0/16 b\n11.0.0.0/8 a\n")[0][4]
        columns.value.pop()
        return columns

    for step in (
        prefix_rows.sort,
        lambda columns: sweep(columns, Chains()),
        lambda columns: rib.group_by_prefix(columns, 9),
        lambda columns: prefix_rows.keep_values(columns, array("B", [1, 1])),
    ):
        with pytest.raises((IndexError, ValueError)):
            step(torn())


def test_values_without_a_flag_are_refused() -> None:
    columns = prefix_rows.read(b"10.0.0.0/8 a\n10.1.0.0/16 b\n")[0][4]
    with pytest.raises(ValueError, match="row 1 has value 1, there are 1 labels"):
        prefix_rows.keep_values(columns, array("B", [1]))
