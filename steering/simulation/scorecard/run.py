"""Runs of the scorecard: each policy through each scenario, second by second, beside the oracle.

Nothing waits and nothing reads a clock: the same arguments give the same figures, in any number of processes.
"""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np

from steering.control.routes.build import Progress
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.control.services.synthetic_fleet import synthesize
from steering.decision.snapshot import Snapshot
from steering.errors import SettingsError
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
SESSIONS_OF_APPLIANCE: Final = 75  # simulated, at capacity
MOST_SESSIONS: Final = 400_000
REQUESTS_OF_APPLIANCE: Final = 1  # a second, that workers count
MOST_REQUESTS: Final = 8_000
STATUS_EPOCH: Final = 1_000  # the files of runs are named from here on


BASELINE_TYPES: Final[dict[str, type[Baseline]]] = {"greedy": Greedy, "geographic": Geographic, "random": Random}
ORACLE: Final = "oracle"
FORK: Final = multiprocessing.get_context("fork")


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


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """What one process runs at a time: the scenarios of one warm-up. Its status files are named from `epoch` on."""

    scenarios: tuple[Scenario, ...]
    policy: str
    seed: int
    epoch: int


Result = list[Optimum] | Meter
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


def plan_of(
    settings: Settings, appliances: int, scenarios: Iterable[Scenario], policies: Iterable[str], seeds: int
) -> Plan:
    """Return a plan with seeds from 1 on, and as many sessions and requests as this many appliances need."""
    numbers = tuple(range(1, seeds + 1))
    sessions, requests = sessions_of(appliances), requests_of(appliances)
    return Plan(settings.state, settings, tuple(scenarios), tuple(policies), numbers, sessions, requests)


def run_all(plan: Plan, fleet: Fleet, processes: int, show: Show) -> list[dict[str, Any]]:
    """Return a row of figures for each scenario, policy and seed, in that order."""
    done: dict[tuple[str, str, int], Any] = {}
    for task, outcomes in results(plan, fleet, tasks_of(plan), processes):
        for scenario, outcome in zip(task.scenarios, outcomes, strict=True):
            done[scenario.name, task.policy, task.seed] = outcome
            show(f"{scenario.name}, {task.policy}", len(done))
    rows = []
    for scenario in plan.scenarios:
        for policy in plan.policies:
            for seed in plan.seeds:
                optima: list[Optimum] = done[scenario.name, ORACLE, seed]
                figures = figures_of(done[scenario.name, policy, seed], optima, scenario.event_s)
                rows.append({"scenario": scenario.name, "players": policy, "seed": seed, **figures})
    return rows


def tasks_of(plan: Plan) -> list[Task]:
    """Return the tasks: scenarios with one warm-up are one task for each policy and seed, the longest first."""
    together: dict[Scenario, list[Scenario]] = {}
    for scenario in plan.scenarios:
        together.setdefault(scenario.warm_up(), []).append(scenario)
    grouped = sorted(together.values(), key=lambda scenarios: -len(scenarios))
    numbers = itertools.count(STATUS_EPOCH, len(plan.scenarios) + 1)
    return [
        Task(tuple(scenarios), policy, seed, next(numbers))
        for seed in plan.seeds
        for scenarios in grouped
        for policy in (*plan.policies, ORACLE)
    ]


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


def results(plan: Plan, fleet: Fleet, tasks: Sequence[Task], processes: int) -> Iterator[tuple[Task, list[Result]]]:
    """Yield each task with the results of its scenarios, in order."""
    if processes == 1:
        runner = Runner(plan, fleet)
        yield from ((task, runner.run(task)) for task in tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, start_process, (plan, fleet)) as pool:
        yield from zip(tasks, pool.map(run_in_process, tasks), strict=True)


RUNNERS: Final[list[Runner]] = []  # the one of this process


def start_process(plan: Plan, fleet: Fleet) -> None:
    RUNNERS.append(Runner(plan, fleet))


