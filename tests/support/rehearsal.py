"""A play without processes: the real registry and the real snapshot in this process, with a simulated clock."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from _fastpath.counters import Counters, begin
from steering.control.health.registry import Registry
from steering.control.health.rules import Health, Report
from steering.control.jobs.health_tick import Tally
from steering.decision.snapshot import Snapshot
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.simulation.faults import Fault
from steering.simulation.measure import Row
from steering.simulation.play import Plan, Play, make_world
from steering.state.status import StatusFiles


class Rehearsal:
    """A play over a published state folder that no writer has open."""

    def __init__(
        self, state: Path, fleet: Fleet, plan: Plan, faults: Sequence[type[Fault]], settings: Settings
    ) -> None:
        self.snapshot = Snapshot.map(state)
        self.fleet = fleet
        self.settings = settings
        self.observations = itertools.count()
        self.registry = Registry(settings, lambda: self.play.world.now)
        self.play = Play(make_world(fleet, self.snapshot, plan, settings), plan, faults, settings)
        self.registry.take_fleet(fleet)
        self.registry.files = StatusFiles(state)
        self.registry.files.use(self.snapshot.current.status)
        path = str(state / "worker.1")
        begin(path, max(appliance.slot for appliance in fleet.appliances) + 1)
        self.counters = Counters(path, writable=True)
        self.tally = Tally(state)
        self.tally.take()  # from now on

    def run(self) -> list[Row]:
        """Play all parts, and return the rows."""
        now = 0.0
        while not self.play.done:
            now += self.settings.tick_s
            self.step(now)
        return self.play.rows

    def step(self, now: float) -> None:
        """Do what is due until a time, then tick the registry."""
        world = self.play.world
        due = self.play.advance(now)
        for number in due.reports:
            self.registry.report(world.appliances[number].id, world.next_report(number))
        for number, ok in due.observed:
            health = Health() if ok else Health("failed", "no answer")
            observed = Report("monitor", next(self.observations), health=health)
            self.registry.report(world.appliances[number].id, observed, monitor=0)
        for asked in due.asked:
            body = self.snapshot.steer(
                asked.address, asked.title, service=self.settings.default_service, counters=self.counters
            )
            self.play.answered(asked, body)
        self.registry.tick(*self.tally.take())
        self.play.look(
            self.registry.files.word if self.registry.files else lambda _: 0,
            [alarm.kind for alarm in self.registry.alarms()],
            sum(bool(state.suppressed) for state in self.registry.states.values()),
            self.counters.reasons(),
        )
