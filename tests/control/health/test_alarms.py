"""Alarms are found anew at each tick, and reported when they begin and when they end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from _fastpath.status_words import DISABLED, STALE, UNHEALTHY
from steering.control.health.alarms import Alarm, changed_alarms, find_alarms
from steering.control.health.appliance_state import ApplianceState
from steering.control.records.overrides import Override
from tests.support.appliances import state_of

States = list[ApplianceState]


def out(slot: int, why: str = "disk") -> ApplianceState:
    state = state_of(slot, why=why)
    state.status |= UNHEALTHY
    return state


def drained(slot: int) -> ApplianceState:
    state = state_of(slot, override=Override(enabled=False))
    state.status |= DISABLED
    return state


def stale(slot: int) -> ApplianceState:
    state = state_of(slot)
    state.status |= STALE
    return state


ROWS: list[tuple[str, Callable[[], States], list[tuple[str, str, str]]]] = [
    ("all serve", lambda: [state_of(0), state_of(1)], []),
    ("one of two is out", lambda: [out(0), state_of(1)], []),
    ("all are out", lambda: [out(0), stale(1)], [("cluster_down", "a", "none of its 2 appliances can serve: disk")]),
    ("all that operators want are out", lambda: [drained(0), out(1)], [("cluster_down", "a", "none of its 1")]),
    ("all are drained", lambda: [drained(0), drained(1)], []),
    (
        "suppressed by the fleet's limit",
        lambda: [state_of(0, suppressed="fleet"), state_of(1, suppressed="fleet")],
        [("suppressed", "fleet", "2 appliances seem to be down, more than may be ejected at once (fleet)")],
    ),
    (
        "suppressed by a cluster's limit",
        lambda: [state_of(0, suppressed="cluster a"), state_of(1)],
        [("suppressed", "cluster a", "may be ejected at once (cluster a): they keep serving")],
    ),
    (
        "suppressed by a partner's limit",
        lambda: [state_of(0, suppressed="partner p"), state_of(1)],
        [("suppressed", "partner p", "steering ejections --release`: c0")],
    ),
    (
        "players fail",
        lambda: [state_of(0, player_factor=0.9, attested=40.4, failing=30.0), state_of(1)],
        [("players", "a", "players fail on c0: of 40, 30 had a stall or an error")],
    ),
]


@pytest.mark.parametrize(("name", "make", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_alarms_follow_from_the_states(
    name: str, make: Callable[[], States], expected: list[tuple[str, str, str]]
) -> None:
    states = {state.id: state for state in make()}
    suspect = [name for name, state in states.items() if state.suppressed]
    alarms = find_alarms(states, {"a": list(states.values())}, suspect, 5.0)
    assert list(alarms) == [(kind, subject) for kind, subject, _ in expected]
    for alarm, (_, _, text) in zip(alarms.values(), expected, strict=True):
        assert text in alarm.text
        assert (alarm.at, alarm.resolved) == (5.0, False)


def test_an_alarm_is_reported_when_it_begins_and_when_it_ends() -> None:
    first, second = Alarm(1.0, "players", "a", "first"), Alarm(2.0, "players", "b", "second")
    raised = {("players", "a"): first}
    both = raised | {("players", "b"): second}
    assert changed_alarms({}, raised, 1.0) == [first]
    assert changed_alarms(raised, both, 2.0) == [second]
    assert changed_alarms(both, both, 3.0) == []
    assert changed_alarms(both, raised, 4.0) == [dataclasses.replace(second, at=4.0, resolved=True)]