def run_in_process(task: Task) -> list[Result]:
    return RUNNERS[0].run(task)


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

    def run(self, task: Task) -> list[Result]:
        """Return for each scenario the optima, or what a policy did in it."""
        self.prepare(task.seed)
        if task.policy == ORACLE:
            return [self.solve(scenario, task.seed) for scenario in task.scenarios]
        run = Run(self, task)
        run.play(-WARM_UP_S, 0)
        return [run.in_child(scenario, number) for number, scenario in enumerate(task.scenarios, 1)]

    def solve(self, scenario: Scenario, seed: int) -> list[Optimum]:
        """Return the optimum of each sampled moment."""
        demand = Demand(self.world, self.titles, scenario, self.plan.sessions, seed)
        conditions = Conditions(self.world, scenario, seed)
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
    """One policy in the scenarios of one warm-up."""

    def __init__(self, runner: Runner, task: Task) -> None:
        self.runner, self.task = runner, task
        self.world, self.plan = runner.world, runner.plan
        warm_up = task.scenarios[0].warm_up()
        self.tick_s = max(round(self.plan.settings.tick_s), 1)
        self.demand = Demand(self.world, runner.titles, warm_up, self.plan.sessions, task.seed)
        self.conditions = Conditions(self.world, warm_up, task.seed)
        self.plane: ControlPlane | None = None
        self.policy: Policy
        if task.policy in BASELINE_TYPES:
            self.policy = BASELINE_TYPES[task.policy](self.world, self.demand, self.conditions, task.seed)
        else:
            self.policy = self.steering()
        self.players = Players(self.demand, self.conditions, self.policy)
        if isinstance(self.policy, Greedy):
            self.policy.players = self.players
        self.load: Floats = np.zeros(len(self.world.appliances.ids))
        self.meter = Meter()

    def steering(self) -> Steering:
        """Return the policy under test, over status words of its own."""
        plan = self.plan
        files, snapshot = self.own_status(self.task.epoch, [0] * self.runner.snapshot.status.slots)
        plane = ControlPlane(self.world, self.runner.fleet, files, plan.settings, self.task.seed)
        if self.task.policy != "ranking":
            self.plane = plane
        manifest = compiled(snapshot, plan.settings.steer_gain)[SERVICE]
        is_steered = self.task.policy == "steered"
        return Steering(
            snapshot.picker,
            snapshot.services[SERVICE],
            manifest if is_steered else None,
            self.demand,
            self.world.partners(),
        )

    def own_status(self, epoch: int, words: Sequence[int]) -> tuple[StatusFiles, Snapshot]:
        """Return a status file with these words, and a snapshot that reads it."""
        files = StatusFiles(self.plan.state)
        name = write_status(self.plan.state, epoch, words)
        files.use(name)
        current = dataclasses.replace(read_current(self.plan.state), status=name)
        return files, Snapshot(self.plan.state, current)

    def in_child(self, scenario: Scenario, number: int) -> Meter:
        """Return what the policy does in a scenario, played in a copy of this process: the next one begins anew."""
        receiver, sender = FORK.Pipe(duplex=False)
        child = FORK.Process(target=self.play_scenario, args=(scenario, number, sender))
        child.start()
        sender.close()
        try:
            meter: Meter = receiver.recv()
        except EOFError:
            raise SettingsError(f"the process of the scenario {scenario.name} ended without a result") from None
        finally:
            child.join()
        return meter

    def play_scenario(self, scenario: Scenario, number: int, sender: Connection) -> None:
        """Play a scenario and send its meter."""
        self.demand.scenario = scenario
        self.conditions.take(scenario)
        if isinstance(self.policy, Steering):
            words = [self.policy.picker.status.word(slot) for slot in range(self.policy.picker.status.slots)]
            files, snapshot = self.own_status(self.task.epoch + number, words)
            self.policy.use(snapshot, self.plan.settings.steer_gain)
            if self.plane:
                self.plane.use(files)
        self.play(0, LENGTH_S + 1)
        sender.send(self.meter)

    def play(self, first: int, end: int) -> None:
        """Play from a second to before another."""
        for now in range(first, end):
            self.conditions.advance(float(now))
            self.players.advance(now)
            before, self.load = self.load, self.players.load()
            if now >= 0:
                self.meter.count(self.players, self.conditions, self.load, before)
            if is_sampled(now):
                option = self.options()
                self.meter.samples.append(take_sample(now, self.world, self.players, self.conditions, option))
            if self.plane:
                self.control(self.plane, now, self.load)

    def control(self, plane: ControlPlane, now: int, load: Floats) -> None:
        """Let control work for a second: reports, then a tick."""
        assert isinstance(self.policy, Steering)
        plane.advance(now, load, self.conditions)
        self.policy.count_requests(self.plan.requests, now)
        if now % self.tick_s:
            return
        players = self.players.take_reports()
        plane.tick(*self.policy.take_counted(), self.demand.titles, self.conditions.in_maintenance, players)

    def options(self) -> Ints:
        """Return each seat's option in the world, -1 at the origin and in empty seats."""
        current = self.players.current.astype(np.int64)
        playing = current >= 0
        option = np.full(len(current), -1, np.int64)
        zones = self.demand.groups.zone[self.demand.group[playing]]
        option[playing] = self.world.options_of(zones, self.world.appliances.cluster[current[playing]])
        return option
