"""The world that is played, and what is measured of it, answer by answer."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from _fastpath.status_words import IPV4_UP, STALE, UNHEALTHY
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.simulation.concentration import weight_of_rank
from steering.simulation.demand import Demand, Group, Request
from steering.simulation.measure import Measure
from steering.simulation.world import World

SETTINGS = Settings(report_s=10.0)


def make_demand(rate: float = 10.0) -> Demand:
    """Half of the clients are near cluster 0, which is the stage, half near clusters 1 and 2."""
    groups = [Group((0,), ["192.0.2.1", "192.0.2.2"], 100.0), Group((1, 2), ["198.51.100.1"], 300.0)]
    return Demand(groups, {0}, rate, 60.0, 20, 5.0, random.Random(1), titles=100)


@pytest.fixture
def world(fleet: Fleet) -> World:
    return World(fleet, make_demand(), {0}, 0.5, 60.0, SETTINGS, random.Random(1))


def answer(*names: str, rank: int = 0) -> bytes:
    return b",".join(b'{"url":"x","appliance":"%b","site":"s","rank":%d}' % (name.encode(), rank) for name in names)


def number_of(world: World, name: str) -> int:
    return world.numbers[name.encode()]


def test_demand_is_what_the_clusters_can_bear_at_the_requested_rate() -> None:
    demand = make_demand()
    assert demand.rates == [5.0, 5.0]
    assert [rate * gbps * 60 for rate, gbps in zip(demand.rates, demand.gbps, strict=True)] == pytest.approx([100, 300])
    asked = [asked for _ in range(600) for asked in demand.take(0.1)]
    assert len(asked) == pytest.approx(600, abs=2)
    assert Counter(asked.panel for asked in asked if asked.panel >= 0) == dict.fromkeys(range(20), 12)
    titles = Counter(asked.title for asked in make_demand(1000.0).clients)
    weights = [weight_of_rank(rank, 100) for rank in range(1, 101)]
    assert titles.most_common(1)[0][1] / titles.total() == pytest.approx(weights[0] / sum(weights), rel=0.05)


def test_a_hit_is_every_third_request_and_overload_is_beside_the_others() -> None:
    demand = make_demand(90.0)
    demand.hit = "hit"
    asked = [asked for _ in range(100) for asked in demand.take(0.1)]
    others = [one for one in asked if one.panel < 0]
    assert sum(one.title == "hit" for one in others) / len(others) == pytest.approx(1 / 3, rel=0.02)
    assert all(one.title != "hit" for one in asked if one.panel >= 0)
    demand.hit = ""
    demand.extra = {0: 20.0}
    more = [asked for _ in range(100) for asked in demand.take(0.1)]
    assert len(more) - len(asked) == pytest.approx(200, rel=0.2)


def test_every_appliance_reports_once_an_interval_but_the_silent(world: World) -> None:
    reports = [number for second in range(1, 21) for number in world.advance(second)[0]]
    assert Counter(reports) == dict.fromkeys(range(8), 2)
    world.silent = {3}
    assert sorted(world.advance(30.0)[0]) == [0, 1, 2, 4, 5, 6, 7]


def test_answers_come_back_as_what_is_delivered_and_fade(world: World) -> None:
    asked = Request("192.0.2.1", "t", 0, 20.0)
    first = number_of(world, "c001-bom001")
    assert first in world.followed
    assert world.next_report(first).health.throughput_gbps == 50.0  # type: ignore[union-attr]
    world.play(asked, answer("c001-bom001", "c001-del001"))
    assert world.delivers(first) == 70.0
    world.now = 60.0
    assert world.delivers(first) == pytest.approx(70.0 / math.e)
    world.dead = {first}
    assert world.play(asked, answer("c001-bom001", "c002-bom001")) == [first, number_of(world, "c002-bom001")]
    assert world.delivers(first) == 0.0
    assert world.delivers(number_of(world, "c002-bom001")) == pytest.approx(50.0 / math.e + 20.0)


def test_a_full_appliance_refuses_until_it_has_room_again(world: World) -> None:
    first = number_of(world, "c001-bom001")
    world.load[first] = 99.5
    world.next_report(first)
    assert world.refusing == {first: 0.0}
    world.load[first] = 97.0
    world.next_report(first)
    assert first in world.refusing
    world.load[first] = 80.0
    world.next_report(first)
    assert world.refusing == {}


def test_switches_overload_and_answers_that_name_the_dead_are_counted(world: World) -> None:
    statuses = dict.fromkeys(range(8), 1000 | IPV4_UP)
    measure = Measure(world, frozenset(range(8)), {}, statuses.__getitem__)
    one, two = number_of(world, "c001-bom001"), number_of(world, "c002-bom001")
    measure.look(statuses.__getitem__, [], 0, {"H": 5}, 0)
    for second in range(1, 101):
        world.now = float(second)
        for turn in range(10):
            asked = Request("192.0.2.1", "t", 0, 0.0, panel=turn % 2)
            body = answer("c001-bom001" if turn < 7 else "c002-bom001", rank=turn == 9)
            measure.answer(asked, body, [one if turn < 7 else two])
        measure.look(statuses.__getitem__, [], 0, {"H": 6, "S": 1}, 0)
    row = measure.row("some")
    assert row.overload == pytest.approx((700 - 3 * math.sqrt(500)) / 500)
    assert (row.answers, row.stranded, row.to_down) == (1000, 0, 0.0)
    assert row.ranks == {"0": 0.9, "1": 0.1}
    assert row.reasons == {"H": 0.001, "S": 0.001}
    assert row.switches == pytest.approx(199.5, abs=1)
    world.dead = {one}
    measure.answer(Request("192.0.2.1", "t", 0, 0.0), answer("c001-bom001"), [one])
    measure.answer(Request("192.0.2.1", "t", 0, 0.0), b"{}", [])
    row = measure.row("some")
    assert (row.stranded, row.ranks["fallback"], row.to_down) == (1, 1 / 1002, 1 / 1002)


def test_when_steering_acted_and_when_all_was_well_again_is_timed(world: World) -> None:
    statuses = dict.fromkeys(range(8), 1000 | IPV4_UP)
    measure = Measure(world, frozenset({0, 1}), {}, statuses.__getitem__)
    for now, bits, alarms in (
        (1, 0, []),
        (2, STALE, ["suppressed"]),
        (5, UNHEALTHY, []),
        (6, 0, ["suppressed"]),
        (7, 0, []),
    ):
        world.now = float(now)
        statuses[world.appliances[0].slot] = 1000 | bits
        if now == 5:
            measure.ended = 4.0
        measure.look(statuses.__getitem__, alarms, int(bool(alarms)), {}, 0)
    row = measure.row("some")
    assert (row.out, row.suppressed, row.alarms) == (1, 1, ["suppressed"])
    assert (row.acted_s, row.recovered_s) == (2.0, 3.0)


def test_an_appliance_that_a_fault_takes_out_before_the_first_look_is_out(world: World) -> None:
    statuses = dict.fromkeys(range(8), 1000 | IPV4_UP)
    early, before = (world.appliances[number].slot for number in (0, 1))
    statuses[before] |= STALE
    measure = Measure(world, frozenset({0, 1}), {}, statuses.__getitem__)
    statuses[early] |= STALE
    measure.look(statuses.__getitem__, [], 0, {}, 0)
    assert measure.row("some").out == 1
