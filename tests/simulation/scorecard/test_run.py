"""Whole runs over the tiny fleet: conservation, the bound, and the same bytes again."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from steering.model.fleet import Fleet
from steering.simulation.scorecard.metrics import Meter
from steering.simulation.scorecard.run import BASELINES, KINDS, ORACLE, Plan, Runner, report_of, run_all, tasks_of
from steering.simulation.scorecard.scenarios import BY_NAME

SCENARIOS = ("overload", "sites_lost", "ipv6_lost")


def ignore(_: str, __: int) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def outcomes(plan: Plan, fleet: Fleet) -> dict[tuple[str, str], Any]:
    """Return what every policy did in some scenarios, and the optima."""
    plan = dataclasses.replace(
        plan, scenarios=tuple(BY_NAME[name] for name in SCENARIOS), policies=(*KINDS, *BASELINES), requests=10
    )
    runner = Runner(plan, fleet)
    return {
        (scenario.name, task.policy): outcome
        for task in tasks_of(plan)
        for scenario, outcome in zip(task.scenarios, runner.run(task), strict=True)
    }


def test_what_is_demanded_is_delivered_or_not_and_costs_at_least_the_optimum(
    outcomes: dict[tuple[str, str], Any],
) -> None:
    for (scenario, policy), meter in outcomes.items():
        if policy == ORACLE:
            continue
        assert isinstance(meter, Meter)
        for sample, optimum in zip(meter.samples, outcomes[scenario, ORACLE], strict=True):
            assert sample.demanded == pytest.approx(optimum.gbps)
            assert sample.demanded == pytest.approx(sample.delivered + sample.lost)
            assert sample.delivered == pytest.approx(sum(sample.sources))
            assert sample.cost >= optimum.cost * (1 - 1e-9), (scenario, policy, sample.at)


def test_players_do_what_their_kind_does(outcomes: dict[tuple[str, str], Any]) -> None:
    # Who plays at a full appliance stays: nobody is moved for want of room.
    assert all(outcomes["overload", policy].moved == 0 for policy in (*KINDS, "greedy"))
    assert all(outcomes["sites_lost", policy].failed > 0 for policy in (*KINDS, "greedy"))
    assert all(outcomes["overload", policy].failed == 0 for policy in (*KINDS, *BASELINES))
    assert outcomes["overload", "greedy"].overloaded == 0
    assert outcomes["overload", "random"].overloaded > 0


def test_the_same_arguments_give_the_same_bytes_in_any_number_of_processes(plan: Plan, fleet: Fleet) -> None:
    plan = dataclasses.replace(plan, scenarios=(BY_NAME["friday"], BY_NAME["isp_lost"]), sessions=100, requests=5)
    reports = [json.dumps(report_of(plan, 8, run_all(plan, fleet, processes, ignore))) for processes in (1, 1, 2)]
    assert reports[0] == reports[1] == reports[2]
    assert json.loads(reports[0])["rows"][0]["scenario"] == "friday"


def test_scenarios_with_one_warm_up_are_one_task(plan: Plan) -> None:
    names = ("friday", "isp_lost", "sites_lost", "live_event")
    tasks = tasks_of(dataclasses.replace(plan, scenarios=tuple(BY_NAME[name] for name in names)))
    assert [(len(task.scenarios), task.policy) for task in tasks] == [
        (3, "sticky"),
        (3, "steered"),
        (3, "oracle"),
        (1, "sticky"),
        (1, "steered"),
        (1, "oracle"),
    ]
    assert len({task.epoch for task in tasks}) == len(tasks)
