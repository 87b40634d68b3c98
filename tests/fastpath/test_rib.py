"""The RIB's steps on routes: merged by prefix, and divided among sites."""

from __future__ import annotations

import ipaddress
import itertools
from array import array

import pytest
from hypothesis import given, settings

from _fastpath import prefix_rows, rib
from tests.support.prefixes import ROWS, texts


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_a_prefix_has_the_set_of_its_values_and_what_repeats_is_counted(rows: list[tuple[str, int]]) -> None:
    columns, tails, _, _ = prefix_rows.read("".join(f"{prefix} {value}\n" for prefix, value in rows).encode())
    for family in (4, 6):
        grouped, combinations, (duplicates, repeated) = rib.group_by_prefix(
            prefix_rows.sort(columns[family]), len(tails)
        )
        found = {
            ipaddress.ip_network(prefix): combinations[value - len(tails)] if value >= len(tails) else (value,)
            for prefix, value, _ in texts(grouped, family)
        }
        assert all(list(values) == sorted(set(values)) for values in found.values())
        own = [(ipaddress.ip_network(prefix), value) for prefix, value in rows if (":" in prefix) == (family == 6)]
        assert {(prefix, int(tails[value])) for prefix, values in found.items() for value in values} == set(own)
        assert len(set(combinations)) == len(combinations)
        assert repeated == len(own) - len(set(own)) == len(duplicates)
        for row, like in duplicates:
            assert row > like
            assert rows[row - 1] == rows[like - 1]


def test_rows_of_one_prefix_are_grouped_whatever_their_order() -> None:
    rows = [
        "10.0.0.0/8 a",
        "10.0.0.0/8 b",
        "10.0.0.0/8 a",
        "11.0.0.0/8 b",
        "12.0.0.0/8 b",
        "12.0.0.0/8 a",
        "10.0.0.0/9 a",
    ]
    for order in itertools.islice(itertools.permutations(rows), 0, 5040, 97):
        columns, tails, _, _ = prefix_rows.read(("\n".join(order) + "\n").encode())
        grouped, combinations, (duplicates, repeated) = rib.group_by_prefix(prefix_rows.sort(columns[4]), len(tails))
        heard = {
            prefix: {tails[place] for place in ((value,) if value < len(tails) else combinations[value - len(tails)])}
            for prefix, value, _ in texts(grouped, 4)
        }
        assert heard == {
            "10.0.0.0/8": {b"a", b"b"},
            "10.0.0.0/9": {b"a"},
            "11.0.0.0/8": {b"b"},
            "12.0.0.0/8": {b"a", b"b"},
        }
        assert len(combinations) == 1
        assert repeated == 1
        assert sorted(duplicates[0]) == [i for i, row in enumerate(order, 1) if row == "10.0.0.0/8 a"]


def test_rows_are_dealt_in_contiguous_runs() -> None:
    columns = prefix_rows.read("".join(f"10.{i}.0.0/16 {'ab'[i % 2]}\n" for i in range(10)).encode())[0][4]
    rib.divide(columns, array("I", [100, 200]), array("I", [2, 3]))
    assert list(columns.value)[0::2] == [100, 100, 100, 101, 101]
    assert list(columns.value)[1::2] == [200, 200, 201, 201, 202]


def test_values_without_a_share_are_refused() -> None:
    columns = prefix_rows.read(b"10.0.0.0/8 a\n10.1.0.0/16 b\n")[0][4]
    with pytest.raises(ValueError, match="row 1 has value 1, there are 1"):
        rib.divide(columns, array("I", [0]), array("I", [1]))
