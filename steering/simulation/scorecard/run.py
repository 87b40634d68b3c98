"""Runs of the scorecard: each policy through each scenario, second by second, beside the oracle.

Nothing waits and nothing reads a clock: the same arguments give the same figures, in any number of processes.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np

from steering.control.routes.build import Progress
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.control.services.synthetic_fleet import synthesize
from steering.decision.snapshot import Snapshot
from steering.model.fleet import Fleet
from steering.playback.answers.players import compiled
from steering.settings import Settings
from steering.simulation.scorecard.baselines import Baseline, Geographic, Greedy, Random
from steering.simulation.scorecard.conditions import Conditions
from steering.simulation.scorecard.control_plane import ControlPlane
from steering.simulation.scorecard.demand import Demand, Titles
from steering.simulation.scorecard.metrics import SAMPLE_S, Meter, figures_of, medians_of, take_sample
from steering.simulation.scorecard.oracle import Optimum, Oracle
from steering.simulation.scorecard.players import Players, Policy, Steering
from steering.simulation.scorecard.scenarios import LENGTH_S, WARM_UP_S, Scenario
from steering.simulation.scorecard.world import Floats, Ints, read_world
from steering.state.current import read_current
from steering.state.status import StatusFiles, write_status

KINDS: Final = ("sticky", "steered")
BASELINES: Final = ("greedy", "ranking", "geographic", "random")
SERVICE: Final = "video"
SESSIONS_OF_APPLIANCE: Final = 100  # simulated, at capacity
MOST_SESSIONS: Final = 400_000
REQUESTS_OF_APPLIANCE: Final = 2  # a second, that workers count
MOST_REQUESTS: Final = 8_000
STATUS_EPOCH: Final = 1_000  # the files of runs are named from here on


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What is run: every policy in every scenario with every seed, over one published folder."""

    state: Path
    settings: Settings
    scenarios: tuple[Scenario, ...]
    policies: tuple[str, ...]
    seeds: tuple[int, ...]
    sessions: int
    requests: int


Task = tuple[Scenario, str, int]  # a scenario, a policy and a seed
Show = Callable[[str, int], None]  # called with the name of a part and how many parts are done


def publish(settings: Settings, appliances: int, progress: Progress) -> Fleet:
    """Publish a synthetic fleet and the shipped table in the settings' folder; return the fleet."""
    progress(f"make a fleet of {appliances} appliances")
    with Control(settings) as control:
        control.fleet.replace(synthesize(appliances), "scorecard")
        control.tables.publish([FeedSource("asn")], "scorecard", "scorecard", progress)
        return control.fleet.current()


def sessions_of(appliances: int) -> int:
    """Return how many sessions are simulated at capacity."""
    return min(SESSIONS_OF_APPLIANCE * appliances, MOST_SESSIONS)


def requests_of(appliances: int) -> int:
    """Return how many session starts a second workers count, besides those of the simulated sessions."""
    return min(REQUESTS_OF_APPLIANCE * appliances, MOST_REQUESTS)


def run_all(plan: Plan, fleet: Fleet, processes: int, show: Show) -> list[dict[str, Any]]:
    """Return a row of figures for each scenario, policy and seed, in that order."""
    policies = ("oracle", *plan.policies)
    tasks = [(scenario, policy, seed) for seed in plan.seeds for scenario in plan.scenarios for policy in policies]
    done: dict[Task, Any] = {}
    for number, (task, result) in enumerate(results(plan, fleet, tasks, processes), 1):
        done[task] = result
        show(f"{task[0].name}, {task[1]}", number)
    rows = []
    for scenario in plan.scenarios:
        for policy in plan.policies:
            for seed in plan.seeds:
                optima: list[Optimum] = done[scenario, "oracle", seed]
                figures = figures_of(done[scenario, policy, seed], optima, scenario.event_s)
                rows.append({"scenario": scenario.name, "players": policy, "seed": seed, **figures})
    return rows


