"""The room of a cluster becomes a pressure, and lets nobody back while it is short."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from _fastpath.status_words import DISABLED, MOST_PRESSURE, UNHEALTHY, pressure_in
from steering.control.health import rules as health
from steering.control.health.appliance_state import ApplianceState, Location
from steering.control.health.pressure import CHANGED_AT_ONCE, Pressures, pressure_of, room_of
from steering.control.health.rules import Health, Report
from steering.control.records.overrides import Override
from steering.model.fleet import Appliance
from steering.settings import Settings

SETTINGS = Settings(pressure_headroom=0.1, low_headroom=0.02)


def member(slot: int, headroom_gbps: float | None, capacity_gbps: float = 100.0, status: int = 100) -> ApplianceState:
    """Return an appliance that reported this headroom; None for one that never reported."""
    appliance = Appliance("c1", f"a{slot}", f"a{slot}.example", capacity_gbps, slot=slot)
    record = health.new_record(0.0)
    if headroom_gbps is not None:
        report = Report("b", 1, health=Health(headroom_gbps=headroom_gbps))
        record = health.with_report(record, report, capacity_gbps, 0.0, SETTINGS)
    return ApplianceState(appliance, Location("c1", "s1"), record, 0.0, status=status)


def noted(members: list[ApplianceState]) -> list[ApplianceState]:
    for state in members:
        Pressures(SETTINGS, {}).note(state)
    return members


ROOMS = [
    # name, members, room
    ("nobody reports", [member(0, None)], 1.0),
    ("no member", [], 1.0),
    ("one", [member(0, 25.0)], 0.25),
    ("by capacity", [member(0, 0.0, 300.0), member(1, 100.0, 100.0)], 0.25),
    ("a member without a report says nothing", [member(0, 10.0), member(1, None)], 0.1),
    ("a drained one has no room", [member(0, 10.0), member(1, 100.0, status=DISABLED | 100)], 0.1),
    ("nor has one that is out", [member(0, 10.0), member(1, 100.0, status=UNHEALTHY | 100)], 0.1),
    ("no more than its capacity", [member(0, 900.0), member(1, 0.0)], 0.5),
]


@pytest.mark.parametrize(("members", "room"), [row[1:] for row in ROOMS], ids=[row[0] for row in ROOMS])
def test_the_room_of_a_cluster(members: list[ApplianceState], room: float) -> None:
    assert room_of(noted(members)) == pytest.approx(room)


def test_the_room_ends_at_the_learned_capacity() -> None:
    state = member(0, 50.0)
    learned = msgspec.structs.replace(state.record.delivery, learned_gbps=60.0)
    last = msgspec.structs.replace(state.health, throughput_gbps=54.0)
    state.record = msgspec.structs.replace(state.record, delivery=learned, health=last)
    assert room_of(noted([state])) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("room", "pressure"), [(1.0, 0), (0.1, 0), (0.08, 12), (0.06, 48), (0.04, 108), (0.02, MOST_PRESSURE), (0.0, 192)]
)
def test_a_pressure_rises_with_the_square_of_what_is_missing(room: float, pressure: int) -> None:
    assert pressure_of(room, SETTINGS) == pressure


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.5), st.floats(0.01, 0.5))
def test_less_room_is_never_less_pressure(one: float, other: float, low: float, marks: float) -> None:
    settings = SETTINGS.model_copy(update={"low_headroom": low, "pressure_headroom": low + marks})
    assert 0 <= pressure_of(max(one, other), settings) <= pressure_of(min(one, other), settings) <= MOST_PRESSURE


def test_every_member_of_a_cluster_gets_its_pressure_and_lets_nobody_back() -> None:
    cluster = noted([member(0, 2.0), member(1, 6.0)])
    pressures = Pressures(SETTINGS, {"c1": cluster, "c2": [member(2, 0.0)]})
    assert pressures.update() == []
    pressures.changed |= {"c1": None, "gone": None}
    assert pressures.update() == cluster
    assert [(state.pressure, state.is_short, state.record.returned) for state in cluster] == [(108, True, 0.0)] * 2
    words = {
        health.status_of(state.appliance, state.override, state.record, SETTINGS, pressure=108) for state in cluster
    }
    assert {pressure_in(word) for word in words} == {108}
    assert {health.returned_by(word) for word in words} == {0.0}
    assert pressures.update() == []


def test_a_small_change_leaves_the_words_as_they_are_but_the_last_one_does_not() -> None:
    state = member(0, 4.0)
    pressures = Pressures(SETTINGS, {"c1": [state]})
    for headroom, pressure in ((4.0, 108), (4.05, 108), (4.3, 97), (9.8, 0), (14.0, 0)):
        report = Report("b", state.record.seq + 1, health=Health(headroom_gbps=headroom))
        state.record = health.with_report(state.record, report, 100.0, 0.0, SETTINGS)
        pressures.note(state)
        pressures.update()
        assert (state.pressure, state.is_short) == (pressure, True)
    report = Report("b", 99, health=Health(headroom_gbps=15.5))
    state.record = health.with_report(state.record, report, 100.0, 0.0, SETTINGS)
    pressures.note(state)
    pressures.update()
    assert not state.is_short


def test_of_very_many_changes_some_wait_for_the_next_update() -> None:
    clusters = {f"c{number}": noted([member(number, 5.0)]) for number in range(CHANGED_AT_ONCE + 10)}
    pressures = Pressures(SETTINGS, clusters)
    pressures.changed = dict.fromkeys(clusters)
    assert [len(pressures.update()) for _ in range(3)] == [CHANGED_AT_ONCE, 10, 0]


def test_an_override_decides_whether_reports_count() -> None:
    state = member(0, 5.0)
    state.override = Override(health_source="assumed")
    assert room_of(noted([state])) == 1.0
    state.override = Override(health_source="reported")
    assert room_of(noted([state])) == pytest.approx(0.05)
