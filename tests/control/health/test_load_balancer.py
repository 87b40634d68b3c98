"""Loads are compared with shares, and hot titles get a fan-out over more of a cluster."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _fastpath.status_words import OVER_LIMIT
from steering.control.health import load_balancer
from steering.control.health.appliance_state import ApplianceState
from steering.control.health.load_balancer import (
    MOST_HOT,
    MOST_ORDERS,
    STEADY_S,
    LoadBalancer,
    faded,
    fan_outs,
    find_overloaded,
    load_factors,
    may_be_overloaded,
)
from steering.control.health.presenter import describe
from tests.support.appliances import BOTH, MUMBAI, Bench, make_fleet, state_of


def members(*rows: tuple[int, float] | tuple[int, float, float, bool]) -> list[ApplianceState]:
    """Rows are weight, requests, how busy, and whether overloaded; the capacity equals the weight."""
    return [
        state_of(slot, weight, weight, requests=requests, busy=more[0] if more else 0.0, overloaded=more[1:] == [True])
        for slot, (weight, requests, *more) in enumerate(rows)
    ]


ROWS: list[tuple[str, list[ApplianceState], set[int]]] = [
    ("nobody asks", members((10, 0), (10, 0)), set()),
    ("even", members((10, 500), (10, 500)), set()),
    ("not far above it", members((10, 790), (10, 210)), set()),
    ("far above it", members((10, 810), (10, 190)), {0}),
    ("shares go by weight", members((30, 750), (10, 250)), set()),
    ("a small one has too much", members((30, 590), (10, 410)), {1}),
    ("chance is no overload", members((10, 30), (10, 20)), set()),
    ("few requests are no load", members((10, 19), (10, 0)), set()),
    ("alone", members((10, 1000)), set()),
    ("stays until it is back", members((10, 580, 0.0, True), (10, 420)), {0}),
    ("is back", members((10, 570, 0.0, True), (10, 430)), set()),
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
def test_an_appliance_far_above_its_share_is_overloaded(
    name: str, rows: list[ApplianceState], overloaded: set[int]
) -> None:
    assert find_overloaded(rows, 0.15) == overloaded


@given(
    st.lists(
        st.builds(
            state_of,
            st.just(0),
            st.integers(0, 100),
            st.floats(0.1, 400),
            requests=st.floats(0, 1e6),
            busy=st.one_of(st.just(0.0), st.floats(0.01, 1.0)),
            overloaded=st.booleans(),
        ),
        max_size=12,
    )
)
def test_half_of_the_weight_is_never_shed_and_the_quick_test_misses_none(rows: list[ApplianceState]) -> None:
    for slot, row in enumerate(rows):
        row.appliance = dataclasses.replace(row.appliance, slot=slot)
    over = find_overloaded(rows, 0.15)
    loads, busy = [row.requests for row in rows], [row.busy for row in rows]
    assert may_be_overloaded(loads, busy, 0.15) or not {slot for slot in over if not rows[slot].overloaded}
    assert 2 * sum(row.full_share for row in rows if row.appliance.slot in over) <= sum(row.full_share for row in rows)


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


FACTORS: list[tuple[str, list[tuple[float, float]], list[float]]] = [
    # counts and factors now, factors next; nothing where nothing changes
    ("even", [(1000, 1.0), (1000, 1.0)], []),
    ("within half of the excess", [(1070, 1.0), (930, 1.0)], []),
    ("within chance", [(26, 1.0), (15, 1.0)], []),
    ("too few to tell", [(30, 1.0), (1, 1.0)], []),
    ("above its share", [(14_000, 1.0), (6_000, 1.0)], [1.0375 / 1.39, 1.0]),
    ("the same with less evidence", [(1400, 1.0), (600, 1.0)], [1.0375 / (1.4 - 1000**-0.5), 1.0]),
    ("far above its share", [(20_000, 1.0), (100, 1.0)], [1.0375 / (2000 / 1005 - 0.01), 1.0]),
    ("never below the least", [(20_000, 0.6), (100, 1.0)], [0.5, 1.0]),
    ("below its share it recovers", [(7_000, 0.6), (13_000, 1.0)], [0.6 / 0.71, 1.0375 / 1.29]),
    ("below its share with its whole weight", [(8_000, 1.0), (12_000, 0.9)], [1.0, 0.9 * 1.0375 / 1.19]),
]


@pytest.mark.parametrize(("name", "rows", "expected"), FACTORS, ids=[row[0] for row in FACTORS])
def test_a_load_factor_follows_what_chance_does_not_explain(
    name: str, rows: list[tuple[float, float]], expected: list[float]
) -> None:
    states = [state_of(slot, 1000, steady_requests=count) for slot, (count, _) in enumerate(rows)]
    for state, (_, factor) in zip(states, rows, strict=True):
        state.load_factor, state.status = factor, round(1000 * factor) | BOTH
    largest = max(expected, default=1.0)
    wanted = [max(factor / largest, 0.5) for factor in expected]
    assert list(load_factors(states, 0.15).values()) == pytest.approx(wanted, rel=1e-3)
    assert load_factors([state_of(0, weight=0)], 0.15) == {}


def test_loads_settle_within_the_bound_and_then_titles_stay() -> None:
    """1000 titles, without hot ones, over 20 appliances, a tick a second: nobody stays far above its share, nothing swings."""
    draw = random.Random(7)
    slots = range(20)
    draws = [[-math.log(draw.random()) for _ in slots] for _ in range(1000)]
    demand = [1000 / (place + 40) for place in range(1000)]
    members = [state_of(slot, 1000) for slot in slots]
    weights = [1.0] * len(slots)
    chosen = [min(slots, key=row.__getitem__) for row in draws]
    given, moved = [0.0] * len(slots), 0.0
    uneven = max(sum(rate for slot, rate in zip(chosen, demand, strict=True) if slot == one) for one in slots)
    for tick in range(300):
        answers = [0.0] * len(slots)
        for slot, rate in zip(chosen, demand, strict=True):
            answers[slot] += rate
        for member, got in zip(members, answers, strict=True):
            member.requests = faded(member.requests, 1.0) + got
            member.steady_requests = faded(member.steady_requests, 1.0, STEADY_S) + got
        assert tick < 50 or find_overloaded(members, 0.15) == set()
        before = list(weights)
        for slot, factor in load_factors(members, 0.15).items():
            members[slot].steady_requests *= factor / weights[slot]
            members[slot].load_factor = weights[slot] = factor
            members[slot].status = round(1000 * factor) | BOTH
        was = chosen
        if weights != before:
            chosen = [min(slots, key=lambda slot: row[slot] / weights[slot]) for row in draws]
        if tick >= 150:
            given = [had + got for had, got in zip(given, answers, strict=True)]
            moved += sum(rate for old, new, rate in zip(was, chosen, demand, strict=True) if old != new)
    assert uneven > 1.3 * sum(demand) / len(slots)
    assert max(given) <= 1.25 * sum(given) / len(slots)
    assert moved / 150 <= 0.001 * sum(demand)


def test_an_overloaded_appliance_is_shed_until_its_load_falls_back(bench: Bench) -> None:
    slots = [bench.slots[name] for name in MUMBAI]
    bench.tick(answers=dict(zip(slots, [700, 100, 100, 100], strict=True)))
    assert [bench.status(name) & OVER_LIMIT for name in MUMBAI] == [OVER_LIMIT, 0, 0, 0]
    assert bench.states()["c0-bom001"] == "overloaded"
    assert describe(bench.registry, "c0-bom001")["share"] == pytest.approx(0.7)
    for _ in range(8):
        bench.tick(answers=dict.fromkeys(slots[1:], 250))
    assert not bench.status("c0-bom001") & OVER_LIMIT


def test_an_appliance_above_its_share_gets_a_lower_weight_until_it_has_its_share(bench: Bench) -> None:
    slots = [bench.slots[name] for name in MUMBAI]
    for _ in range(20):
        bench.tick(answers=dict(zip(slots, [350, 220, 220, 210], strict=True)))
    weights = [bench.status(name) & 0xFFFF for name in MUMBAI]
    assert 500 <= weights[0] < 900
    assert weights[1:] == [1000] * 3
    assert describe(bench.registry, "c0-bom001")["load_factor"] == weights[0] / 1000
    for _ in range(120):
        bench.tick(answers=dict.fromkeys(slots, 250) | {slots[0]: 150})
    assert bench.status("c0-bom001") & 0xFFFF == 1000


def test_the_clusters_of_a_large_fleet_are_compared_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = make_fleet(bom001=4, del001=4, lhr001=4)
    for name in ("at once", "in turns"):
        (tmp_path / name).mkdir()
    at_once = Bench(tmp_path / "at once", fleet)
    monkeypatch.setattr(load_balancer, "COMPARED_AT_ONCE", 5)
    in_turns = Bench(tmp_path / "in turns", fleet)
    first = [f"c0-{site}" for site in ("bom001", "del001", "lhr001")]
    slots = [in_turns.slots[name] for name in first]
    quiet = dict.fromkeys(in_turns.slots.values(), 100)

    def over(bench: Bench, busy: int) -> int:
        bench.tick(answers=quiet | dict.fromkeys(slots, busy))
        return sum(bool(bench.status(name) & OVER_LIMIT) for name in first)

    assert [over(at_once, 700) for _ in range(4)] == [3, 3, 3, 3]
    assert [over(in_turns, 700) for _ in range(4)] == [1, 2, 3, 3]
    for bench in (at_once, in_turns):
        assert [over(bench, 100) for _ in range(60)][-1] == 0
        for _ in range(60):
            over(bench, 140)
    for name in first:  # the time between two turns counts whole
        trims = [describe(bench.registry, name)["load_factor"] for bench in (at_once, in_turns)]
        assert trims[0] == pytest.approx(trims[1], abs=0.05)
        assert trims[0] < 0.95


def test_hot_titles_get_a_fan_out_and_lose_it(bench: Bench) -> None:
    bench.tick(answers={0: 1000}, asked={7: 900, 8: 10})
    assert bench.registry.balancer.fan_outs == {7: 32}
    for _ in range(60):
        bench.tick(answers={0: 1000})
    assert bench.registry.balancer.fan_outs == {}


def converge(appliances: int, requests: int, a_tick: int, seed: int) -> float:
    """Return the most that an appliance of a cluster had of its share of so many requests, at Zipf 1 over 10,000 titles."""
    rnd, titles = random.Random(seed), range(10_000)
    zipf = list(itertools.accumulate(1 / (title + 1) for title in titles))
    states = [state_of(slot, 1000) for slot in range(appliances)]
    balancer = LoadBalancer(0.15, dict(enumerate(states)), {"a": states})
    draws: dict[tuple[int, int], list[float]] = {}
    chosen: dict[tuple[int, int], int] = {}
    given = Counter[int]()
    for _ in range(requests // a_tick):
        answers, asked = Counter[int](), Counter[int]()
        for title in rnd.choices(titles, cum_weights=zipf, k=a_tick):
            order = title, rnd.randrange(balancer.fan_outs.get(title, 1))
            if order not in draws:
                draws[order] = [-math.log(rnd.random()) for _ in states]
            if order not in chosen:
                chosen[order] = min(range(appliances), key=lambda slot: draws[order][slot] / states[slot].load_factor)
            answers[chosen[order]] += 1
            asked[title] += 1
        given += answers
        changed, fanned = balancer.compare(answers, 1.0), balancer.fan_out(asked, 1.0)
        for state in changed:
            state.status = round(1000 * state.load_factor) | BOTH
        if changed or fanned:
            chosen.clear()
    return max(given.values()) * appliances / given.total()


@pytest.mark.parametrize(("appliances", "a_tick"), [(12, 1000), (20, 3000), (36, 3000)])
def test_loads_are_even_after_a_hundred_thousand_requests(appliances: int, a_tick: int) -> None:
    assert converge(appliances, 100_000, a_tick, seed=appliances) <= 1.2
