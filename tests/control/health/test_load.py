"""Loads are compared with shares, and hot titles get a fan-out over more of a cluster."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.control.health.load import (
    LOAD_STEP,
    MOST_HOT,
    MOST_ORDERS,
    STEADY_S,
    Member,
    faded,
    fan_outs,
    find_overloaded,
    load_factors,
    may_be_overloaded,
)


def members(*rows: tuple[int, float] | tuple[int, float, float | None, bool]) -> list[Member]:
    """Rows are weight, requests, how busy, and whether overloaded; the capacity equals the weight."""
    return [Member(slot, row[0], row[1], *(row[2:3] or [None]), row[0], *row[3:]) for slot, row in enumerate(rows)]


ROWS: list[tuple[str, list[Member], set[int]]] = [
    ("nobody asks", members((10, 0), (10, 0)), set()),
    ("even", members((10, 500), (10, 500)), set()),
    ("not far above it", members((10, 790), (10, 210)), set()),
    ("far above it", members((10, 810), (10, 190)), {0}),
    ("shares go by weight", members((30, 750), (10, 250)), set()),
    ("a small one has too much", members((30, 590), (10, 410)), {1}),
    ("chance is no overload", members((10, 30), (10, 20)), set()),
    ("few requests are no load", members((10, 19), (10, 0)), set()),
    ("alone", members((10, 1000)), set()),
    ("stays until it is back", members((10, 580, None, True), (10, 420)), {0}),
    ("is back", members((10, 570, None, True), (10, 430)), set()),
    ("by what it delivers", members((10, 0, 0.9, False), (10, 0, 0.2, False)), {0}),
    ("not busy enough to matter", members((10, 0, 0.3, False), (10, 0, 0.1, False)), set()),
    ("busy by capacity", members((30, 0, 0.9, False), (10, 0, 0.9, False)), set()),
    ("delivers until it is back", members((10, 0, 0.8, True), (10, 0, 0.55, False)), {0}),
    ("what one alone says compares with nothing", members((10, 0, 0.9, False), (10, 0)), set()),
    ("at most half of the weight, the worst first", members((10, 600), (10, 500), (10, 10), (10, 10)), {0, 1}),
    ("never the heavier half", members((30, 4000), (10, 10)), set()),
    ("weight 0 has no share", members((0, 500), (10, 500), (10, 500)), set()),
]


@pytest.mark.parametrize(("name", "rows", "overloaded"), ROWS, ids=[row[0] for row in ROWS])
def test_an_appliance_far_above_its_share_is_overloaded(name: str, rows: list[Member], overloaded: set[int]) -> None:
    assert find_overloaded(rows, 0.15) == overloaded


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
def test_half_of_the_weight_is_never_shed_and_the_quick_test_misses_none(rows: list[Member]) -> None:
    numbered = [row._replace(slot=slot) for slot, row in enumerate(rows)]
    over = find_overloaded(numbered, 0.15)
    loads, busy = [row.requests for row in rows], [row.busy or 0.0 for row in rows]
    assert may_be_overloaded(loads, busy, 0.15) or not {slot for slot in over if not rows[slot].overloaded}
    assert 2 * sum(row.weight for row in numbered if row.slot in over) <= sum(row.weight for row in numbered)


def test_the_fan_out_of_a_hot_title_follows_its_share() -> None:
    rates = {1: 1000.0, 2: 100.0, 3: 10.0}
    assert fan_outs(rates, 10_000.0, 100, {}) == {1: 128, 2: 8}
    assert fan_outs(rates, 10_000.0, 5, {}) == {1: 4}
    assert fan_outs({}, 0.0, 5, {}) == {}


def test_a_fan_out_shrinks_late() -> None:
    kept = {1: 8}
    assert fan_outs({1: 100.0}, 1000.0, 10, kept) == {1: 8}
    assert fan_outs({1: 60.0}, 2000.0, 10, kept) == {1: 8}
    assert fan_outs({1: 60.0}, 4000.0, 10, kept) == {1: 2}
    assert fan_outs({1: 60.0}, 8000.0, 10, kept) == {}


def test_hot_titles_and_orders_are_bounded() -> None:
    result = fan_outs(dict.fromkeys(range(1, 2000), 1000000000.0), 1e10, 10_000, {})
    assert len(result) == MOST_HOT
    assert max(result.values()) == MOST_ORDERS


def test_counts_fade_by_half_in_a_half_life() -> None:
    assert faded(8.0, 4.0) == pytest.approx(4.0)
    assert faded(8.0, 0.0) == 8.0


def test_a_load_factor_follows_the_deviation_and_recovers() -> None:
    def steady(*rows: tuple[float, float]) -> list[Member]:
        return [
            Member(slot, 10, 0.0, steady_requests=count, load_factor=factor)
            for slot, (count, factor) in enumerate(rows)
        ]

    assert load_factors(steady((120, 1.0), (80, 1.0)), 0.15, 1.0) == {0: pytest.approx(1 - 0.03 * 0.125), 1: 1.0}
    assert load_factors(steady((106, 0.9), (94, 0.9)), 0.15, 1.0) == {0: 0.9, 1: pytest.approx(0.9 + 0.03 * 0.06)}
    assert load_factors(steady((400, 0.5), (0, 0.9)), 0.15, 10.0) == {0: 0.5, 1: 1.0}
    assert load_factors(steady((19, 0.9), (1, 0.9)), 0.15, 1.0) == {}
    assert load_factors([Member(0, 0, 0.0)], 0.15, 1.0) == {}


def test_loads_settle_within_the_bound_and_then_titles_stay() -> None:
    """1000 titles, without hot ones, over 20 appliances, a tick a second: nobody stays far above its share, nothing swings."""
    draw = random.Random(7)
    slots = range(20)
    draws = [[-math.log(draw.random()) for _ in slots] for _ in range(1000)]
    demand = [1000 / (place + 40) for place in range(1000)]
    members = [Member(slot, 10, 0.0) for slot in slots]
    weights = [1.0] * len(slots)
    chosen = [min(slots, key=row.__getitem__) for row in draws]
    given, moved = [0.0] * len(slots), 0.0
    uneven = max(sum(rate for slot, rate in zip(chosen, demand, strict=True) if slot == one) for one in slots)
    for tick in range(300):
        answers = [0.0] * len(slots)
        for slot, rate in zip(chosen, demand, strict=True):
            answers[slot] += rate
        members = [
            member._replace(
                requests=faded(member.requests, 1.0) + got,
                steady_requests=faded(member.steady_requests, 1.0, STEADY_S) + got,
            )
            for member, got in zip(members, answers, strict=True)
        ]
        assert tick < 50 or find_overloaded(members, 0.15) == set()
        factors = load_factors(members, 0.15, 1.0)
        members = [member._replace(load_factor=factors[member.slot]) for member in members]
        before = list(weights)
        for member in members:
            if abs(member.load_factor - weights[member.slot]) >= LOAD_STEP:
                weights[member.slot] = member.load_factor
        was = chosen
        if weights != before:
            chosen = [min(slots, key=lambda slot: row[slot] / weights[slot]) for row in draws]
        if tick >= 150:
            given = [had + got for had, got in zip(given, answers, strict=True)]
            moved += sum(rate for old, new, rate in zip(was, chosen, demand, strict=True) if old != new)
    assert uneven > 1.3 * sum(demand) / len(slots)
    assert max(given) <= 1.25 * sum(given) / len(slots)
    assert moved / 150 <= 0.001 * sum(demand)
