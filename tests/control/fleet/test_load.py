"""Loads are compared with shares, and hits are dealt over more of a cluster."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.control.fleet.load import MOST_HOT, MOST_ORDERS, Member, faded, may_be_over, over_limit, shares, spreads


def members(*rows: tuple[int, float] | tuple[int, float, float | None, bool]) -> list[Member]:
    """Rows are weight, requests, and how busy, and if over its limit; a capacity is as its weight."""
    return [Member(slot, row[0], row[1], *(row[2:3] or [None]), row[0], *row[3:]) for slot, row in enumerate(rows)]


ROWS: list[tuple[str, list[Member], set[int]]] = [
    ("nobody asks", members((10, 0), (10, 0)), set()),
    ("even", members((10, 500), (10, 500)), set()),
    ("within the excess", members((10, 570), (10, 430)), set()),
    ("above it", members((10, 700), (10, 300)), {0}),
    ("shares go by weight", members((30, 750), (10, 250)), set()),
    ("a small one has too much", members((30, 600), (10, 400)), {1}),
    ("chance is no overload", members((10, 30), (10, 20)), set()),
    ("few requests are no load", members((10, 19), (10, 0)), set()),
    ("alone", members((10, 1000)), set()),
    ("stays until it is back", members((10, 510, None, True), (10, 490)), {0}),
    ("is back", members((10, 490, None, True), (10, 510)), set()),
    ("by what it delivers", members((10, 0, 0.9, False), (10, 0, 0.5, False)), {0}),
    ("not busy enough to matter", members((10, 0, 0.3, False), (10, 0, 0.1, False)), set()),
    ("busy by capacity", members((30, 0, 0.9, False), (10, 0, 0.9, False)), set()),
    ("delivers until it is back", members((10, 0, 0.6, True), (10, 0, 0.55, False)), {0}),
    ("what one alone says compares with nothing", members((10, 0, 0.9, False), (10, 0)), set()),
    ("at most half of the weight, the worst first", members((10, 600), (10, 500), (10, 10), (10, 10)), {0, 1}),
    ("never the heavier half", members((30, 4000), (10, 10)), set()),
    ("weight 0 has no share", members((0, 500), (10, 500), (10, 500)), set()),
]


@pytest.mark.parametrize(("name", "rows", "over"), ROWS, ids=[row[0] for row in ROWS])
def test_who_has_more_than_its_share_is_over_its_limit(name: str, rows: list[Member], over: set[int]) -> None:
    assert over_limit(rows, 0.15) == over


@given(
    st.lists(
        st.builds(
            Member,
            st.just(0),
            st.integers(0, 100),
            st.floats(0, 1e6),
            st.one_of(st.none(), st.floats(0.01, 1.0)),
            st.floats(0.1, 400),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_half_of_the_weight_is_never_passed_over_and_the_quick_look_misses_nobody(rows: list[Member]) -> None:
    numbered = [dataclasses.replace(row, slot=slot) for slot, row in enumerate(rows)]
    over = over_limit(numbered, 0.15)
    loads, busy = [row.requests for row in rows], [row.busy or 0.0 for row in rows]
    assert may_be_over(loads, busy, 0.15) or not {slot for slot in over if not rows[slot].over}
    assert 2 * sum(row.weight for row in numbered if row.slot in over) <= sum(row.weight for row in numbered)


def test_a_hit_is_dealt_into_orders_by_its_share() -> None:
    rates = {1: 1000.0, 2: 100.0, 3: 10.0}
    assert spreads(rates, 10_000.0, 100, {}) == {1: 128, 2: 8}
    assert spreads(rates, 10_000.0, 5, {}) == {1: 4}
    assert spreads({}, 0.0, 5, {}) == {}


def test_an_order_is_given_up_late() -> None:
    kept = {1: 8}
    assert spreads({1: 100.0}, 1000.0, 10, kept) == {1: 8}
    assert spreads({1: 60.0}, 2000.0, 10, kept) == {1: 8}
    assert spreads({1: 60.0}, 4000.0, 10, kept) == {1: 2}
    assert spreads({1: 60.0}, 8000.0, 10, kept) == {}


def test_there_are_never_more_hits_or_orders_than_there_is_room_for() -> None:
    found = spreads(dict.fromkeys(range(1, 2000), 1000000000.0), 1e10, 10_000, {})
    assert len(found) == MOST_HOT
    assert max(found.values()) == MOST_ORDERS


def test_counts_fade_by_half_and_shares_add_up() -> None:
    assert faded(8.0, 4.0) == pytest.approx(4.0)
    found = shares({1: 30.0, 2: 10.0}, [1, 2, 3])
    assert found == {1: 0.75, 2: 0.25, 3: 0.0}
    assert shares({}, [1]) == {1: 0.0}


def test_bounded_load_converges() -> None:
    """A ring of titles over 20 appliances, Zipf demand, feedback a tick: nobody stays above its share by much."""
    draw = random.Random(7)
    slots = range(20)
    orders = [draw.sample(slots, len(slots)) for _ in range(300)]
    demand = [1000 / (place + 10) for place in range(300)]
    requests = dict.fromkeys(slots, 0.0)
    over: set[int] = set()
    given = dict.fromkeys(slots, 0.0)
    for tick in range(200):
        requests = {slot: faded(count, 1.0) for slot, count in requests.items()}
        for order, rate in zip(orders, demand, strict=True):
            chosen = next(slot for slot in order if slot not in over)
            requests[chosen] += rate
            given[chosen] += rate * (tick >= 50)
        over = over_limit([Member(slot, 10, requests[slot], over=slot in over) for slot in slots], 0.15)
    fair = sum(given.values()) / len(slots)
    assert max(given.values()) <= 1.25 * fair