def report_of(plan: Plan, appliances: int, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the report: what was run, every row, and the medians over the seeds."""
    return {
        "appliances": appliances,
        "sessions": plan.sessions,
        "seeds": list(plan.seeds),
        "scenarios": [
            {"name": scenario.name, "text": scenario.text, "event_s": scenario.event_s} for scenario in plan.scenarios
        ],
        "rows": list(rows),
        "medians": medians_of(rows),
    }


def results(plan: Plan, fleet: Fleet, tasks: Sequence[Task], processes: int) -> Iterator[tuple[Task, Any]]:
    """Yield each task with its result, in order."""
    numbered = list(enumerate(tasks))
    if processes == 1:
        runner = Runner(plan, fleet)
        yield from ((task, runner.run(*task, number)) for number, task in numbered)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, start_process, (plan, fleet)) as pool:
        yield from zip(tasks, pool.map(run_in_process, numbered), strict=True)


def start_process(plan: Plan, fleet: Fleet) -> None:
    global runner_of_process  # noqa: PLW0603 (one of each process, set once)
    runner_of_process = Runner(plan, fleet)


def run_in_process(numbered: tuple[int, Task]) -> Any:
    number, task = numbered
    return runner_of_process.run(*task, number)


class Runner:
    """Runs tasks over a published folder; worlds and titles are made once for each seed."""

    def __init__(self, plan: Plan, fleet: Fleet) -> None:
        self.plan, self.fleet = plan, fleet
        self.snapshot = Snapshot.map(plan.state)
        self.seed: int | None = None

    def prepare(self, seed: int) -> None:
        """Make the world of a seed."""
        if seed != self.seed:
            self.world = read_world(self.snapshot, self.fleet, seed)
            self.titles = Titles(len(self.world.groups.regions), SERVICE, seed)
            self.oracle = Oracle(self.world)
            self.seed = seed

    def run(self, scenario: Scenario, policy: str, seed: int, number: int) -> list[Optimum] | Meter:
        """Return the optima of a scenario, or what a policy did in it."""
        self.prepare(seed)
        demand = Demand(self.world, self.titles, scenario, self.plan.sessions, seed)
        conditions = Conditions(self.world, scenario, seed)
        if policy == "oracle":
            return self.solve(demand, conditions)
        return Run(self, demand, conditions, policy, number).play()

    def solve(self, demand: Demand, conditions: Conditions) -> list[Optimum]:
        """Return the optimum of each sampled moment."""
        optima = []
        for now in range(-WARM_UP_S, LENGTH_S + 1):
            demand.advance(now)
            if is_sampled(now):
                conditions.advance(now)
                optima.append(self.oracle.solve(demand.by_group(), conditions))
        return optima


def is_sampled(now: int) -> bool:
    return now >= 0 and now % SAMPLE_S == 0


class Run:
    """One policy in one scenario."""

    def __init__(self, runner: Runner, demand: Demand, conditions: Conditions, policy: str, number: int) -> None:
        self.world, self.demand, self.conditions = runner.world, demand, conditions
        self.requests = runner.plan.requests
        self.tick_s = max(round(runner.plan.settings.tick_s), 1)
        self.plane: ControlPlane | None = None
        self.policy: Policy
        if policy in ("random", "geographic", "greedy"):
            types: dict[str, type[Baseline]] = {"random": Random, "geographic": Geographic, "greedy": Greedy}
            self.policy = types[policy](self.world, demand, conditions, runner.seed or 0)
        else:
            self.policy = self.steering(runner, policy, number)
        self.players = Players(demand, conditions, self.policy)
        if isinstance(self.policy, Greedy):
            self.policy.players = self.players

    def steering(self, runner: Runner, policy: str, number: int) -> Steering:
        """Return the policy under test, over status words of its own."""
        plan = runner.plan
        files = StatusFiles(plan.state)
        epoch = STATUS_EPOCH + number
        slots = runner.snapshot.status.slots
        name = write_status(plan.state, epoch, [0] * slots)
        files.use(name)
        snapshot = Snapshot(plan.state, dataclasses.replace(read_current(plan.state), status=name))
        plane = ControlPlane(self.world, runner.fleet, files, plan.settings, runner.seed or 0)
        if policy != "ranking":
            self.plane = plane
        manifests = compiled(snapshot, plan.settings.steer_gain)
        manifest = next(manifest for manifest in manifests) if policy == "steered" else None
        return Steering(snapshot.picker, snapshot.services[SERVICE], manifest, self.demand)

    def play(self) -> Meter:
        """Play the scenario."""
        meter = Meter()
        load = np.zeros(len(self.world.appliances.ids))
        for now in range(-WARM_UP_S, LENGTH_S + 1):
            self.conditions.advance(float(now))
            self.players.advance(now)
            before, load = load, self.players.load()
            if now >= 0:
                meter.count(self.players, self.conditions, load, before)
            if is_sampled(now):
                option = self.options()
                meter.samples.append(take_sample(now, self.world, self.players, self.conditions, option))
            if self.plane:
                self.control(self.plane, now, load)
        return meter

    def control(self, plane: ControlPlane, now: int, load: Floats) -> None:
        """Let control work for a second: reports, then a tick."""
        assert isinstance(self.policy, Steering)
        plane.advance(now, load, self.conditions)
        self.policy.count_requests(self.requests, now)
        if now % self.tick_s:
            return
        plane.tick(*self.policy.take_counted(), self.demand.titles, self.conditions.in_maintenance)

    def options(self) -> Ints:
        """Return each seat's option in the world, -1 at the origin and in empty seats."""
        current = self.players.current.astype(np.int64)
        playing = current >= 0
        option = np.full(len(current), -1, np.int64)
        zones = self.demand.groups.zone[self.demand.group[playing]]
        option[playing] = self.world.options_of(zones, self.world.appliances.cluster[current[playing]])
        return option
