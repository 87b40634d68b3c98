"""Prefixes swept into intervals, and intervals laid over each other, against slower and plainer ways."""

from __future__ import annotations

import ipaddress
import itertools
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _fastpath import prefix_rows
from _fastpath.intervals import Chains, Intervals, Pairs, overlay, sweep
from tests.support import reference
from tests.support.prefixes import prefixes


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(prefixes(6), st.integers(0, 9), max_size=30), st.lists(st.integers(0, 2**128 - 1), max_size=20))
def test_a_chain_is_every_covering_prefix_longest_first(rows: dict[str, int], asked: list[int]) -> None:
    columns, tails, _, _ = prefix_rows.read("".join(f"{prefix} {value}\n" for prefix, value in rows.items()).encode())
    chains = Chains()
    intervals = sweep(prefix_rows.sort(columns[6]), chains)
    judge = reference.Table(rows.items())
    starts = [high << 64 | low for high, low in zip(intervals.high, intervals.low, strict=True)]
    assert starts == sorted(set(starts))
    assert all(a != b for a, b in itertools.pairwise(intervals.value))
    for number in {*asked, *starts, *(start - 1 for start in starts if start)}:
        place = sum(start <= number for start in starts) - 1
        found = [int(tails[value]) for value in chains.values(intervals.value[place])]
        assert found == judge.covering(str(ipaddress.IPv6Address(number)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 3)), max_size=12), min_size=2, max_size=2))
def test_an_overlay_has_both_values_everywhere(cuts: list[list[tuple[int, int]]]) -> None:
    sides = []
    for side in cuts:
        starts = {0: 9, **{start << 60: value for start, value in side}}
        high = sorted(starts)
        sides.append(Intervals(array("Q", high), array("Q", [0] * len(high)), array("I", [starts[h] for h in high])))
    pairs = Pairs()
    both = overlay(sides[0], sides[1], pairs)
    for number in range(0, 16):
        at = number << 60
        left, right = (side.value[sum(h <= at for h in side.high) - 1] for side in sides)
        pair = both.value[sum(h <= at for h in both.high) - 1]
        assert (pairs.left[pair], pairs.right[pair]) == (left, right)


def test_pairs_keep_their_numbers_while_the_table_grows() -> None:
    pairs = Pairs()
    numbers = [pairs.intern(i * 7919 % 65536, i % 251) for i in range(20_000)]
    assert [pairs.intern(i * 7919 % 65536, i % 251) for i in range(20_000)] == numbers
    assert len(pairs) == len({(i * 7919 % 65536, i % 251) for i in range(20_000)}) == max(numbers) + 1


WRONG_COLUMNS = [
    ("out of order", [(2, 16), (1, 16)], "row 1: the columns are not sorted"),
    ("a prefix twice", [(1, 16), (1, 16)], "row 1: the columns are not sorted, or hold a prefix twice"),
    ("the longer first", [(1, 24), (1, 16)], "row 1: the columns are not sorted"),
    ("too long", [(1, 129)], "row 0"),
]


@pytest.mark.parametrize(("rows", "message"), [row[1:] for row in WRONG_COLUMNS], ids=[row[0] for row in WRONG_COLUMNS])
def test_a_sweep_refuses_columns_that_are_not_sorted(rows: list[tuple[int, int]], message: str) -> None:
    columns = prefix_rows.Columns(len(rows))
    for place, (high, length) in enumerate(rows):
        columns.high[place], columns.length[place] = high << 48, length
    with pytest.raises(ValueError, match=message):
        sweep(columns, Chains())
