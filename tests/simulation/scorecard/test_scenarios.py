"""The scenarios' curves and faults."""

from __future__ import annotations

import pytest

from steering.simulation.scorecard.places import CHOICES
from steering.simulation.scorecard.scenarios import (
    BY_NAME,
    LENGTH_S,
    SCENARIOS,
    WARM_UP_S,
    Fault,
    Rise,
    between,
    flat,
)

STRENGTHS = [
    (Fault("dead", "tenth", 100), [(99, 0.0), (100, 1.0), (10_000, 1.0)]),
    (Fault("dead", "tenth", ends_s=100), [(-300, 1.0), (99, 1.0), (100, 0.0)]),
    (Fault("delivers", "tenth", 100, 300, gradual=True), [(100, 0.0), (200, 0.5), (299, 0.995), (300, 0.0)]),
    (Fault("dead", "tenth", 100, period_s=90), [(100, 1.0), (144, 1.0), (145, 0.0), (189, 0.0), (190, 1.0)]),
]


@pytest.mark.parametrize(("fault", "expected"), STRENGTHS)
def test_a_fault_is_on_at_its_times(fault: Fault, expected: list[tuple[float, float]]) -> None:
    assert [(at, fault.strength(at)) for at, _ in expected] == [(at, pytest.approx(value)) for at, value in expected]


def test_demand_rises_in_the_warm_up_and_is_flat_after_it() -> None:
    usual = BY_NAME["isp_lost"]
    assert usual.levels == flat(0.75)
    levels = [usual.level(now) for now in range(-WARM_UP_S, LENGTH_S)]
    assert levels == sorted(levels)
    assert 0 < levels[0] < 0.01
    at = {now: usual.level(now) for now in (-WARM_UP_S + 99, -81, 0, 500)}
    assert list(at.values()) == pytest.approx([0.45, 0.75, 0.75, 0.75])


def test_a_level_is_linear_between_its_times() -> None:
    levels = ((0.0, 0.2), (10.0, 0.4), (20.0, 0.3))
    assert [between(levels, at) for at in (-5, 0, 5, 15, 20, 99)] == pytest.approx([0.2, 0.2, 0.3, 0.35, 0.3, 0.3])


def test_scenarios_that_begin_alike_have_one_warm_up() -> None:
    alike = {scenario.warm_up() for scenario in SCENARIOS if scenario.name in ("sites_lost", "isp_lost", "live_event")}
    assert len(alike) == 1
    for scenario in SCENARIOS:
        assert [scenario.warm_up().level(now) for now in (-300, -1, 0)] == pytest.approx(
            [scenario.level(now) for now in (-300, -1, 0)]
        )
    assert BY_NAME["mass_return"].warm_up().faults == BY_NAME["mass_return"].faults
    assert BY_NAME["slow_leak"].warm_up().faults == ()


def test_a_rise_ends_at_its_amount() -> None:
    assert [Rise(2.0, 60, 300).at(now) for now in (0, 60, 210, 360, 900)] == [0.0, 0.0, 1.0, 2.0, 2.0]


def test_every_scenario_can_be_played() -> None:
    assert len(BY_NAME) == len(SCENARIOS) == 13
    for scenario in SCENARIOS:
        assert all(fault.where in CHOICES for fault in scenario.faults)
        assert scenario.event_s is None or 0 <= scenario.event_s < LENGTH_S
